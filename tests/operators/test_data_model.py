"""The Data Model operators against a real server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from airflow_provider_redox.exceptions import (
    RedoxAmbiguousOutcomeError,
    RedoxAuthError,
    RedoxConfigError,
    RedoxDestinationError,
    RedoxProtocolError,
    RedoxRateLimitError,
    RedoxResponseError,
    RedoxServerError,
    RedoxTransportError,
)
from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator, RedoxDataModelQueryOperator
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from airflow_provider_redox.storage.send_marker import Mark
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox

needs_models = pytest.mark.skipif(find_spec("redox") is None, reason="the extra [datamodels] is not installed")

NEW_PATIENT = {
    "Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"},
    "Patient": {"Identifiers": [{"ID": "MRN-7731", "IDType": "MR"}], "Demographics": {"LastName": "Quillfeather"}},
}
FIND_KEVA = {
    "Meta": {"DataModel": "PatientSearch", "EventType": "Query"},
    "Patient": {"Demographics": {"FirstName": "Keva", "LastName": "Green", "DOB": "1995-08-26"}},
}


def post(output: str, **arguments: Any) -> RedoxDataModelPostOperator:
    return RedoxDataModelPostOperator(task_id="post", **{"payload": NEW_PATIENT, "results_path": output, **arguments})


def query(output: str, **arguments: Any) -> RedoxDataModelQueryOperator:
    return RedoxDataModelQueryOperator(task_id="ask", **{"payload": FIND_KEVA, "output_path": output, **arguments})


def only_line(output: str) -> dict[str, Any]:
    (file,) = Path(output.removeprefix("file://")).rglob("*.ndjson")
    return json.loads(file.read_text())


def test_a_message_is_accepted_with_its_log_ids(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """An accepted message gives its log IDs in XCom and in its result line, and no content anywhere."""
    summary = execute(post(output))
    assert {**summary, "log_ids": len(summary["log_ids"]), "results_url": None} == {
        "accepted": 1,
        "refused": 0,
        "ambiguous": 0,
        "log_ids": 1,
        "results_url": None,
    }
    line = only_line(output)
    assert line["outcome"] == "accepted"
    assert line["log_ids"] == summary["log_ids"] == sandbox.control("GET", "messages")[0]["logs"]
    assert "Quillfeather" not in json.dumps([summary, line])


SAME = {"Meta": {**NEW_PATIENT["Meta"], "Test": True}, "Patient": NEW_PATIENT["Patient"]}


@pytest.mark.parametrize(
    "body", [{"Meta": {}}, SAME, {"Meta": {"Logs": []}}, {"Meta": {**SAME["Meta"], "EventType": "Other"}}]
)
def test_an_answer_that_shows_nothing_is_ambiguous(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, body: dict[str, Any]
):
    """No log, or our own message back: no acceptance, and neither a retry nor a clear sends it a second time."""
    sandbox.fault("body", body=body, match={"path": "/endpoint"})
    for facts in ({}, {"try_number": 2, "max_tries": 9}, {"try_number": 3, "max_tries": 2}):
        with pytest.raises(AirflowFailException) as caught:
            execute(post(output), **facts)
        assert isinstance(caught.value.__cause__, RedoxAmbiguousOutcomeError)
    assert only_line(output)["outcome"] == "ambiguous"
    assert sandbox.stats()["messages"] == 1


@pytest.mark.parametrize("on_ambiguous", ["fail", "resend"])
def test_one_log_for_two_hospitals_is_ambiguous(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, on_ambiguous: str
):
    """Which hospital has it nobody can tell: the line has the log ID, and nothing waits for one that stands for both."""
    sandbox.fault("body", body={"Meta": {"Logs": [{"ID": "log-1"}]}}, match={"path": "/endpoint"}, times=None)
    both = post(output, destinations=["general", "lakeside"], wait_for_delivery=True, platform_conn_id="redox_default")
    both.on_ambiguous = on_ambiguous
    with pytest.raises(AirflowFailException, match="1 log IDs for 2 destinations"):
        execute(both)
    line = only_line(output)
    assert (line["outcome"], line["log_ids"]) == ("ambiguous", ["log-1"])
    assert len(sandbox.ledger("/endpoint")) == 1


@pytest.mark.parametrize(("status", "outcome"), [(501, "refused"), (505, "refused"), (303, "ambiguous"), (409, "ambiguous")])
def test_a_clear_sends_again_what_was_not_processed(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, status: int, outcome: str
):
    """501 says that nobody did it; 303 names where to look at what was done."""
    sandbox.fault("status", status=status, match={"path": "/endpoint"})
    with pytest.raises(AirflowFailException):
        execute(post(output))
    assert only_line(output)["outcome"] == outcome
    if outcome == "refused":
        assert execute(post(output), try_number=2, max_tries=1)["accepted"] == 1
        return
    with pytest.raises(AirflowFailException):
        execute(post(output), try_number=2, max_tries=1)
    assert len(sandbox.ledger("/endpoint")) == 1


def test_an_answer_that_is_not_whole_is_taken_only_on_request(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
):
    """By default an error that says how to take it; on request the result, a warning, and a count in the manifest."""
    meta = {"DataModel": "PatientSearch", "EventType": "Response", "IsIncomplete": True}
    sandbox.fault("body", body={"Meta": meta, "Patient": {}}, match={"path": "/endpoint"}, times=2)
    with pytest.raises(AirflowFailException, match="on_incomplete='warn'"):
        execute(query(output))
    manifest = execute(query(output, on_incomplete="warn"))
    assert manifest["extension"]["incomplete"] == 1
    assert "is marked as incomplete" in caplog.text
    assert "incomplete" not in execute(query(output))["extension"]


def test_meta_is_completed_and_the_rest_is_the_authors(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """Destinations by name, EventDateTime and Test are filled in; what the author wrote arrives as it was."""
    execute(post(output, destination="lakeside"))
    sent = json.loads(sandbox.ledger("/endpoint")[0]["body"])
    described = sandbox.connection["extra"]["destinations"]["lakeside"]
    assert sent["Meta"]["Destinations"] == [{"ID": described["id"], "Name": "lakeside"}]
    assert sent["Meta"]["Test"] is True
    assert sent["Meta"]["EventDateTime"].endswith("Z")
    assert sent["Patient"] == NEW_PATIENT["Patient"]
    assert "EventDateTime" not in NEW_PATIENT["Meta"]


@pytest.mark.parametrize("kind", ["post", "query"])
def test_an_operators_meta_lies_between_the_connections_and_the_messages(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """What a network wants of one task goes into its `meta`; the message itself has the last word."""
    connection = sandbox.with_extra(meta={"Purpose": "connection", "Network": "connection", "Site": "connection"})
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(connection))
    make, payload = {"post": (post, NEW_PATIENT), "query": (query, FIND_KEVA)}[kind]
    own = {**payload, "Meta": {**payload["Meta"], "Network": "message"}}
    execute(make(output, payload=own, meta={"Purpose": "operator", "Network": "operator"}))
    (entry,) = sandbox.ledger("/endpoint")
    sent = json.loads(entry["body"])["Meta"]
    assert (sent["Site"], sent["Purpose"], sent["Network"]) == ("connection", "operator", "message")


def test_a_destination_and_another_in_meta_contradict_each_other(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """Neither is taken for the author's will."""
    meta = {"Destinations": [{"ID": "af394f14-b34a-464f-8d24-895f370af4c9"}]}
    with pytest.raises(AirflowFailException, match=r"destination: given in the operator and in Meta\.Destinations"):
        execute(post(output, destination="general", meta=meta))
    assert sandbox.ledger("/endpoint") == []


