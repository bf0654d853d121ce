"""Read the rows of a file that an author names: lines of NDJSON or text, numbered from 1, in constant memory.

UTF-8, with or without a byte order mark, or UTF-16 with one, as Excel and PowerShell write it; gzipped or not. An error
names the argument and the row's number, never the path or the row's content: both may identify a patient.
"""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Iterator
from itertools import chain
from typing import Any

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.data_model import MAX_BYTES
from airflow_provider_redox.protocol.jsonsource import parse_object
from airflow_provider_redox.storage.inputs import found_file
from airflow_provider_redox.storage.members import members

_BLOCK = 1024 * 1024
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ARCHIVES = (b"PK\x03\x04", b"PAR1", b"\xd0\xcf\x11\xe0")  # a workbook or another zip, Parquet, an old workbook
_LONE_RETURN = re.compile(rb"[^\r\n]*\r(?!\n)")


def numbered_lines(place: Any, *, where: str, limit: int = MAX_BYTES) -> Iterator[tuple[int, bytes]]:
    """Give the lines of a text file that are not blank, each with its number; a gzipped file is opened on the way.

    Raises `RedoxConfigError` when the file is gone, its compression is damaged, or a line has more than `limit` bytes.
    """
    for number, line in raw_lines(place, where, limit):
        text = line.strip()
        if text:
            yield number, text


def json_rows(place: Any, *, where: str, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give the rows of an NDJSON file. Raises `RedoxConfigError` as above, and for a line that is not a JSON object."""
    for number, line in numbered_lines(place, where=where, limit=limit):
        yield number, parse_row(line, number, where=where)


def first_bytes(place: Any, *, where: str, size: int) -> bytes:
    """Read at most this many bytes of a file, as UTF-8. Raises `RedoxConfigError` as `numbered_lines` does."""
    found = bytearray()
    for block in _blocks(place, where):
        found += block
        if len(found) >= size:
            break
    return bytes(found[:size])


def parse_row(line: bytes, number: int, *, where: str) -> dict[str, Any]:
    """Parse one row; numbers keep their digits. Raises `RedoxConfigError` if it is not a JSON object."""
    try:
        return parse_object(line).value
    except ValueError as error:
        raise RedoxConfigError(f"{where}: row {number} cannot be read: {error}") from None


def raw_lines(place: Any, where: str, limit: int, *, as_text: bool = False) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file with their numbers, blank ones too, each without its line feed.

    :param as_text: keep line ends, and accept a carriage return alone as one if the first line ends in one.
    """
    number, rest, end = 1, bytearray(), b"\n"
    for place_of_block, block in enumerate(_blocks(place, where)):
        if as_text and place_of_block == 0 and _LONE_RETURN.match(block):
            end = b"\r"
        first, *others = block.split(end)
        rest += first
        for following in others:
            _check_length(number, rest, where, limit)
            yield number, bytes(rest) + end if as_text else bytes(rest)
            number, rest = number + 1, bytearray(following)
        _check_length(number, rest, where, limit)
    if rest:
        yield number, bytes(rest)


def _check_length(number: int, line: bytearray, where: str, limit: int) -> None:
    if len(line) > limit:
        raise RedoxConfigError(f"{where}: row {number} has more than {limit} bytes")


def _blocks(place: Any, where: str) -> Iterator[bytes]:
    """Read a file in blocks of UTF-8, decompressed if it is gzipped, without a byte order mark."""
    with found_file(place, where).open() as file:
        raw = iter(lambda: file.read(_BLOCK), b"")
        first = next(raw, b"")
        whole = chain((first,), raw)
        blocks = _unzipped(whole, where) if first.startswith(_GZIP) else whole
        first = next(blocks, b"")
        if first.startswith(_ARCHIVES):
            raise RedoxConfigError(f"{where}: the file is a workbook or an archive, and no text; save it as CSV (UTF-8)")
        if first.startswith(_UTF16):
            yield from _transcoded(chain((first,), blocks), where)
            return
        yield first.removeprefix(_BOM)
        yield from blocks


def _transcoded(blocks: Iterator[bytes], where: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-16")()
    try:
        for block in blocks:
            yield decoder.decode(block).encode()
        decoder.decode(b"", final=True)
    except UnicodeError:  # it holds the block, so the complaint is made outside
        damaged = True
    else:
        damaged = False
    if damaged:
        raise RedoxConfigError(f"{where}: the file begins as UTF-16, and is not; save it as UTF-8")


def _unzipped(blocks: Iterator[bytes], where: str) -> Iterator[bytes]:
    try:
        yield from members(blocks)
    except (zlib.error, EOFError):
        damaged = True
    else:
        damaged = False
    if damaged:
        raise RedoxConfigError(f"{where}: the file's compression is damaged, or it was cut short")
