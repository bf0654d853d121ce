"""The result of a search: NDJSON by resource type, visible only when it is whole.

Lines are written to staged parts in the task's workspace. After so many pages or bytes the parts under way are ended
and new ones begun, so that the boundaries depend on the pages alone. `commit` moves the parts to their places and
writes the manifest last: the manifest is what says that a result is there.

With a checkpoint, a try that is killed or fails can be taken up by the next: on a disk after every page, on an object
store after every segment, as a store shows a file only when it is complete. Without one, nothing of a failed try is
left.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import msgspec

from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.validation import VALIDATION_OUTCOMES
from airflow_provider_redox.storage.checkpoint import Checkpoint, Point, Saved
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.layout import Layout
from airflow_provider_redox.storage.parts import BrokenPartError, Part, Written, blocks, lines, suffix_of

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
    :param checkpoint: where the state is kept for a next try; None when a next try begins anew.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        files: Files | None = None,
        compression: str | None = None,
        checkpoint: Checkpoint | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._layout = layout
        self._files = files or Files(layout.root, name=layout.argument)
        self._checkpoint = checkpoint
        self._limits = limits or Limits()
        self._suffix = suffix_of(compression)
        self._attempt = secrets.token_hex(4)
        self._progress = msgspec.Raw(b"null")
        self._obsolete: list[str] = []
        self._whole = self._was_whole = False
        self._segment = 0
        self._clear()

    def _clear(self) -> None:
        self._parts: list[Written] = []
        self._open: dict[str, Part] = {}
        self._numbers: dict[str, int] = {}
        self._pages = 0

    def __enter__(self) -> Results:
        if self._checkpoint is None:
            self._files.remove(self._layout.staging)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for part in self._open.values():
            part.abandon()
        if self._checkpoint is not None:
            self._checkpoint.close()
        if self._checkpoint is None or not self._checkpoint.exists:
            self._tidy(self._layout.staging, self._files.remove)

    def restore(self, note: Callable[[str, bytes], None]) -> bytes | None:
        """Take up what an earlier try left. Gives the progress that it saved last, or None to begin anew.

        :param note: is told each line that stands already, with its kind.
        """
        saved = self._checkpoint.load() if self._checkpoint else None
        if saved is not None:
            moved = [self._final(part) for part in saved.parts] if saved.whole else []
            self._obsolete = [*saved.obsolete, *moved]  # what this result does not replace is removed with it
        if self._checkpoint is None or saved is None or not self._checkpoint.is_usable(saved):
            self.begin_anew()
            return None
        try:
            self._take_up(saved, note)
        except (BrokenPartError, ValueError, msgspec.MsgspecError):  # the latter where note() cannot read a line
            _log.warning("What an earlier try left is damaged or gone; the search begins anew.")
            self.begin_anew()
            return None
        self._save(tries=saved.tries + 1)
        return bytes(saved.point.progress)

    def _take_up(self, saved: Saved, note: Callable[[str, bytes], None]) -> None:
        for part in saved.parts:
            self._tell_lines(part, self._place(part, saved), note)
        for earlier in saved.point.started:
            self._tell_lines(earlier, earlier.url, note)
            self._part(earlier.kind, earlier.number).take_over(earlier)
        self._parts, self._was_whole = list(saved.parts), saved.whole
        self._numbers = {part.kind: part.number + 1 for part in saved.parts}
        self._pages, self._progress = saved.point.pages, saved.point.progress
        self._whole = saved.whole

    def _place(self, part: Written, saved: Saved) -> str:
        """Say where a part lies: a try that was killed while it made its result visible has moved some."""
        return part.url if not saved.whole or self._files.exists(part.url) else self._final(part)

    def _tell_lines(self, part: Written, url: str, note: Callable[[str, bytes], None]) -> None:
        for line in lines(blocks(self._files, part, url), compressed=bool(self._suffix)):
            note(part.kind, line)

    def begin_anew(self) -> None:
        """Take away what an earlier try left. A place that cannot be written is found here, before the first page."""
        self.discard()
        self._save()

    def discard(self) -> None:
        """Take away what is staged, and the checkpoint; what follows begins anew."""
        for part in self._open.values():
            part.abandon()
        self._clear()
        if self._checkpoint is not None:
            self._checkpoint.remove()
        self._files.remove(self._layout.staging)

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
        return self._list_searches(self._layout.searches_so_far)

    def _end_segment(self) -> None:
        for part in self._open.values():
            self._parts.append(part.close())
            self._numbers[part.kind] = part.number + 1
        self._open, self._pages = {}, 0

    @property
    def _point(self) -> Point:
        return Point(self._progress, [part.written for part in self._open.values()], self._pages)

    def _save(self, *, tries: int = 0) -> None:
        """Put down the state; what follows on a disk goes to a journal of this try, one for each segment."""
        if self._checkpoint is None:
            return
        self._segment += 1
        place = f"{self._layout.staging}/{self._attempt}/journal.{self._segment:05d}"
        journal = place if self._files.shows_writes and not self._whole else ""
        self._checkpoint.save(
            Saved(self._checkpoint.search, self._point, self._parts, journal, self._whole, self._obsolete, tries)
        )

    def commit(self, *, transaction_time: str, request: str, extension: dict[str, Any]) -> dict[str, Any]:
        """Make the result visible and give its manifest, in the shape of a FHIR Bulk Data manifest."""
        self._end_segment()
        self._obsolete = sorted({*self._obsolete, *self._earlier_urls()})
        self._whole = True
        self._save()
        self._files.remove(self._layout.manifest)
        searches = self._list_searches(self._layout.searches)
        parts = [part for part in self._parts if part.kind != SEARCHES]
        entries = [self._publish(part) for part in sorted(parts, key=lambda part: (part.kind, part.number))]
        manifest = {
            "transactionTime": transaction_time,
            "request": request,
            "requiresAccessToken": False,
            "output": [entry for entry in entries if entry["type"] not in _BESIDE],
            "error": [entry for entry in entries if entry["type"] in _BESIDE],
            "extension": extension if searches is None else {**extension, "searches": searches},
        }
        self._files.write(self._layout.manifest, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        self._remove_obsolete({searches, *(entry["url"] for entry in entries)})
        return manifest

    def _remove_obsolete(self, current: set[str | None]) -> None:
        """Remove files of the earlier result. The checkpoint goes last: until then a killed try ends what is left here."""
        old = [*self._obsolete, self._layout.searches_so_far, self._layout.searches]
        for url in old:
            if url not in current:
                self._tidy(url, self._files.remove_file)
        self._tidy(self._layout.staging, self._files.remove)
        self._tidy(self._layout.checkpoint, self._files.remove_file)

    def _tidy(self, url: str, remove: Callable[[str], None]) -> None:
        """Remove what is of no more use. The result stands, or has failed, already: a failure here is only told."""
        try:
            remove(url)
        except Exception as error:  # noqa: BLE001  (each store has errors of its own)
            _log.warning("A file of an earlier try could not be removed (%s): %s", type(error).__name__, url)

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
        url = self._layout.staged(kind, number, self._attempt, self._suffix)
        self._open[kind] = Part(self._files, kind, number, url)
        return self._open[kind]

    def _publish(self, part: Written) -> dict[str, Any]:
        place = self._final(part)
        if not self._was_whole or self._files.exists(part.url):
            self._files.move(part.url, place)
        return {"type": part.kind, "url": place, "count": part.count, "sha256": part.sha256}

    def _final(self, part: Written) -> str:
        return self._layout.result(part.kind, part.number, ".gz" if part.url.endswith(".gz") else "")

    def _earlier_urls(self) -> set[str]:
        """Give the files of an earlier result of the same task, so that none of them outlives this one."""
        text = self._files.read(self._layout.manifest)
        manifest = jsontext.stored(text, _Manifest) or _Manifest()
        found = {entry.url for entry in (*manifest.output, *manifest.error)}
        own = self._layout.own_result
        return {url for url in found if own.fullmatch(url)}  # what lies on a store may have been put there


class _Listed(msgspec.Struct):
    index: int


class _File(msgspec.Struct):
    url: str


class _Manifest(msgspec.Struct):
    output: list[_File] = []
    error: list[_File] = []