def test_a_meta_that_is_no_mapping_is_named(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """Before anything is sent."""
    with refused("meta: must be a mapping"):
        execute(post(output, meta="Carequality"))
    assert sandbox.ledger("/endpoint") == []


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop", "when": "after"},
        {"kind": "reset", "when": "after"},
        {"kind": "reset_in_body", "when": "after"},
        {"kind": "truncate", "when": "after"},
        {"kind": "html", "when": "after"},
        {"kind": "status", "status": 500, "when": "after"},
        {"kind": "status", "status": 502, "when": "after"},
        {"kind": "status", "status": 504, "when": "after"},
    ],
)
def test_an_unknown_outcome_is_said_and_nothing_is_sent_twice(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, fault: dict[str, Any]
):
    """With the answer lost after the server has committed, the task fails for good and one message arrived."""
    sandbox.fault(match={"path": "/endpoint"}, times=9, **fault)
    with pytest.raises(AirflowFailException) as caught:
        execute(post(output))
    assert isinstance(caught.value.__cause__, RedoxAmbiguousOutcomeError)
    assert len(sandbox.ledger("/endpoint")) == 1
    assert only_line(output)["outcome"] == "ambiguous"


def test_a_result_lies_under_the_destination_of_its_message(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A message that names its own destination has its line there, not under the connection's default."""
    lakeside = sandbox.connection["extra"]["destinations"]["lakeside"]["id"]
    to_lakeside = {**NEW_PATIENT, "Meta": {**NEW_PATIENT["Meta"], "Destinations": [{"ID": lakeside, "Name": "Lakeside"}]}}
    assert "/destination=Lakeside/" in execute(post(output, payload=to_lakeside))["results_url"]


def test_a_partly_accepted_message_keeps_its_log_ids(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A 200 with both log IDs and errors fails, and neither the error nor the line loses the log IDs."""
    body = json.dumps({"Meta": {"Errors": [{"ID": 7, "Module": "Send"}], "Logs": [{"ID": "log-1"}]}})
    sandbox.fault("body", body=body, match={"path": "/endpoint"})
    with pytest.raises(AirflowFailException, match="log-1"):
        execute(post(output))
    assert only_line(output)["log_ids"] == ["log-1"]


def test_a_failure_says_where_its_line_is(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A failed task has no XCom, so its error names the file of the message's line."""
    sandbox.fault("drop", when="after", match={"path": "/endpoint"})
    with pytest.raises(AirflowFailException) as caught:
        execute(post(output))
    assert output in str(caught.value)


def test_a_message_that_could_not_leave_is_unsent(execute: Callable[..., Any], output: str, monkeypatch: pytest.MonkeyPatch):
    """With no server there the line says unsent, and the error may be retried by who cleared the way."""
    connection = {"conn_type": "redox", "host": "http://127.0.0.1", "port": 9, "password": fresh_key()}
    extra = {"client_id": "c", "kid": "k", "destination": "0f4bd1d1-451d-4351-8cfd-b767d1b488d6", "environment": "Staging"}
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps({**connection, "extra": extra}))
    operator = post(output)
    operator.hook.retry = RetryPolicy(attempts=1)
    with pytest.raises(RedoxTransportError):
        execute(operator)
    assert only_line(output)["outcome"] == "unsent"


def fresh_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_a_refused_token_and_a_rate_limit_do_no_harm(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """401 and 429 come before processing: the message is sent again and accepted once."""
    sandbox.fault("status", status=401, match={"path": "/endpoint"}, times=1)
    sandbox.fault("status", status=429, headers={"Retry-After": "0"}, match={"path": "/endpoint"}, times=1)
    assert execute(post(output))["accepted"] == 1
    assert sandbox.stats()["messages"] == 1
    assert len(sandbox.ledger("/endpoint")) == 3


def test_a_refusal_names_codes_and_no_patient(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A 400 with Meta.Errors fails for good with the error's ID and module, and is recorded as refused."""
    with pytest.raises(AirflowFailException) as caught:
        execute(post(output, payload={"Meta": {"DataModel": "PatientAdmin", "EventType": "NoSuchEvent"}, "Patient": {}}))
    assert isinstance(caught.value.__cause__, RedoxResponseError)
    assert "module=DataModels" in str(caught.value)
    assert only_line(output)["outcome"] == "refused"
    assert sandbox.stats()["messages"] == 0


def test_errors_inside_a_200_are_raised(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """HTTP 200 with Meta.Errors is a RedoxDestinationError."""
    body = json.dumps({"Meta": {"Errors": [{"ID": 7, "Text": "Quillfeather unknown", "Module": "Send"}]}})
    sandbox.fault("body", body=body, match={"path": "/endpoint"})
    with pytest.raises(AirflowFailException) as caught:
        execute(post(output))
    assert isinstance(caught.value.__cause__, RedoxDestinationError)
    assert "id=7" in str(caught.value)
    assert "Quillfeather" not in str(caught.value)


@pytest.mark.parametrize("max_tries", [0, 2])
def test_a_try_that_airflow_begins_by_itself_sends_nothing(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, max_tries: int
):
    """After a try that may have sent, neither a mapped task's retry nor a task whose scheduler is gone sends again."""
    sandbox.fault("drop", when="after", match={"path": "/endpoint"})
    with pytest.raises(AirflowFailException):
        execute(post(output))
    with pytest.raises(AirflowFailException) as caught:
        execute(post(output), try_number=2, max_tries=max_tries)
    assert isinstance(caught.value.__cause__, RedoxAmbiguousOutcomeError)
    assert len(sandbox.ledger("/endpoint")) == 1
    assert only_line(output)["outcome"] == "ambiguous"


def test_a_cleared_task_does_not_send_what_was_accepted(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A clear, like a retry, finds that Redox has the message, and gives the earlier outcome."""
    first = execute(post(output))
    assert execute(post(output), try_number=2, max_tries=1) == {**first, "already_sent": 1}
    assert sandbox.stats()["messages"] == 1


def test_a_cleared_task_does_not_send_another_message_either(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A payload that changed after one was accepted is a second message: only the author can want that."""
    execute(post(output))
    with pytest.raises(AirflowFailException, match=r"another message.*resend=True"):
        execute(post(output, payload={**NEW_PATIENT, "Patient": {}}), try_number=2, max_tries=1)
    assert sandbox.stats()["messages"] == 1


@pytest.mark.parametrize("retries", [0, 2])
def test_with_resend_a_cleared_task_sends_again_and_a_retry_does_not(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, retries: int
):
    """`resend=True` is for the first try after a clear, which sets max_tries to the tries before it plus `retries`."""
    execute(post(output, retries=retries), try_number=1, max_tries=retries)
    again = post(output, retries=retries, resend=True)
    assert "already_sent" not in execute(again, try_number=2, max_tries=1 + retries)
    assert sandbox.stats()["messages"] == 2
    assert execute(again, try_number=3, max_tries=1 + retries)["already_sent"] == 1
    assert sandbox.stats()["messages"] == 2


def test_an_open_send_says_what_to_look_for_and_where(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """The error names event, destination, time and a hash, and no patient."""
    sandbox.fault("drop", when="after", match={"path": "/endpoint"})
    for try_number in (1, 2):
        with pytest.raises(AirflowFailException) as caught:
            execute(post(output), try_number=try_number, max_tries=try_number - 1)
        said = str(caught.value)
        destination = sandbox.connection["extra"]["destinations"]["general"]["id"]
        assert all(word in said for word in ("PatientAdmin NewPatient", destination, only_line(output)["hash"], output))
        assert "Quillfeather" not in said
        assert "MRN-7731" not in said


def test_with_resend_on_ambiguous_the_same_bytes_go_again(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """At-least-once on request: within the try and in a later one, with the EventDateTime of the first."""
    sandbox.fault("drop", when="after", match={"path": "/endpoint"}, times=2)
    operator = post(output, on_ambiguous="resend")
    operator.hook.retry = RetryPolicy(attempts=2, base=0.01)
    with pytest.raises(RedoxTransportError):
        execute(operator)
    assert only_line(output)["outcome"] == "ambiguous"
    assert execute(post(output, on_ambiguous="resend"), try_number=2, max_tries=3)["accepted"] == 1
    bodies = {entry["body"] for entry in sandbox.ledger("/endpoint")}
    assert len(sandbox.ledger("/endpoint")) == 3
    assert len(bodies) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [({}, {"environment": "Staging"}), ({"destinations": None, "destination": None}, {})],
    ids=["env", "name"],
)
def test_what_was_accepted_under_another_name_is_not_sent_again(
    execute: Callable[..., Any],
    output: str,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    before: dict[str, Any],
    after: dict[str, Any],
):
    """The line lies below the destination and the environment; a clear finds it also where these have other names now."""
    place = sandbox.connection["extra"]["destinations"]["general"]["id"]
    message = {**NEW_PATIENT, "Meta": {**NEW_PATIENT["Meta"], "Test": True}}
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(sandbox.with_extra(**before)))
    first = execute(post(output, payload=message, destination="general" if after else place))
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(sandbox.with_extra(**after)))
    again = execute(post(output, payload=message, destination="general"), try_number=2, max_tries=1)
    assert (again["already_sent"], again["results_url"]) == (1, first["results_url"])
    assert len(sandbox.ledger("/endpoint")) == 1


@pytest.mark.parametrize("lost", [False, True])
def test_a_partly_accepted_message_is_not_sent_again(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, markers: dict[str, Mark], *, lost: bool
):
    """Where one of several destinations took it, it is open: a later try refuses, also where its line is lost."""
    body = json.dumps({"Meta": {"Errors": [{"ID": 7, "Module": "Send"}], "Logs": [{"ID": "log-1"}]}})
    sandbox.fault("body", body=body, match={"path": "/endpoint"})
    with pytest.raises(AirflowFailException):
        execute(post(output, on_refused="record"))
    assert only_line(output)["outcome"] == "ambiguous"
    if lost:
        shutil.rmtree(output.removeprefix("file://"))
    with pytest.raises(AirflowFailException, match="may have sent"):
        execute(post(output), try_number=2, max_tries=1)
    assert len(sandbox.ledger("/endpoint")) == 1


def test_a_refused_message_may_be_recorded_and_sent_when_it_is_mended(
    execute: Callable[..., Any], output: str, sandbox: Sandbox
):
    """With on_refused="record" the task succeeds and says so; a mended message can be sent by the same task."""
    wrong = {"Meta": {"DataModel": "PatientAdmin", "EventType": "NoSuchEvent"}, "Patient": {}}
    summary = execute(post(output, payload=wrong, on_refused="record"))
    assert (summary["accepted"], summary["refused"], summary["log_ids"]) == (0, 1, [])
    assert execute(post(output), try_number=2, max_tries=1)["accepted"] == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [({"status": 401}, RedoxAuthError), ({"status": 429, "headers": {"Retry-After": "0"}}, RedoxRateLimitError)],
)
def test_a_refused_key_and_a_busy_server_are_no_refusal_of_the_message(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, fault: dict[str, Any], error: type[Exception]
):
    """With on_refused="record" the task fails all the same: the message itself was not looked at."""
    sandbox.fault("status", match={"path": "/endpoint"}, times=2, **fault)
    operator = post(output, on_refused="record")
    operator.hook.retry = RetryPolicy(attempts=2, base=0.01)
    with pytest.raises((AirflowFailException, error)) as caught:
        execute(operator)
    assert isinstance(caught.value.__cause__ or caught.value, error)
    assert execute(post(output), try_number=2, max_tries=2)["accepted"] == 1


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 500}, {"kind": "drop"}, {"kind": "html"}])
def test_a_message_that_got_no_token_is_unsent(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, fault: dict[str, Any]
):
    """The token endpoint's silence is not the message's: nothing left, and a later try sends."""
    sandbox.fault(match={"path": "/auth/token"}, times=2, **fault)
    operator = post(output)
    operator.hook.retry = RetryPolicy(attempts=2, base=0.01)
    with pytest.raises((RedoxTransportError, RedoxServerError, RedoxProtocolError)):
        execute(operator)
    assert only_line(output)["outcome"] == "unsent"
    assert execute(post(output), try_number=2, max_tries=2)["accepted"] == 1


