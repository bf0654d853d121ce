"""Writing FHIR resources back: the header is built, the Bundle arrives once, the answer lies in storage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError, RedoxDestinationError
from airflow_provider_redox.operators.fhir_writeback import RedoxFhirWritebackOperator
from airflow_provider_redox.storage.send_marker import Mark
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox

KEVA = "81c2f5eb-f99f-40c4-b504-59483e6148d7"
OBSERVATION = {
    "resourceType": "Observation",
    "id": "o1",
    "status": "final",
    "subject": {"reference": f"Patient/{KEVA}"},
    "code": {"coding": [{"system": "http://loinc.org", "code": "59408-5"}]},
}
BUNDLE = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": OBSERVATION}]}
SOURCE = "7ce6f387-c33c-417d-8682-81e83628cbd9"


def operator(output: str, **arguments: Any) -> RedoxFhirWritebackOperator:
    known = {"resource_type": "Observation", "operation": "$observation-create", "output_path": output}
    bundle = {} if "bundle_path" in arguments else {"bundle": BUNDLE}
    return RedoxFhirWritebackOperator(task_id="write", **{**known, **bundle, **arguments})


def sent(sandbox: Sandbox) -> list[dict[str, Any]]:
    return [json.loads(entry["body"]) for entry in sandbox.ledger("/$observation-create")]


def test_a_bundle_without_a_header_is_written(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """The header names event, source, destination and focus, and the server takes the message."""
    sandbox.settings(source_id=SOURCE)
    sandbox_connection = sandbox.with_extra(source_id=SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(sandbox_connection))
        summary = execute(operator(output))
    header = sent(sandbox)[0]["entry"][0]["resource"]
    assert header["eventUri"].endswith("/ObservationCreate")
    assert header["source"]["endpoint"] == f"urn:uuid:{SOURCE}"
    assert header["destination"][0]["name"] == "general"
    assert header["focus"] == [{"reference": "Observation/o1"}]
    assert set(summary) == {"status", "trace_id", "results_url"}
    answer = json.loads(Path(summary["results_url"].removeprefix("file://")).read_text())
    assert answer["entry"][0]["resource"]["response"]["identifier"] == header["id"]
    assert "/type=FhirWriteback/" in summary["results_url"]


def test_the_authors_header_arrives_as_it_is(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """What the author wrote is sent, byte for byte in its meaning."""
    header = {"resourceType": "MessageHeader", "id": "m", "eventUri": "urn:own", "source": {"endpoint": "urn:own"}}
    own = {**BUNDLE, "entry": [{"resource": header}, *BUNDLE["entry"]]}
    execute(operator(output, bundle=own))
    assert sent(sandbox) == [own]


def test_a_resend_has_the_same_bytes(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """The same task instance makes the same message of the same Bundle; another Bundle is another message."""
    execute(operator(output))
    execute(operator(output, resend=True), try_number=2, max_tries=1)
    changed = {**BUNDLE, "entry": [{"resource": {**OBSERVATION, "status": "amended"}}]}
    execute(operator(output, bundle=changed, resend=True), try_number=3, max_tries=2)
    first, again, other = (entry["body"] for entry in sandbox.ledger("/$observation-create"))
    assert first == again
    ids = {json.loads(body)["entry"][0]["resource"]["id"] for body in (first, other)}
    assert len(ids) == 2


@pytest.mark.parametrize("with_type", [True, False])
def test_a_bundle_in_storage_is_sent_as_its_text(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, tmp_path: Path, *, with_type: bool
):
    """Digits, exponents, escapes, order and spaces are the file's; a MessageHeader and a type are put in where they lack."""
    odd = '"status": "final", "note": "{{ ti.dag_id }} \\u00fc", "value": [1.10, 1E-05, 1e5, -0, 1e400]'
    text = json.dumps({name: part for name, part in BUNDLE.items() if with_type or name != "type"}, indent=1)
    text = text.replace('"status": "final"', odd)
    (tmp_path / "bundle.json").write_text(text)
    execute(operator(output, bundle_path=f"file://{tmp_path}/bundle.json"))
    (body,) = [entry["body"] for entry in sandbox.ledger("/$observation-create")]
    before, after = text.split('"entry": [')
    assert body.startswith(f'{before}"entry": [{{"fullUrl":"urn:uuid:')
    assert body.endswith(after if with_type else f'{after.removesuffix("}").rstrip()},"type":"message"\n}}')
    assert odd in body


