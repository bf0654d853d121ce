"""What the sandbox is given it gives back digit for digit, as a hospital's system would."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.sandbox import digits

from .conftest import Running

NUMBERS = [
    "1.10",
    "1e400",
    "-1E-400",
    "1.0E+2",
    "-0",
    "-0.0",
    "0",
    "7",
    "9" * 30,
    "9" * 5000,
    "0.10000000000000000000000001",
]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_keeps_its_digits(number: str) -> None:
    """Also where it is copied on the way."""
    text = f'{{"a":[{number},{{"b":{number}}}],"c":"ü/"}}'
    assert digits.dumps(copy.deepcopy(digits.loads(text))) == text.encode()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_json_comes_out_as_it_came(value: object) -> None:
    """Whatever it is, and as a float where it is computed with."""
    text = json.dumps(value)
    assert json.loads(digits.dumps(digits.loads(text))) == value


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', "NaN", "[Infinity]", '"\\ud800"', '{"\\udc00":1}'])
def test_what_readers_read_in_different_ways_is_refused(text: str) -> None:
    """A key twice, no numbers, half of a character."""
    with pytest.raises(digits.NotStrictError):
        digits.loads(text)


def test_files_of_ones_own_are_served_digit_for_digit(start: Callable[..., Running], tmp_path: Path) -> None:
    """Numbers that no float holds are no error 500, and 1.10 is not 1.1, in a page and in a read."""
    values = ",".join(f'{{"code":{{"text":"x"}},"valueQuantity":{{"value":{number}}}}}' for number in NUMBERS)
    resource = f'{{"resourceType":"Observation","id":"o","status":"final","code":{{"text":"x"}},"component":[{values}]}}'
    (tmp_path / "own.ndjson").write_text(resource + "\n")
    client = start("--data", str(tmp_path)).client
    page = client.search("Observation", {"_count": "5"})
    read = client.call("GET", client.fhir("Observation/o"))
    assert (page.status_code, read.status_code) == (200, 200)
    for answer in (page, read):
        assert f'"component":[{values}]'.encode() in answer.content
