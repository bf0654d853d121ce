"""What an error tells: codes, paths and the trace ID; no body, no free text, no patient."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import (
    RedoxAmbiguousOutcomeError,
    RedoxAuthError,
    RedoxError,
    RedoxProtocolError,
    RedoxRateLimitError,
    RedoxResponseError,
    RedoxSecurityError,
    RedoxServerError,
    RedoxTransportError,
)
from airflow_provider_redox.protocol.effects import RedoxResponse, Stage
from airflow_provider_redox.protocol.failures import ambiguous, issues_of, no_answer, raise_refusal, refusal, token_refusal

from .flows import NOW, answer, failure, said_by

NAMES = ("Keva Green", "Keva", "GREEN", "MRN-0012345", "0000000001", "1995-08-26", "keva green", "Green^Keva", "'Green'")
"""How a patient may turn up in an answer."""


def outcome(**issue: Any) -> RedoxResponse:
    return answer(400, json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}))


def meta_errors(**error: Any) -> RedoxResponse:
    return answer(400, json.dumps({"Meta": {"Errors": [error]}}))


# ── which error ──


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (100, RedoxSecurityError),
        (302, RedoxSecurityError),
        (400, RedoxResponseError),
        (401, RedoxAuthError),
        (403, RedoxResponseError),
        (404, RedoxResponseError),
        (408, RedoxServerError),
        (418, RedoxResponseError),
        (429, RedoxRateLimitError),
        (500, RedoxServerError),
        (599, RedoxServerError),
    ],
)
def test_each_status_has_its_error(status: int, kind: type[RedoxError]) -> None:
    """An error status becomes the error that the tree of exceptions has for it."""
    error = refusal(answer(status))
    assert type(error) is kind
    assert f"HTTP {status} from Redox" in str(error)


def test_an_error_has_status_issues_and_trace_id() -> None:
    """What a program needs is in attributes, what a reader needs in the message."""
    response = answer(422, outcome(severity="error", code="invalid").body, redox_trace_id="trace-1")
    with pytest.raises(RedoxResponseError) as raised:
        raise_refusal(response)
    assert (raised.value.status, raised.value.issues, raised.value.trace_id) == (422, ("error invalid",), "trace-1")
    assert str(raised.value).endswith("(trace trace-1)")  # behind the cure, which is to be seen first
    assert "error invalid" in str(raised.value)


def test_a_missing_page_says_that_the_slug_may_be_wrong() -> None:
    """With Redox a 404 is as often a wrong destination as an absent resource, and the error says so."""
    assert "check the destination's slug and the environment" in str(refusal(answer(404, redox_trace_id="trace-1")))[:80]


@pytest.mark.parametrize(
    ("stated", "seconds"), [("17", 17.0), ("0", 0.0), ("-1", None), ("soon", None), ("²", None), (None, None)]
)
def test_a_rate_limit_tells_how_long_to_wait(stated: str | None, seconds: float | None) -> None:
    """The time that Redox names is in the error, if it names one in seconds."""
    error = refusal(answer(429, **({"retry_after": stated} if stated else {})))
    assert isinstance(error, RedoxRateLimitError)
    assert error.retry_after == seconds


def test_a_rate_limit_tells_the_limit() -> None:
    """Redox's own figure is shown, and the field that lowers our share."""
    said = str(refusal(answer(429, x_ratelimit_limit="7500")))
    assert "(7500)" in said
    assert "extra.requests_per_5min" in said


@pytest.mark.parametrize(
    ("stage", "kind", "retryable"),
    [
        (Stage.UNSENT, RedoxTransportError, True),
        (Stage.UNTRUSTED, RedoxTransportError, False),
        (Stage.UNANSWERED, RedoxTransportError, True),
        (Stage.CUT, RedoxTransportError, True),
        (Stage.OVERSIZE, RedoxProtocolError, False),
    ],
)
def test_each_stage_has_its_error(stage: Stage, kind: type[RedoxError], retryable: bool) -> None:  # noqa: FBT001
    """No whole answer becomes the error that says how far the request got."""
    error = no_answer(failure(stage), "GET /x", 1)
    assert type(error) is kind
    assert (str(error), error.retryable) == (f"GET /x: {stage.value}: the reason", retryable)


