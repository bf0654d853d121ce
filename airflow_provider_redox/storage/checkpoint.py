"""What a next try needs to go on where a killed or failed one stopped: the parts that stand, and where the search was.

It lies beside the results, sealed: the link of a next page can hold what was asked. It is taken up only by the same
search of the same task instance, while it is fresh, and twice at most without a page of progress; anything else
begins anew.
"""

from __future__ import annotations

import time

import msgspec

from airflow_provider_redox.seal import Seal
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.parts import Written

RESUMABLE_FOR = 6 * 3600
"""Seconds for which a checkpoint is good: servers forget their cursors, and a result should be of one time."""

TRIES = 2
"""Tries that may begin at the same page; then the search begins anew."""


class Saved(msgspec.Struct):
    """The state of a result that is not complete.

    :param search: a digest of what is searched for.
    :param progress: the search's own state, as JSON.
    :param parts: the parts that are complete.
    :param started: the parts under way; only a disk shows them.
    :param pages: pages in the parts under way.
    :param whole: whether nothing is left but to make the result visible.
    :param obsolete: files of an earlier result, to be removed after that.
    :param at: seconds since the epoch.
    :param tries: tries that began here.
    """

    search: str
    progress: msgspec.Raw
    parts: list[Written] = []
    started: list[Written] = []
    pages: int = 0
    whole: bool = False
    obsolete: list[str] = []
    at: float = 0.0
    tries: int = 0


class Checkpoint:
    """The checkpoint of one search of one task instance.

    :param url: where it lies.
    :param search: a digest of what is searched for; a checkpoint of another search is left aside.
    """

    def __init__(self, files: Files, url: str, *, seal: Seal, search: str) -> None:
        self._files, self._url, self._seal, self._search = files, url, seal, search
        self.exists = False

    @property
    def search(self) -> str:
        """The digest of what is searched for."""
        return self._search

    def load(self) -> Saved | None:
        """Give what lies here if it can be taken up, and count the try."""
        text = self._files.read(self._url)
        clear = None if text is None else self._seal.open(text.decode("ascii", "replace"))
        try:
            saved = None if clear is None else msgspec.json.decode(clear, type=Saved)
        except msgspec.MsgspecError:
            return None
        if saved is None or saved.search != self._search or (saved.tries >= TRIES and not saved.whole):
            return None
        if not 0 <= time.time() - saved.at <= RESUMABLE_FOR:
            return None
        self._put(msgspec.structs.replace(saved, tries=saved.tries + 1))
        return saved

    def save(self, saved: Saved) -> None:
        """Put a state here."""
        saved.at, saved.tries = time.time(), 0
        self._put(saved)

    def remove(self) -> None:
        """Take it away."""
        self._files.remove(self._url)
        self.exists = False

    def _put(self, saved: Saved) -> None:
        self._files.replace(self._url, self._seal.close(msgspec.json.encode(saved)).encode())
        self.exists = True
