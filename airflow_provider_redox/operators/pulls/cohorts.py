"""The rows of a cohort: read whole and checked before the first request, so that a bad row is named and nothing is lost.

A cohort is the path of an NDJSON or CSV file, or an earlier manifest, whose resources are then the rows. It is read on the
worker: no row enters XCom, a mapped task, a template or a log.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.cohort import Row, key_of_row
from airflow_provider_redox.storage.reading import parse_manifest
from airflow_provider_redox.storage.rows import csv_rows, json_rows, parse_row

ROWS_AT_MOST = 250_000
"""Rows of one task. What they ask for is held in memory, a few hundred bytes for each."""

ROW_AT_MOST = 1024 * 1024
"""Bytes of a row."""

_CSV = (".csv", ".csv.gz")


def cohort_rows(cohort: Any) -> Iterator[tuple[int, Row]]:
    """Give the rows of a cohort with their numbers. Raises `RedoxConfigError` that names the row, and not what it holds."""
    if isinstance(cohort, Mapping) or (isinstance(cohort, str | os.PathLike) and str(cohort).endswith(".json")):
        return _resources(cohort)
    rows = csv_rows if str(cohort).lower().endswith(_CSV) else json_rows
    return rows(cohort, where="cohort", limit=ROW_AT_MOST)


def keyed_rows(cohort: Any, cohort_key: str | None, make: Callable[[Row, int], Any]) -> list[tuple[str, Any]]:
    """Give for each row its key, and what `make` makes of it. Raises `RedoxConfigError` for two rows of one key."""
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


def _resources(manifest: Any) -> Iterator[tuple[int, Row]]:
    parsed = parse_manifest(manifest)
    types = sorted({listed.type for listed in parsed.output})
    if len(types) > 1:
        raise RedoxConfigError(
            f"cohort: the manifest lists several types ({', '.join(types)}); keep one of them under its output"
        )
    for number, (_, line) in enumerate(parsed.resources(None), 1):
        yield number, parse_row(line, number, where="cohort")