def test_several_tries_are_told() -> None:
    """An error after several tries says how many."""
    assert str(no_answer(failure(Stage.UNSENT), "GET /x", 5)).endswith("(after 5 tries)")


def test_an_untrusted_server_stays_without_retry_after_pickling() -> None:
    """That no retry helps is known in another process too."""
    error = no_answer(failure(Stage.UNTRUSTED), "GET /x", 1)
    assert pickle.loads(pickle.dumps(error)).retryable is False


def test_an_ambiguous_outcome_says_what_to_do() -> None:
    """The error of an unknown outcome names request, status and trace, and sends the reader to Redox's logs."""
    error = ambiguous(answer(504, redox_trace_id="trace-1"), "POST /endpoint", None)
    assert isinstance(error, RedoxAmbiguousOutcomeError)
    assert (error.status, error.trace_id, error.retryable) == (504, "trace-1", False)
    for word in ("POST /endpoint", "HTTP 504", "trace-1", "may or may not", "dashboard's logs"):
        assert word in str(error)


@pytest.mark.parametrize("trace", ["a b", "a\r\nb", "x" * 81, "<x>", ""])
def test_a_trace_id_that_is_none_is_not_told(trace: str) -> None:
    """A header that is no ID writes nothing into the message."""
    assert "trace" not in str(refusal(answer(500, redox_trace_id=trace)))


# ── codes ──


@pytest.mark.parametrize(
    ("issue", "told"),
    [
        ({"severity": "error", "code": "invalid"}, "error invalid"),
        ({"severity": "fatal", "code": "not-found"}, "fatal not-found"),
        (
            {"severity": "error", "details": {"coding": [{"code": "MSG_PARAM_UNKNOWN"}, {"code": "59100"}]}},
            "error MSG_PARAM_UNKNOWN 59100",
        ),
        ({"severity": "error", "details": {"coding": [{"code": "unknown-parameter"}]}}, "error unknown-parameter"),
        (
            {"code": "value", "expression": ["Patient.birthDate", "Patient.name[0].given[1]"]},
            "value Patient.birthDate Patient.name[0].given[1]",
        ),
        ({"code": "value", "expression": ["http.birthdate"]}, "value http.birthdate"),
    ],
)
def test_an_issue_is_told_in_codes_and_paths(issue: dict[str, Any], told: str) -> None:
    """Severity, code, coded details and field paths of an issue are told."""
    assert issues_of(outcome(**issue)) == (told,)


def test_ten_issues_are_told_at_most() -> None:
    """An answer with thousands of issues does not fill a log."""
    body = json.dumps({"issue": [{"severity": "error"}] * 1000})
    assert len(issues_of(answer(400, body))) == 10
    assert len(issues_of(answer(400, json.dumps({"Meta": {"Errors": [{"ID": 1}] * 1000}})))) == 10


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ({"ID": 531829, "Type": "message", "Module": "Send"}, "id=531829 type=message module=Send"),
        ({"ID": "531829", "DestinationStatusCode": 503}, "id=531829 destination_status=503"),
        (
            {"Module": "DataModels", "Text": "Required field missing - Device.ID in Device:New"},
            "module=DataModels Required field missing - Device.ID",
        ),
        (
            {"Module": "DataModels", "Text": "Invalid type - Patient.Identifiers"},
            "module=DataModels Invalid type - Patient.Identifiers",
        ),
        ({"Module": "DataModels", "Text": "Required field missing"}, "module=DataModels Required field missing"),
        ({"Module": "Send", "Text": "Required field missing - Device.ID"}, "module=Send"),
    ],
)
def test_a_meta_error_is_told_in_codes(error: dict[str, Any], told: str) -> None:
    """ID, type, module and the destination's status are told, and of Redox's own validation the field."""
    assert issues_of(meta_errors(**error)) == (told,)


# ── no patient ──


FREE_TEXTS = (
    "diagnostics",
    "details.text",
    "details.coding.display",
    "details.coding.system",
    "location",
    "unknown",
    "text.div",
)
CODES = ("severity", "code", "details.coding.code", "expression")
META_TEXTS = ("Text", "Details", "DestinationResponse", "Unknown")
META_CODES = ("Type", "Module", "DestinationStatusCode")


