"""Time windows: half-open intervals, so that adjacent windows neither overlap nor leave a gap.

A window must have ended before it is searched. A change between now and an end in the future would be in no window: not in
this one, which was searched too early, and not in the next one, which starts at that end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
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


_TOO_EARLY = (
    "what changes until then would not be found. In templates use data_interval_start and data_interval_end: ds and "
    "logical_date are the run's own time in Airflow 3"
)
_SOON = timedelta(minutes=5)

_BOUND = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?(\d{4})(?:-(\d\d)(?:-(\d\d)(T.+)?)?)?")
_WESTERNMOST = timedelta(hours=12)


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


def check_over(windows: Sequence[Window], now: datetime, *, where: str = "window") -> None:
    """Raise `RedoxConfigError` for a window that has not ended. The error is retryable if the window ends in a moment."""
    end = max(window.end for window in windows)
    if end > now:
        error = RedoxConfigError(f"{where}: its end lies in the future; {_TOO_EARLY}")
        error.retryable = end - now <= _SOON
        raise error


def check_bounds(params: Mapping[str, Any], now: datetime, *, where: str = "search_params") -> None:
    """Raise `RedoxConfigError` where `_lastUpdated` begins in the future, or begins in the past and ends in the future.

    A date without a zone is read in the server's own (FHIR R4, date search), which may be up to twelve hours behind UTC.
    An end that is a moment ahead, as by a clock that is behind the scheduler's, may be tried again.
    """
    lowest: list[datetime] = []
    highest: list[datetime] = []
    for name, value in params.items():
        if name.partition(":")[0] == LAST_UPDATED:
            for one in value if isinstance(value, list | tuple) else [value]:
                _add_bounds(str(one), lowest, highest)
    latest = max((*lowest, *(highest if lowest else ())), default=now)
    if latest > now:
        error = RedoxConfigError(f"{where}: {LAST_UPDATED} reaches into the future, in the server's time zone; {_TOO_EARLY}")
        error.retryable = latest - now <= _SOON
        raise error


def _add_bounds(text: str, lowest: list[datetime], highest: list[datetime]) -> None:
    """Add the bounds of the time that a value of a date parameter selects; ignore any other value."""
    found = _BOUND.fullmatch(text)
    period = _period(*found.groups()[1:]) if found else None
    if found is None or period is None:
        return
    prefix = found.group(1) or "eq"
    if prefix in ("ge", "eq"):
        lowest.append(period[0])
    elif prefix in ("gt", "sa"):
        lowest.append(period[1])
    if prefix in ("lt", "eb"):
        highest.append(period[0])
    elif prefix in ("le", "eq"):
        highest.append(period[1])


def _period(year: str, month: str | None, day: str | None, time: str | None) -> tuple[datetime, datetime] | None:
    """Return the first and the last instant that a FHIR date may mean, in the time zone where that day begins last."""
    try:
        if time is not None:
            moment = datetime.fromisoformat(f"{year}-{month}-{day}{time}")
            exact = moment if moment.tzinfo else moment.replace(tzinfo=UTC) + _WESTERNMOST
            return exact, exact
        start = datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
        if day:
            end = start + timedelta(days=1)
        else:
            whole_year = month is None or month == "12"
            end = start.replace(year=start.year + whole_year, month=1 if whole_year else start.month + 1)
        return start + _WESTERNMOST, end + _WESTERNMOST
    except (ValueError, OverflowError):
        return None


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
