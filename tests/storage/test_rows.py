"""The rows of an author's file: numbered, in flat memory, every complaint by number and without what the row holds."""

from __future__ import annotations

import csv
import gzip
import re
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.storage.rows import json_rows, numbered_lines
from airflow_provider_redox.storage.tables import csv_rows

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
        (
            b"a,a\n1,2\n",
            "cohort: the first row must name the fields, each by a name of its own; column 2 has that of an earlier one",
        ),
        (b"a,,b\n1,2,3\n", "cohort: the first row must name the fields, each by a name of its own; column 2 has none"),
        (b",,\n1,2,3\n", "cohort: the first row is empty; it must name the fields"),
        (b"a,\n1,Canary\n", "cohort: row 1 has 2 fields, and the first row 1"),
        (b"a,b\n\n1\n", "cohort: row 1 has 1 fields, and the first row 2"),
        (
            b"a;b,c\n1,2\n",
            "cohort: the first row has commas and semicolons, so where a field ends is unclear; quote such names",
        ),
        (b"\xff\xfea\x00\n", "cohort: the file begins as UTF-16, and is not; save it as UTF-8"),
        (b"PK\x03\x04xl/workbook", "cohort: the file is a workbook or an archive, and no text; save it as CSV (UTF-8)"),
        (b'a,b\n1,2\n3,"Canary\n', "cohort: row 2 is not CSV: a quote is not closed, or a field is too long"),
        (b"a,b\n1,2\n3,\xff Canary\n", "cohort: line 3 is not UTF-8; save the file as CSV UTF-8"),
    ],
)
def test_a_csv_file_of_another_shape_is_named_by_the_row(file: Path, content: bytes, said: str):
    """Where it is wrong, and how; not what stands there."""
    file.write_bytes(content)
    assert complaint(lambda: csv_rows(str(file), where="cohort", limit=LIMIT)) == said


def test_a_file_that_is_gone_is_named_by_the_argument(file: Path):
    """Its name may be a patient's."""
    assert "cohort: there is no file at this place" in complaint(lambda: json_rows(str(file), where="cohort", limit=LIMIT))


PEOPLE = [{"mrn": "007", "name": "Müller; Ada", "born": "1815-12-10"}, {"mrn": "008", "name": "Line\nbreak, B", "born": ""}]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("blank", ["", "rows and columns"])
def test_a_csv_file_is_read_as_excel_writes_it(file: Path, separator: str, end: str, encoding: str, blank: str):
    """Whatever separates, ends and encodes, with or without what Excel leaves behind: the same rows, as text."""
    beyond = ["", ""] if blank else []
    table = [[*PEOPLE[0], *beyond], *([*person.values(), *beyond] for person in PEOPLE)]
    if blank:
        table += [[""] * 5, [" "] * 5]
    written = StringIO(newline="")
    quoting = csv.QUOTE_ALL if end == "\r" else csv.QUOTE_MINIMAL  # else Python's writer leaves a line feed bare
    csv.writer(written, delimiter=separator, lineterminator=end, quoting=quoting).writerows(table)
    mark = "\ufeff" if encoding.startswith("utf-16") else ""
    file.write_bytes((mark + written.getvalue()).encode(encoding))
    assert [row for _, row in csv_rows(str(file), where="cohort", limit=LIMIT)] == PEOPLE


def test_a_text_that_is_kept_from_excel_is_the_text(file: Path):
    """Exports write `="007"`, so that Excel shows 007 and not 7."""
    file.write_bytes(b'mrn,name\n="007","=""08"""\n=,"="\n')
    assert [row for _, row in csv_rows(str(file), where="cohort", limit=LIMIT)] == [
        {"mrn": "007", "name": "08"},
        {"mrn": "=", "name": "="},
    ]


@pytest.mark.parametrize("value", ["1.23457E+11", "1E+12", "1,2E+15", "#N/A", "#REF!"])
def test_what_a_spreadsheet_spoilt_is_named_by_its_row(file: Path, value: str):
    """Digits that are gone name another patient, or nobody, without a word."""
    file.write_bytes(f'mrn,x\n1,1E5\n"{value}",#1\n'.encode())
    said = complaint(lambda: csv_rows(str(file), where="cohort", limit=LIMIT))
    assert said.startswith("cohort: row 2 holds a value that a spreadsheet damaged")
    assert "123" not in said


def test_utf16_without_a_mark_is_named(file: Path):
    """It is UTF-8 with zero bytes to a decoder, and columns that nobody knows."""
    file.write_bytes("mrn,name\n1,Canary\n".encode("utf-16-le"))
    said = "cohort: line 1 holds a zero byte, as UTF-16 does; save the file as CSV UTF-8"
    assert complaint(lambda: csv_rows(str(file), where="cohort", limit=LIMIT)) == said


def test_a_line_may_say_what_separates(file: Path):
    """Excel writes and reads `sep=;` before the first row."""
    file.write_bytes(b"sep=;\r\nmrn;a,b\r\n1;2\r\n")
    assert list(csv_rows(str(file), where="cohort", limit=LIMIT)) == [(1, {"mrn": "1", "a,b": "2"})]


def test_a_quoted_name_may_hold_a_separator(file: Path):
    """What stands in quotes separates nothing."""
    file.write_bytes(b'"name, first";mrn\nAda;1\n')
    assert list(csv_rows(str(file), where="cohort", limit=LIMIT)) == [(1, {"name, first": "Ada", "mrn": "1"})]


texts = st.text(st.sampled_from('\r\n",;\t 0aü') | st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)


@given(
    st.lists(st.lists(texts, min_size=3, max_size=3), max_size=5),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\r\n", "\n", "\r"]),
    st.sampled_from(["utf-8-sig", "utf-16"]),
)
def test_every_value_of_a_table_comes_out_as_the_text_that_it_is(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], separator: str, end: str, encoding: str
):
    """Leading zeros, spaces, quotes, line breaks, any script: what a spreadsheet writes is what is read."""
    written = StringIO(newline="")
    csv.writer(written, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([["a", "b", "c"], *rows])
    file = tmp_path_factory.mktemp("table") / "rows.csv"
    file.write_bytes(written.getvalue().encode(encoding))
    expected = [dict(zip("abc", row, strict=True)) for row in rows if any(one.strip() for one in row)]
    assert [row for _, row in csv_rows(str(file), where="cohort", limit=LIMIT)] == expected


def test_lines_of_utf16_are_read_too(file: Path):
    """PowerShell's `>` writes UTF-16; a row comes out as UTF-8, whatever block it ends in."""
    text = '{"name":"Müller"}\n' * 100_000
    file.write_bytes(text.encode("utf-16"))
    found = lines(file)
    assert len(found) == 100_000
    assert {line for _, line in found} == {'{"name":"Müller"}'.encode()}


def test_a_row_that_names_a_member_twice_is_refused(file: Path):
    """Which of the two patients was meant nobody can tell."""
    file.write_bytes(b'{"mrn":"1"}\n{"mrn":"Canary","mrn":"2"}\n')
    said = complaint(lambda: json_rows(str(file), where="cohort", limit=LIMIT))
    assert said.startswith("cohort: row 2 cannot be read: /mrn: duplicate name, so readers differ on which value counts")