def _issue(place: str, value: Any) -> dict[str, Any]:
    whole = {"severity": "error", "code": "processing"}
    match place.split("."):
        case ["details", "coding", name]:
            return {**whole, "details": {"coding": [{name: value}]}}
        case ["details", name]:
            return {**whole, "details": {name: value}}
        case ["expression" | "location" as name]:
            return {**whole, name: [value]}
        case ["text", name]:
            return {**whole, "text": {name: value}}
    return {**whole, place: value}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", [*FREE_TEXTS, *CODES])
def test_a_patient_in_an_issue_is_not_told(place: str, name: str) -> None:
    """A name, an MRN or a date of birth in any place of an OperationOutcome, codes too, is in no part of the error."""
    assert name not in said_by(refusal(outcome(**_issue(place, name))))


@pytest.mark.parametrize("name", [name for name in NAMES if " " in name or not name.isalpha()])
@pytest.mark.parametrize("place", [*META_TEXTS, *META_CODES])
def test_a_patient_in_a_meta_error_is_not_told(place: str, name: str) -> None:
    """A name, an MRN or a date of birth in any place of Meta.Errors is in no part of the error."""
    assert name not in said_by(refusal(meta_errors(**{"Module": "Send", "ID": 7, place: name})))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "sentence",
    [
        "{}",
        "Required field missing - {}",
        "Unknown field - {}",
        "Invalid type - '{}' in Patient",
        "Field {} is wrong",
        "Invalid type {}",
    ],
)
def test_a_patient_in_redoxs_own_validation_is_not_told(sentence: str, name: str) -> None:
    """Of the text of Redox's validation only a path of field names is told; anything quoted or numeric is not."""
    assert name not in said_by(refusal(meta_errors(Module="DataModels", Text=sentence.format(name))))


@pytest.mark.parametrize(
    "expression", ["Patient.name.where(family='Green')", "Patient/Green", "Patient[id=Green]", "http.name=Green"]
)
def test_an_expression_with_a_value_is_not_told(expression: str) -> None:
    """A path that carries a value is dropped whole."""
    assert "Green" not in said_by(refusal(outcome(severity="error", expression=[expression])))


PATIENT = "Keva Green MRN-0012345"
leaves = st.just(PATIENT) | st.none() | st.booleans() | st.integers() | st.sampled_from(["error", "DataModels", "fatal"])
known = st.sampled_from(
    [
        "issue",
        "Meta",
        "Errors",
        "details",
        "coding",
        "code",
        "severity",
        "expression",
        "Text",
        "Module",
        "Type",
        "ID",
        "diagnostics",
        "text",
        "resourceType",
        "error_description",
        PATIENT,
    ]
)
bodies = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(known, inner, max_size=4), max_leaves=15
)


@given(bodies, st.sampled_from([302, 400, 401, 404, 422, 429, 500, 503]))
def test_whatever_a_body_holds_no_patient_is_told(body: Any, status: int) -> None:
    """A patient anywhere in an error's body, of any shape, is in no part of the error, and reading it never fails."""
    response = answer(status, json.dumps(body))
    for error in (refusal(response), ambiguous(response, "POST /x", None)):
        for part in PATIENT.split():
            assert part not in said_by(error)


@given(st.binary(max_size=80), st.sampled_from([400, 401, 500]))
def test_any_bytes_are_an_error_without_issues(body: bytes, status: int) -> None:
    """A body that is no JSON adds nothing to the error."""
    response = answer(status, body + b"\xff")
    assert issues_of(response) == ()
    assert isinstance(refusal(response), RedoxResponseError)
    assert isinstance(token_refusal(response, now=NOW), RedoxResponseError)


@pytest.mark.parametrize(
    "body",
    [
        {"issue": [None, "x", 7, [], {}]},
        {"issue": [{"details": {"coding": None}}, {"details": []}, {"details": {"coding": ["x"]}}]},
        {"issue": [{"expression": None}, {"expression": 7}, {"expression": [7, None, {}]}]},
        {"Meta": {"Errors": [None, "x", {"Text": None, "Module": "DataModels"}]}},
        {"Meta": {"Errors": "x"}},
        {"Meta": None},
        [],
    ],
    ids=str,
)
def test_an_odd_shape_is_no_second_error(body: Any) -> None:
    """An error answer that is itself malformed still becomes the error of its status."""
    error = refusal(answer(400, json.dumps(body)))
    assert isinstance(error, RedoxResponseError)
    assert error.status == 400