def test_an_upload_whose_answer_was_lost_leaves_nothing_open(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, tmp_path: Path
):
    """A message whose file could not be uploaded has not left: a later try sends it."""
    scan = tmp_path / "scan.pdf"
    scan.write_bytes(b"%PDF-1.7")
    media = {"Meta": {"DataModel": "Media", "EventType": "New"}, "Media": {"FileContents": {"$upload": str(scan)}}}
    sandbox.fault("drop", when="after", match={"path": "/upload"}, times=2)
    operator = post(output, payload=media)
    operator.hook.retry = RetryPolicy(attempts=2, base=0.01)
    with pytest.raises(RedoxTransportError) as caught:
        execute(operator)
    assert "the message itself was not sent" in " ".join(caught.value.__notes__)
    assert execute(post(output, payload=media), try_number=2, max_tries=2)["accepted"] == 1
    assert sandbox.stats()["messages"] == 1


def test_a_messages_file_arrives_as_its_uri(execute: Callable[..., Any], output: str, sandbox: Sandbox, tmp_path: Path):
    """`{"$upload": "path"}` in a payload is uploaded once and replaced; the line of the message names no file."""
    scan = tmp_path / "quillfeather.pdf"
    scan.write_bytes(b"%PDF-1.7")
    upload = {"$upload": str(scan)}
    media = {"Meta": {"DataModel": "Media", "EventType": "New"}, "Media": {"FileContents": upload, "Copy": upload}}
    execute(post(output, payload=media))
    (arrived,) = sandbox.control("GET", "messages")
    assert arrived["body"]["Media"]["FileContents"] == arrived["body"]["Media"]["Copy"]
    assert arrived["body"]["Media"]["FileContents"].startswith(f"{sandbox.url}/blob/")
    assert sandbox.stats()["uploads"] == 1
    assert "quillfeather" not in json.dumps([arrived, only_line(output)])


