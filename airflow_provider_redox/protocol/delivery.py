"""Waiting for delivery: what a log's status means for who waits, and when a wait is over.

    succeeded                    delivered
    filtered                     by the author's choice: a failure, or as good as delivered
    failed                       by the author's choice: Redox may still try again, or a failure
    pending, anything else       not yet
    not found (404, 403, 400)    not yet, while the log may be new; then a failure

Nothing but `succeeded`, and `filtered` where the author said so, ends a wait well. One log that is a failure ends it,
whatever the others are.
"""

from __future__ import annotations

import enum
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_redox.checks import one_of
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxDeliveryError
from airflow_provider_redox.protocol.platform import SETTLED_AFTER

GRACE = 300.0
"""Seconds from the beginning of a wait in which a log that is not found counts as new."""

SHOWN = 50
"""Log IDs that a result or an error holds at most."""

KNOWN = ("succeeded", "filtered", "failed", "pending")
"""The statuses of a log that Redox documents."""

NOT_FOUND = "HTTP "
"""How the status of a log begins that the Platform API does not show; the HTTP status follows."""

_LOG_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)


class Fate(enum.Enum):
    """What a status means for who waits."""

    OPEN = "open"
    DELIVERED = "delivered"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Rules:
    """The author's choices.

    :param filtered: `fail`, or `accept`: a message that a rule in Redox held back counts as delivered.
    :param failed: `wait`, as Redox tries again, or `fail`.
    """

    filtered: str = "fail"
    failed: str = "wait"

    def __post_init__(self) -> None:
        for name, allowed in (("filtered", ("fail", "accept")), ("failed", ("wait", "fail"))):
            if getattr(self, name) not in allowed:
                raise RedoxConfigError(one_of(name, getattr(self, name), allowed))

    def fate(self, status: str, *, new: bool) -> Fate:
        """Say what a status means. `new` is whether a log may still appear."""
        if status == "succeeded":
            return Fate.DELIVERED
        if status == "filtered":
            return Fate.DELIVERED if self.filtered == "accept" else Fate.LOST
        if status == "failed":
            return Fate.LOST if self.failed == "fail" else Fate.OPEN
        return Fate.LOST if status.startswith(NOT_FOUND) and not new else Fate.OPEN


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a wait ended, or how it stands.

    :param status: `delivered`, `failed`, `timeout` or, while it goes on, `open`.
    :param counts: logs by their status.
    :param log_ids: those that are not delivered, the failures first; of a wait that ended well the delivered ones. 50 at
        most.
    :param statuses: theirs.
    """

    status: str
    counts: Mapping[str, int]
    log_ids: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """One sentence for a person."""
        total = sum(self.counts.values())
        counted = ", ".join(f"{count} {status}" for status, count in sorted(self.counts.items()))
        return f"{total} log{'' if total == 1 else 's'}: {counted}" if total else "no log was found"

    @property
    def named(self) -> str:
        """The logs that matter, the first ten, each with its status."""
        pairs = [f"{log_id} ({status})" for log_id, status in zip(self.log_ids, self.statuses, strict=True)]
        return ", ".join(pairs[:10]) + (", and more" if len(pairs) > 10 else "")


@dataclass(frozen=True, slots=True)
class Window:
    """Messages that are known by where they went and when, as a FHIR writeback's answer carries no log ID.

    Times are seconds since the epoch.
    """

    destination_id: str
    since: float
    until: float

    @property
    def settled_at(self) -> float:
        """When the last of its logs can be seen."""
        return self.until + SETTLED_AFTER


@dataclass(slots=True)
class Watch:
    """One wait: what it waits for, what it was told, and whether it is over.

    :param wanted: the log IDs, each with the time at which its log was made at the earliest, in seconds since the epoch.
    :param grace_until: when a log that is not found is no longer new.
    :param deadline: when patience runs out.
    :param window: messages whose log IDs are still to be found.
    """

    wanted: dict[str, float]
    rules: Rules
    grace_until: float
    deadline: float = math.inf
    window: Window | None = None
    statuses: dict[str, str] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)
    _lost: set[str] = field(default_factory=set)
    _nothing: bool = False

    def open(self) -> dict[str, float]:
        """Give what is still to be asked for."""
        if self._lost:
            return {}
        return {log_id: since for log_id, since in self.wanted.items() if log_id not in self._done}

    def due(self, now: float) -> Window | None:
        """Give the window whose logs are to be found now. Before its logs can all be seen, none is."""
        return self.window if self.window is not None and now >= self.window.settled_at else None

    def found(self, logs: Mapping[str, tuple[str, float]], now: float) -> None:
        """Take the logs of the window: each one's status, and when it was made. From now on they are waited for by ID."""
        self.window, self._nothing = None, not logs
        self.wanted = {log_id: made for log_id, (_, made) in logs.items()}
        self.tell({log_id: status for log_id, (status, _) in logs.items()}, now)

    def tell(self, statuses: Mapping[str, str], now: float) -> None:
        """Take notice of statuses; those of others' logs, and of logs that are done with, change nothing."""
        for log_id in self.wanted.keys() & statuses.keys() - self._done:
            status = statuses[log_id]
            self.statuses[log_id] = status
            fate = self.rules.fate(status, new=now < self.grace_until)
            if fate is Fate.DELIVERED:
                self._done.add(log_id)
            (self._lost.add if fate is Fate.LOST else self._lost.discard)(log_id)

    def verdict(self, now: float) -> Verdict:
        """Say how the wait ended, or that it goes on."""
        if self._lost or self._nothing:
            return self._verdict("failed")
        if self.window is None and len(self._done) == len(self.wanted):
            return self._verdict("delivered")
        return self._verdict("timeout" if now >= self.deadline else "open")

    def _verdict(self, status: str) -> Verdict:
        counts = Counter(self._status(log_id) for log_id in self.wanted)
        shown = self._done if status == "delivered" else self.wanted.keys() - self._done
        ordered = sorted(shown, key=lambda log_id: (log_id not in self._lost, self._status(log_id) != "failed", log_id))
        log_ids = tuple(ordered[:SHOWN])
        return Verdict(status, dict(counts), log_ids, tuple(self._status(log_id) for log_id in log_ids))

    def _status(self, log_id: str) -> str:
        return self.statuses.get(log_id, "not seen")


