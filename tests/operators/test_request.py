"""Any request: what may be repeated is, what may not never is, and the body of the answer lies in storage only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.exceptions import (
    RedoxAmbiguousOutcomeError,
    RedoxConfigError,
    RedoxError,
    RedoxResponseError,
    RedoxSecurityError,
    RedoxServerError,
    RedoxTransportError,
)
from airflow_provider_redox.operators.request import RedoxRequestOperator
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from airflow_provider_redox.storage.send_marker import Mark
from tests.client.drivers import connection_to, with_token
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox
from tests.support.wire import Wire, answers, breaks_after, http

BASE = "fhir/R4/general-hospital/Development"
SEARCH = {
    "method": "POST",
    "path": f"{BASE}/Patient/_search",
    "form": {"family": "Green", "given": "Keva", "birthdate": "1995-08-26"},
}
MESSAGE = {
    "Meta": {
        "DataModel": "PatientAdmin",
        "EventType": "NewPatient",
        "Destinations": [{"ID": "0f4bd1d1-451d-4351-8cfd-b767d1b488d6"}],
    },
    "Patient": {"Identifiers": [], "Demographics": {"LastName": "Quillfeather"}},
}
POST = {"method": "POST", "path": "endpoint", "json": MESSAGE}
QUICK = RetryPolicy(attempts=3, base=0.01, cap=0.02)


def operator(output: str, **arguments: Any) -> RedoxRequestOperator:
    made = RedoxRequestOperator(task_id="ask", **{"output_path": output, **arguments})
    made.hook.retry = QUICK
    return made


def stored(summary: dict[str, Any]) -> bytes:
    return Path(summary["results_url"].removeprefix("file://")).read_bytes()


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[Wire], None]:
    """Let `redox_default` point at a server of the test's own, with a token at hand."""

    def point(wire: Wire) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(with_token(connection_to(wire.url))))

    return point