@pytest.mark.parametrize("upload", [{"$upload": "/no/such/file"}, {"$upload": 7}, {"$upload": "/x", "y": 1}])
def test_a_file_that_cannot_be_uploaded_stops_its_message(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, upload: dict[str, Any]
):
    """A file that is gone is named by its place in the message, and no message leaves."""
    media = {"Meta": {"DataModel": "Media", "EventType": "New"}, "Media": {"FileContents": upload}}
    with pytest.raises(AirflowFailException) as caught:
        execute(post(output, payload=media))
    assert isinstance(caught.value.__cause__, RedoxConfigError)
    assert sandbox.ledger("/endpoint") == sandbox.ledger("/upload") == []


@needs_models
@pytest.mark.parametrize("mode", ["strict", "lenient"])
def test_a_message_that_is_not_of_its_model_is_not_sent(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, mode: str
):
    """`validate` on the post operator names each problem by its path, with no value and nothing sent or written."""
    wrong = {**NEW_PATIENT, "Patient": {"Identifiers": [{"ID": "MRN-7731"}]}}
    with pytest.raises(AirflowFailException, match=r"Patient\.Identifiers\[0\]\.IDType is missing") as caught:
        execute(post(output, payload=wrong, validate=mode))
    assert "MRN-7731" not in str(caught.value)
    assert sandbox.ledger() == []
    assert not Path(output.removeprefix("file://")).exists()


