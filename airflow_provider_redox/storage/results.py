"""Write the result of a search: NDJSON by resource type, visible only when it is complete.

Lines are written to staged parts in the task's workspace. After a number of pages or bytes the open parts are closed and new
ones are started, so that the boundaries depend on the pages alone. `commit` copies the parts to their final places and
writes the manifest last: a result exists if its manifest does. Each try writes under its own file names, and a try that was
overtaken stops: see `tries.py`.

With a checkpoint, the next try can resume a killed or failed one: on a disk after every page, on an object store after
every segment, because a store shows a file only when it is complete. Without a checkpoint, nothing of a failed try is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import msgspec

from airflow_provider_redox.exceptions import RedoxSupersededError
from airflow_provider_redox.protocol.validation import VALIDATION_OUTCOMES
from airflow_provider_redox.storage.checkpoint import Checkpoint, Point, Saved
from airflow_provider_redox.storage.documents import DOCUMENTS, documents_in
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.layout import Layout
from airflow_provider_redox.storage.parts import BrokenPartError, Part, Written, blocks, lines, suffix_of
from airflow_provider_redox.storage.sweeping import remove_staged, staged, sweep
from airflow_provider_redox.storage.tries import Tries

OUTCOMES = "OperationOutcome"
SEARCHES = "Searches"
"""The kind of the lines that say what became of each search; together they are one file beside the result."""

_BESIDE = (OUTCOMES, VALIDATION_OUTCOMES)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """When parts are ended: after so many pages, or before one of them grows beyond so many bytes."""

    pages: int = 50
    size: int = 64 * 1024 * 1024


class Results:
    """A result being written. A context manager: leave it with an error, and nothing is visible.

    :param compression: `gzip`, or None.
    :param checkpoint: keeps the state for the next try; None if the next try starts over.
    :param tries: the tries of this result, where this one has begun before.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        files: Files | None = None,
        compression: str | None = None,
        checkpoint: Checkpoint | None = None,
        limits: Limits | None = None,
        tries: Tries | None = None,
    ) -> None:
        self._layout = layout
        self._files = files or Files(layout.root, name=layout.argument)
        self._checkpoint = checkpoint
        self._limits = limits or Limits()
        self._suffix = suffix_of(compression)
        self._tries = tries or Tries(self._files, layout)
        self._progress = msgspec.Raw(b"null")
        self._whole = self._hopeless = self._done = False
        self._taken_from = 0
        self._segment = 0
        self._clear()

    def _clear(self) -> None:
        self._parts: list[Written] = []
        self._open: dict[str, Part] = {}
        self._numbers: dict[str, int] = {}
        self._pages = 0

    def __enter__(self) -> Results:
        if not self._tries.number:
            self._tries.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for part in self._open.values():
            part.abandon()
        if self._checkpoint is not None:
            self._checkpoint.close()
        if isinstance(error, RedoxSupersededError):
            self._sweep_for_later()
        elif not self._done and (self._hopeless or self._checkpoint is None):
            self._remove_traces()

    def _remove_traces(self) -> None:
        """Remove what this try staged, if no next try can resume it, and what earlier tries staged, if no retry can help."""
        number = self._tries.number
        for old in staged(self._files, self._layout, number) if self._hopeless else [number]:
            remove_staged(self._files, self._layout, old)
        self._tries.forget(number)

    def _sweep_for_later(self) -> None:
        """Remove what this try wrote, if the try that took over no longer needs it, or a purge was to remove it."""
        later = self._tries.committed()
        if later is not None and later.number > self._tries.number:
            self._sweep(later.number, later.manifest)
        elif self._tries.is_gone:
            self._remove_traces()

    def restore(self, note: Callable[[str, bytes], None], left: Callable[[bytes], None] = lambda _: None) -> bytes | None:
        """Resume what an earlier try left. Returns the progress that it saved last, or None to start over.

        :param note: is called with each line that was already written, and its kind.
        :param left: is called with each line that an earlier try received and this one does not resume.
        """
        saved = self._latest_saved()
        usable = saved is not None and self._checkpoint is not None and self._checkpoint.is_usable(saved)
        self._tell_left(saved if usable else None, left)
        if saved is None or not usable:
            self._save()
            return None
        try:
            self._take_up(saved, note)
        except (BrokenPartError, ValueError, msgspec.MsgspecError):  # the latter where note() cannot read a line
            _log.warning("What an earlier try left is damaged or gone; the search begins anew.")
            self.begin_anew()
            return None
        self._save(tries=saved.tries + 1)
        return bytes(saved.point.progress)

    def _latest_saved(self) -> Saved | None:
        """Return the state that the latest earlier try saved."""
        if self._checkpoint is None:
            return None
        for number in staged(self._files, self._layout, self._tries.number - 1):
            saved = self._checkpoint.load(self._layout.checkpoint(number))
            if saved is not None:
                return saved
        return None

    def _tell_left(self, saved: Saved | None, left: Callable[[bytes], None]) -> None:
        """Report the complete lines that earlier tries had received, except those in parts that are resumed."""
        taken = {part.url: part.size for part in saved.parts} if saved else {}
        for number in staged(self._files, self._layout, self._tries.number - 1):
            folder = self._layout.staged_by(number)
            for url in (f"{folder}/{name}" for name in self._files.names(folder)):
                if url.endswith((".ndjson", ".ndjson.gz")) and taken.get(url) != self._files.size(url):
                    for line in self._lines_left(url):
                        left(line)

    def _lines_left(self, url: str) -> Iterator[bytes]:
        try:
            with self._files.open(url) as file:
                pieces = iter(lambda: file.read(1024 * 1024), b"")
                yield from lines(pieces, compressed=url.endswith(".gz"))
        except (FileNotFoundError, BrokenPartError):  # it is half written, or gone
            return

    def _take_up(self, saved: Saved, note: Callable[[str, bytes], None]) -> None:
        for part in saved.parts:
            self._tell_lines(part, self._place(part, saved), note)
        for earlier in saved.point.started:
            self._tell_lines(earlier, earlier.url, note)
            self._part(earlier.kind, earlier.number).take_over(earlier)
        self._parts, self._taken_from = list(saved.parts), saved.attempt
        self._numbers = {part.kind: part.number + 1 for part in saved.parts}
        self._pages, self._progress = saved.point.pages, saved.point.progress
        self._whole = saved.whole

    def _place(self, part: Written, saved: Saved) -> str:
        """Return the place of a part: a try that was killed after its commit may already have removed the staged one."""
        return part.url if not saved.whole or self._files.exists(part.url) else self._final(part, saved.attempt)

    def _tell_lines(self, part: Written, url: str, note: Callable[[str, bytes], None]) -> None:
        for line in lines(blocks(self._files, part, url), compressed=bool(self._suffix)):
            note(part.kind, line)

    def begin_anew(self) -> None:
        """Start over as a new try: what earlier tries wrote stays until there is a result, or until there can be none."""
        for part in self._open.values():
            part.abandon()
        self._clear()
        self._progress, self._whole, self._segment = msgspec.Raw(b"null"), False, 0
        self._tries.check()
        self._tries.begin()
        self._save()

    def discard(self) -> None:
        """Mark the result so that nothing of it is kept after an error, because no retry can help."""
        self._hopeless = True

    def write(self, kind: str, lines: list[bytes]) -> None:
        """Add lines, each one JSON document, to the part of a kind (a resource type or a data model)."""
        if lines:
            part = self._open.get(kind) or self._part(kind, self._numbers.get(kind, 0))
            part.write(lines)

    def write_page(self, page: Mapping[str, list[bytes]], progress: bytes) -> None:
        """Add the lines of a page, by kind. What has been written up to here can be taken up with this progress, as JSON.

        On an object store that holds after the last page of a segment only.
        """
        if self._is_too_full_for(page):
            self._end_segment()
            self._save()
        for kind, of_kind in page.items():
            self.write(kind, of_kind)
        self._pages += 1
        self._progress = msgspec.Raw(progress)
        if self._pages >= self._limits.pages:
            self._end_segment()
            self._save()
        elif self._files.shows_writes and self._checkpoint is not None:
            self._checkpoint.note(self._point)

    def _is_too_full_for(self, page: Mapping[str, list[bytes]]) -> bool:
        """Say whether a page would make a part larger than it may be. A page that is larger alone is a part alone."""
        sizes = ((self._open[kind].size, more) for kind, more in page.items() if kind in self._open)
        return any(size + sum(map(len, more)) + len(more) > self._limits.size for size, more in sizes)

    def pause(self) -> str | None:
        """Keep what was written for a next try, though this one is to fail. Gives the URL of the list of searches so far."""
        self._end_segment()
        self._save()
        return self._list_searches(self._layout.searches_so_far(self._tries.number))

    def _end_segment(self) -> None:
        for part in self._open.values():
            self._parts.append(part.close())
            self._numbers[part.kind] = part.number + 1
        self._open, self._pages = {}, 0

    @property
    def _point(self) -> Point:
        return Point(self._progress, [part.written for part in self._open.values()], self._pages)

    def _save(self, *, tries: int = 0) -> None:
        """Save the state; on a disk, the pages that follow go to a journal of this try, one for each segment.

        Raises `RedoxSupersededError` when a later try has begun.
        """
        if self._checkpoint is None:
            return
        self._tries.check()
        self._segment += 1
        number = self._tries.number
        place = f"{self._layout.staged_by(number)}/journal.{self._segment:05d}"
        journal = place if self._files.shows_writes and not self._whole else ""
        saved = Saved(self._checkpoint.search, self._point, self._parts, journal, self._whole, tries, number)
        self._checkpoint.save(self._layout.checkpoint(number), saved)

    def commit(self, *, transaction_time: str, request: str, extension: dict[str, Any]) -> dict[str, Any]:
        """Make the result visible, and return its manifest in the shape of a FHIR Bulk Data manifest.

        Raises `RedoxSupersededError` when a later try has begun.
        """
        self._end_segment()
        self._whole = True
        self._save()
        number = self._tries.number
        try:
            searches = self._list_searches(self._layout.searches(number))
            parts = [part for part in self._parts if part.kind != SEARCHES]
            entries = [self._publish(part) for part in sorted(parts, key=lambda part: (part.kind, part.number))]
        except (FileNotFoundError, BrokenPartError):
            self._tries.check()  # it is likely that a later try has removed them
            raise
        manifest = {
            "transactionTime": transaction_time,
            "request": request,
            "requiresAccessToken": False,
            "output": [entry for entry in entries if entry["type"] not in _BESIDE],
            "error": [entry for entry in entries if entry["type"] in _BESIDE],
            "extension": {
                **extension,
                **({} if searches is None else {"searches": searches}),
                **({} if number == 1 else {"attempt": number}),
            },
        }
        self._tries.commit(manifest)
        self._done = True
        self._sweep(number, manifest)
        return manifest

    def _sweep(self, number: int, manifest: Mapping[str, Any]) -> None:
        """Remove files of the tries up to this one that the manifest does not name."""
        entries = [*manifest["output"], *manifest["error"]]
        kept = {entry["url"] for entry in entries} | {manifest["extension"].get("searches", "")}
        if number == 1:
            remove_staged(self._files, self._layout, number)
            return
        for entry in entries:
            kept |= documents_in(self._files, entry["url"]) if entry["type"] == DOCUMENTS else set()
        sweep(self._files, self._layout, self._tries, number, kept)

    def _list_searches(self, url: str) -> str | None:
        """Write the list of searches, in their order, the last line of each: one that failed may have been made again."""
        parts = sorted((part for part in self._parts if part.kind == SEARCHES), key=lambda part: part.number)
        if not parts:
            return None
        listed: dict[int, bytes] = {}
        for part in parts:
            for line in lines(blocks(self._files, part), compressed=bool(self._suffix)):
                listed[msgspec.json.decode(line, type=_Listed).index] = line
        with self._files.writing(url) as file:
            for index in sorted(listed):
                file.write(listed[index] + b"\n")
        return url

    def _part(self, kind: str, number: int) -> Part:
        url = self._layout.staged(kind, number, self._tries.number, self._suffix)
        self._open[kind] = Part(self._files, kind, number, url)
        return self._open[kind]

    def _publish(self, part: Written) -> dict[str, Any]:
        """Copy a part to its place. What was staged stays until the result is visible: another try may need it."""
        place = self._final(part, self._tries.number)
        taken = self._final(part, self._taken_from) if self._taken_from else part.url
        self._files.copy(part.url if self._files.exists(part.url) else taken, place)
        if self._files.size(place) != part.size:
            raise BrokenPartError
        return {"type": part.kind, "url": place, "count": part.count, "sha256": part.sha256}

    def _final(self, part: Written, attempt: int) -> str:
        return self._layout.result(part.kind, part.number, ".gz" if part.url.endswith(".gz") else "", attempt=attempt)


class _Listed(msgspec.Struct):
    index: int
