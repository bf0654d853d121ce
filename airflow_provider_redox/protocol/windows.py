"""Windows of time: from an instant on, up to another and without it, so that windows side by side leave no seam."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.instants import utc

LAST_UPDATED = "_lastUpdated"

_CURE = (
    "This run has no data interval: in Airflow 3 a cron schedule gives start = end, unless the DAG uses "
    "CronDataIntervalTimetable or [scheduler] create_cron_data_intervals is True, and runs that are triggered have none. "
    "Give two instants of your own, or since='last_success'"
)


@dataclass(frozen=True, slots=True)
class Window:
    """A window, `start` within and `end` without; both with a time zone."""

    start: datetime
    end: datetime

    @property
    def bounds(self) -> list[str]:
        """The values of a date parameter that select it (FHIR R4 search, prefixes)."""
        return [f"ge{instant(self.start)}", f"lt{instant(self.end)}"]

    @property
    def told(self) -> list[str]:
        """Its two ends, as a manifest tells them."""
        return [instant(self.start), instant(self.end)]

    def split(self, parts: int) -> list[Window]:
        """Cut it into so many of the same length, to the millisecond."""
        whole = (self.end - self.start) // timedelta(milliseconds=1)
        if not 1 <= parts <= whole:
            raise RedoxConfigError("window_parts: must be a whole number from 1, and no more than the window's milliseconds")
        inner = [self.start + timedelta(milliseconds=whole * part // parts) for part in range(1, parts)]
        ends = [self.start, *inner, self.end]
        return [Window(*pair) for pair in pairwise(ends)]


def parse_windows(given: Any, *, where: str = "window") -> list[Window]:
    """Read a window, as a pair of instants, or a list of such pairs.

    An instant is a datetime, or ISO 8601 text, with a time zone; a date is its midnight in UTC.
    Raises `RedoxConfigError` for a window that is empty or absent, which names the cure, and for windows that overlap.
    """
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise RedoxConfigError(f"{where}: must be two instants, its start and its end, or a list of such pairs")
    pairs = [given] if len(given) == 2 and not _is_pair(given[0]) else given
    windows = [_window(pair, where) for pair in pairs]
    ordered = sorted(windows, key=lambda window: window.start)
    if any(late.start < early.end for early, late in pairwise(ordered)):
        raise RedoxConfigError(f"{where}: two of the windows overlap; the end of one is to be the start of the next")
    return windows


def instant(moment: datetime) -> str:
    """Give an instant in UTC as FHIR writes it, with the digits that it has: at least milliseconds."""
    return utc(moment, timespec="microseconds" if moment.microsecond % 1000 else "milliseconds")


def instant_of(text: str) -> str:
    """Give an instant in UTC in one form, so that instants compare as text; one that cannot be read is the earliest."""
    try:
        return utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return ""


def _window(pair: Any, where: str) -> Window:
    if not _is_pair(pair):
        raise RedoxConfigError(f"{where}: must be two instants, its start and its end, or a list of such pairs")
    start, end = _instants(pair, where)
    if start == end:
        raise RedoxConfigError(f"{where}: it is empty, its end is its start. {_CURE}")
    if end < start:
        raise RedoxConfigError(f"{where}: its end lies before its start; swap them")
    return Window(start, end)


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2


def _instants(pair: Sequence[Any], where: str) -> Iterator[datetime]:
    for name, value in zip(("start", "end"), pair, strict=True):
        if value is None or value in ("", "None"):
            raise RedoxConfigError(f"{where}: its {name} is absent. {_CURE}")
        yield _instant(value, f"{where}: its {name}")


def _instant(value: Any, where: str) -> datetime:
    moment = _parsed(value)
    if moment is None:
        raise RedoxConfigError(f"{where} is no instant; write it as 2026-01-31T00:00:00Z")
    if moment.tzinfo is None:
        raise RedoxConfigError(f"{where} has no time zone; write it as 2026-01-31T00:00:00Z")
    return moment.astimezone(UTC)


def _parsed(value: Any) -> datetime | None:
    """Read an instant; a date is its midnight in UTC."""
    if isinstance(value, datetime):
        return value
    try:
        day = value if isinstance(value, date) else date.fromisoformat(value) if len(value) == 10 else None
        return datetime.fromisoformat(value) if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC)
    except (TypeError, ValueError):
        return None
