"""JSON that is sent as its author wrote it: read strictly, changed only where something is put in."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.protocol.data_model import complete, written
from airflow_provider_redox.protocol.jsonsource import Source, parse_object
from tests.support.json_texts import members, objects, values

from .flows import said_by
from .material import settings

PLACE = "0f4bd1d1-451d-4351-8cfd-b767d1b488d6"

# ── what is kept ──


@given(objects)
def test_any_object_is_kept_as_its_text(text: str) -> None:
    """With nothing to put in, the bytes are those of the file; and what is read is what any reader reads."""
    source = parse_object(text.encode())
    assert source.with_members({}) == text
    assert source.value == json.loads(text, parse_float=Decimal)
    assert {name: json.loads(text[a:b]) for name, (a, b) in source.spans.items()} == json.loads(text)


@given(objects, st.dictionaries(st.text('abü"', min_size=1, max_size=2), values, min_size=1, max_size=3))
def test_what_is_put_in_leaves_the_rest_alone(text: str, changed: dict[str, str]) -> None:
    """A member that is there is replaced at its place; the others keep every byte, and their order."""
    before, after = parse_object(text.encode()), parse_object(parse_object(text.encode()).with_members(changed).encode())
    assert list(after.value) == list(before.value) + [name for name in changed if name not in before.value]
    for name, (start, end) in after.spans.items():
        kept = before.text[slice(*before.spans[name])] if name not in changed else changed[name].strip(" \t\r\n")
        assert after.text[start:end] == kept


@given(members(values), st.lists(st.sampled_from(["DataModel", "EventType", "Test", "Source", "X"]), unique=True))
def test_of_a_message_only_its_meta_is_completed(body: str, order: list[str]) -> None:
    """Whatever a line holds, every value of it arrives with its own bytes; Meta gains what it lacks, at its end."""
    own = {"DataModel": '"Results"', "EventType": '"N\\u0065w"', "Test": "true", "Source": '{"ID":"s"}', "X": "1e5"}
    meta = ",".join(f'"{name}" : {own[name]}' for name in dict.fromkeys([*order, "DataModel", "EventType"]))
    text = f'{{"Meta":{{{meta}}}{"," if body.strip("{}").strip() else ""}{body[1:]}'
    try:
        source = parse_object(text.encode())
    except ValueError:  # the body has a Meta of its own
        return
    sent = written(
        source, complete(source.value, settings(destination=PLACE), destinations=None, environment=None, now=0.0)
    ).decode()
    whole = parse_object(sent.encode())
    assert sent.startswith(f'{{"Meta":{{{meta}')
    assert sent.endswith(text.removeprefix(f'{{"Meta":{{{meta}'))
    assert {"EventDateTime", "Destinations"} <= set(whole.value["Meta"])
    assert {**whole.value, "Meta": 0} == {**source.value, "Meta": 0}


# ── what is refused ──


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a":1,"a":1}', "/a: duplicate name"),
        ('{"a":[{},{"b":{"ID":1,"I\\u0044":2}}]}', "/a/1/b/ID: duplicate name"),
        ('{"Jane Canary":1,"Jane Canary":2}', "/?: duplicate name"),
        ('{"a":NaN}', "not JSON: NaN"),
        ('{"a":[-Infinity]}', "not JSON: NaN"),
        ('{"a":{"b":["\\ud800"]}}', "/a/b/0: a lone surrogate"),
        ('{"a":"\\udc00\\ud800"}', "/a: a lone surrogate"),
        ('{"\\ud800":1}', "/?: a lone surrogate"),
        ('{"a":1e99999999999999999999}', "with an exponent that is too large to read"),
        ("{" + '"a":[' * 100_000, "nested too deeply|not JSON"),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"a":"\xff Canary"}', "^$"),
        ("", "must be a JSON object"),
        ("[]", "must be a JSON object"),
        ('"Canary"', "must be a JSON object"),
        ("{", "not JSON: Expecting property name"),
        ('{"a"', "not JSON: Expecting ':'"),
        ('{"a":1', "not JSON: Expecting ','"),
        ('{"a":1,}', "not JSON: Expecting property name"),
        ("{a:1}", "not JSON: Expecting property name"),
        ('{"a":01}', "not JSON: Expecting ','"),
        ('{"a":"Canary}', "not JSON: Unterminated string"),
        ('{"a":"\n"}', "not JSON: Invalid control character"),
        ('{"a":1} {"b":1}', "not JSON: Extra data"),
        ('{"a":\u00a01}', "not JSON: Expecting value"),
    ],
)
def test_what_readers_differ_on_is_refused_by_its_place(text: str, words: str) -> None:
    """The complaint says where and what, and nothing of the text, in its chain neither."""
    body = text.encode("latin-1") if "\xff" in text else text.encode()
    with pytest.raises(ValueError, match="not UTF-8" if "\xff" in text else words.replace("?", r"\?")) as raised:
        parse_object(body)
    assert "Canary" not in said_by(raised.value)


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    """An editor's mark does not go out."""
    assert parse_object(b'\xef\xbb\xbf{"a": 1}').text == '{"a": 1}'


def test_a_number_of_any_length_is_kept() -> None:
    """Python reads whole numbers of 4300 digits by default; one of more is kept all the same."""
    text = '{"a":' + "9" * 5000 + "}"
    assert parse_object(text.encode()).with_members({"b": "1"}) == f'{text[:-1]},"b":1}}'


def test_a_number_that_is_filled_in_elsewhere_keeps_its_digits() -> None:
    """A row's number goes into a message or a search by its own digits; of an exponent, the value."""
    row = parse_object(b'{"a":-0,"b":1.10,"c":1E-05,"d":1e5,"e":12345678901234567890123}').value
    assert [str(value) for value in row.values()] == ["-0", "1.10", "0.00001", "1E+5", "12345678901234567890123"]


def test_an_item_is_put_at_the_head_of_an_array() -> None:
    """Its spans are those of the new text."""
    source: Source = parse_object(b'{"entry" : [ 1.10 ] , "id":"x"}').with_first("entry", "0")
    assert source.with_members({"id": '"y"', "type": '"message"'}) == '{"entry" : [0, 1.10 ] , "id":"y","type":"message"}'
