"""One page of a search: every resource to the digit, or an error that quotes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxDestinationError, RedoxError, RedoxProtocolError
from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.pages import Page, read_page

from .flows import answer, said_by


def bundle(*resources: Any, **more: Any) -> dict[str, Any]:
    """Make a searchset of these resources."""
    entries = [{"resource": resource, "search": {"mode": "match"}} for resource in resources]
    return {"resourceType": "Bundle", "type": "searchset", "entry": entries, **more}


def page(document: Any) -> Page:
    """Read a page from a document, or from text or bytes as they are."""
    return read_page(answer(200, document if isinstance(document, str | bytes) else json.dumps(document)))


def refused(document: Any) -> RedoxError:
    with pytest.raises(RedoxError) as raised:
        page(document)
    return raised.value


def test_a_page_is_its_resources_in_order() -> None:
    """A page gives every resource in the order of its entries, with what identifies it."""
    meta = {"versionId": "3", "lastUpdated": "2026-01-01T00:00:00Z"}
    found = page(bundle({"resourceType": "Patient", "id": "a", "meta": meta}, {"resourceType": "Patient", "id": "b"}))
    assert [(one.type, one.id, one.version, one.last_updated) for one in found.resources] == [
        ("Patient", "a", "3", "2026-01-01T00:00:00Z"),
        ("Patient", "b", None, None),
    ]
    assert (found.outcomes, found.total, found.next_link) == ([], None, None)


@pytest.mark.parametrize("document", [bundle(), {"resourceType": "Bundle", "type": "searchset", "total": 0}])
def test_a_page_without_entries_is_an_empty_page(document: Any) -> None:
    """No entries, or no list of entries, is a search that found nothing."""
    assert page(document).resources == []


def test_a_page_tells_total_and_next_link() -> None:
    """The total and the link with the relation `next` are read, other links are not."""
    links = [{"relation": "self", "url": "s"}, {"relation": "previous", "url": "p"}, {"relation": "next", "url": "n"}]
    found = page(bundle(total=12, link=links))
    assert (found.total, found.next_link) == (12, "n")


def test_a_page_with_an_empty_next_link_is_refused() -> None:
    """A next link without an address is no end of the search: what it should lead to would be lost."""
    assert isinstance(refused(bundle(link=[{"relation": "next", "url": ""}])), RedoxProtocolError)
    assert isinstance(refused(bundle(link=[{"relation": "next"}])), RedoxProtocolError)


def test_included_resources_are_resources() -> None:
    """What was included by `_include` is given as what matched is."""
    document = bundle({"resourceType": "Observation", "id": "o"})
    document["entry"].append({"resource": {"resourceType": "Patient", "id": "p"}, "search": {"mode": "include"}})
    assert [one.type for one in page(document).resources] == ["Observation", "Patient"]


def test_an_entry_without_a_search_mode_is_a_match() -> None:
    """Servers that leave the search mode out mean what matched."""
    document = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": {"resourceType": "Patient"}}]}
    assert len(page(document).resources) == 1


# ── the line of a resource ──


@pytest.mark.parametrize(
    "text",
    [
        '{"resourceType":"Observation","valueQuantity":{"value":1.10}}',
        '{"resourceType":"Observation","valueQuantity":{"value":1.0E+2}}',
        '{"resourceType":"Observation","valueQuantity":{"value":100000000000000000000000000000.000000001}}',
        '{"resourceType":"Observation","valueInteger":' + "9" * 5000 + "}",
        '{"resourceType":"Observation","valueQuantity":{"value":1e999}}',
        '{"resourceType":"Observation","a":"\\u00fc\\/ \\"x\\"","b":"ü"}',
        '{"resourceType":"Observation","effectiveDateTime":"2026-01-01T10:00:00.000+02:00","x":null}',
        '{"unknown":[1,{}],"resourceType":"Observation","deep":{"x":1,"x":2}}',
    ],
    ids=lambda text: text[30:70],
)
def test_a_resource_is_kept_to_the_digit(text: str) -> None:
    """Numbers, escapes, nulls, unknown members and what deeper members repeat come out exactly as the server wrote them."""
    (found,) = page('{"resourceType":"Bundle","type":"searchset","entry":[{"resource":' + text + "}]}").resources
    assert found.line == text.encode()


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_pretty_printed_resource_becomes_one_line(newline: str) -> None:
    """A resource over several lines is one line afterwards, its values untouched."""
    resource = {"resourceType": "Patient", "name": [{"text": "line\nbreak\r"}], "x": []}
    text = json.dumps(bundle(resource), indent=2).replace("[]", "1.10").replace("\n", newline)
    (found,) = page(text).resources
    assert found.line == b'{"resourceType":"Patient","name":[{"text":"line\\nbreak\\r"}],"x":1.10}'


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from([None, 0, 2, "\t"]),
)
def test_any_resource_comes_out_as_one_line_of_the_same_json(value: Any, indent: Any) -> None:
    """However a server lays out its page, a resource is one line that parses to what was sent."""
    resource = {"resourceType": "Basic", "value": value}
    (found,) = page(json.dumps(bundle(resource), indent=indent, ensure_ascii=False)).resources
    assert b"\n" not in found.line
    assert b"\r" not in found.line
    assert json.loads(found.line) == resource == found.as_dict()


def test_a_byte_order_mark_is_skipped() -> None:
    """A page that begins with a byte-order mark is read."""
    assert len(page(b"\xef\xbb\xbf" + json.dumps(bundle({"resourceType": "Patient"})).encode()).resources) == 1


# ── outcomes ──


def outcome(*severities: str, **more: Any) -> dict[str, Any]:
    issues = [{"severity": severity, "code": "processing", **more} for severity in severities]
    return {"resourceType": "OperationOutcome", "issue": issues}


@pytest.mark.parametrize("severity", ["error", "fatal"])
def test_an_outcome_alone_is_an_error_of_the_destination(severity: str) -> None:
    """A 200 that carries an OperationOutcome instead of a Bundle has failed, and says so in codes."""
    error = refused(outcome(severity))
    assert isinstance(error, RedoxDestinationError)
    assert (error.status, error.issues, error.retryable) == (200, (f"{severity} processing",), False)


@pytest.mark.parametrize("mode", ["outcome", "match", None])
@pytest.mark.parametrize("severity", ["error", "fatal"])
def test_an_outcome_that_is_an_error_fails_the_page(severity: str, mode: str | None) -> None:
    """A page with an error among its entries is incomplete, however that entry is marked."""
    document = bundle({"resourceType": "Patient", "id": "a"})
    document["entry"].append({"resource": outcome("warning", severity), **({"search": {"mode": mode}} if mode else {})})
    error = refused(document)
    assert isinstance(error, RedoxDestinationError)
    assert error.issues == ("warning processing", f"{severity} processing")


def test_an_issue_without_a_severity_is_an_error() -> None:
    """What does not say how bad it is, is bad."""
    assert isinstance(refused(bundle({"resourceType": "OperationOutcome", "issue": [{}]})), RedoxDestinationError)


@pytest.mark.parametrize("severity", ["warning", "information"])
def test_a_warning_is_kept_apart_from_the_resources(severity: str) -> None:
    """An outcome that is no error is given beside the resources, not among them."""
    found = page(bundle({"resourceType": "Patient", "id": "a"}, outcome(severity)))
    assert [one.type for one in found.resources] == ["Patient"]
    assert [one.type for one in found.outcomes] == ["OperationOutcome"]


def test_the_trace_id_of_a_failed_page_is_kept() -> None:
    """The error of a destination has the trace ID that Redox support asks for."""
    with pytest.raises(RedoxDestinationError) as raised:
        read_page(answer(200, json.dumps(outcome("error")), redox_trace_id="trace-1"))
    assert raised.value.trace_id == "trace-1"


# ── what is no page ──


def nested(depth: int) -> str:
    return '{"resourceType":"Bundle","type":"searchset","entry":[{"resource":' + "[" * depth + "]" * depth + "}]}"


BROKEN: dict[str, Any] = {
    "nothing": "",
    "no JSON": "Canary",
    "HTML": "<html><body>Canary</body></html>",
    "half a page": json.dumps(bundle({"resourceType": "Patient", "name": "Canary"}))[:-5],
    "two documents": json.dumps(bundle()) + '{"x": "Canary"}',
    "a list": ["Canary"],
    "a text": '"Canary"',
    "another resource": {"resourceType": "Patient", "name": [{"family": "Canary"}]},
    "another type of Bundle": bundle({"resourceType": "Patient", "name": "Canary"}, type="collection"),
    "a Bundle without a type": {"resourceType": "Bundle", "entry": []},
    "no resourceType": {"type": "searchset", "entry": []},
    "entries that are no list": bundle(entry={"Canary": 1}),
    "entries that are null": bundle(entry=None),
    "an entry that is a text": bundle(entry=["Canary"]),
    "a resource that is a text": bundle("Canary"),
    "a resource that is null": bundle(None),
    "a resource without a type": bundle({"id": "Canary"}),
    "a type that is a number": bundle({"resourceType": 5, "id": "Canary"}),
    "a type with slashes": bundle({"resourceType": "../Canary"}),
    "a type in small letters": bundle({"resourceType": "canary"}),
    "an empty type": bundle({"resourceType": ""}),
    "an id that is a number": bundle({"resourceType": "Patient", "id": 17, "name": "Canary"}),
    "a link without an address": bundle(link=[{"relation": "next", "url": None}]),
    "a total that is a text": bundle(total="Canary"),
    "a total of 5,000 digits": '{"resourceType":"Bundle","type":"searchset","total":' + "9" * 5000 + "}",
    "NaN": '{"resourceType":"Bundle","type":"searchset","total":NaN}',
    "invalid UTF-8": json.dumps(bundle({"resourceType": "Patient", "name": "Canary"}))
    .encode()
    .replace(b"Canary", b"Canary\xff"),
    "UTF-16": json.dumps(bundle()).encode("utf-16"),
    "invalid UTF-8 in what is not read": b'{"resourceType":"Bundle","type":"searchset","x":"Canary\xc3\x28"}',
    "lists in lists": nested(100_000),
    "lists without end": "[" * 100_000,
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_searchset_is_refused_without_being_quoted(what: str) -> None:
    """Anything but a Bundle of type searchset is a protocol error, and no part of it is in the error or its chain."""
    error = refused(BROKEN[what])
    assert type(error) is RedoxProtocolError
    assert "HTTP 200, but the page is not a search result" in str(error) or "next link" in str(error)
    assert "anary" not in said_by(error)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_a_page_or_an_error_of_ours(body: bytes) -> None:
    """Whatever a server sends, reading it ends in a page or in an error of this package."""
    try:
        page(body)
    except RedoxError:
        return
    raise AssertionError("random bytes are no searchset")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"\xff", "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"{", "truncated"),
        (b"[1,]", "byte 3"),
        (b"nul", "truncated"),
        (b"1 2", "trailing"),
    ],
)
def test_an_unreadable_body_says_where_and_not_what(body: bytes, said: str) -> None:
    """An error about JSON names the place in bytes, and its chain holds none of the text."""
    with pytest.raises(ValueError, match=said) as raised:
        jsontext.parse(body)
    for one in (raised.value, raised.value.__context__):
        assert not hasattr(one, "object")
        assert not hasattr(one, "doc")


def test_an_answer_that_is_no_json_says_its_kind_and_size() -> None:
    """An answer's own error names status, content type and length, and neither holds nor quotes the body."""
    with pytest.raises(RedoxProtocolError, match=r"HTTP 502 .*not JSON \(text/html, 11 bytes\)") as raised:
        answer(502, "<p>Canary\xff", content_type="text/html").json()
    assert "Canary" not in said_by(raised.value)


def test_only_an_outcome_is_one() -> None:
    """A resource whose entry calls it an outcome is a resource, and somebody's: counted, checked and recorded as such."""
    document = bundle({"resourceType": "Patient", "id": "a"})
    document["entry"].append({"resource": {"resourceType": "Patient", "id": "b"}, "search": {"mode": "outcome"}})
    found = page(document)
    assert [(one.type, one.id) for one in found.resources] == [("Patient", "a"), ("Patient", "b")]
    assert found.outcomes == []
