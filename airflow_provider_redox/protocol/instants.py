"""Instants as FHIR and Redox write them: ISO 8601, in UTC, with a Z."""

from __future__ import annotations

from datetime import UTC, datetime


def utc(moment: datetime | float, *, timespec: str = "milliseconds") -> str:
    """Write an instant.

    :param moment: with a time zone, or in seconds since the epoch.
    :param timespec: the last digits that are written, as `datetime.isoformat` calls them.
    """
    exact = moment.astimezone(UTC) if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)
    return exact.isoformat(timespec=timespec).replace("+00:00", "Z")
