"""The delivery logs of accepted messages: pending, and after ``delivery_seconds`` what the settings decided."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .names import DESTINATION_NAMES
from .store import instant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .settings import Settings


@dataclass(frozen=True, slots=True)
class Log:
    """One message to one destination; its status follows from the time that is asked about."""

    id: str
    attempt_id: str
    kind: str
    data_model: str
    event_type: str
    destination_id: str
    created: float
    final_at: float
    final_status: str

    def status(self, now: float) -> str:
        """Return ``pending`` or the final status."""
        return self.final_status if now >= self.final_at else "pending"

    def handle(self) -> dict[str, str]:
        """Return what the Data Model API shows in ``Meta.Logs``."""
        return {"ID": self.id, "AttemptID": self.attempt_id}

    def as_json(self, now: float) -> dict[str, Any]:
        """Return the log as the Platform API shows it."""
        status, updated = self.status(now), min(now, self.final_at)
        latest = {"id": self.attempt_id, "attemptAt": instant(updated), "status": status, "operations": []}
        return {
            "id": self.id,
            "status": status,
            "type": self.kind,
            "dataModel": self.data_model,
            "eventType": self.event_type,
            "destination": {"id": self.destination_id, "name": DESTINATION_NAMES.get(self.destination_id, "")},
            "createdAt": instant(self.created),
            "updatedAt": instant(updated),
            "attempts": {"total": 1, "latest": latest},
        }


@dataclass(slots=True)
class Logs:
    """All logs, in the order of their creation."""

    by_id: dict[str, Log] = field(default_factory=dict)
    _created: int = 0

    def __len__(self) -> int:
        return len(self.by_id)

    def __iter__(self) -> Iterator[Log]:
        return iter(self.by_id.values())

    def create(self, kind: str, names: tuple[str, str], destination_id: str, settings: Settings, now: float) -> Log:
        """Make a log; ``names`` are the data model and the event type."""
        wanted = settings.final_status if isinstance(settings.final_status, list) else [settings.final_status]
        status = wanted[min(self._created, len(wanted) - 1)]
        self._created += 1
        key, attempt, end = str(uuid.uuid4()), str(uuid.uuid4()), now + settings.delivery_seconds
        log = Log(key, attempt, kind, *names, destination_id, now, end, status)
        self.by_id[log.id] = log
        return log

    def restart_sequence(self) -> None:
        """Let the next new log take the first of a list of final statuses."""
        self._created = 0

    def clear(self) -> None:
        """Forget all logs."""
        self.by_id.clear()
        self._created = 0
