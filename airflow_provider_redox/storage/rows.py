"""The rows of a file that an author names: lines of NDJSON or rows of CSV, numbered from 1, in flat memory, from any store.

A complaint names the argument and the row's number, never the path or what the row holds: both may be a patient's.
"""

from __future__ import annotations

import csv
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


def numbered_lines(place: Any, *, where: str, limit: int = MAX_BYTES) -> Iterator[tuple[int, bytes]]:
    """Give the lines of a text file that are not blank, each with its number; a gzipped file is opened on the way.

    Raises `RedoxConfigError` when the file is gone, its compression is damaged, or a line has more than `limit` bytes.
    """
    for number, line in _lines(place, where, limit):
        text = line.strip()
        if text:
            yield number, text


def csv_rows(place: Any, *, where: str, limit: int) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the rows of a CSV file (RFC 4180, UTF-8, the first row names the fields), numbered without the first.

    Raises `RedoxConfigError` as `numbered_lines` does, and for a row that has not as many fields as the first.
    """
    reader = csv.reader(_text(place, where, limit), strict=True)
    number = 0
    try:
        names = next(reader, [])
        if not all(name.strip() for name in names) or len(set(names)) < len(names):
            raise RedoxConfigError(f"{where}: the first row must name the fields, each by a name of its own")
        for number, fields in enumerate(filter(None, reader), 1):
            if len(fields) != len(names):
                raise RedoxConfigError(f"{where}: row {number} has {len(fields)} fields, and the first row {len(names)}")
            yield number, dict(zip(names, fields, strict=True))
    except csv.Error:
        fault = f"{where}: row {number + 1} is not CSV: a quote is not closed, or a field is too long"
    else:
        return
    raise RedoxConfigError(fault)


def json_rows(place: Any, *, where: str, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give the rows of an NDJSON file. Raises `RedoxConfigError` as above, and for a line that is not a JSON object."""
    for number, line in numbered_lines(place, where=where, limit=limit):
        yield number, parse_row(line, number, where=where)


def parse_row(line: bytes, number: int, *, where: str) -> dict[str, Any]:
    """Parse one row; a number keeps its digits. Raises `RedoxConfigError` for what is not a JSON object."""
    try:
        return parse_object(line).value
    except ValueError as error:
        raise RedoxConfigError(f"{where}: row {number} cannot be read: {error}") from None


def _text(place: Any, where: str, limit: int) -> Iterator[str]:
    """Give the lines of a file as text. A quoted field may hold line breaks, so each keeps its own, and blank ones stay."""
    fault = 0
    for number, line in _lines(place, where, limit):
        try:
            yield line.decode() + "\n"
        except UnicodeDecodeError:  # it holds the line, so the complaint is made outside
            fault = number
            break
    if fault:
        raise RedoxConfigError(f"{where}: line {fault} is not UTF-8")


def _lines(place: Any, where: str, limit: int) -> Iterator[tuple[int, bytes]]:
    number, rest = 1, bytearray()
    for block in _blocks(place, where):
        first, *others = block.split(b"\n")
        rest += first
        for following in others:
            _check_length(number, rest, where, limit)
            yield number, bytes(rest)
            number, rest = number + 1, bytearray(following)
        _check_length(number, rest, where, limit)
    if rest:
        yield number, bytes(rest)


def _check_length(number: int, line: bytearray, where: str, limit: int) -> None:
    if len(line) > limit:
        raise RedoxConfigError(f"{where}: row {number} has more than {limit} bytes")


def _blocks(place: Any, where: str) -> Iterator[bytes]:
    """Read a file in blocks, opened where it is gzipped, without a byte order mark."""
    with found_file(place, where).open() as file:
        raw = iter(lambda: file.read(_BLOCK), b"")
        first = next(raw, b"")
        whole = chain((first,), raw)
        blocks = _unzipped(whole, where) if first.startswith(_GZIP) else whole
        yield next(blocks, b"").removeprefix(_BOM)
        yield from blocks


def _unzipped(blocks: Iterator[bytes], where: str) -> Iterator[bytes]:
    try:
        yield from members(blocks)
    except (zlib.error, EOFError):
        damaged = True
    else:
        damaged = False
    if damaged:
        raise RedoxConfigError(f"{where}: the file's compression is damaged, or it was cut short")
