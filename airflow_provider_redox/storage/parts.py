"""The files of a result: each written from its beginning to its end by one process, none ever appended to by another.

A part on a disk can be taken over: what an earlier try wrote is copied into a part of one's own, after its checksum
was found to be right. Compressed parts are gzip members, one for each block, without a time: the same blocks give the
same bytes.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from typing import IO

import msgspec

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.members import members, packed

_BLOCK = 1024 * 1024
COMPRESSIONS = {None: "", "gzip": ".gz"}
"""What the files' names end with, by compression."""


class Written(msgspec.Struct, frozen=True):
    """What stands in a part.

    :param count: lines.
    :param size: bytes of the file, compressed where it is.
    :param sha256: of these bytes.
    """

    kind: str
    number: int
    url: str
    count: int
    size: int
    sha256: str


class BrokenPartError(Exception):
    """A part is gone, or holds something else than was written."""


class Part:
    """One part on its way."""

    def __init__(self, files: Files, kind: str, number: int, url: str) -> None:
        self.kind, self.number, self.url = kind, number, url
        self.size = 0
        self._files = files
        self._file: IO[bytes] = files.create(url)
        self._count = 0
        self._digest = hashlib.sha256()
        self._pack = packed if url.endswith(".gz") else _plain

    def write(self, lines: list[bytes]) -> int:
        """Add lines as one block. Gives its size in bytes."""
        block = self._pack(b"\n".join([*lines, b""]))
        self._add(block)
        self._count += len(lines)
        return len(block)

    def take_over(self, earlier: Written) -> None:
        """Copy what an earlier try wrote. Raises `BrokenPartError`."""
        for block in blocks(self._files, earlier):
            self._add(block)
        self._count = earlier.count

    def _add(self, block: bytes) -> None:
        view = memoryview(block)
        while view:  # an unbuffered file may take less than all
            view = view[self._file.write(view) :]
        self._digest.update(block)
        self.size += len(block)

    @property
    def written(self) -> Written:
        """What stands in it so far."""
        return Written(self.kind, self.number, self.url, self._count, self.size, self._digest.hexdigest())

    def close(self) -> Written:
        """End it. On a disk it then outlives a power cut, on a store it is now there."""
        if self._files.shows_writes:
            os.fsync(self._file.fileno())
        self._file.close()
        return self.written

    def abandon(self) -> None:
        """Give it up."""
        self._files.abandon(self._file)


def suffix_of(compression: str | None) -> str:
    """Give the end of the files' names. Raises `RedoxConfigError` for an unknown compression."""
    if compression not in COMPRESSIONS:
        raise RedoxConfigError("compression: must be one of gzip, or left out")
    return COMPRESSIONS[compression]


def blocks(files: Files, part: Written, url: str | None = None) -> Iterator[bytes]:
    """Read what was written, checked to the end. Raises `BrokenPartError`."""
    digest, left = hashlib.sha256(), part.size
    try:
        with files.open(url or part.url) as file:
            while left and (block := file.read(min(_BLOCK, left))):
                digest.update(block)
                left -= len(block)
                yield block
    except FileNotFoundError:
        raise BrokenPartError from None
    if left or digest.hexdigest() != part.sha256:
        raise BrokenPartError


def lines(pieces: Iterator[bytes], *, compressed: bool) -> Iterator[bytes]:
    """Cut blocks of a file into lines. Raises `BrokenPartError` when its compression is damaged."""
    rest = b""
    try:
        for piece in members(pieces) if compressed else pieces:
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole
    except (zlib.error, EOFError):
        raise BrokenPartError from None
    if rest:
        yield rest


def _plain(block: bytes) -> bytes:
    return block
