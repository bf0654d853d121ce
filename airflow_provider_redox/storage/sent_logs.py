"""The logs of what a post operator has sent, read from its result lines, however many they are."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxProtocolError
from airflow_provider_redox.storage.reading import Listed, lines


class _Line(msgspec.Struct):
    outcome: str
    log_ids: list[str] = []
    sent_at: float = 0.0


@dataclass(slots=True)
class SentLogs:
    """What there is to wait for.

    :param made: log IDs, each with the time from which on it was sent; 0 when the line does not say.
    :param without_id: messages that Redox accepted without naming a log.
    """

    made: dict[str, float] = field(default_factory=dict)
    without_id: int = 0


def sent_logs(url: str) -> SentLogs:
    """Read the result lines of a post. Raises `RedoxConfigError` when they are not there or not such lines."""
    place = url if "://" in url else f"file://{url}"
    if not place.partition("://")[2]:
        raise RedoxConfigError("results_path: must be the results_url of a post's result")
    found = SentLogs()
    try:
        for line in lines("results_path", Listed("", place)):
            _take(msgspec.json.decode(line, type=_Line), found)
    except (RedoxProtocolError, msgspec.MsgspecError, UnicodeDecodeError, IsADirectoryError):
        raise RedoxConfigError(
            "results_path: there is no file of result lines at this place; give the results_url of a post's result"
        ) from None
    return found


def _take(line: _Line, found: SentLogs) -> None:
    if line.outcome != "accepted":
        return
    found.without_id += not line.log_ids
    for log_id in line.log_ids:
        found.made.setdefault(log_id, line.sent_at)