def status_of(log: Any) -> str:
    """Read a log's status: its own, or else that of its latest attempt. What is none of Redox's is `unknown`."""
    attempts = log.get("attempts") if isinstance(log, Mapping) else None
    latest = attempts.get("latest") if isinstance(attempts, Mapping) else None
    for place in (log, latest):
        status = place.get("status") if isinstance(place, Mapping) else None
        if isinstance(status, str) and status:
            return plain(status)
    return "unknown"


def plain(status: str) -> str:
    """Give a status in lower case; `unknown` for a text that is none, which is never repeated."""
    return status.lower() if status.lower() in KNOWN else "unknown"


def checked_log_ids(log_ids: Iterable[Any]) -> list[str]:
    """Check log IDs, each once. Raises `RedoxConfigError`, without the text of what is none."""
    listed = list(log_ids)
    for number, one in enumerate(listed):
        if not isinstance(one, str) or not _LOG_ID.fullmatch(one):
            raise RedoxConfigError(f"log_ids[{number}]: is not a log ID; take them from a post's result")
    return list(dict.fromkeys(listed))


def delivery_error(verdict: Verdict, where: str = "") -> RedoxDeliveryError:
    """Make the error for messages that were not delivered. `where` is the address of the first one's log."""
    named = f" Not delivered: {verdict.named}." if verdict.log_ids else ""
    look = f" See {where}" if where else ""
    return RedoxDeliveryError(f"Redox did not deliver: {verdict.told}.{named}{look}")