@needs_models
def test_a_checked_message_is_sent_as_the_author_wrote_it(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """The models rewrite what they parse; what arrives is the author's own."""
    execute(post(output, payload={**NEW_PATIENT, "Extra": [{"Of": "Mine"}]}, validate="lenient"))
    (arrived,) = sandbox.control("GET", "messages")
    assert {name: arrived["body"][name] for name in ("Patient", "Extra")} == {
        "Patient": NEW_PATIENT["Patient"],
        "Extra": [{"Of": "Mine"}],
    }


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 503, "headers": {"Retry-After": "0"}}])
def test_an_outage_is_no_storm(execute: Callable[..., Any], output: str, sandbox: Sandbox, fault: dict[str, Any]):
    """All posts of a process share 20 retries: after that each is tried once, until some come to a good end."""
    sandbox.fault(match={"path": "/endpoint"}, times=None, **fault)
    for number in range(8):
        operator = post(f"{output}/{number}")
        operator.hook.retry = RetryPolicy(attempts=5, base=0.001)
        with pytest.raises(RedoxServerError):
            execute(operator)
    assert len(sandbox.ledger("/endpoint")) == 8 + 20
    sandbox.control("DELETE", "faults")
    for number in range(6):
        execute(post(f"{output}/good-{number}"))
    sandbox.fault(match={"path": "/endpoint"}, times=1, **fault)
    again = post(f"{output}/again")
    again.hook.retry = RetryPolicy(attempts=5, base=0.001)
    assert execute(again)["accepted"] == 1


