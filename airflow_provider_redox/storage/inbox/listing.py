"""Looking for what arrived in an inbox, oldest first, in the receiver's own layout or in a bucket that others fill.

A listing begins at a mark, a place in the order of arrival. It is made of one folder for each minute, so that it costs the
same however much came before; in a bucket of others, of what lies below a path that may hold the day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from airflow_provider_redox.protocol import arrivals
from airflow_provider_redox.storage.inbox.parameters import compiled
from airflow_provider_redox.storage.inbox.place import InboxFiles, message_url

_FIRST_DAYS = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Found:
    """One message: its name in the order of arrival, and where it lies."""

    name: str
    arrival: arrivals.Arrival
    url: str

    def told(self) -> dict[str, Any]:
        """Give what an event says of it: IDs and a URL, no content. A log ID that only the message itself knows is None."""
        again = {"tries": self.arrival.tries, "consumer": self.arrival.consumer} if self.arrival.consumer else {}
        return {
            "log_id": self.arrival.key or None,
            "data_model": self.arrival.data_model,
            "event_type": self.arrival.event_type,
            "source": self.arrival.source,
            "url": self.url,
            **again,
        }


class Listing(Protocol):
    """A way to list an inbox."""

    def since(self, mark: str) -> Iterator[list[str]]:
        """Give the names of what arrived from a mark on, oldest first, in groups."""

    def newest(self) -> float:
        """Return the moment of the newest message, in seconds since 1970; 0 where there is none."""

    def read(self, name: str) -> Found | None:
        """Parse a file name; None if it is not that of a message."""


class OwnListing:
    """The layout that the receiver writes."""

    def __init__(self, files: InboxFiles, root: str) -> None:
        self._files, self._root = files, root

    def since(self, mark: str) -> Iterator[list[str]]:
        """Give the names of one minute after the other, up to the newest that was there before.

        What arrives while a folder is listed may be in the list or not, and so a later message without one before it. All
        that came before the newest was there when the listing began, and is in it.
        """
        newest = self._newest(mark)
        for names in self._minutes(mark, newest_first=False):
            yield [name for name in names if name <= newest or arrivals.is_again(name)]

    def newest(self) -> float:
        """Return the moment of the newest message in the inbox; a message that a consumer put back does not count."""
        return _moment(self._newest(""))

    def _newest(self, mark: str) -> str:
        """Give the newest message that is there, at or after the mark; what a consumer wants once more is none."""
        for names in self._minutes(mark, newest_first=True):
            arrived = [name for name in names if arrivals.parse(name) is not None and not arrivals.is_again(name)]
            if arrived:
                return max(arrived)
        return ""

    def _minutes(self, mark: str, *, newest_first: bool) -> Iterator[list[str]]:
        first = arrivals.folder_of(mark) if mark else ""
        base = f"{self._root}/arrivals"
        for day in sorted(self._files.names(base), reverse=newest_first):
            if day < first[:10]:
                continue
            for minute in sorted(self._files.names(f"{base}/{day}"), reverse=newest_first):
                if f"{day}/{minute}" >= first:
                    names = self._files.names(f"{base}/{day}/{minute}")
                    yield [name for name in names if name >= mark and arrivals.is_stamped(name)]

    def read(self, name: str) -> Found | None:
        """Say what a name means."""
        arrival = arrivals.parse(name)
        return Found(name, arrival, message_url(self._root, arrival.key)) if arrival else None


class ForeignListing:
    """A bucket that something else fills, such as a cloud destination of Redox: ordered by when a file was written.

    :param root: its path; with `%Y`, `%m`, `%d` in it, one folder for each day.
    :param pattern: a regular expression for the paths of messages, below the part of `root` before the first `%`. Its groups
        `data_model`, `event_type`, `source` and `log_id` say what a message is.
    :param again: the listing of what consumers want once more.
    """

    def __init__(self, files: InboxFiles, root: str, pattern: str, again: OwnListing) -> None:
        self._files, self._root, self._again = files, root, again
        self._base = base_of(root)
        self._pattern = compiled(pattern)

    def since(self, mark: str) -> Iterator[list[str]]:
        """Give the names of one day after the other where the path holds the day, else all of them."""
        again = [name for group in self._again.since(mark) for name in group]
        for folder in days(self._root, mark):
            names = (
                f"{arrivals.stamp(written)}_{url.removeprefix(self._base).lstrip('/')}"
                for written, url in self._files.below(folder)
            )
            yield sorted(name for name in (*again, *names) if name >= mark)
            again = []

    def newest(self) -> float:
        """Return when the newest file was written, by the store's clock; all of them are listed."""
        names = (name for group in self.since("") for name in group if not arrivals.is_again(name))
        return _moment(max(names, default=""))

    def read(self, name: str) -> Found | None:
        """Say what a name means."""
        again = self._again.read(name)
        if again is not None and again.arrival.consumer:
            return again
        moment, _, path = name.partition("_")
        matched = self._pattern.fullmatch(path)
        if matched is None:
            return None
        groups = matched.groupdict()
        model, event = (arrivals.word(groups[name]) if name in groups else "" for name in ("data_model", "event_type"))
        source, log_id = (arrivals.part(groups[name]) if name in groups else "" for name in ("source", "log_id"))
        return Found(name, arrivals.Arrival(moment, model, event, source, log_id), f"{self._base}/{path}")


def _moment(name: str) -> float:
    """Return the moment in a file name; 0 if there is none, or if its digits are not a date."""
    try:
        return arrivals.moment(name)
    except ValueError:
        return 0.0


def base_of(root: str) -> str:
    """Give the part of a path that is the same each day."""
    return root.partition("%")[0].rpartition("/")[0] if "%" in root else root


def days(root: str, mark: str) -> Iterator[str]:
    """Give the folders of a path: with `%Y`, `%m` and `%d` in it one for each day from the mark's to today's."""
    if "%" not in root:
        yield root
        return
    today = datetime.now(UTC)
    first = datetime.fromtimestamp(arrivals.moment(mark), UTC) if mark else today - _FIRST_DAYS
    day, shown = first - timedelta(days=1), ""
    while day.date() <= today.date() + timedelta(days=1):  # a day before and after: whoever fills it may live elsewhere
        if (folder := day.strftime(root)) != shown:
            yield (shown := folder)
        day += timedelta(days=1)