def test_the_body_lies_in_storage(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """XCom gets status, trace ID and a URL; the body, byte for byte, is what the URL names."""
    summary = execute(operator(output, **SEARCH))
    (sent,) = sandbox.ledger("/_search")
    assert (summary["status"], summary["trace_id"]) == (200, sent["trace_id"])
    assert json.loads(stored(summary))["entry"][0]["resource"]["name"][0]["family"] == "Green"
    assert set(summary) == {"status", "trace_id", "results_url"}
    assert summary["results_url"].endswith("/ask.Response.00000.json")


@pytest.mark.parametrize(
    ("body", "kind", "suffix"),
    [(b"%PDF\x00\xff", "application/pdf", ".bin"), (b'{"a": 1.10}', "application/fhir+json; charset=utf-8", ".json")],
)
def test_any_body_is_kept_as_it_came(
    execute: Callable[..., Any], at: Callable[[Wire], None], output: str, body: bytes, kind: str, suffix: str
):
    """JSON is called so, everything else is bytes."""
    with Wire(answers(http(body, kind=kind))) as wire:
        at(wire)
        summary = execute(operator(output, method="GET", path="documents/1"))
    assert stored(summary) == body
    assert summary["results_url"].endswith(suffix)


def test_an_answer_without_a_body_has_no_url(execute: Callable[..., Any], at: Callable[[Wire], None], output: str):
    """A 204 leaves no file, and takes away that of an earlier try."""
    with Wire(answers(http(b"{}"))) as wire:
        at(wire)
        execute(operator(output, method="DELETE", path="x/1", idempotent=True))
    with Wire(answers(http(b"", status="204 No Content"))) as wire:
        at(wire)
        assert execute(operator(output, method="DELETE", path="x/1", idempotent=True))["results_url"] is None
    assert [path for path in Path(output.removeprefix("file://")).rglob("*") if path.is_file()] == []


def test_a_trace_id_that_is_a_sentence_is_none(execute: Callable[..., Any], at: Callable[[Wire], None], output: str):
    """What a server sends as trace ID goes into XCom only in the form of one."""
    with Wire(answers(http(b"{}", Redox_Trace_Id="Quillfeather was here"))) as wire:
        at(wire)
        assert execute(operator(output, method="GET", path="x"))["trace_id"] is None


def test_query_headers_and_json_go_out(execute: Callable[..., Any], at: Callable[[Wire], None], output: str):
    """What the author gives is sent as the hook's `request` sends it."""
    with Wire() as wire:
        at(wire)
        execute(
            operator(
                output, method="PATCH", path="x/1", query_params={"a": [1, 2]}, headers={"If-Match": '"3"'}, json={"b": 1}
            )
        )
        assert wire.requests[0].startswith(b"PATCH /x/1?a=1&a=2 HTTP/1.1\r\n")
        assert b'\r\nif-match: "3"\r\n' in wire.requests[0].lower()
        assert wire.requests[0].endswith(b'{"b":1}')


REPEATED: list[dict[str, Any]] = [
    {"method": "GET", "path": "x"},
    {"method": "get", "path": "x", "retries": 3},
    {"method": "HEAD", "path": "x"},
    {"method": "POST", "path": "fhir/R4/{{ var.value.slug }}/Staging/Patient/_search"},
    {"method": "PUT", "path": "x/1", "json": {}, "idempotent": True},
    {"method": "DELETE", "path": "x/1", "idempotent": True},
]
ONCE: list[dict[str, Any]] = [
    POST,
    {"method": "POST", "path": "x", "json": {}},
    {"method": "PUT", "path": "x/1", "json": {}},
    {"method": "PATCH", "path": "x/1", "json": {}},
    {"method": "DELETE", "path": "x/1"},
    {"method": "POST", "path": "endpoint?x=/_search", "json": MESSAGE},
    {"method": "GET", "path": "x", "idempotent": False},
    {"method": "POST", "path": "x/_search", "form": {"_id": "1"}, "idempotent": False},
]


@pytest.mark.parametrize("arguments", [*REPEATED, *ONCE], ids=str)
def test_airflows_retries_may_be_used(arguments: dict[str, Any]):
    """The task's retries stay, as a later try knows what an earlier one did."""
    made = RedoxRequestOperator(task_id="ask", default_args={"retries": 3}, **arguments)
    assert made.retries == 3


@pytest.mark.parametrize(
    "arguments", [one for one in REPEATED if "{{" not in one["path"] and one["method"] != "HEAD"], ids=str
)
def test_what_may_be_repeated_is(
    execute: Callable[..., Any], at: Callable[[Wire], None], output: str, arguments: dict[str, Any]
):
    """A broken connection is healed within the task."""
    with Wire(breaks_after(), answers()) as wire:
        at(wire)
        assert execute(operator(output, **arguments))["status"] == 200
        assert len(wire.requests) == 2


@pytest.mark.parametrize("arguments", ONCE, ids=str)
def test_what_may_not_be_repeated_is_sent_once(
    execute: Callable[..., Any], at: Callable[[Wire], None], output: str, arguments: dict[str, Any]
):
    """A broken connection after the request is an unknown outcome, and Airflow does not try again."""
    with Wire(breaks_after(), answers()) as wire:
        at(wire)
        with pytest.raises(AirflowFailException) as caught:
            execute(operator(output, **arguments))
        assert isinstance(caught.value.__cause__, RedoxAmbiguousOutcomeError)
        assert len(wire.requests) == 1


@pytest.mark.parametrize("fault", [{"kind": "drop", "when": "after"}, {"kind": "status", "status": 502, "when": "after"}])
def test_a_message_whose_answer_is_lost_arrived_once(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, fault: dict[str, Any]
):
    """Judged by the server: one message, however often Airflow begins the task again by itself."""
    sandbox.fault(match={"path": "/endpoint"}, times=9, **fault)
    for facts in ({}, {"try_number": 2, "max_tries": 0}, {"try_number": 3, "max_tries": 5}):
        with pytest.raises(AirflowFailException) as caught:
            execute(operator(output, **POST), **facts)
        assert isinstance(caught.value.__cause__, RedoxAmbiguousOutcomeError)
    assert sandbox.stats()["messages"] == 1


def test_what_was_done_is_not_sent_again(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A clear gives the earlier answer, and a clear with another request is an error."""
    first = execute(operator(output, **POST))
    assert execute(operator(output, **POST), try_number=2, max_tries=1) == {**first, "already_sent": 1}
    changed = {**POST, "json": {**MESSAGE, "Patient": {}}}
    with pytest.raises(AirflowFailException, match="another request"):
        execute(operator(output, **changed), try_number=3, max_tries=2)
    assert sandbox.stats()["messages"] == 1


def test_a_clear_sends_again_only_if_it_says_so(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """`resend=True` counts for the first try after a clear, and not for those that Airflow begins by itself."""
    sandbox.fault("drop", when="after", match={"path": "/endpoint"})
    for arguments, facts in (
        ({}, {}),
        ({}, {"try_number": 2, "max_tries": 1}),
        ({"resend": True}, {"try_number": 2, "max_tries": 4}),
    ):
        with pytest.raises(AirflowFailException):
            execute(operator(output, **POST, **arguments), **facts)
    assert sandbox.stats()["messages"] == 1
    assert execute(operator(output, **POST, resend=True), try_number=2, max_tries=1)["status"] == 200
    assert sandbox.stats()["messages"] == 2


def test_what_nobody_knows_is_sent_again_if_the_author_says_so(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """`on_ambiguous="resend"`: at least once instead of at most once, within the try and in a later one."""
    sandbox.fault("drop", when="after", match={"path": "/endpoint"}, times=4)
    with pytest.raises((AirflowFailException, RedoxTransportError)):
        execute(operator(output, **POST, on_ambiguous="resend"))
    assert execute(operator(output, **POST, on_ambiguous="resend"), try_number=2, max_tries=1)["status"] == 200
    assert sandbox.stats()["messages"] == 5


def test_a_worker_whose_disk_is_gone_leaves_a_marker(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, markers: dict[str, Mark]
):
    """What was accepted, and what is open, is known from the database alone."""
    execute(operator(output, **POST))
    assert [mark.status for mark in markers.values()] == ["accepted"]
    shutil.rmtree(output.removeprefix("file://"))
    assert execute(operator(output, **POST))["already_sent"] == 1
    assert sandbox.stats()["messages"] == 1
    markers.clear()
    sandbox.fault("drop", when="after", match={"path": "/endpoint"})
    for _ in range(2):
        with pytest.raises(AirflowFailException, match=r"Nothing was sent now|no answer came"):
            execute(operator(output, **POST))
        assert [mark.status for mark in markers.values()] == ["sending"]
        shutil.rmtree(output.removeprefix("file://"), ignore_errors=True)
    assert sandbox.stats()["messages"] == 2


@pytest.mark.usefixtures("shared_disk")
def test_storage_that_outlives_the_worker_needs_no_marker(
    execute: Callable[..., Any], output: str, markers: dict[str, Mark]
):
    """The line says what was accepted; nothing stays in the database."""
    execute(operator(output, **POST))
    assert markers == {}


def test_a_question_is_asked_again_in_a_second_try(execute: Callable[..., Any], output: str):
    """What may be repeated is, by Airflow too."""
    assert execute(operator(output, **SEARCH), try_number=2, max_tries=5)["status"] == 200


def test_an_error_status_is_an_error(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """What no retry heals fails for good; what one may heal is left to Airflow."""
    with pytest.raises(AirflowFailException) as caught:
        execute(operator(output, method="GET", path=f"{BASE}/Patient/none"))
    assert isinstance(caught.value.__cause__, RedoxResponseError)
    sandbox.fault("status", status=503, match={"path": "/Patient/"}, times=9)
    with pytest.raises(RedoxServerError):
        execute(operator(output, method="GET", path=f"{BASE}/Patient/none"))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"method": "GET", "path": ""}, RedoxConfigError),
        ({"method": "GET", "path": "/"}, RedoxConfigError),
        ({"method": "GET", "path": None}, RedoxConfigError),
        ({"method": "BREW", "path": "x"}, RedoxConfigError),
        ({"method": "GET", "path": "https://elsewhere.example/x"}, RedoxSecurityError),
        ({"method": "GET", "path": "../x"}, RedoxSecurityError),
        ({"method": "POST", "path": "x", "json": {}, "form": {}}, RedoxConfigError),
        ({"method": "POST", "path": "x", "json": {}, "on_ambiguous": "reconcile"}, RedoxConfigError),
        ({"method": "POST", "path": "x", "json": {"x": object()}}, RedoxConfigError),
        ({"method": "POST", "path": "x", "headers": {"Authorization": "x"}}, RedoxConfigError),
        ({"method": "GET", "path": "x", "query_params": {"a": None}}, RedoxConfigError),
    ],
    ids=str,
)
def test_bad_requests_are_named_before_anything_is_sent(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, arguments: dict[str, Any], error: type[RedoxError]
):
    """A request that cannot be right fails for good, with nothing sent and nothing written."""
    with refused(error=error):
        execute(operator(output, **arguments))
    assert sandbox.ledger() == []
    assert not Path(output.removeprefix("file://")).exists()


def test_a_place_that_cannot_be_written_is_found_before_sending(
    execute: Callable[..., Any], sandbox: Sandbox, tmp_path: Path
):
    """A store that fails costs no message."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        execute(operator(f"file://{tmp_path}/file/below", **POST))
    assert sandbox.ledger("/endpoint") == []


def test_a_store_that_fails_later_does_not_fail_what_was_done(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """The message is accepted, so the task succeeds and says that it has no body; a question would be asked again."""
    from airflow_provider_redox.storage.files import Files

    real = Files.write

    def full(self: Files, url: str, content: bytes) -> None:
        if "/type=Response/" in url:
            raise OSError("no space left on device")
        real(self, url, content)

    monkeypatch.setattr(Files, "write", full)
    assert execute(operator(output, **POST))["results_url"] is None
    with pytest.raises(OSError, match="no space"):
        execute(operator(output, **SEARCH))


def test_contents_are_templated_and_yet_no_template_fields(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """Path, query, form, json and data are rendered on the worker; Airflow stores template fields, so they are none."""
    made = operator(
        output, method="POST", path="{{ ti.task_id }}/1", query_params={"q": "{{ ti.dag_id }}"}, data="{{ ti.run_id }}"
    )
    with pytest.raises(AirflowFailException):
        execute(made)
    (sent,) = sandbox.ledger("/ask/1")
    assert (sent["query"], sent["body"]) == ("q=pull", "manual__2026-11-23T10:00:00+00:00")
    assert not {"path", "query_params", "form", "json", "data"} & set(RedoxRequestOperator.template_fields)
