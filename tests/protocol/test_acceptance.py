"""What is believed of an answer: a log for each destination, or the event that answers; an echo and a cache show neither."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import (
    RedoxAmbiguousOutcomeError,
    RedoxDestinationError,
    RedoxError,
    RedoxProtocolError,
)
from airflow_provider_redox.protocol.acceptance import Question, is_incomplete, read_accepted, read_answered
from airflow_provider_redox.protocol.data_model import Accepted

from .flows import answer, said_by

NEW_PATIENT = {"DataModel": "PatientAdmin", "EventType": "NewPatient"}
QUERY = {"DataModel": "Clinical Summary", "EventType": "PatientQuery"}
TWO = [{"ID": "d-1"}, {"ID": "d-2"}]


def accepted(sent: dict[str, Any], meta: dict[str, Any], *, to: Any = TWO[:1], **more: Any) -> Accepted:
    question = Question.of({"Meta": {**sent, "Destinations": to, **more}})
    return read_accepted(answer(200, json.dumps({"Meta": meta}), redox_trace_id="t"), question)


def logs(*ids: Any) -> dict[str, Any]:
    return {"Logs": [{"ID": one, "AttemptID": "x"} for one in ids]}


def test_an_accepted_message_has_its_log_ids() -> None:
    """Redox's own answer: the event that was sent, and a log for each destination; unknown fields are no matter."""
    assert accepted(NEW_PATIENT, {**NEW_PATIENT, **logs("log-1"), "New": [1]}) == Accepted(("log-1",), "t")
    assert accepted(NEW_PATIENT, {**NEW_PATIENT, **logs("log-1", 17)}, to=TWO) == Accepted(("log-1", "17"), "t")
    assert accepted(NEW_PATIENT, logs("log-1")) == Accepted(("log-1",), "t")
    assert accepted(QUERY, {"DataModel": "ClinicalSummary", "EventType": "PatientQuery", **logs("l")}).log_ids == ("l",)


@pytest.mark.parametrize("odd", [{"name": "Canary"}, ["Canary"], "Canary Green", "a\r\nCanary", 1.5, None, "x" * 101])
def test_a_log_id_that_is_none_is_no_evidence(odd: Any) -> None:
    """Log IDs go into XCom, errors and logs: what does not look like an ID gets into none of them, and counts for none."""
    assert accepted(NEW_PATIENT, logs(odd, "log-1")).log_ids == ("log-1",)
    with pytest.raises(RedoxProtocolError) as raised:
        accepted(NEW_PATIENT, logs(odd))
    assert "Canary" not in said_by(raised.value)


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"Logs": None},
        {"Logs": []},
        {"Logs": {}},
        {"Logs": "odd"},
        NEW_PATIENT,
        {**NEW_PATIENT, "Destinations": TWO, "Test": True, "EventDateTime": "2026-01-01T00:00:00Z"},
        {"DataModel": "Results", "EventType": "New", **logs("log-of-another")},
        {"DataModel": "PatientAdmin", "EventType": "PatientUpdate", **logs("log-of-another")},
        {"DataModel": {}, **logs("log-1")},
        {**NEW_PATIENT, **logs("log-of-the-source")},
    ],
)
def test_an_answer_that_shows_nothing_is_no_acceptance(meta: dict[str, Any]) -> None:
    """Nothing, our own Meta, the logs that the message brought along, or an answer to something else."""
    with pytest.raises(RedoxProtocolError, match="the answer "):
        accepted(NEW_PATIENT, meta, **logs("log-of-the-source"))


@pytest.mark.parametrize("ids", [["log-1"], ["log-1", "log-1"], ["log-1", "log-0"], ["log-1", "log-2", "log-3"]])
def test_a_log_for_some_destinations_only_is_ambiguous(ids: list[str]) -> None:
    """One log, one twice, one of the message's own, or too many: nobody can tell which hospital has it."""
    with pytest.raises(RedoxAmbiguousOutcomeError, match="log IDs for 2 destinations") as raised:
        accepted(NEW_PATIENT, {**NEW_PATIENT, **logs(*ids)}, to=TWO, **logs("log-0"))
    assert raised.value.log_ids[0] == "log-1"
    assert raised.value.trace_id == "t"


def test_the_event_that_answers_is_evidence() -> None:
    """A synchronous event has its answer in the answer, with or without a log; what is itself a response has not."""
    asked = {"DataModel": "ClinicalDecisions", "EventType": "Request"}
    assert accepted(asked, {"DataModel": "Clinical Decisions", "EventType": "Response"}) == Accepted((), "t")
    told = {"DataModel": "PatientSearch", "EventType": "Response"}
    with pytest.raises(RedoxProtocolError):
        accepted(told, told)


@given(st.lists(st.sampled_from(["log-1", "log-2", "log-3", "sent", "not an ID"]), max_size=5), st.integers(1, 4))
def test_accepted_means_a_log_of_its_own_for_each(ids: list[str], places: int) -> None:
    """Whatever the logs are, a message to several is accepted only with as many new ones as there are destinations."""
    fresh = {*ids} - {"sent", "not an ID"}
    to = [{"ID": str(number)} for number in range(places)]
    answered_by = {**NEW_PATIENT, **logs(*ids)}
    if len(fresh) == places or (places == 1 and fresh):
        assert set(accepted(NEW_PATIENT, answered_by, to=to, **logs("sent")).log_ids) == fresh
        return
    with pytest.raises(RedoxError) as raised:
        accepted(NEW_PATIENT, answered_by, to=to, **logs("sent"))
    assert set(getattr(raised.value, "log_ids", ())) == fresh


# ── queries ──


def answered(meta: dict[str, Any], **options: Any) -> Any:
    return read_answered(answer(200, json.dumps({"Meta": meta})), Question.of({"Meta": QUERY}), **options).json()


@pytest.mark.parametrize("event", ["PatientQueryResponse", "Response", "patientqueryresponse"])
def test_the_answer_to_a_query_is_of_the_event_that_answers(event: str) -> None:
    """Redox answers with the data model of the query and an event whose name ends with Response."""
    meta = {"DataModel": "ClinicalSummary", "EventType": event}
    assert answered(meta) == {"Meta": meta}


@pytest.mark.parametrize(
    "meta", [{}, QUERY, logs("log-1"), {**QUERY, "EventType": "New"}, {"DataModel": "Notes", "EventType": "QueryResponse"}]
)
def test_an_echo_is_no_answer(meta: dict[str, Any]) -> None:
    """The query itself, or an answer to another one, is not an answer of no results."""
    with pytest.raises(RedoxProtocolError):
        answered(meta)


@pytest.mark.parametrize("stated", [True, "true", "TRUE", 1, "yes", {}, []])
def test_an_answer_that_is_not_whole_is_an_error(stated: Any) -> None:
    """The error says how to take it all the same; no retry makes it whole."""
    meta = {**QUERY, "EventType": "PatientQueryResponse", "IsIncomplete": stated}
    with pytest.raises(RedoxDestinationError, match="on_incomplete='warn'") as raised:
        answered(meta)
    assert not raised.value.retryable
    assert is_incomplete(answered(meta, incomplete=True))


@pytest.mark.parametrize("stated", [False, None, "false"])
def test_an_answer_that_is_whole_passes(stated: Any) -> None:
    """A plain no is no."""
    answered({**QUERY, "EventType": "PatientQueryResponse", "IsIncomplete": stated})
