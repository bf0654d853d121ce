"""The rows of a cohort: read whole and checked before the first request, so that a bad row is named and nothing is lost.

A cohort is the path of an NDJSON, JSON or CSV file, or an earlier manifest, or several manifests, whose resources are then
the rows. It is read on the worker: no row enters XCom, a mapped task, a template or a log.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.cohort import Row, key_of_row
from airflow_provider_redox.storage.reading import Manifest, parse_manifest
from airflow_provider_redox.storage.rows import first_bytes, json_rows, parse_row
from airflow_provider_redox.storage.tables import csv_rows

ROWS_AT_MOST = 250_000
"""Rows of one task. What they ask for is held in memory, a few hundred bytes for each."""

ROW_AT_MOST = 1024 * 1024
"""Bytes of a row."""

ARRAY_AT_MOST = 64 * 1024 * 1024
"""The most bytes of a JSON array of rows, which is held in memory as a whole."""

_CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_JSON = (".json", ".json.gz")

_array = msgspec.json.Decoder(list[dict[str, Any]], float_hook=Decimal)  # as a float, 1.10 would be searched for as 1.1


def cohort_rows(cohort: Any) -> Iterator[tuple[int, Row]]:
    """Yield the rows of a cohort with their numbers. Raises `RedoxConfigError` that names the row, and not what it holds."""
    if isinstance(cohort, Mapping):
        return _resources([parse_manifest(cohort)])
    if isinstance(cohort, Sequence) and not isinstance(cohort, str | bytes):
        return _of_several(list(cohort))
    name = str(cohort).lower()
    if name.endswith(_JSON):
        return _of_json(cohort)
    rows = csv_rows if name.endswith(_CSV) else json_rows
    return rows(cohort, where="cohort", limit=ROW_AT_MOST)


def keyed_rows(cohort: Any, cohort_key: str | None, make: Callable[[Row, int], Any]) -> list[tuple[str, Any]]:
    """Return for each row its key, and what `make` makes of it. Raises `RedoxConfigError` for two rows of one key."""
    made: list[tuple[str, Any]] = []
    numbers: dict[str, int] = {}
    for number, row in cohort_rows(cohort):
        key = key_of_row(row, cohort_key, number)
        if numbers.setdefault(key, number) != number:
            raise RedoxConfigError(
                f"cohort: row {number} has the same {cohort_key} as row {numbers[key]} (cohort_key); remove one of them"
            )
        if len(made) == ROWS_AT_MOST:
            raise RedoxConfigError(f"cohort: has more than {ROWS_AT_MOST} rows; divide it over several tasks")
        made.append((key, make(row, number)))
    if not made:
        raise RedoxConfigError("cohort: there is no row in it; mend the file, or skip the task where it may be empty")
    return made


def _of_several(cohort: list[Any]) -> Iterator[tuple[int, Row]]:
    """Yield the resources of several manifests, such as those that mapped tasks returned."""
    for number, one in enumerate(cohort):
        if not isinstance(one, Mapping) or "output" not in one:
            raise RedoxConfigError(
                f"cohort: is a list, and its item {number} is no manifest; a list may hold manifests only. Write rows to a "
                "file, so that no patient is in XCom"
            )
    return _resources([parse_manifest(one) for one in cohort])


def _of_json(cohort: str | os.PathLike[str]) -> Iterator[tuple[int, Row]]:
    """Yield the rows of a `.json` file: an array of objects, a manifest, or an object on each line."""
    text = first_bytes(cohort, where="cohort", size=ARRAY_AT_MOST + 1)
    if text.lstrip().startswith(b"["):
        return enumerate(_array_of(text), 1)
    if b'"output"' in text and _is_object(text):
        return _resources([parse_manifest(cohort)])
    return json_rows(cohort, where="cohort", limit=ROW_AT_MOST)


def _array_of(text: bytes) -> list[dict[str, Any]]:
    if len(text) > ARRAY_AT_MOST:
        raise RedoxConfigError(
            f"cohort: the array has more than {ARRAY_AT_MOST} bytes; write NDJSON, an object on each line"
        )
    try:
        rows: list[dict[str, Any]] = jsontext.decode(text, _array)
        jsontext.check_unique(text)
    except ValueError as error:
        fault = str(error)
    else:
        return rows
    raise RedoxConfigError(f"cohort: the file is no array of JSON objects: {fault}")


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(jsontext.parse(text), dict)
    except ValueError:
        return False


def _resources(manifests: list[Manifest]) -> Iterator[tuple[int, Row]]:
    types = sorted({listed.type for manifest in manifests for listed in manifest.output})
    if len(types) > 1:
        raise RedoxConfigError(
            f"cohort: the manifest lists several types ({', '.join(types)}); keep one of them under its output"
        )
    lines = (line for manifest in manifests for _, line in manifest.resources(None))
    for number, line in enumerate(lines, 1):
        yield number, parse_row(line, number, where="cohort")