def test_several_destinations_get_a_log_each(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A message to two destinations is one request with two log IDs."""
    summary = execute(post(output, destinations=["general", "lakeside"]))
    assert len(summary["log_ids"]) == 2
    assert len(sandbox.ledger("/endpoint")) == 1


def test_a_try_that_was_only_queued_is_none(execute: Callable[..., Any], output: str):
    """Without a line of an earlier try nothing was sent, so a second try sends."""
    assert execute(post(output), try_number=2, max_tries=0)["accepted"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"payload": {"Patient": {}}}, "Meta"),
        ({"payload": {"Meta": {"EventType": "New"}}}, "Meta.DataModel"),
        ({"payload": "text"}, "payload"),
        ({"payload": {"Meta": {**NEW_PATIENT["Meta"], "Test": False}}}, "Meta.Test"),
        ({"destination": "no such place"}, "destination"),
        ({"environment": "production"}, "environment"),
        ({"payload": {"Meta": NEW_PATIENT["Meta"], "x": object()}}, "payload"),
    ],
)
def test_bad_messages_are_named_before_anything_is_sent(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, arguments: dict[str, Any], words: str
):
    """A message that cannot be right is a RedoxConfigError, with no request sent and no record made."""
    with refused(words):
        execute(post(output, **arguments))
    assert sandbox.ledger() == []
    assert not Path(output.removeprefix("file://")).exists()


def test_a_place_that_cannot_be_written_is_found_before_sending(
    execute: Callable[..., Any], sandbox: Sandbox, tmp_path: Path
):
    """The record is written before the message leaves, so that storage which fails costs no message."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        execute(post(f"file://{tmp_path}/file/below"))
    assert sandbox.ledger("/endpoint") == []


def test_an_answer_goes_to_storage(execute: Callable[..., Any], output: str):
    """A query's answer is one line of NDJSON in storage; XCom gets its place, count and log IDs."""
    manifest = execute(query(output))
    (entry,) = manifest["output"]
    answer = json.loads(Path(entry["url"].removeprefix("file://")).read_text())
    assert answer["Patient"]["Demographics"]["LastName"] == "Green"
    assert "Green" not in json.dumps(manifest)
    assert len(manifest["extension"]["log_ids"]) == 1


@pytest.mark.parametrize("fault", [{"kind": "drop"}, {"kind": "status", "status": 500}, {"kind": "html"}])
def test_a_question_is_asked_again(execute: Callable[..., Any], output: str, sandbox: Sandbox, fault: dict[str, Any]):
    """A query may be repeated, so a fault that passes is healed."""
    sandbox.fault(match={"path": "/endpoint"}, times=1, **fault)
    assert execute(query(output))["output"]
    assert len(sandbox.ledger("/endpoint")) == 2


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (NEW_PATIENT, "not a known query"),
        ({**FIND_KEVA, "Meta": {**FIND_KEVA["Meta"], "Destinations": [{"ID": "a"}, {"ID": "b"}]}}, "one destination"),
    ],
)
def test_what_is_no_question_is_refused(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, payload: dict[str, Any], words: str
):
    """The query operator sends no notification, and no query to two destinations."""
    with pytest.raises(AirflowFailException, match=words):
        execute(query(output, payload=payload))
    assert sandbox.ledger("/endpoint") == []


