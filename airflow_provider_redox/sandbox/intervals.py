"""FHIR dates as intervals, and the prefixes of a date search (FHIR R4, search.html#date and #prefix)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb")
_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Interval:
    """From ``low`` up to, not including, ``high``: seconds since 1970."""

    low: float
    high: float


@lru_cache(maxsize=65536)
def parse(text: str) -> Interval:
    """Read a date, a partial date or a time; without a zone it is UTC. ValueError if it is none."""
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError("not a FHIR date")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    start = datetime(int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), tzinfo=_zone(zone))
    low = start.timestamp() + int(second or 0) + float(f"0.{fraction or 0}")
    if hour:
        return Interval(low, low + _width(second, fraction))
    return Interval(low, _next(start, month, day).timestamp())


def _zone(text: str | None) -> timezone:
    if text is None or text == "Z":
        return UTC
    hours, minutes = int(text[1:3]), int(text[4:6])
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if text[0] == "-" else offset)


def _width(second: str | None, fraction: str | None) -> float:
    if second is None:
        return 60.0
    return 10.0 ** -len(fraction) if fraction else 1.0


def _next(start: datetime, month: str | None, day: str | None) -> datetime:
    if day:
        return start + timedelta(days=1)
    if month and start.month < 12:  # months of a year
        return start.replace(month=start.month + 1)
    return start.replace(year=start.year + 1, month=1)


def of_value(value: Any) -> Interval | None:
    """Return the interval of a date, dateTime, instant, Period or Timing; None if there is none."""
    try:
        if isinstance(value, str):
            return parse(value)
        if isinstance(value, dict) and ("start" in value or "end" in value):
            low = parse(value["start"]).low if "start" in value else float("-inf")
            return Interval(low, parse(value["end"]).high if "end" in value else float("inf"))
    except ValueError:
        return None
    return None


def split_prefix(text: str) -> tuple[str, str]:
    """Split ``ge2026-01-01`` into its prefix and its date; no prefix means ``eq``."""
    if text[:2].isalpha():
        return text[:2], text[2:]
    return "eq", text


def compare(prefix: str, target: Interval, wanted: Interval) -> bool:
    """Say whether a resource's interval fits a search's; both ends as FHIR R4 defines them."""
    inside = wanted.low <= target.low and target.high <= wanted.high
    above, below = target.high > wanted.high, target.low < wanted.low
    verdicts = {
        "eq": inside,
        "ne": not inside,
        "gt": above,
        "lt": below,
        "ge": above or inside,
        "le": below or inside,
        "sa": target.low >= wanted.high,
        "eb": target.high <= wanted.low,
    }
    return verdicts[prefix]
