"""`{field}` filled from a row: as data, never as syntax, and complained of by row and field alone."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.cohort import fields_in, key_of_row, payload_of, search_of

ROW = {
    "mrn": "M-17",
    "family": "Canary, Jr",
    "system": "urn:oid:1.2|M-17",
    "codes": ["a", "b,c"],
    "born": Decimal("1.10"),
    "active": True,
    "name": [{"family": "Green", "given": ["Keva"]}],
    "blank": " ",
    "nothing": None,
}


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{mrn}", "M-17"),
        ("urn:oid:1.2|{mrn}", "urn:oid:1.2|M-17"),
        ("{family}", "Canary\\, Jr"),
        ("{system}", "urn:oid:1.2\\|M-17"),
        ("{system:token}", "urn:oid:1.2|M-17"),
        ("{codes}", ["a", "b\\,c"]),
        (["ge{born}", "lt2"], ["ge1.10", "lt2"]),
        ("{active}", "true"),
        ("{name.0.given.0}", "Keva"),
        ("as it is", "as it is"),
        (7, 7),
    ],
)
def test_a_parameter_is_filled_from_the_row(template: Any, filled: Any) -> None:
    """The row's commas, bars and dollars are escaped: they are data."""
    assert search_of({"code": template}, ROW, 1) == {"code": filled}


@pytest.mark.parametrize("field", ["absent", "blank", "nothing", "name.1.family", "name.x", "mrn.0"])
def test_a_field_that_a_row_lacks_is_named_with_the_row(field: str) -> None:
    """Absent, empty and blank alike: an empty filter would ask for everybody."""
    with pytest.raises(RedoxConfigError) as caught:
        search_of({"family": f"{{{field}}}"}, ROW, 12)
    said = f"cohort: row 12 has no {field}, which the template names"
    known = "; it has mrn, family, codes, name and 5 others" if field == "absent" else ""
    assert str(caught.value) == said + known


@pytest.mark.parametrize("field", ["mrn", "MRN", "Mrn", "birthdate"])
def test_a_field_is_found_whatever_the_case_of_its_name(field: str) -> None:
    """A roster from a spreadsheet has MRN where the template has mrn."""
    assert search_of({"x": f"{{{field}}}"}, {"MRN": "007", "BirthDate": "007"}, 1) == {"x": "007"}


def test_a_field_that_two_names_could_mean_is_none_of_them() -> None:
    """By its own name it is found; by another case it would be a guess."""
    row = {"MRN": "1", "Mrn": "2"}
    assert search_of({"x": "{Mrn}"}, row, 1) == {"x": "2"}
    with pytest.raises(RedoxConfigError, match=r"no mrn, which the template names; did you mean MRN\?; it has MRN, Mrn$"):
        search_of({"x": "{mrn}"}, row, 1)


def test_what_may_be_a_patient_is_not_shown_as_a_field() -> None:
    """A file without a first row of names has a patient there."""
    with pytest.raises(RedoxConfigError) as caught:
        search_of({"x": "{mrn}"}, {"Ada": "x", "Quillfeather": "x", "1815-12-10": "x", "M-1": "x"}, 1)
    assert str(caught.value).endswith("of its 4 fields none has a usual name: does the file begin with the names?")


def test_an_object_is_no_parameter() -> None:
    """It is named without what it holds."""
    with pytest.raises(RedoxConfigError, match="row 3 holds an object or a list as name") as caught:
        search_of({"name": "x{name}"}, ROW, 3)
    assert "Green" not in str(caught.value)


def test_a_message_takes_the_value_as_it_is() -> None:
    """A value that is one field alone keeps its kind; within text it becomes text, unescaped."""
    template = {"Patient": {"Identifiers": [{"ID": "{mrn}"}], "Name": "{name}", "Note": "for {family}"}, "N": 1}
    assert payload_of(template, ROW, 1) == {
        "Patient": {"Identifiers": [{"ID": "M-17"}], "Name": ROW["name"], "Note": "for Canary, Jr"},
        "N": 1,
    }


def test_fields_are_found_at_any_depth() -> None:
    """So that a template without any is told before a thousand searches are the same."""
    assert fields_in({"a": ["{x}", {"b": "{y.0:token} {z}"}], "c": 1}) == {"x", "y.0", "z"}


@given(st.text(min_size=1).filter(lambda text: text.strip()))
def test_whatever_a_row_holds_it_stays_one_value(text: str) -> None:
    """No row makes "or", a system or a composite of what is its own; unescaped, the text is there again."""
    filled = search_of({"family": "{family}"}, {"family": text}, 1)["family"]
    bare = filled.replace("\\\\", "").replace("\\,", "").replace("\\|", "").replace("\\$", "")
    assert not set(bare) & set(",|$")
    unescaped = "".join(filled[i + 1] if filled[i] == "\\" else filled[i] for i in _steps(filled))
    assert unescaped == text.strip()


def _steps(text: str) -> list[int]:
    places, place = [], 0
    while place < len(text):
        places.append(place)
        place += 2 if text[place] == "\\" else 1
    return places


def test_a_row_is_named_by_its_key_or_its_number() -> None:
    """And a row without the key is an error."""
    assert (key_of_row(ROW, "mrn", 4), key_of_row(ROW, None, 4)) == ("M-17", "4")
    with pytest.raises(RedoxConfigError, match="row 4 has no id, which cohort_key names"):
        key_of_row(ROW, "id", 4)


@pytest.mark.parametrize("text", ["ge1900-01-01", "lt2026", "ne2026-01-01T00:00:00Z", "ap2026-01"])
def test_a_row_brings_no_comparison(text: str) -> None:
    """A date of birth that begins with a prefix would ask for all who were born since; the row is named, and the cure."""
    for template in ("{dob}", ["{dob}"]):
        with pytest.raises(
            RedoxConfigError, match=r"^cohort: row 7 has a comparison such as ge2026-01-01; write its prefix"
        ):
            search_of({"birthdate": template}, {"dob": text}, 7)
    with pytest.raises(RedoxConfigError, match=r"^cohort: row 7 has a comparison"):
        search_of({"birthdate": "{dobs}"}, {"dobs": ["1980-01-01", text]}, 7)


@pytest.mark.parametrize("text", ["general", "ge12345", "net", "1980-01-01", "2026", "sa 2026"])
def test_other_texts_that_begin_like_a_prefix_are_texts(text: str) -> None:
    """A name or an MRN is no comparison; a prefix of the template stands before what the row brings."""
    assert search_of({"name": "{name}"}, {"name": text}, 1) == {"name": text}
    assert search_of({"identifier": "{mrn:token}"}, {"mrn": "ap2026"}, 1) == {"identifier": "ap2026"}
    assert search_of({"birthdate": "ge{dob}"}, {"dob": "1980-01-01"}, 1) == {"birthdate": "ge1980-01-01"}
