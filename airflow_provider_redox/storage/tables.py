"""Read the rows of a CSV file, as Excel and other programs write it: every value stays text, with its leading zeros.

Commas, semicolons (Excel, if the comma is the decimal sign) or tabs; any line ends; UTF-8 or UTF-16. Empty rows and columns,
which Excel leaves behind, are skipped. Ambiguous content is an error that names the row.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.storage.rows import raw_lines

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_STATED = re.compile(r"sep=([,;\t])\s*", re.IGNORECASE)
"""The line before the header by which some programs tell Excel the separator (`sep=;`)."""

_KEPT = re.compile(r'="([^"]*)"')
"""The form (`="..."`) in which programs write a text so that Excel does not convert it to a number."""

_SPOILT = re.compile(r"-?\d(?:[.,]\d+)?E\+\d{2,}|#(?:N/A|REF!|VALUE!|DIV/0!|NAME\?|NUM!|NULL!)")
"""What Excel writes for a number of more than eleven digits, whose last digits are lost, and for a formula that failed."""

_QUOTED = re.compile(r'"[^"]*"')


def csv_rows(place: Any, *, where: str, limit: int) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a CSV file (RFC 4180; the first row names the fields), numbered without the first.

    Raises `RedoxConfigError` as `numbered_lines` does, and for a row that has not as many fields as the first.
    """
    text, separator = _with_separator(_text(place, where, limit), where)
    reader = csv.reader(text, strict=True, delimiter=separator)
    number = 0
    try:
        names = _names(next(reader, []), where)
        for number, fields in enumerate(filter(None, reader), 1):
            if any(field.strip() for field in fields):
                yield number, _row(names, fields, f"{where}: row {number}")
    except csv.Error:
        fault = f"{where}: row {number + 1} is not CSV: a quote is not closed, or a field is too long"
    else:
        return
    raise RedoxConfigError(fault)


def _row(names: list[str], fields: list[str], where: str) -> dict[str, str]:
    values, beyond = fields[: len(names)], fields[len(names) :]
    if len(values) < len(names) or any(field.strip() for field in beyond):
        raise RedoxConfigError(f"{where} has {len(fields)} fields, and the first row {len(names)}")
    return {name: _value(value, where) for name, value in zip(names, values, strict=True)}


def _value(text: str, where: str) -> str:
    kept = _KEPT.fullmatch(text) if text.startswith("=") else None
    if kept is not None:
        return kept.group(1)
    if ("E+" in text or text.startswith("#")) and _SPOILT.fullmatch(text.strip()):
        raise RedoxConfigError(
            f"{where} holds a value that a spreadsheet damaged: a number cut short, as 1.2E+11, or an error such as #N/A. "
            "Format the column as text before it is filled, and save the file anew"
        )
    return text


def _names(first: list[str], where: str) -> list[str]:
    """Return the names of the columns, up to the last that has one."""
    names = [name.strip() for name in first]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise RedoxConfigError(f"{where}: the first row is empty; it must name the fields")
    for number, name in enumerate(names, 1):
        if not name or name in names[: number - 1]:
            raise RedoxConfigError(
                f"{where}: the first row must name the fields, each by a name of its own; column {number} has "
                f"{'that of an earlier one' if name else 'none'}"
            )
    return names


def _with_separator(lines: Iterator[str], where: str) -> tuple[Iterator[str], str]:
    """Detect the separator: the one that the first row has outside of quotes. Raises if it has several."""
    first = next(lines, "")
    stated = _STATED.fullmatch(first)
    if stated:
        return lines, stated.group(1)
    bare = _QUOTED.sub("", first)
    found = [separator for separator in _SEPARATORS if separator in bare]
    if len(found) > 1:
        kinds = " and ".join(_SEPARATORS[separator] for separator in found)
        raise RedoxConfigError(f"{where}: the first row has {kinds}, so where a field ends is unclear; quote such names")
    return chain((first,), lines), found[0] if found else ","


def _text(place: Any, where: str, limit: int) -> Iterator[str]:
    """Yield the lines of a file as text. A quoted field may hold line breaks, so each keeps its own, and blank ones stay."""
    fault, nothing = 0, 0
    for number, line in raw_lines(place, where, limit, as_text=True):
        if b"\0" in line:
            nothing = number
            break
        try:
            yield line.decode()
        except UnicodeDecodeError:  # it holds the line, so the complaint is made outside
            fault = number
            break
    if nothing:
        raise RedoxConfigError(f"{where}: line {nothing} holds a zero byte, as UTF-16 does; save the file as CSV UTF-8")
    if fault:
        raise RedoxConfigError(f"{where}: line {fault} is not UTF-8; save the file as CSV UTF-8")
