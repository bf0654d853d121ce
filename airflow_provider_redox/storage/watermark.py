"""Where the last successful run of a search ended, so that the next one goes on there: `since="last_success"`.

Where the state lives: a small file beside the results, below `_redox/watermarks`, on every version of Airflow. It is keyed
by DAG, task, destination, environment and a keyed hash of what is asked, and moved, forward only, when a result is visible.
The state of Airflow 3.3's tasks is wiped by a clear, and that of its assets wants an outlet.

The next run asks from a little before the watermark, as a server's clocks differ and its transactions end late. What it
finds there again is known by its identity and marked as a repeat; those identities lie sealed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_redox.protocol.gathered import key_of
from airflow_provider_redox.protocol.jsontext import stored
from airflow_provider_redox.protocol.windows import instant, instant_of

if TYPE_CHECKING:
    from airflow_provider_redox.protocol.pages import Resource
    from airflow_provider_redox.seal import Seal
    from airflow_provider_redox.storage.files import Files

OVERLAP = timedelta(minutes=5)
"""How far before the watermark the next run begins."""

KNOWN_AT_MOST = 100_000
"""Identities of the overlap that are kept; where there are more, the rest is not marked when it comes again."""

_WIDTH = 15  # bytes of an identity

_log = logging.getLogger(__name__)


class Record(msgspec.Struct):
    """What lies there.

    :param watermark: an instant in UTC.
    :param run: the run that moved it.
    :param known: sealed, the identities of what was last changed within the overlap.
    :param before: the same before that run, for which nothing that it gave itself is a repeat when it is tried again.
    """

    watermark: str
    run: str
    at: str
    known: str = ""
    before: str = ""


class Increment:
    """One search's way from run to run.

    :param url: of the record.
    :param run: which run this is.
    """

    def __init__(self, files: Files, url: str, seal: Seal, run: str) -> None:
        self._files, self._url, self._seal, self._run = files, url, seal, run
        self._recent: dict[int, str] = {}
        self._record = self._load()
        self._before = "" if self._record is None else self._record.before if self._record.run == run else self._record.known
        self._earlier = self._unsealed(self._before)

    @property
    def since(self) -> str | None:
        """The instant from which to ask; None when no run has succeeded yet."""
        if self._record is None:
            return None
        return instant(datetime.fromisoformat(self._record.watermark) - OVERLAP)

    def repeats(self, resources: Sequence[Resource]) -> set[int]:
        """Give the places of those that an earlier run gave in the same version."""
        if not self._earlier:
            return set()
        return {place for place, resource in enumerate(resources) if key_of(resource) in self._earlier}

    def note(self, key: int, last_updated: str | None) -> None:
        """Note what came, in case the next run finds it again."""
        if last_updated and len(self._recent) < 2 * KNOWN_AT_MOST:
            self._recent[key] = instant_of(last_updated)

    def move(self, watermark: str | None) -> None:
        """Move the watermark forward, never back, even if another try moved it meanwhile; leave it if nothing was found."""
        record = self._load() if watermark else None
        if not watermark or watermark < (record.watermark if record else ""):
            return
        begin = instant(datetime.fromisoformat(watermark) - OVERLAP)
        latest = self._unsealed(record.known) if record else set()
        still = {*latest, *(key for key, moment in self._recent.items() if moment >= begin)}
        known = b"".join(key.to_bytes(_WIDTH) for key in sorted(still)[:KNOWN_AT_MOST])
        moved = Record(watermark, self._run, instant(datetime.now(UTC)), self._seal.close(known), self._before)
        self._files.write(self._url, msgspec.json.encode(moved) + b"\n")

    def _load(self) -> Record | None:
        """Read the record. One that is damaged is like none: everything is asked for, nothing is lost."""
        text = self._files.read(self._url)
        record = stored(text, Record)
        if record is not None and _is_instant(record.watermark):
            return record
        if text is not None:
            _log.warning("The watermark of this search is damaged; everything is asked for again.")
        return None

    def _unsealed(self, sealed: str) -> set[int]:
        """Give the identities of an overlap; none where another key has sealed them."""
        clear = (self._seal.open(sealed) if sealed else None) or b""
        return {int.from_bytes(clear[place : place + _WIDTH]) for place in range(0, len(clear), _WIDTH)}


def _is_instant(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
