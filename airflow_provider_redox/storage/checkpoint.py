"""Save the state from which the next try resumes a killed or failed search: the complete parts, and the search's position.

Each try has its own checkpoint beside the results. It is sealed, because the link of a next page can contain search
parameters. The state is a small file, replaced after each segment. On a disk, each page also appends a line to a journal
beside the parts, which costs a single write; a line that was only half written, as by a kill, cannot be unsealed and is
ignored.

A checkpoint is resumed only by the same search of the same task instance, while it is recent, and a few times at most
without a page of progress; in any other case the search starts over.
"""

from __future__ import annotations

import time
from typing import IO

import msgspec

from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.seal import Seal
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.parts import Written

RESUMABLE_FOR = 6 * 3600
"""Seconds for which a checkpoint is good: servers forget their cursors, and a result should be of one time."""

TRIES = 3
"""Tries that may begin at the same page; then the search begins anew."""


class Point(msgspec.Struct):
    """Where a search is after a page.

    :param progress: the search's own state, as JSON.
    :param started: the parts under way; only a disk shows them.
    :param pages: pages in the parts under way.
    :param at: seconds since the epoch.
    """

    progress: msgspec.Raw = msgspec.Raw(b"null")
    started: list[Written] = []
    pages: int = 0
    at: float = 0.0


class Saved(msgspec.Struct):
    """The state of a result that is not complete.

    :param search: a digest of what is searched for.
    :param parts: the parts that are complete.
    :param journal: where the points after `point` are; empty when there are none.
    :param whole: whether all pages were read, so that only the commit is left.
    :param tries: the number of tries that resumed at `point`.
    :param attempt: the try that saved it; see `tries.py`.
    """

    search: str
    point: Point
    parts: list[Written] = []
    journal: str = ""
    whole: bool = False
    tries: int = 0
    attempt: int = 1


class Checkpoint:
    """The checkpoint of one search of one task instance.

    :param search: a digest of what is searched for; a checkpoint of another search is ignored.
    """

    def __init__(self, files: Files, *, seal: Seal, search: str) -> None:
        self._files, self._seal = files, seal
        self.search = search
        self._journal: IO[bytes] | None = None

    def load(self, url: str) -> Saved | None:
        """Read the saved state, with the last point of its journal; None if there is none, or it cannot be read."""
        text = self._files.read(url)
        clear = None if text is None else self._seal.open(text.decode("ascii", "replace"))
        saved = jsontext.stored(clear, Saved)
        last = self._last_point(saved.journal) if saved else None
        if saved is not None and last is not None:
            saved.point, saved.tries = last, 0
        return saved

    def is_usable(self, saved: Saved) -> bool:
        """Say whether a state can be taken up: the same search, fresh, not stuck, and with a page at least."""
        stuck = saved.tries >= TRIES and not saved.whole
        fresh = 0 <= time.time() - saved.point.at <= RESUMABLE_FOR
        return saved.search == self.search and fresh and not stuck and bytes(saved.point.progress) != b"null"

    def _last_point(self, journal: str) -> Point | None:
        lines = (self._files.read(journal) if journal else None) or b""
        for line in reversed(lines.split(b"\n")):
            clear = self._seal.open(line.decode("ascii", "replace"))
            if clear is not None:
                return jsontext.stored(clear, Point)
        return None

    def save(self, url: str, saved: Saved) -> None:
        """Write a state; its journal, if it has one, begins empty."""
        self.close()
        saved.point.at = time.time()
        self._files.replace(url, self._sealed(saved))
        if saved.journal:
            self._journal = self._files.create(saved.journal)

    def note(self, point: Point) -> None:
        """Add a point to the journal."""
        point.at = time.time()
        if self._journal is not None:
            self._journal.write(self._sealed(point) + b"\n")

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _sealed(self, content: Saved | Point) -> bytes:
        return self._seal.close(msgspec.json.encode(content)).encode()
