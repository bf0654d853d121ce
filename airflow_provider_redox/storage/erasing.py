"""Erase patients from results: remove their lines, their documents, and their entries in lists.

A line is about a patient if it is the Patient, refers to the Patient anywhere, or has one of the patient's identifiers. IDs
and identifiers are learned from one another, across all files, until none is new (`protocol.identities`). Files that are not
lines of a result are destroyed as a whole: what an unfinished or an earlier try left, and the body of an answer about a
patient. Logical IDs and identifiers belong to one hospital, so an erasure is for one destination, and what is learned in one
environment counts only there.

Everything is read and all changes are planned first. If something cannot be read, the erasure fails then and changes
nothing.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxError
from airflow_provider_redox.protocol import ids, jsontext
from airflow_provider_redox.protocol.identities import Identities
from airflow_provider_redox.protocol.patients import mentions_of_body
from airflow_provider_redox.protocol.validation import VALIDATION_OUTCOMES
from airflow_provider_redox.storage.documents import DOCUMENTS
from airflow_provider_redox.storage.files import Files, Found
from airflow_provider_redox.storage.holdings import Holding
from airflow_provider_redox.storage.reading import Listed, lines
from airflow_provider_redox.storage.shapes import ENVELOPE, unwrapped

_NDJSON = re.compile(r"(.+\.)(\d{5,})(\.ndjson(?:\.gz)?)")
_DOCUMENT = re.compile(r".+\.DocumentFile\.\d{5,}\.[a-z]{1,5}")


class Change(NamedTuple):
    """What is done to a file.

    :param lines: of one that is rewritten, the lines that are gone, and `kept` reads those that stay: all files together
        may be more than memory holds.
    """

    what: str
    found: Found
    lines: int = 0
    kept: Callable[[], Iterable[bytes]] = tuple


class _Entry(msgspec.Struct):
    url: str


class _Extension(msgspec.Struct):
    line_format: str | None = None


class _Manifest(msgspec.Struct):
    output: list[_Entry] = []
    error: list[_Entry] = []
    extension: _Extension = msgspec.field(default_factory=_Extension)


_LIST = re.compile(r"searches(?:\.\d{4,})?\.ndjson")
"""The list of a task's searches, as a try of it wrote it."""


