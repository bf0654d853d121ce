"""No request, however odd, gets a 500 or ends the process."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import Client, message

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
odd = settings(max_examples=30, deadline=None)
PARTS = ["resourceType", "type", "entry", "resource", "id", "meta", "source", "eventUri", "identifier", "subject", "system"]
PARAMETERS = ["_id", "identifier", "family", "birthdate", "_count", "_lastUpdated", "_include", "_page", "given:exact"]
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def fuzzed(shared: Client) -> Client:
    """Give the shared sandbox, once as it was at its start."""
    shared.forget()
    return shared


@odd
@given(part=st.sampled_from(["DataModel", "EventType", "EventDateTime", "Test", "Source", "Destinations"]), value=anything)
def test_any_meta_is_answered(fuzzed: Client, part: str, value: Any) -> None:
    """Whatever stands in a part of Meta, the answer is 200 or 400."""
    sent = message("PatientSearch", "Query", fuzzed.extra["destinations"]["general"]["id"])
    sent["Meta"][part] = value
    assert fuzzed.post(sent).status_code in {200, 400}


@odd
@given(patient=st.dictionaries(st.sampled_from(["Identifiers", "Demographics", "Notes"]), anything))
def test_any_patient_is_answered(fuzzed: Client, patient: dict[str, Any]) -> None:
    """Whatever a query says about its patient, the answer is 200."""
    sent = message("PatientSearch", "Query", fuzzed.extra["destinations"]["general"]["id"], Patient=patient)
    assert fuzzed.post(sent).status_code == 200


@odd
@given(header=st.dictionaries(st.sampled_from(PARTS), anything), rest=st.dictionaries(st.sampled_from(PARTS), anything))
def test_any_bundle_is_answered(fuzzed: Client, header: dict[str, Any], rest: dict[str, Any]) -> None:
    """Whatever stands in a message Bundle, the answer is 200, 400 or 404."""
    first = {"resourceType": "MessageHeader", "eventUri": "urn:x", "source": {"endpoint": "urn:x"}} | header
    second = rest | {"resourceType": "Basic"}
    body = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": first}, {"resource": second}]}
    for verb in ("create", "update"):
        path, headers = fuzzed.fhir(f"Basic/$basic-{verb}"), {"Content-Type": "application/fhir+json"}
        assert fuzzed.call("POST", path, json=body, headers=headers).status_code in {200, 400, 404}


@odd
@given(pairs=st.lists(st.tuples(st.sampled_from(PARAMETERS), st.text(max_size=12)), max_size=4))
def test_any_search_is_answered(fuzzed: Client, pairs: list[tuple[str, str]]) -> None:
    """Whatever the values of a search, the answer is 200, 400 or 410."""
    assert fuzzed.search("Patient", pairs or {"_id": "x"}).status_code in {200, 400, 410}


@odd
@given(body=st.binary(max_size=40))
def test_any_bytes_are_answered(fuzzed: Client, body: bytes) -> None:
    """Whatever the bytes, every path that takes a body answers with a 4xx or a 200."""
    for path in ("/v2/auth/token", fuzzed.fhir("Condition/_search")):
        assert fuzzed.call("POST", path, data=body, headers=FORM).status_code < 500


@odd
@given(assertion=st.text(st.characters(codec="utf-8"), max_size=30), claims=anything)
def test_any_assertion_is_answered(fuzzed: Client, assertion: str, claims: Any) -> None:
    """Whatever an assertion is made of, the token endpoint answers 400 or 401."""
    assert fuzzed.ask_token(assertion).status_code in {400, 401}
    if isinstance(claims, dict):
        assert fuzzed.ask_token(fuzzed.sign(fuzzed.claims() | {"iss": claims})).status_code == 401
