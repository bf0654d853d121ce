"""Read FHIR dates as time spans, to find out whether a resource's date cannot match the date that was asked for.

A date is a whole day, and without a time zone it is that day in any zone. Servers differ in how they compare overlapping
spans, so only spans that are apart in every zone count as different.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

_DATE = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_PREFIXED = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?(\d.*)", re.ASCII)
_ANY_ZONE = 14 * 3600.0
"""Seconds by which a local time may differ from UTC."""

AFTER = frozenset({"gt", "ge", "sa"})
BEFORE = frozenset({"lt", "le", "eb"})
SAME = frozenset({"", "eq"})


class Span(NamedTuple):
    """A half-open span in seconds since the epoch: the start is included, the end is not. Without a zone, read as UTC."""

    start: float
    end: float
    zoned: bool


class Bound(NamedTuple):
    """One value of a date parameter: its prefix, and the span of its date."""

    prefix: str
    span: Span

    def excludes(self, span: Span, *, upper: bool = True) -> bool:
        """Return whether no server could match a span to this value.

        :param upper: whether a span that is too late counts. It does not if the resource may have been changed since.
        """
        slack = 0.0 if span.zoned == self.span.zoned else _ANY_ZONE
        too_early = self.prefix in AFTER | SAME and span.end + slack <= self.span.start
        too_late = self.prefix in BEFORE | SAME and span.start - slack >= self.span.end
        return too_early or (upper and too_late)


@lru_cache(maxsize=4096)
def span_of(text: str) -> Span | None:
    """Return the span of a date, a partial date or an instant; None for what cannot be read."""
    try:
        return _day(text) or _moment(text)
    except (ValueError, OverflowError):
        return None


def span_of_value(value: Any) -> Span | None:
    """Return the span of a resource's date or Period; None for anything else, or if one end cannot be read."""
    if isinstance(value, str):
        return span_of(value)
    if not isinstance(value, Mapping) or not value.keys() & {"start", "end"}:
        return None
    ends = [span_of(value[name]) if isinstance(value[name], str) else None for name in ("start", "end") if name in value]
    if None in ends:
        return None
    spans = [span for span in ends if span is not None]
    start = spans[0].start if "start" in value else -math.inf
    return Span(start, spans[-1].end if "end" in value else math.inf, all(span.zoned for span in spans))


def bound_of(text: str) -> Bound | None:
    """Parse one value of a date parameter; None if it cannot be read, or if its prefix excludes nothing (ne, ap)."""
    found = _PREFIXED.fullmatch(text)
    prefix, date = found.groups() if found else (None, "")
    span = span_of(date)
    return None if span is None or prefix in ("ne", "ap") else Bound(prefix or "", span)


def _day(text: str) -> Span | None:
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day = found.groups()
    start = datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
    if day:
        end = start + timedelta(days=1)
    else:
        end = start.replace(year=start.year + (month in (None, "12")), month=start.month % 12 + 1 if month else 1)
    return Span(start.timestamp(), end.timestamp(), zoned=False)


def _moment(text: str) -> Span | None:
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    seconds, fraction, zone = found.groups()
    moment = datetime.fromisoformat(text)
    start = (moment if zone else moment.replace(tzinfo=UTC)).timestamp()
    return Span(start, start + (0.001 if fraction else 1.0 if seconds else 60.0), zoned=zone is not None)