@needs_models
@pytest.mark.parametrize("mode", ["strict", "lenient"])
def test_a_question_that_is_checked_arrives_as_the_author_wrote_it(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, mode: str
):
    """The models rewrite what they parse, so they only look: numbers stay numbers, nulls stay."""
    demographics = {"FirstName": "Keva", "LastName": "Green", "DOB": "1995-08-26", "SSN": None, "MiddleName": 7}
    execute(query(output, payload={**FIND_KEVA, "Patient": {"Demographics": demographics}}, validate=mode))
    sent = json.loads(sandbox.ledger("/endpoint")[0]["body"])
    assert sent["Patient"]["Demographics"] == demographics


@needs_models
def test_a_question_that_is_wrong_is_not_asked(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """The error has the path and no value, and nothing was sent."""
    wrong = {**FIND_KEVA, "Patient": {"Demographics": {"LastName": ["Quillfeather"]}}}
    with pytest.raises(AirflowFailException, match=r"Patient\.Demographics\.LastName must be text") as caught:
        execute(query(output, payload=wrong, validate="lenient"))
    assert "Quillfeather" not in str(caught.value)
    assert sandbox.ledger() == []


def test_a_check_that_is_not_known_is_refused(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A misspelt mode is no mode."""
    with refused("validate: must be one of off, lenient, strict; did you mean strict?"):
        execute(query(output, validate="Strict"))
    assert sandbox.ledger() == []
