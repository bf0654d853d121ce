"""A page that two readers could read in two ways is refused, and so is one of which too much would be made."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxProtocolError
from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.pages import ENTRIES_AT_MOST, Page, read_page

from .flows import answer

PATIENT = '{"resourceType":"Patient","id":"a"}'
ENTRY = f'{{"fullUrl":"u","resource":{PATIENT},"search":{{"mode":"match"}}}}'


def page(text: str | bytes) -> Page:
    return read_page(answer(200, text))


def bundle(*members: str, entry: str = f'"entry":[{ENTRY}]') -> str:
    return "{" + ",".join(['"resourceType":"Bundle"', '"type":"searchset"', *members, entry]) + "}"


def refused(text: str | bytes) -> str:
    with pytest.raises(RedoxProtocolError) as raised:
        page(text)
    assert "Quillfeather" not in str(raised.value)
    return str(raised.value)


DOUBLED = {
    "entry": bundle('"entry":[]'),
    "entry, the first one filled": bundle(f'"entry":[{ENTRY}]', entry='"entry":[]'),
    "entry, once with escapes": bundle(f'"\\u0065ntry":[{ENTRY}]', entry='"entry":[]'),
    "total": bundle('"total":1', '"total":2'),
    "total, room made by a number": bundle('"total":1', '"total":1e12'),
    "type": bundle('"type":"collection"'),
    "resourceType": bundle('"resourceType":"OperationOutcome"'),
    "link": bundle('"link":[{"relation":"next","url":"n"}]', '"link":[]'),
    "link[0].url": bundle('"link":[{"relation":"next","url":"n","url":"m"}]'),
    "link[0].relation": bundle('"link":[{"relation":"next","url":"n","relation":"self"}]'),
    "entry[0].resource": bundle(entry=f'"entry":[{{"resource":{PATIENT},"resource":{PATIENT}}}]'),
    "entry[0].search": bundle(
        entry=f'"entry":[{{"resource":{PATIENT},"search":{{"mode":"match"}},"search":{{"mode":"include"}}}}]'
    ),
    "entry[0].search.mode": bundle(entry=f'"entry":[{{"resource":{PATIENT},"search":{{"mode":"match","mode":"include"}}}}]'),
    "entry[0].resource.id": bundle(entry='"entry":[{"resource":{"resourceType":"Patient","id":"a","id":"b"}}]'),
    "entry[0].resource.resourceType": bundle(
        entry='"entry":[{"resource":{"resourceType":"Patient","id":"a","resourceType":"Person"}}]'
    ),
    "entry[0].resource.subject": bundle(
        entry='"entry":[{"resource":{"resourceType":"Flag","subject":{"display":"Quillfeather"},"subject":{}}}]'
    ),
    "entry[0].resource.meta": bundle(
        entry='"entry":[{"resource":{"resourceType":"Patient","meta":{"versionId":"1"},"meta":{}}}]'
    ),
    "entry[0].resource.meta.versionId": bundle(
        entry='"entry":[{"resource":{"resourceType":"Patient","meta":{"versionId":"1","versionId":"2"}}}]'
    ),
}


@pytest.mark.parametrize("layout", ["compact", "spaces", "lines"])
@pytest.mark.parametrize("case", DOUBLED)
def test_a_member_that_stands_twice_is_refused_by_its_name(case: str, layout: str) -> None:
    """At each level that decides, a doubled member is an error that names it, however the page is laid out."""
    text = DOUBLED[case]
    if layout != "compact":
        text = text.replace(",", ", " if layout == "spaces" else ",\r\n  ")
    name = case.partition(",")[0].rpartition(".")[2].rpartition("]")[2]
    assert f"{name} stands twice" in refused(text)


def test_a_doubled_resource_is_refused_by_its_place() -> None:
    """Of several entries the error says which one holds it."""
    twice = f'{{"resource":{PATIENT},"resource":{PATIENT}}}'
    assert "entry[2]: the member id stands twice" in refused(
        bundle(entry=f'"entry":[{ENTRY},{ENTRY},{{"resource":{{"resourceType":"Patient","id":"a","id":"b"}}}}]')
    )
    assert "entry[1]: the member resource stands twice" in refused(bundle(entry=f'"entry":[{ENTRY},{twice}]'))


@pytest.mark.parametrize("layout", [None, 1, "\t"])
def test_unknown_members_and_escapes_are_no_duplicates(layout: Any) -> None:
    """What nobody knows, and what is written in another way, is read as ever."""
    entry = {
        "resource": {"resourceType": "Patient", "id": "ü/\\"},
        "x-own": {"a": 1},
        "search": {"mode": "match", "score": 0.5},
    }
    document = {"resourceType": "Bundle", "x-own": [1.50], "type": "searchset", "entry": [entry], "meta": {}}
    (found,) = page(json.dumps(document, indent=layout).replace('"entry"', '"\\u0065ntry"')).resources
    assert (found.id, found.mode) == ("ü/\\", "match")


@pytest.mark.parametrize("relation", ["next", "Next", "NEXT"])
def test_the_relation_of_a_link_has_no_case(relation: str) -> None:
    """`Next` is the next page: to take it for another relation would end the search early."""
    assert page(bundle(f'"link":[{{"relation":"{relation}","url":"n"}}]')).next_link == "n"


@pytest.mark.parametrize("name", ["next", "self"])
def test_two_different_links_of_a_relation_are_refused(name: str) -> None:
    """Two readers would go on at two places; the same link twice is one link."""
    links = '"link":[{"relation":"%s","url":"n"},{"relation":"%s","url":"%s"}]'
    assert f"two different {name} links" in refused(bundle(links % (name, name.upper(), "Quillfeather")))
    assert page(bundle(links % (name, name, "n"))).resources


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.text(max_size=4), json_values, min_size=1, max_size=5),
    st.data(),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")]),
    st.booleans(),
)
def test_an_object_is_whole_unless_a_member_stands_twice(
    value: dict[str, Any],
    data: Any,
    separators: tuple[str, str],
    ascii_only: bool,  # noqa: FBT001
) -> None:
    """Any object passes, in any layout; with any of its members once more, anywhere, it does not."""
    parts = [
        json.dumps(name, ensure_ascii=ascii_only) + separators[1] + json.dumps(one, separators=separators)
        for name, one in value.items()
    ]

    def text(members: list[str]) -> bytes:
        return ("{" + separators[0].join(members) + "}").encode("utf-8", "surrogatepass")

    assume(b"\xed" not in text(parts))  # half characters are no UTF-8
    assert list(jsontext.members(text(parts))) == list(value)
    jsontext.check_unique(text(parts))
    again = data.draw(st.sampled_from(list(value)))
    other = json.dumps(data.draw(json_values))
    doubled = list(parts)
    doubled.insert(data.draw(st.integers(0, len(parts))), json.dumps(again) + ":" + other)
    for check in (jsontext.members, jsontext.check_unique):
        with pytest.raises(ValueError, match="stands twice"):
            check(text(doubled))
    with pytest.raises(ValueError, match="stands twice"):
        jsontext.check_unique(b'[1.50,{"x":[' + text(doubled) + b"]}]")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (b'{"a":1,"a":1}', "a"),
        (b'{"a":[{"b":1},{"b":1,"b":2}]}', "a[1].b"),
        (b'{"a":[[],[{"b":1},{"c":{"d d":1,"d d":2}}]]}', "a[1][1].c.?"),
        (b'[{"\\u0061":1,"a":"}\\"{"}]', "[0].a"),
    ],
)
def test_a_doubled_member_is_named_by_its_path(text: bytes, path: str) -> None:
    """The error leads to the member; a name that no field has is not shown."""
    with pytest.raises(ValueError, match="stands twice") as raised:
        jsontext.parse_unique(text)
    assert f"the member {path} stands" in str(raised.value)


@pytest.mark.parametrize("text", ['{"x":' + "9" * 5000 + "}", '{"x":1e400,"y":-0,"z":1E-05}', '{"x":18446744073709551616}'])
def test_a_number_that_no_machine_holds_is_no_duplicate(text: str) -> None:
    """Whether members stand twice is read from the text, whatever its numbers are."""
    jsontext.check_unique(text.encode())


# ── bounds ──

MB = 1024 * 1024


def peak(text: bytes, *, of: Any = page) -> int:
    """Return the bytes that reading a text takes at its peak, beside the text; most are refused."""
    tracemalloc.start()
    try:
        with suppress(RedoxProtocolError, ValueError):
            of(text)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def flood(head: str, one: str, tail: str) -> bytes:
    size = 8 * MB
    return (head + one * (size // len(one)) + tail).encode()


FLOODS = {
    "empty entries": flood('{"resourceType":"Bundle","type":"searchset","entry":[', "{},", "{}]}"),
    "numbers as entries": flood('{"resourceType":"Bundle","type":"searchset","entry":[', "0,", "0]}"),
    "entries of nothing": flood(
        '{"resourceType":"Bundle","type":"searchset","entry":[', '{"resource":0},', '{"resource":0}]}'
    ),
    "links": flood('{"resourceType":"Bundle","type":"searchset","link":[', "{},", '{}],"entry":[]}'),
    "members of the Bundle": flood('{"resourceType":"Bundle","type":"searchset",', '"a":0,', '"b":0}'),
    "members of an entry": flood(
        f'{{"resourceType":"Bundle","type":"searchset","entry":[{{"resource":{PATIENT},', '"a":0,', '"b":0}]}'
    ),
    "members of a resource": flood(
        '{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"Patient",', '"a":0,', '"b":0}}]}'
    ),
    "members of meta": flood(
        '{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"Patient","meta":{',
        '"a":0,',
        '"b":0}}}]}',
    ),
    "issues of an outcome": flood(
        '{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"OperationOutcome","issue":[',
        "{},",
        "{}]}}]}",
    ),
    "an outcome alone": flood('{"resourceType":"OperationOutcome","issue":[', "{},", "{}]}"),
}


@pytest.mark.parametrize("case", FLOODS)
def test_a_page_of_nothing_takes_little_memory(case: str) -> None:
    """What is made of a page is bounded: a flood of tiny things is refused before it becomes thirty times its bytes."""
    assert peak(FLOODS[case]) < (10 if case == "entries of nothing" else 3) * len(FLOODS[case]) + 10 * MB


def test_more_objects_than_fhir_could_hold_are_refused() -> None:
    """However deep the tiny things stand, there is an end to them."""
    text = bundle(entry='"entry":[{"resource":{"resourceType":"Basic","x":[' + "{}," * 2_000_000 + "{}]}}]")
    assert "more than 2000000 objects" in refused(text)


def test_an_answer_of_nothing_takes_little_memory() -> None:
    """What is parsed as a whole is bounded likewise: answers to log searches and queries, tokens, messages, rows."""
    for text in (flood("[", "{},", "{}]"), flood('{"a":[', "[],", "[]]}")):
        assert peak(text, of=jsontext.parse) < MB


def test_distinct_members_without_end_are_refused() -> None:
    """An object may have many members, and not so many that naming them fills the memory."""
    text = ("{" + ",".join(f'"a{number}":0' for number in range(300_000)) + "}").encode()
    with pytest.raises(ValueError, match="more than 100000 members"):
        jsontext.members(text)


def test_more_entries_than_any_server_sends_are_refused() -> None:
    """A page has an end, though its entries be whole ones."""
    one = '{"resource":{"resourceType":"Patient"}},'
    text = bundle(entry='"entry":[' + one * (ENTRIES_AT_MOST + 1) + one[:-1] + "]")
    assert f"more than {ENTRIES_AT_MOST} entries" in refused(text)


@given(
    st.lists(st.dictionaries(st.text(max_size=3), json_values, max_size=3), max_size=4),
    st.sampled_from([{}, {"indent": 1}, {"separators": (" ,", ":  ")}, {"ensure_ascii": True}]),
    st.sampled_from([b"", b"\n", b"\xef\xbb\xbf"]),
)
def test_a_page_is_the_same_however_it_is_laid_out(
    resources: list[dict[str, Any]], how: dict[str, Any], beside: bytes
) -> None:
    """The quick way for compact pages and the slow one for all others give the same resources."""
    known = [
        {**one, "resourceType": "Basic", "id": str(number), "meta": {"versionId": "1"}}
        for number, one in enumerate(resources)
    ]
    entries = [{"fullUrl": "u", "resource": one, "search": {"mode": "include"}} for one in known]
    document = {"resourceType": "Bundle", "type": "searchset", "total": len(known), "entry": entries}
    quick = page(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace"))
    other = page(
        json.dumps(document, **{"ensure_ascii": False, **how}).encode("utf-8", "replace") + beside.rstrip(b"\xef\xbb\xbf")
    )
    assert [one.as_dict() for one in other.resources] == [one.as_dict() for one in quick.resources]
    assert [(one.type, one.id, one.version, one.mode) for one in other.resources] == [
        ("Basic", str(number), "1", "include") for number in range(len(known))
    ]
    assert other.total == quick.total == len(known)