def test_a_bundle_is_templated_and_yet_no_template_field(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """It is rendered on the worker; Airflow stores template fields, so it is none."""
    templated = {**BUNDLE, "entry": [{"resource": {**OBSERVATION, "note": "{{ ti.dag_id }}"}}]}
    execute(operator(output, bundle=templated))
    assert sent(sandbox)[0]["entry"][1]["resource"]["note"] == "pull"
    assert "bundle" not in RedoxFhirWritebackOperator.template_fields
    assert "bundle_path" in RedoxFhirWritebackOperator.template_fields


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop", "when": "after"},
        {"kind": "reset", "when": "after"},
        {"kind": "truncate", "when": "after"},
        {"kind": "html", "when": "after"},
        {"kind": "status", "status": 500, "when": "after"},
        {"kind": "status", "status": 504, "when": "after"},
    ],
    ids=str,
)
def test_an_unknown_outcome_is_said_and_written_once(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, fault: dict[str, Any]
):
    """With the answer lost the task fails for good, and no try of Airflow's own sends again."""
    sandbox.fault(match={"path": "observation-create"}, times=9, **fault)
    for facts in ({}, {"try_number": 2, "max_tries": 0}, {"try_number": 2, "max_tries": 4}):
        with pytest.raises(AirflowFailException) as caught:
            execute(operator(output), **facts)
        assert isinstance(caught.value.__cause__, RedoxAmbiguousOutcomeError)
    assert sandbox.stats()["messages"] == 1


def test_what_was_written_is_not_written_again(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A clear gives the earlier answer, body and all; retries may be used."""
    first = execute(operator(output, retries=3))
    again = execute(operator(output, retries=3), try_number=2, max_tries=4)
    assert again == {**first, "already_sent": 1}
    assert Path(first["results_url"].removeprefix("file://")).exists()
    assert len(sent(sandbox)) == 1


def test_a_clear_writes_again_only_if_it_says_so(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """What may have been written is not written by a retry nor by a clear, but by one with `resend=True`."""
    sandbox.fault("drop", when="after", match={"path": "observation-create"})
    for facts in ({}, {"try_number": 2, "max_tries": 0}, {"try_number": 2, "max_tries": 1}):
        with pytest.raises(AirflowFailException):
            execute(operator(output), **facts)
    assert sandbox.stats()["messages"] == 1
    assert execute(operator(output, resend=True), try_number=2, max_tries=1)["status"] == 200
    assert sandbox.stats()["messages"] == 2


def test_a_worker_whose_disk_is_gone_leaves_a_marker(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, markers: dict[str, Mark]
):
    """A writeback that is open is known from the database alone."""
    sandbox.fault("drop", when="after", match={"path": "observation-create"})
    for _ in range(2):
        with pytest.raises(AirflowFailException):
            execute(operator(output))
        shutil.rmtree(output.removeprefix("file://"), ignore_errors=True)
    assert [mark.status for mark in markers.values()] == ["sending"]
    assert sandbox.stats()["messages"] == 1


def test_a_failure_inside_a_200_is_an_error(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """An OperationOutcome of severity error is no success, and its text stays out of the message."""
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "invalid", "diagnostics": "Quillfeather"}],
    }
    sandbox.fault("body", body=json.dumps(outcome), match={"path": "observation-create"})
    with pytest.raises(AirflowFailException) as caught:
        execute(operator(output))
    assert isinstance(caught.value.__cause__, RedoxDestinationError)
    assert "Quillfeather" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"bundle": None}, "bundle, bundle_path: give one"),
        ({"bundle": BUNDLE, "bundle_path": "/x"}, "bundle, bundle_path: give one"),
        ({"bundle_path": "/no/such/file"}, "bundle_path: there is no file"),
        ({"bundle_path": "relative"}, "bundle_path: must be an absolute path"),
        ({"bundle": {}}, "bundle: is empty"),
        ({"bundle": "text"}, "bundle: must be one message Bundle"),
        ({"bundle": {**BUNDLE, "type": "transaction"}}, "bundle: its type"),
        ({"bundle": {**BUNDLE, "x": object()}}, "bundle: /x: an object of the type object, which cannot be sent"),
        ({"bundle": {**BUNDLE, "x": b"1"}}, "bundle: /x: bytes, which cannot be sent"),
        ({"resource_type": "observation"}, "did you mean Observation?"),
        ({"operation": "$write"}, "put a MessageHeader"),
        ({"operation": "../x"}, "put a MessageHeader"),
        ({"on_ambiguous": "reconcile"}, "on_ambiguous: must be one of fail, resend"),
        ({"destination": "no such place"}, "destination"),
        ({"environment": "production"}, "environment"),
        ({"headers": {"Host": "x"}}, "headers"),
    ],
    ids=str,
)
def test_bad_writebacks_are_named_before_anything_is_sent(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, arguments: dict[str, Any], words: str
):
    """What cannot be right is a RedoxConfigError, with no request sent and nothing written."""
    with refused(words):
        execute(operator(output, **arguments))
    assert sandbox.ledger() == []
    assert not Path(output.removeprefix("file://")).exists()


def test_a_place_that_cannot_be_written_is_found_before_sending(
    execute: Callable[..., Any], sandbox: Sandbox, tmp_path: Path
):
    """A store that fails costs no writeback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        execute(operator(f"file://{tmp_path}/file/below"))
    assert sandbox.ledger("observation-create") == []
