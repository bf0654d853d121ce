"""Check that no two messages of a batch get the same log ID: a log belongs to one message, and proves nothing of another."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError
from airflow_provider_redox.operators.sends.sending import Sent, UndecidedError
from airflow_provider_redox.protocol.effects import Flow
from airflow_provider_redox.protocol.platform import Found

REMEMBERED = 10_000
"""The most log IDs that are remembered; the oldest are dropped. A cache, or an ambiguous search, mixes up close messages."""


@dataclass(slots=True)
class GivenLogs:
    """Which line of the batch each log ID belongs to. Thread-safe."""

    _owners: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, number: int, log_ids: Iterable[str]) -> int | None:
        """Remember the log IDs of a message. Returns the line number of another message that has one of them, else None."""
        with self._lock:
            for log_id in log_ids:
                owner = self._owners.setdefault(log_id, number)
                if owner != number:
                    return owner
            while len(self._owners) > REMEMBERED:
                del self._owners[next(iter(self._owners))]
        return None

    def of(self, number: int, flow: Flow[Sent]) -> Flow[Sent]:
        """Run a send and return its result.

        Raises `RedoxAmbiguousOutcomeError` if the answer names a log of another message.
        """
        sent = yield from flow
        owner = self.note(number, sent.log_ids)
        if owner is not None:
            raise RedoxAmbiguousOutcomeError(
                f"line {number}: the answer names a log that line {owner} was given, so nothing shows that Redox has stored "
                "this message too. It is not sent again",
                status=200,
                trace_id=sent.trace_id,
            )
        return sent

    def apart(self, number: int, found: Sequence[list[Found]]) -> Sequence[list[Found]]:
        """Return the result of a log search. Raises `UndecidedError` if it is the log of another message."""
        owners = {self._owners.get(log.id, number) for logs in found for log in logs} - {number}
        if owners:
            raise UndecidedError(
                f"the log that fits is of line {min(owners)}; a correlation key must stand in one message only"
            )
        if all(len(logs) == 1 for logs in found):  # the log will count as this message's
            self.note(number, (log.id for logs in found for log in logs))
        return found
