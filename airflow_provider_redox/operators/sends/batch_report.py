"""What a batch tells: the log at a human pace, the summary in XCom, and the error when not all of it is well."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_redox.exceptions import (
    RedoxAmbiguousOutcomeError,
    RedoxError,
    RedoxResponseError,
    RedoxTransportError,
)
from airflow_provider_redox.operators.sends.batch_segment import Due
from airflow_provider_redox.operators.sends.sending import utc
from airflow_provider_redox.protocol.delivery import SHOWN as SHOWN_IDS

_log = logging.getLogger(__name__)

PACE = 30.0
"""Seconds between two words in the log."""

SHOWN = 20
"""Line numbers that an error lists of each kind."""


@dataclass(slots=True)
class Report:
    """The count of a batch.

    :param clock: seconds of a clock that never jumps.
    :param total: the messages of the file.
    """

    clock: Callable[[], float]
    total: int
    begun: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    lines: dict[str, list[int]] = field(default_factory=dict)
    log_ids: list[str] = field(default_factory=list)
    already: int = 0
    open_from: float = 0.0
    open_until: float = 0.0
    _told: float = 0.0

    def __post_init__(self) -> None:
        self.begun = self._told = self.clock()

    def add(self, item: Due) -> None:
        """Count a message."""
        record = item.record
        outcome = "ambiguous" if record.outcome == "sending" else record.outcome
        self.counts[outcome] += 1
        if outcome == "accepted":
            self.already += item.posting is None or b'"already_sent":true' in record.line
            self.log_ids += record.log_ids[: SHOWN_IDS - len(self.log_ids)]
            return
        numbers = self.lines.setdefault(outcome, [])
        if len(numbers) < SHOWN:
            numbers.append(item.message.number)
        if outcome == "ambiguous" and record.trace.open_from:
            self.open_from = min(self.open_from or record.trace.open_from, record.trace.open_from)
            self.open_until = max(self.open_until, record.trace.open_until)

    def tell(self, *, last: bool = False) -> None:
        """Say how far it is, now and then."""
        now = self.clock()
        if not last and now - self._told < PACE:
            return
        self._told = now
        done = sum(self.counts.values())
        fresh = done - self.already
        rate = fresh / max(now - self.begun, 0.001)
        said = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(self.counts.items())) or "nothing yet"
        _log.info("%s of %s messages: %s; %.0f a second.", f"{done:,}", f"{self.total:,}", said, rate)

    def summary(self, results_url: str) -> dict[str, Any]:
        """Give what XCom holds."""
        counts = {name: self.counts[name] for name in ("accepted", "refused", "ambiguous")}
        told = {**counts, "log_ids": self.log_ids, "results_url": results_url}
        return {**told, "already_sent": self.already} if self.already else told

    def error(self, results_url: str, *, on_refused: str, cause: Exception | None) -> Exception | None:
        """Give what the task fails with, if it does: unknown messages first, then unsent ones, then refused ones."""
        told = f"{self._counted()}. A line for each is in {results_url}."
        if self.counts["ambiguous"]:
            return self._ambiguous(told, cause)
        if self.counts["unsent"]:
            return self._unsent(told, cause)
        if self.counts["refused"] and on_refused == "fail":
            return RedoxResponseError(
                f"{told} A clear sends the refused ones again; what is wrong in the file has to go out by another run"
            )
        return None

    def _ambiguous(self, told: str, cause: Exception | None) -> RedoxAmbiguousOutcomeError:
        window = f", from {utc(self.open_from)} to {utc(self.open_until)}" if self.open_from else ""
        error = RedoxAmbiguousOutcomeError(
            f"{told} Those that are ambiguous may or may not have arrived, and are not sent again: look for them in the "
            f"Redox dashboard's logs{window}. A clear with on_ambiguous='resend' sends them, and nothing that was accepted"
        )
        error.retryable = bool(self.counts["unsent"]) and _may_help(cause)
        if cause is not None:
            error.add_note(f"It was ended by {type(cause).__name__}: {cause}")
        return error

    def _unsent(self, told: str, cause: Exception | None) -> Exception:
        if cause is not None and not isinstance(cause, RedoxError):
            cause.add_note(f"{told} A next try goes on there.")
            return cause
        why = f" It was ended by {type(cause).__name__}: {cause}" if cause else ""
        error = RedoxTransportError(f"{told} A next try sends those that were not sent.{why}")
        error.retryable = _may_help(cause)
        return error

    def _counted(self) -> str:
        said = [f"{self.counts['accepted']:,} accepted"] if self.counts["accepted"] else []
        for outcome in ("ambiguous", "refused", "unsent"):
            numbers = self.lines.get(outcome, [])
            more = ", …" if self.counts[outcome] > len(numbers) else ""
            if numbers:
                said.append(f"{self.counts[outcome]:,} {outcome} (lines {', '.join(map(str, numbers))}{more})")
        return f"Of {self.total:,} messages {', '.join(said)}"


def _may_help(cause: Exception | None) -> bool:
    return not isinstance(cause, RedoxError) or cause.retryable
