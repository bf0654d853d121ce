"""Reading a result: the manifest, then its files as streams of lines, each file checked against what the manifest says.

A file is read once, in blocks, whatever its size; one that is gzipped is opened on the way. Its checksum is that of the
bytes as they lie on the store. What a file lacks can only be known at its end: the error comes after its lines.

Who may write to a store may put a manifest there, or a list of documents. So what was read from a store names files of its
own result only; a manifest that comes as a mapping, from XCom, is the word of the task that returned it.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import IO, Any

import msgspec

from airflow_provider_redox.checks import given
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxProtocolError, RedoxSecurityError
from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.storage.documents import DOCUMENTS
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.members import members
from airflow_provider_redox.storage.rows import json_rows
from airflow_provider_redox.storage.shapes import ENVELOPE, unwrapped
from airflow_provider_redox.storage.urls import place_of

_BLOCK = 1024 * 1024
_LONGEST_LINE = 64 * 1024 * 1024  # no body of an answer may be longer, so no resource is
_TYPE = re.compile("[A-Za-z][A-Za-z ]{0,63}")
_GZIP = b"\x1f\x8b"


class Listed(msgspec.Struct, frozen=True):
    """A file as a manifest lists it. What other tools leave out, `count` or `sha256`, is not checked."""

    type: str
    url: str
    count: int | None = None
    sha256: str | None = None


class _Extension(msgspec.Struct, frozen=True):
    line_format: str | None = None
    searches: str | None = None


class Manifest(msgspec.Struct, frozen=True):
    """What reading needs of a manifest; it may hold more."""

    output: list[Listed]
    error: list[Listed] = []
    extension: _Extension = _Extension()

    def resources(self, resource_type: str | None) -> Iterator[tuple[str, bytes]]:
        """Give the lines of a type, or of all under `output`, taken out of their envelopes, each with its file's name."""
        enveloped = self.output if self.extension.line_format == ENVELOPE else ()
        for name, listed in self.files(resource_type):
            unwrap = _unwrapping(name) if listed in enveloped else _as_it_is
            if listed.type == DOCUMENTS:
                unwrap = _bounded(name, listed.url)
            yield from ((name, unwrap(line)) for line in lines(name, listed))

    def files(self, resource_type: str | None) -> list[tuple[str, Listed]]:
        """Give the files of a type, or all under `output`, each with the name that errors call it by."""
        resource_type = given(resource_type, None, name="resource_type")
        listed = self.output if resource_type is None else [*self.output, *self.error]
        return [(name, file) for name, file in self.numbered(listed) if resource_type in (None, file.type)]

    @staticmethod
    def numbered(listed: list[Listed]) -> list[tuple[str, Listed]]:
        """Give files with the names that errors call them by."""
        numbers: dict[str, int] = {}
        named = []
        for file in listed:
            numbers[file.type] = number = numbers.get(file.type, 0) + 1
            kind = file.type if _TYPE.fullmatch(file.type) else "?"  # what is no type may be anything
            named.append((f"file {number} of type {kind}", file))
        return named


def parse_manifest(manifest: Any) -> Manifest:
    """Give a manifest from a mapping, or from the URL or path of a `manifest.json`. Raises `RedoxConfigError`."""
    return _read(manifest if isinstance(manifest, Mapping) else stored(manifest))


def _read(content: Mapping[str, Any]) -> Manifest:
    try:
        return msgspec.convert(content, Manifest)
    except msgspec.ValidationError as error:
        raise RedoxConfigError(f"manifest: not what a search returns: {error}") from None


def _refuse_elsewhere(manifest: Manifest, place: str) -> None:
    """Refuse a stored manifest that names files of another place: whoever may write to a store is not to have any file read.

    :param place: where the manifest lies.
    """
    named = [(name, listed.url) for name, listed in manifest.numbered([*manifest.output, *manifest.error])]
    if manifest.extension.searches is not None:
        named.append(("the list of searches", manifest.extension.searches))
    for name, url in named:
        if not _lies_by(url, place):
            raise RedoxConfigError(f"manifest: {name} lies elsewhere than the manifest that names it, and is not read")


def _lies_by(url: str, place: str) -> bool:
    """Say whether a file lies in another's folder or below, or below the same folder of a destination and environment.

    Connection IDs are passed over: who reads may have another one than who wrote.
    """
    store, path = _place(url)
    own_store, own_path = _place(place)
    folders = [own_path.rpartition("/")[0]]
    if (base := re.match(r"(.*/)?destination=[^/]+/environment=[^/]+(?=/)", own_path)) is not None:
        folders.append(base.group())
    climbs = not {".", ".."}.isdisjoint(path.split("/"))
    return store == own_store and not climbs and any(path.startswith(f"{folder}/") for folder in folders)


def _place(url: str) -> tuple[str, str]:
    """Give the kind of a file's store, whichever spelling its scheme has, and its bucket and path."""
    place = place_of(url)
    return place.kind, re.sub("/+", "/", place.path) if place.kind == "file" else place.path


def searches(manifest: Any) -> Iterator[dict[str, Any]]:
    """Give the lines of the list of searches, parsed. Raises `RedoxConfigError` when it is not there, or damaged."""
    place = parse_manifest(manifest).extension.searches
    if place is None:
        return
    for _, row in json_rows(place, where="manifest.extension.searches", limit=_LONGEST_LINE):
        yield row


