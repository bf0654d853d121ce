"""The rows of an author's file: numbered, in flat memory, every complaint by number and without what the row holds."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.storage.rows import csv_rows, json_rows, numbered_lines

LIMIT = 1000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "Ada Canary.ndjson"


def lines(file: Path, *, limit: int = LIMIT) -> list[tuple[int, bytes]]:
    return list(numbered_lines(str(file), where="payload_path", limit=limit))


def complaint(read) -> str:
    with pytest.raises(RedoxConfigError) as caught:
        list(read())
    assert "Canary" not in str(caught.value)
    assert caught.value.__context__ is None or "Canary" not in str(caught.value.__context__)
    return str(caught.value)


def test_lines_are_numbered_as_an_editor_numbers_them(file: Path):
    """Blank lines count and are passed over; no kind of line end and no byte order mark is part of a line."""
    file.write_bytes(b'\xef\xbb\xbf{"a":1}\r\n\n  \n{"b":2}\n{"c":3}')
    assert lines(file) == [(1, b'{"a":1}'), (4, b'{"b":2}'), (5, b'{"c":3}')]


def test_a_gzipped_file_is_opened_on_the_way(file: Path):
    """By what it begins with, whatever its name; of several members too."""
    file.write_bytes(gzip.compress(b"one\ntw") + gzip.compress(b"o\n"))
    assert lines(file) == [(1, b"one"), (2, b"two")]


def test_a_gzipped_file_that_was_cut_short_is_named(file: Path):
    """The first lines are no reason to take a cut file for a whole one."""
    file.write_bytes(gzip.compress(b"one\ntwo\n" * 500)[:-10])
    assert complaint(lambda: lines(file)) == "payload_path: the file's compression is damaged, or it was cut short"


def test_a_line_that_is_too_long_is_named_by_its_number(file: Path):
    """Before it is held in memory whole."""
    file.write_bytes(b"short\n" + b"Canary" * 1000 + b"\nshort\n")
    assert complaint(lambda: lines(file)) == "payload_path: row 2 has more than 1000 bytes"


def test_a_long_line_crosses_the_blocks_of_reading(file: Path):
    """A line of several blocks comes out as it is."""
    long = b"x" * 3_000_000
    file.write_bytes(b"a\n" + long + b"\nb\n")
    assert lines(file, limit=4_000_000) == [(1, b"a"), (2, long), (3, b"b")]


@given(st.lists(st.binary(max_size=8).filter(lambda one: b"\n" not in one), max_size=20))
def test_every_line_comes_once_and_in_order(tmp_path_factory: pytest.TempPathFactory, texts: list[bytes]):
    """Whatever the lines hold, what comes out is what stands there."""
    file = tmp_path_factory.mktemp("rows") / "lines"
    file.write_bytes(b"\n".join([b"#", *texts]))
    expected = [(number, text.strip()) for number, text in enumerate(texts, 2) if text.strip()]
    assert lines(file)[1:] == expected


def test_a_row_of_ndjson_keeps_its_digits(file: Path):
    """1.10 is not 1.1."""
    file.write_bytes(b'{"value":1.10}\n')
    ((_, row),) = json_rows(str(file), where="cohort", limit=LIMIT)
    assert str(row["value"]) == "1.10"


@pytest.mark.parametrize("line", [b"Canary", b'["Canary"]', b'{"a":"Canary"', b'{"a":"\xff Canary"}', b"[" * 900])
def test_a_row_that_is_not_an_object_is_named_by_its_number(file: Path, line: bytes):
    """What the line holds is not told."""
    file.write_bytes(b"{}\n" + line + b"\n")
    told = complaint(lambda: json_rows(str(file), where="cohort", limit=LIMIT))
    assert re.match("cohort: row 2 cannot be read: (must be a JSON object|not JSON: |not UTF-8)", told)
    assert "Canary" not in told


def test_the_first_row_of_a_csv_file_names_the_fields(file: Path):
    """A quoted field may hold commas, quotes and line breaks."""
    file.write_bytes(b'family,given\r\nGreen,"Ke""va, A"\r\n\r\n"Bl\nue",Ada\r\n')
    rows = list(csv_rows(str(file), where="cohort", limit=LIMIT))
    assert rows == [(1, {"family": "Green", "given": 'Ke"va, A'}), (2, {"family": "Bl\nue", "given": "Ada"})]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b\n1,2\n3,Canary,4\n", "cohort: row 2 has 3 fields, and the first row 2"),
        (b"a,a\n1,2\n", "cohort: the first row must name the fields, each by a name of its own"),
        (b"a,\n1,2\n", "cohort: the first row must name the fields, each by a name of its own"),
        (b'a,b\n1,2\n3,"Canary\n', "cohort: row 2 is not CSV: a quote is not closed, or a field is too long"),
        (b"a,b\n1,2\n3,\xff Canary\n", "cohort: line 3 is not UTF-8"),
    ],
)
def test_a_csv_file_of_another_shape_is_named_by_the_row(file: Path, content: bytes, said: str):
    """Where it is wrong, and how; not what stands there."""
    file.write_bytes(content)
    assert complaint(lambda: csv_rows(str(file), where="cohort", limit=LIMIT)) == said


def test_a_file_that_is_gone_is_named_by_the_argument(file: Path):
    """Its name may be a patient's."""
    assert "cohort: there is no file at this place" in complaint(lambda: json_rows(str(file), where="cohort", limit=LIMIT))