@dataclass(slots=True)
class Book:
    """What one task instance holds, as far as it is read.

    :param content: its manifest as it stands; None where there is none.
    :param enveloped: how its lines are written; None where nothing says so.
    """

    files: Files
    holding: Holding
    content: dict[str, Any] | None = None
    named: dict[str, dict[str, Any]] = field(default_factory=dict)
    enveloped: bool | None = None

    @classmethod
    def read(cls, files: Files, holding: Holding) -> Book:
        """Read the manifest. Raises `RedoxConfigError` for one that cannot be read, or that names what is not there."""
        if holding.manifest is None:
            return cls(files, holding)
        text = files.read(holding.manifest)
        typed, content = jsontext.stored(text, _Manifest), jsontext.stored(text, dict)
        if typed is None or content is None:
            raise RedoxConfigError(
                f"{holding.manifest}: cannot be read as a manifest; nothing was changed. Mend or remove it"
            )
        entries = [*content.get("output", ()), *content.get("error", ())]
        named = {_below(entry["url"]): entry for entry in entries}
        if not named.keys() <= {_below(one.url) for one in holding.results}:
            raise RedoxConfigError(
                f"{holding.manifest}: names a file that is not there, so it is not known what is whose; nothing was changed"
            )
        return cls(files, holding, content, named, typed.extension.line_format == ENVELOPE)

    @property
    def is_unfinished(self) -> bool:
        """Whether a try is, or was, on its way to a first result."""
        return self.content is None and any(
            _inner(one) == "checkpoint" or _inner(one).startswith("staged/") for one in self.holding.workspace
        )

    @property
    def tables(self) -> list[Found]:
        """Its files of lines."""
        return [one for one in self.holding.results if _NDJSON.fullmatch(one.url)]

    @property
    def bodies(self) -> list[Found]:
        """Its bodies of answers: no files of lines, no documents, nothing half."""
        return [one for one in self.holding.results if _is_body(one)]

    def lines(self, one: Found) -> Iterator[bytes]:
        """Give the lines of a file."""
        return lines("a file of the result", Listed("?", one.url))

    def resources(self, one: Found, line: bytes) -> Iterator[bytes]:
        """Give what a line may hold: of a file that no manifest names it is not known how it is written."""
        enveloped = self.enveloped if _below(one.url) in self.named else None
        if not enveloped:
            yield line
        if enveloped is not False:
            try:
                yield unwrapped(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                yield line


@dataclass(slots=True)
class Erasure:
    """Erases patients from the holdings of one destination and one environment.

    :param patients: logical IDs, as `Patient/<id>`, and identifiers, as `Identities` reads them.
    """

    files: Files
    patients: Iterable[str]
    _who: Identities = field(init=False)
    _sources: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._who = Identities(self.patients)

    @property
    def unmet(self) -> set[str]:
        """Return the patients that no file names."""
        return self._who.unmet

    def plan(self, holdings: list[Holding]) -> list[tuple[Book, list[Change]]]:
        """Plan the changes. Documents are found by the resources that point to them, so the resources are read first."""
        books = [Book.read(self.files, holding) for holding in holdings]
        self._learn(books)
        for resource in _resources(books):
            if self._is_theirs(resource):
                self._sources.add(_source(resource))
        return [(book, list(self._changes(book))) for book in books]

    def _learn(self, books: list[Book]) -> None:
        """Learn all names of the patients: read all files again and again until a pass finds no new name."""
        before = -1
        while before != self._who.size:
            before = self._who.size
            for resource in chain(_resources(books), _staged(books)):
                for mention in mentions_of_body(resource):
                    self._who.learn(mention)

    def _changes(self, book: Book) -> Iterator[Change]:
        holding = book.holding
        if book.is_unfinished:  # it is not visible and is begun anew
            yield from (Change("destroyed", one) for one in (*holding.workspace, *holding.results))
            return
        yield from (Change("destroyed", one) for one in holding.workspace if not _is_kept(_inner(one)))
        yield from (Change("destroyed", one) for one in holding.results if one.url.endswith(".partial"))
        listed: set[str] = set()
        for one in book.tables:
            yield from self._of_table(book, one, listed)
        unlisted = (one for one in holding.results if _DOCUMENT.fullmatch(one.url) and _below(one.url) not in listed)
        yield from (Change("destroyed", one) for one in unlisted)
        theirs = (one for one in book.bodies if self._is_theirs(self.files.read(one.url) or b""))
        yield from (Change("destroyed", one) for one in theirs)
        yield from self._of_lists(book)

    def _of_table(self, book: Book, one: Found, listed: set[str]) -> Iterator[Change]:
        """Look at a file of lines; of a list of documents take down which stay.

        One that the manifest does not name is what a killed try, or a killed purge, left.
        """
        if book.content is not None and _below(one.url) not in book.named:
            yield Change("destroyed", one)
            return
        gone = 0
        for line in book.lines(one):
            if self._takes(book, one, line):
                gone += 1
            elif _lists_documents(one):
                listed.add(_below(str(_object(line).get("url"))))
        if gone:
            what = "rewritten" if _below(one.url) in book.named else "destroyed"
            yield Change(what, one, gone, partial(self._left_of, book, one))

    def _left_of(self, book: Book, one: Found) -> Iterator[bytes]:
        return (line for line in book.lines(one) if not self._takes(book, one, line))

    def _takes(self, book: Book, one: Found, line: bytes) -> bool:
        if any(map(self._is_theirs, book.resources(one, line))):
            return True
        if _lists_findings(one):
            return any(not self._sources.isdisjoint(_found_in(resource)) for resource in book.resources(one, line))
        return _lists_documents(one) and str(_object(line).get("source")) in self._sources

    def _of_lists(self, book: Book) -> Iterator[Change]:
        """Look at the list of searches, whose keys and IDs may be theirs."""
        for one in book.holding.workspace:
            if _LIST.fullmatch(_inner(one)):
                text = (self.files.read(one.url) or b"").splitlines()
                kept = tuple(line for line in text if not self._lists_them(line))
                if len(kept) < len(text):
                    yield Change("rewritten", one, len(text) - len(kept), partial(tuple, kept))

    def _lists_them(self, line: bytes) -> bool:
        entry = _object(line)
        key, ids = str(entry.get("key")), entry.get("ids")
        names = [key, *(one for one in (ids if isinstance(ids, list) else ()) if isinstance(one, str))]
        return self._who.names_any(names) or key.partition(" ")[0] in self._sources

    def _is_theirs(self, resource: bytes) -> bool:
        return any(map(self._who.knows, mentions_of_body(resource)))


def carry_out(book: Book, changes: list[Change]) -> None:
    """Do what was planned for one task instance: new files, then the manifest that names them, then removals."""
    removed: list[str] = []
    changed = False
    for change in changes:
        entry = book.named.get(_below(change.found.url))
        if change.what == "rewritten" and entry is not None:
            folder = str(entry["url"]).rpartition("/")[0]  # as the manifest spells it
            facts = _rewritten(book, change)
            entry.update({**facts, "url": f"{folder}/{facts['url'].rpartition('/')[2]}"})
            changed = True
        elif change.what == "rewritten":
            book.files.write(change.found.url, b"".join(line + b"\n" for line in change.kept()))
            continue
        removed.append(change.found.url)
    if changed:
        book.files.write(book.holding.manifest or "", msgspec.json.format(msgspec.json.encode(book.content), indent=2))
    for url in removed:
        book.files.remove_file(url)


def _rewritten(book: Book, change: Change) -> dict[str, Any]:
    """Write what is left under the next free number, and give what the manifest is to say of it."""
    url = _next(change.found.url, book.holding.results)
    kept = list(change.kept())
    text = b"".join(line + b"\n" for line in kept)
    text = gzip.compress(text, mtime=0) if url.endswith(".gz") else text
    book.files.write(url, text)
    book.holding.results.append(Found(url, len(text), 0.0))
    return {"url": url, "count": len(kept), "sha256": hashlib.sha256(text).hexdigest()}


def _resources(books: Iterable[Book]) -> Iterator[bytes]:
    for book in books:
        for one in () if book.is_unfinished else book.tables:
            for line in book.lines(one):
                yield from book.resources(one, line)
        for one in () if book.is_unfinished else book.bodies:
            yield book.files.read(one.url) or b""


def _staged(books: Iterable[Book]) -> Iterator[bytes]:
    """Yield the readable lines of staged parts. They are destroyed as a whole, but names may be learned from them."""
    for book in books:
        for one in book.holding.workspace:
            if _inner(one).startswith("staged/") and _NDJSON.fullmatch(one.url):
                with contextlib.suppress(RedoxError, OSError):  # a writer may have been killed in the middle
                    for line in book.lines(one):
                        yield from book.resources(one, line)


def _below(url: str) -> str:
    """Give the part of a URL below the root: another connection, or another spelling of the root, names the same file."""
    return url.rpartition("/destination=")[2]


def _is_kept(inner: str) -> bool:
    return inner == "manifest.json" or _LIST.fullmatch(inner) is not None


def _inner(one: Found) -> str:
    """Give the path of a file in its workspace; a task or a root may be called as a part of one is."""
    return _below(one.url).split("/", 6)[-1]


def _lists_documents(one: Found) -> bool:
    return f"/type={DOCUMENTS}/" in one.url


def _is_body(one: Found) -> bool:
    """Say whether it is the body of an answer: no file of lines, no document, nothing half."""
    return not (_NDJSON.fullmatch(one.url) or _DOCUMENT.fullmatch(one.url) or one.url.endswith(".partial"))


def _lists_findings(one: Found) -> bool:
    return f"/type={VALIDATION_OUTCOMES}/" in one.url


def _found_in(outcome: bytes) -> set[str]:
    """Name the resources in which a validation found something."""
    issues = _object(outcome).get("issue")
    details = [one.get("details") for one in issues if isinstance(one, dict)] if isinstance(issues, list) else []
    return {str(one.get("text")) for one in details if isinstance(one, dict)}


def _object(text: bytes) -> dict[str, Any]:
    found = jsontext.stored(text, dict)
    return found if isinstance(found, dict) else {}


def _source(resource: bytes) -> str:
    """Name a resource as the list of documents does."""
    return ids.named(_object(resource))


def _next(url: str, among: Iterable[Found]) -> str:
    named = _NDJSON.fullmatch(url)
    if named is None:
        raise AssertionError(url)
    taken = [int(other[2]) for one in among if (other := _NDJSON.fullmatch(one.url)) and other[1] == named[1]]
    return f"{named[1]}{max(taken) + 1:05d}{named[3]}"