def document(entry: Any) -> bytes:
    """Give the bytes of a document that a line speaks of; see `downstream.read_document`."""
    try:
        listed = msgspec.convert(entry, _Document)
    except msgspec.ValidationError as error:
        raise RedoxConfigError(f"entry: not a line of the list of documents: {error}") from None
    content = Files(listed.url).read(listed.url)
    if content is None:
        raise RedoxProtocolError("the document that the list names is not there; clear the task that downloaded it")
    if hashlib.sha256(content).hexdigest() != listed.sha256:
        raise RedoxProtocolError("the document's checksum is not that of the list; it was changed after it was written")
    return content


class _Located(msgspec.Struct, frozen=True):
    url: str = ""


class _Document(msgspec.Struct, frozen=True):
    url: str
    sha256: str


def stored(place: Any) -> Any:
    """Read the manifest at a URL or path. Raises `RedoxConfigError`, also where it names files of another place."""
    url = str(place)
    if not isinstance(place, str) and not hasattr(place, "__fspath__") and not hasattr(place, "fs"):
        raise RedoxConfigError(
            f"manifest: must be one manifest, or the URL or path of one, not {type(place).__name__}; "
            "for the results of mapped tasks, call this for each"
        )
    if "://" not in url and not url.startswith("/"):
        raise RedoxConfigError("manifest: must be an absolute path or a URL such as s3://conn_id@bucket/…/manifest.json")
    text = Files(url).read(url)
    if text is None:
        raise RedoxConfigError("manifest: there is no file at this place; the search that writes it has not succeeded")
    content = jsontext.stored(text, dict[str, Any])
    if content is None:
        raise RedoxConfigError("manifest: the file at this place is not JSON, or no object")
    _refuse_elsewhere(_read(content), url)
    return content


def _as_it_is(line: bytes) -> bytes:
    return line


def _bounded(name: str, place: str) -> Callable[[bytes], bytes]:
    """Let through the lines of a list of documents that lie where the list's own task puts its documents."""

    def bounded(line: bytes) -> bytes:
        located = jsontext.stored(line, _Located) or _Located()
        if not _lies_by(located.url, place):
            raise RedoxSecurityError(f"{name}: holds a line that names a file of another place; it is not read")
        return line

    return bounded


def _unwrapping(name: str) -> Callable[[bytes], bytes]:
    def unwrap(line: bytes) -> bytes:
        try:
            return unwrapped(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
        raise RedoxProtocolError(f"{name}: holds a line that is no envelope; it was changed after it was written")

    return unwrap


def lines(name: str, listed: Listed) -> Iterator[bytes]:
    """Give the lines of one file. Raises `RedoxProtocolError` when it is not the file that the manifest speaks of."""
    try:
        file = Files(listed.url).open(listed.url)
    except (FileNotFoundError, ValueError):  # the latter for a name that no file can have
        raise RedoxProtocolError(f"{name}: the manifest lists it, and it is not there") from None
    with file:
        yield from _checked(name, listed, file)


def _checked(name: str, listed: Listed, file: IO[bytes]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    count, rest = 0, bytearray()
    for block in _unzipped(name, _blocks(file, digest)):
        found, rest = _cut(rest, block)
        count += len(found)
        _refuse_more(name, listed, count, rest)
        yield from found
    count += bool(rest)
    _refuse_other(name, listed, count, digest.hexdigest())
    if rest:
        yield bytes(rest)


def _cut(rest: bytearray, block: bytes) -> tuple[list[bytes], bytearray]:
    """Give the lines that end in a block, the first of them begun by the rest of the blocks before, and its own rest."""
    end, newline, others = block.partition(b"\n")
    rest += end
    if not newline:
        return [], rest
    *whole, last = others.split(b"\n")
    return [line for line in (bytes(rest), *whole) if line], bytearray(last)


def _blocks(file: IO[bytes], digest: Any) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        digest.update(block)
        yield block


def _unzipped(name: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Open a gzipped file, of one or more members, on the way; pass any other."""
    first = next(blocks, b"")
    if not first.startswith(_GZIP):
        yield first
        yield from blocks
        return
    try:
        yield from members(chain((first,), blocks))
    except zlib.error:
        raise RedoxProtocolError(f"{name}: its compression is damaged") from None
    except EOFError:
        raise RedoxProtocolError(f"{name}: cut short, its compression does not end") from None


def _refuse_more(name: str, listed: Listed, count: int, rest: bytearray) -> None:
    if listed.count is not None and count > listed.count:
        raise RedoxProtocolError(f"{name}: holds more than the {listed.count} lines that the manifest says")
    if len(rest) > _LONGEST_LINE:
        raise RedoxProtocolError(f"{name}: line {count + 1} is longer than any resource can be")


def _refuse_other(name: str, listed: Listed, count: int, digest: str) -> None:
    if listed.count is not None and count != listed.count:
        raise RedoxProtocolError(f"{name}: holds {count} lines, and the manifest says {listed.count}")
    if listed.sha256 is not None and digest != listed.sha256.lower():
        raise RedoxProtocolError(f"{name}: its checksum is not the manifest's; it was changed after the search wrote it")
