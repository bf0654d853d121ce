"""The record of a segment of a batch: before it leaves, and when its outcomes are known.

Messages of one kind to one place are one disclosure, and of one outcome; what became of each message its result line says.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.operators.sends.batch_segment import Due
from airflow_provider_redox.protocol.disclosure import CREATE, FAILED, REFUSED, SUCCESS, Disclosure

_OUTCOMES = {"accepted": SUCCESS, "refused": REFUSED}


@dataclass(slots=True)
class Account:
    """What is put on record of the messages of a segment that are to be sent."""

    client: SyncClient
    due: list[Due]
    _announced: dict[Hashable, str] = field(default_factory=dict)

    def announce(self) -> None:
        """Put on record that they are going to be sent. Raises `RedoxAuditError` when that has to be and cannot."""
        for kind, items in self._by(outcomes=False).items():
            disclosure = self._disclosure(items)
            self.client.recorder(disclosure, done=False)
            self._announced[kind] = disclosure.announced

    def settle(self) -> None:
        """Put on record what became of all that was announced, sent or not."""
        if not self._announced:
            return
        for (*kind, outcome), items in self._by(outcomes=True).items():
            disclosure = self._disclosure(items)
            disclosure.announced = self._announced.get(tuple(kind), "")
            disclosure.outcome = _OUTCOMES.get(outcome, FAILED)
            disclosure.said = "" if outcome == "accepted" else outcome
            disclosure.answered(log_ids=[one for item in items for one in item.record.log_ids])
            self.client.recorder(disclosure)

    def _by(self, *, outcomes: bool) -> dict[tuple[str, ...], list[Due]]:
        groups: dict[tuple[str, ...], list[Due]] = {}
        for item in self.due:
            ready = item.message.ready
            if ready is not None:
                kind = (ready.subject.what, ",".join(ready.subject.destinations), ready.environment)
                groups.setdefault((*kind, item.record.outcome) if outcomes else kind, []).append(item)
        return groups

    def _disclosure(self, items: Iterable[Due]) -> Disclosure:
        ready = [item.message.ready for item in items if item.message.ready is not None]
        subject = ready[0].subject
        hashes = "".join(one.subject.digest for one in ready).encode()
        server, places = self.client.settings.base_url, ",".join(subject.destinations)
        disclosure = Disclosure(CREATE, subject.what, server, places, ready[0].environment, {"hash": hashes})
        for one in ready:
            if self.client.recorder.collects:
                disclosure.saw(one.patients)
        return disclosure
