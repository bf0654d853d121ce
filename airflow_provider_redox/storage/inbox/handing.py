"""Handing messages to one run of a sensor, so that a try that is lost costs none.

What a run is handed is written down under its name before the place in the inbox is moved; a later try is handed the same.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from airflow_provider_redox.exceptions import RedoxProtocolError
from airflow_provider_redox.protocol.jsontext import stored
from airflow_provider_redox.storage.inbox.watching import Wanted, Watch


class Handed(msgspec.Struct):
    """What a run was handed: the names of messages, and the event that tells of them."""

    names: list[str]
    event: dict[str, Any]


def hand(wanted: Wanted, run: tuple[str, ...], *, max_messages: int, now: float) -> dict[str, Any] | None:
    """Give the event of what has arrived, or what this run was given before; None when there is nothing."""
    watch = wanted.open()
    digest = hashlib.sha256("\0".join(run).encode()).hexdigest()[:32]
    url = f"{watch.url.rpartition('/')[0]}/handed/{digest}.json"
    earlier = watch.files.read(url)
    if earlier is not None:
        return _again(watch, url, earlier)
    fresh = watch.look(now)
    names, rest = fresh[:max_messages], fresh[max_messages:]
    if not names:
        return None
    event = wanted.event(watch, names)
    if not watch.files.keep_new(url, msgspec.json.encode(Handed(names, event))):
        return _again(watch, url, watch.files.read(url) or b"")  # another try of this run was first
    watch.settle(names, open_names=rest)
    return event


def _again(watch: Watch, url: str, earlier: bytes) -> dict[str, Any]:
    """Return the event that an earlier try of this run got. Raises `RedoxProtocolError` if it cannot be read."""
    handed = stored(earlier, Handed)
    if handed is None:
        raise RedoxProtocolError(f"{url}: what this run was handed cannot be read; restore the file")
    watch.settle(handed.names)
    return handed.event
