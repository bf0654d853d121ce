"""The delivery logs of messages: pending, perhaps failing and tried again, and in the end what the settings decided.

A log can be seen ``log_delay`` seconds after its message was accepted. Each attempt takes ``delivery_seconds``;
``failing_attempts`` of them fail before the last one, and between two attempts the log says ``failed``.
"""

from __future__ import annotations

import bisect
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .names import DESTINATION_NAMES
from .store import instant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .settings import Settings

STATUSES = ("pending", "succeeded", "failed", "filtered")
ELSEWHERE = "7d6a1b1e-5a0c-4a57-8b3e-1f0c7a9d2b44"
"""A destination that is somebody else's."""


@dataclass(slots=True)
class Log:
    """One message to one destination; its status follows from the time that is asked about."""

    id: str
    kind: str
    data_model: str
    event_type: str
    destination_id: str
    created: float
    visible: float
    step: float
    failing: int
    final_status: str
    data_mode: str = "realtime"

    def attempts(self, now: float) -> int:
        """Count the attempts that have ended."""
        ended = self.failing + 1 if self.step <= 0 else int(max(now - self.created, 0.0) / self.step)
        return min(ended, self.failing + 1)

    def status(self, now: float) -> str:
        """Return ``pending``, ``failed`` between two attempts, or the final status."""
        ended = self.attempts(now)
        if ended > self.failing:
            return self.final_status
        return "failed" if ended else "pending"

    def updated(self, now: float) -> float:
        """Return when the status became what it is."""
        return min(now, self.created + self.attempts(now) * max(self.step, 0.0))

    def end(self, status: str, now: float) -> None:
        """Let the status be this from now on."""
        self.final_status, self.failing, self.step = status, 0, max(now - self.created, 0.0)

    @property
    def attempt_id(self) -> str:
        """The ID of the first attempt."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, self.id))

    def handle(self) -> dict[str, str]:
        """Return what the Data Model API shows in ``Meta.Logs``."""
        return {"ID": self.id, "AttemptID": self.attempt_id}

    def as_json(self, now: float) -> dict[str, Any]:
        """Return the log as the Platform API shows it."""
        status, updated, ended = self.status(now), instant(self.updated(now)), self.attempts(now)
        latest = {"id": self.attempt_id, "attemptAt": updated, "status": status, "operations": []}
        return {
            "id": self.id,
            "status": status,
            "type": self.kind,
            "dataMode": self.data_mode,
            "dataModel": self.data_model,
            "eventType": self.event_type,
            "destination": {"id": self.destination_id, "name": DESTINATION_NAMES.get(self.destination_id, "")},
            "createdAt": instant(self.created),
            "updatedAt": updated,
            "attempts": {"total": max(ended, 1), "latest": latest},
        }


@dataclass(slots=True)
class Logs:
    """All logs, oldest first."""

    by_id: dict[str, Log] = field(default_factory=dict)
    by_age: list[Log] = field(default_factory=list)
    _created: int = 0

    def __len__(self) -> int:
        return len(self.by_id)

    def __iter__(self) -> Iterator[Log]:
        return iter(self.by_age)

    def create(self, kind: str, names: tuple[str, str], destination_id: str, settings: Settings, now: float) -> Log:
        """Make a log; ``names`` are the data model and the event type."""
        wanted = settings.final_status if isinstance(settings.final_status, list) else [settings.final_status]
        status = wanted[min(self._created, len(wanted) - 1)]
        self._created += 1
        visible, step = now + settings.log_delay, settings.delivery_seconds
        return self._keep(
            Log(_new_id(), kind, *names, destination_id, now, visible, step, settings.failing_attempts, status)
        )

    def add(self, wanted: object, now: float) -> list[Log]:
        """Make ``count`` logs of others, spread over the last ``age`` seconds, as if they had been there all the time."""
        order: dict[str, Any] = {"count": 1, "age": 0.0, "status": "succeeded", "destination": ELSEWHERE}
        order["data_mode"] = "realtime"
        if not isinstance(wanted, dict) or set(wanted) - set(order):
            raise ValueError(f"logs are ordered by {', '.join(order)}")
        order |= wanted
        count, age = order["count"], order["age"]
        if not isinstance(count, int) or not 0 < count <= 100_000 or not isinstance(age, int | float) or not 0 <= age < 1e9:
            raise ValueError("count must be from 1 to 100000, and age a number of seconds")
        _check_status(order["status"])
        moments = [now - age * (count - number) / count for number in range(count)]
        names = ("send", "Device", "New", str(order["destination"]))
        end, mode = str(order["status"]), str(order["data_mode"])
        return [self._keep(Log(_new_id(), *names, moment, moment, 0.0, 0, end, mode)) for moment in moments]

    def end(self, wanted: object, now: float) -> list[Log]:
        """Let logs have a ``status`` from now on: those of ``ids``, or all."""
        if not isinstance(wanted, dict) or set(wanted) - {"status", "ids"} or not isinstance(wanted.get("ids", []), list):
            raise ValueError("give a status, and ids as a list if not all are meant")
        _check_status(wanted.get("status"))
        meant = [self.by_id[one] for one in wanted["ids"] if one in self.by_id] if "ids" in wanted else list(self)
        for log in meant:
            log.end(wanted["status"], now)
        return meant

    def restart_sequence(self) -> None:
        """Let the next new log take the first of a list of final statuses."""
        self._created = 0

    def clear(self) -> None:
        """Forget all logs."""
        self.by_id.clear()
        self.by_age.clear()
        self._created = 0

    def _keep(self, log: Log) -> Log:
        self.by_id[log.id] = log
        bisect.insort(self.by_age, log, key=lambda one: one.created)
        return log


def _new_id() -> str:
    return str(uuid.uuid4())


def _check_status(status: object) -> None:
    if status not in STATUSES:
        raise ValueError(f"status must be one of {', '.join(STATUSES)}")
