"""How far an inbox has been told of, so that nothing is passed over and nothing told twice, whoever is restarted.

The state is one small object, `consumers/<name>/cursor.json`: a mark in the order of arrival, and the names at or after it
that have been told of. It has to remember these, because an arrival can become visible after a later one: the mark follows
the newest arrival at a distance of `lateness`.

What has been told is remembered in this process at once, and written down when the one who was told has it for sure
(`settle`). After a crash in between it is told again, and `read_messages` takes the repeat away.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from airflow_provider_redox.exceptions import RedoxProtocolError
from airflow_provider_redox.protocol import arrivals
from airflow_provider_redox.protocol.jsontext import stored
from airflow_provider_redox.storage.inbox.listing import ForeignListing, Found, Listing, OwnListing, base_of
from airflow_provider_redox.storage.inbox.place import InboxFiles, inbox_root
from airflow_provider_redox.storage.layout import safe_name

_ENOUGH = 1000  # messages that one look gathers before it is content
_KINDS = 20  # kinds of messages passed over that are named in the log

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a trigger or a sensor watches, in its author's words.

    :param name: whose cursor it is; by default made of the rest, so that two that want the same share one.
    :param name_pattern: makes it a bucket that something else fills, see `ForeignListing`.
    :param state_path: where cursors and claims go, by default into the inbox, in a folder `_redox` if it is another's.
    """

    inbox_path: str
    name: str | None = None
    data_model: str | Sequence[str] | None = None
    event_type: str | Sequence[str] | None = None
    source: str | Sequence[str] | None = None
    name_pattern: str | None = None
    state_path: str | None = None
    lateness: float = 120.0

    @property
    def inbox(self) -> str:
        """The part of the inbox's URL that is the same each day."""
        return base_of(inbox_root(self.inbox_path))

    @property
    def state(self) -> str:
        """The URL of the folder of cursors and claims."""
        if self.state_path is not None:
            return inbox_root(self.state_path, name="state_path")
        return self.inbox if self.name_pattern is None else f"{self.inbox}/_redox"

    def open(self) -> Watch:
        """Open the inbox, and begin where its cursor says. Asks Airflow for the connections that the paths name."""
        state_files = InboxFiles(self.state, name="inbox_path" if self.state_path is None else "state_path")
        listing: Listing = OwnListing(state_files, self.state)
        if self.name_pattern is not None:
            root = inbox_root(self.inbox_path)
            listing = ForeignListing(InboxFiles(self.inbox), root, self.name_pattern, OwnListing(state_files, self.state))
        wanted = arrivals.Filter.of(data_model=self.data_model, event_type=self.event_type, source=self.source)
        watch = Watch(state_files, f"{self.state}/consumers/{self._cursor_name}/cursor.json", listing, wanted, self.lateness)
        watch.load()
        return watch

    def event(self, watch: Watch, names: Iterable[str]) -> dict[str, Any]:
        """Make the event that tells of these: URLs and IDs, no content."""
        return {"inbox": self.inbox, "state": self.state, "messages": watch.tell(names)}

    @property
    def _cursor_name(self) -> str:
        if self.name is not None:
            return safe_name(self.name)
        parts = [self.inbox_path, self.data_model, self.event_type, self.source, self.name_pattern]
        return f"watch-{hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]}"


class Cursor(msgspec.Struct):
    """What is written down: a mark, and the names from it on that have been told of."""

    mark: str = ""
    told: list[str] = []


@dataclass(slots=True)
class Watch:
    """One consumer's view of an inbox.

    :param url: where its cursor is kept.
    :param lateness: seconds by which an arrival may become visible after a later one.
    """

    files: InboxFiles
    url: str
    listing: Listing
    wanted: arrivals.Filter
    lateness: float
    _mark: str = ""
    _told: set[str] = field(default_factory=set)
    _settled: set[str] = field(default_factory=set)
    _saved: bytes = b""
    _reached: str = ""
    _passed: set[str] = field(default_factory=set)

    def load(self) -> None:
        """Begin where the cursor says. Raises `RedoxProtocolError` when it cannot be read."""
        text = self.files.read(self.url)
        cursor = stored(text, Cursor) if text else Cursor()
        if cursor is None:
            raise RedoxProtocolError("inbox: the cursor of this consumer cannot be read; remove it to begin again")
        self._mark, self._told, self._settled = cursor.mark, set(cursor.told), set(cursor.told)

    def begin_at_newest(self) -> None:
        """Skip the messages that are already there, unless this watch has reported any before.

        The newest arrival marks the position, not this machine's clock: if that clock is ahead of the receiver's, messages
        that arrive within the difference would be skipped too.
        """
        if not self._mark:
            self._mark = arrivals.stamp(max(0.0, self.listing.newest() - self.lateness))
            there = {name for names in self.listing.since(self._mark) for name in names if not arrivals.is_again(name)}
            self._told |= there
            self._settled |= there

    def look(self, now: float) -> list[str]:
        """Give the names of what has arrived, has not been told of and is wanted, oldest first; not all when it is much."""
        fresh: list[str] = []
        newest = reached = ""
        for group in self.listing.since(self._mark):
            for name in group:
                newest = max(newest, "" if arrivals.is_again(name) else name)
                if name not in self._told and self._is_fresh(name, now):
                    fresh.append(name)
            if len(fresh) >= _ENOUGH:
                reached = newest  # what comes later has not been looked at
                break
        behind = self._behind(newest, now)
        self._reached = min(reached, behind) if reached else behind
        return fresh

    def tell(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Remember that these are being told of, and say what they are."""
        names = list(names)
        self._told.update(names)
        return [found.told() for name in names if (found := self.listing.read(name))]

    def settle(self, names: Iterable[str], *, open_names: Iterable[str] = ()) -> None:
        """Write down that these have been told of for sure, and move the mark.

        :param open_names: what the last look gave and is not settled; the mark stays before it.
        """
        self._settled.update(names)
        self._mark = max(self._mark, min([self._reached, *open_names]))
        self._settled = {name for name in self._settled if name >= self._mark}
        self._told = {name for name in self._told if name >= self._mark}
        text = msgspec.json.encode(Cursor(self._mark, sorted(self._settled)))
        if text != self._saved:
            self.files.write(self.url, text)
            self._saved = text

    def _is_fresh(self, name: str, now: float) -> bool:
        found = self.listing.read(name)
        if found is None or not self.wanted.wants(found.arrival):
            self._told.add(name)
            self._pass_over(found)
            return False
        # What is to come again waits for its time. The rest is there when it is seen, whatever the clock.
        return not found.arrival.consumer or found.arrival.stamp <= arrivals.stamp(now)

    def _pass_over(self, found: Found | None) -> None:
        """Log once each kind of message that the filter or the pattern excludes: a word in it may be misspelt."""
        kind = (
            f"{found.arrival.data_model} {found.arrival.event_type}" if found else "files that name_pattern does not match"
        )
        if kind not in self._passed and len(self._passed) < _KINDS:
            self._passed.add(kind)
            _log.info("Inbox: left out by the filter or name_pattern: %s. This is logged once for each kind.", kind)

    def _behind(self, newest: str, now: float) -> str:
        """Give the moment before which nothing can appear any more, by the clock of those who write: the newest's."""
        try:
            return arrivals.stamp(min(arrivals.moment(newest), now) - self.lateness)
        except ValueError:  # there is none, or it is no moment
            return ""
