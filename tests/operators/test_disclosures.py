"""The record of disclosures: who was shown whom, in files that only compliance reads, and never after the fact."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import logging
import re
import shutil
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from airflow.providers.common.compat import sdk
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.exceptions import RedoxAuditError, RedoxConfigError, RedoxResponseError
from airflow_provider_redox.hooks.redox import RedoxAsyncHook, RedoxHook
from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator, RedoxDataModelQueryOperator
from airflow_provider_redox.operators.documents import RedoxDocumentDownloadOperator
from airflow_provider_redox.operators.fhir import (
    RedoxFhirReadOperator,
    RedoxFhirSearchOperator,
    RedoxFhirWritebackOperator,
)
from airflow_provider_redox.operators.request import RedoxRequestOperator
from airflow_provider_redox.operators.upload import RedoxUploadOperator
from airflow_provider_redox.sensors.fhir import RedoxFhirSearchSensor
from airflow_provider_redox.storage.reading import parse_manifest
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox
from tests.support.worker import Worker

KEVA = "81c2f5eb-f99f-40c4-b504-59483e6148d7"
GREEN = {"family": "Green", "given": "Keva", "birthdate": "1995-08-26"}
DIABETICS = {"code": "4548-4", "_count": "20"}
MESSAGE = {
    "Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"},
    "Patient": {"Identifiers": [{"ID": "mrn-77", "IDType": "MR"}], "Demographics": {"LastName": "Zyxwvu"}},
}
QUESTION = {
    "Meta": {"DataModel": "PatientSearch", "EventType": "Query"},
    "Patient": {"Demographics": {"FirstName": "Keva", "LastName": "Green", "DOB": "1995-08-26"}},
}

Execute = Callable[..., Any]


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redox_connection: Sandbox, markers: Any) -> Path:
    """A place for the record, and why patients' data are used."""
    connection = redox_connection.with_extra(purpose_of_use="TREAT")
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__REDOX__AUDIT_PATH", str(tmp_path / "audit"))
    monkeypatch.setenv("AIRFLOW__REDOX__OUTPUT_ROOT", str(tmp_path / "results"))
    return tmp_path / "audit"


def written(audit: Path) -> list[dict[str, Any]]:
    """Every event of the record, in the order in which it was written."""
    files = sorted(audit.rglob("*.ndjson"), key=lambda path: path.stat().st_mtime_ns)
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def person(event: dict[str, Any]) -> str | None:
    """Whom an event is about."""
    for entity in event["entity"]:
        if entity.get("role", {}).get("code") == "1":
            what = entity["what"]
            return what.get("reference") or what["identifier"]["value"]
    return None


def people(audit: Path) -> set[str]:
    return {one for event in written(audit) if (one := person(event)) is not None}


def job(event: dict[str, Any]) -> dict[str, str]:
    """What an event says of the task."""
    (entity,) = (one for one in event["entity"] if one.get("role", {}).get("code") == "20")
    return {detail["type"]: detail["valueString"] for detail in entity["detail"]}


def kind(event: dict[str, Any]) -> tuple[str, str | None]:
    return event["subtype"][0]["code"], event.get("outcome")


def close(folder: Path) -> None:
    """Let nobody write there, not even root: a file stands where the folder would."""
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("")


def test_every_patient_of_a_result_is_on_record(execute: Execute, audit: Path, redox_connection: Sandbox) -> None:
    """A search writes an event for each patient that its resources are of, whatever the page, and for no other."""
    manifest = execute(RedoxFhirSearchOperator(task_id="labs", resource_type="Observation", search_params=DIABETICS))
    lines = [json.loads(line) for _, line in parse_manifest(manifest).resources(None)]
    base = f"{redox_connection.url}/fhir/R4/general-hospital/Development"
    found = [person(event) for event in written(audit)]
    assert len(lines) > 40  # pages
    assert sorted(found) == sorted({f"{base}/{line['subject']['reference']}" for line in lines})
    assert {kind(event) for event in written(audit)} == {("search-type", "0")}


def test_an_event_tells_who_asked_what_and_why(execute: Execute, audit: Path, redox_connection: Sandbox) -> None:
    """Client and key, the server, the destination, the parameters' names, the purpose, the trace ID; no value."""
    execute(RedoxFhirSearchOperator(task_id="one", resource_type="Patient", search_params=GREEN))
    event = written(audit)[0]
    client, server, user = event["agent"]
    assert client["who"]["identifier"]["value"] == redox_connection.connection["extra"]["client_id"]
    assert client["altId"] == RedoxHook().client.settings.kid
    assert server["network"]["address"] == f"{redox_connection.url}/fhir/R4/general-hospital/Development"
    assert user["purposeOfUse"] == event["purposeOfEvent"]
    assert event["purposeOfEvent"][0]["coding"][0]["code"] == "TREAT"
    (query,) = (one for one in event["entity"] if one.get("role", {}).get("code") == "24")
    assert query["description"] == "Patient?birthdate&family&given"
    assert re.fullmatch(
        r"Patient(?:[?&](?:birthdate|family|given)=[0-9a-f]{32}){3}", base64.b64decode(query["query"]).decode()
    )
    traces = [one for one in event["entity"] if one.get("name") == "Redox trace IDs"]
    answered = {entry["trace_id"] for entry in redox_connection.ledger("_search")}
    assert {detail["valueString"] for one in traces for detail in one["detail"]} == answered
    assert "Green" not in json.dumps(event)


def test_the_same_question_has_the_same_hash(execute: Execute, audit: Path) -> None:
    """So that who asked for somebody can be found by who may ask again; another connection's key makes other hashes."""
    for name in ("a", "b"):
        execute(RedoxFhirSearchOperator(task_id=name, resource_type="Patient", search_params=GREEN))
    queries = [one["query"] for event in written(audit) for one in event["entity"] if "query" in one]
    assert len(set(queries)) == 1


def test_events_are_fhir(execute: Execute, audit: Path) -> None:
    """Every event is an AuditEvent of FHIR R4 by a model that is not ours, and one of success claims IHE's pattern."""
    AuditEvent = pytest.importorskip("fhir.resources.R4B.auditevent").AuditEvent  # noqa: N806
    execute(RedoxFhirSearchOperator(task_id="s", resource_type="Observation", search_params=DIABETICS))
    execute(RedoxDataModelPostOperator(task_id="p", payload=MESSAGE))
    with pytest.raises((RedoxResponseError, AirflowFailException)):
        execute(RedoxFhirReadOperator(task_id="r", resource_type="Patient", resource_id="nobody"))
    events = written(audit)
    for event in events:
        assert AuditEvent.model_validate(event).outcome == event.get("outcome")
    profiles = {(*kind(event), *event.get("meta", {}).get("profile", ())) for event in events}
    pattern = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
    assert profiles == {
        ("search-type", "0", f"{pattern}PatientQuery"),
        ("create", None),
        ("create", "0", f"{pattern}PatientCreate"),
        ("read", "4"),
    }


def test_a_sending_is_on_record_before_it_leaves(execute: Execute, audit: Path, redox_connection: Sandbox) -> None:
    """A post is announced, then told with its outcome and its log IDs; both name the patient, and belong together."""
    told = execute(RedoxDataModelPostOperator(task_id="p", payload=MESSAGE))
    announced, done = written(audit)
    assert (kind(announced), kind(done)) == (("create", None), ("create", "0"))
    assert person(announced) == person(done) == "mrn-77"
    assert job(announced)["announced"] == job(done)["announced"]
    (logs,) = (one for one in done["entity"] if one.get("name") == "Redox log IDs")
    assert [detail["valueString"] for detail in logs["detail"]] == told["log_ids"]


def test_a_sending_that_never_leaves_is_on_record_with_its_outcome(
    execute: Execute, audit: Path, redox_connection: Sandbox, tmp_path: Path
) -> None:
    """Its file is refused when it is uploaded: what was announced is told to have failed."""
    (tmp_path / "scan").write_text("a file")
    redox_connection.fault("status", status=413, match={"path": "/upload"})
    payload = {**MESSAGE, "Document": {"FileContents": {"$upload": str(tmp_path / "scan")}}}
    with pytest.raises(AirflowFailException):
        execute(RedoxDataModelPostOperator(task_id="p", payload=payload))
    announced, failed = (event for event in written(audit) if person(event) == "mrn-77")
    assert (kind(announced), kind(failed)) == (("create", None), ("create", "4"))
    assert job(announced)["announced"] == job(failed)["announced"]
    assert redox_connection.messages() == []


def test_what_the_logs_find_is_on_record(
    execute: Execute, audit: Path, redox_connection: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer was lost, and the logs show that the message arrived: the record says so, with the log's ID."""
    redox_connection.fault("reset", match={"path": "/endpoint"}, when="after")
    told = execute(
        RedoxDataModelPostOperator(task_id="p", payload=MESSAGE, on_ambiguous="reconcile", platform_conn_id="redox_default")
    )
    assert told["accepted"] == 1
    last = written(audit)[-1]
    assert kind(last) == ("create", "0")
    (logs,) = (one for one in last["entity"] if one.get("name") == "Redox log IDs")
    assert [detail["valueString"] for detail in logs["detail"]] == told["log_ids"]


def test_every_way_is_on_record(execute: Execute, audit: Path, redox_connection: Sandbox, tmp_path: Path) -> None:
    """Searches, reads, queries, downloads, posts, files of messages, writebacks, uploads and any request leave a record."""
    patient = KEVA
    (tmp_path / "file").write_text("a file")
    (tmp_path / "messages.ndjson").write_text("".join(json.dumps({**MESSAGE, "Visit": {"n": n}}) + "\n" for n in range(3)))
    note = {"resourceType": "Observation", "status": "final", "subject": {"reference": f"Patient/{patient}"}}
    bundle = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": note}]}
    path = f"fhir/R4/general-hospital/Development/Patient/{patient}"
    documents = execute(
        RedoxFhirSearchOperator(task_id="d", resource_type="DocumentReference", search_params={"patient": patient})
    )
    ways: dict[str, tuple[Any, set[tuple[str, str | None]]]] = {
        "read": (RedoxFhirReadOperator(task_id="r", resource_type="Patient", resource_id=patient), {("read", "0")}),
        "query": (RedoxDataModelQueryOperator(task_id="q", payload=QUESTION), {("search-type", "0")}),
        "download": (RedoxDocumentDownloadOperator(task_id="l", manifest=documents), {("read", "0")}),
        "post": (RedoxDataModelPostOperator(task_id="p", payload=MESSAGE), {("create", None), ("create", "0")}),
        "batch": (
            RedoxDataModelPostOperator(task_id="b", payload_path=str(tmp_path / "messages.ndjson")),
            {("create", None), ("create", "0")},
        ),
        "writeback": (
            RedoxFhirWritebackOperator(
                task_id="w", resource_type="Observation", operation="$observation-create", bundle=bundle
            ),
            {("create", None), ("create", "0")},
        ),
        "upload": (RedoxUploadOperator(task_id="u", path=str(tmp_path / "file")), {("create", None), ("create", "0")}),
        "get": (RedoxRequestOperator(task_id="g", method="GET", path=path), {("read", "0")}),
    }
    for name, (operator, expected) in ways.items():
        before = len(written(audit))
        execute(operator)
        events = written(audit)[before:]
        assert {kind(event) for event in events} == expected, name
        named = {person(event) for event in events}
        assert (named == {None}) == (name in ("upload",)), (name, named)
        assert all("Zyxwvu" not in json.dumps(event) for event in events)


@pytest.mark.parametrize("way", ["search", "query", "read"])
def test_no_record_no_result(execute: Execute, audit: Path, tmp_path: Path, way: str, redox_connection: Sandbox) -> None:
    """What has to be on record and cannot be leaves nothing visible; a next try that can write does not lose it."""
    operators: dict[str, Any] = {
        "search": RedoxFhirSearchOperator(task_id="s", resource_type="Observation", search_params=DIABETICS, retries=1),
        "query": RedoxDataModelQueryOperator(task_id="s", payload=QUESTION),
        "read": RedoxFhirReadOperator(task_id="s", resource_type="Patient", resource_id=KEVA),
    }
    close(audit)
    with pytest.raises(RedoxAuditError, match=r"audit_path") as raised:
        execute(operators[way])
    assert raised.value.retryable
    visible = [path for path in (tmp_path / "results").rglob("*") if path.is_file() and "staged" not in path.parts]
    assert [path.name for path in visible if path.name != "checkpoint" and path.parent.name != "tries"] == []
    asked = len(redox_connection.ledger())
    audit.unlink()
    assert execute(operators[way])["output"]
    assert people(audit) != set()
    if way == "search":
        assert len(redox_connection.ledger()) == asked  # nothing was asked for again


@pytest.mark.parametrize("batch", [False, True])
def test_no_record_nothing_leaves(
    execute: Execute,
    audit: Path,
    tmp_path: Path,
    redox_connection: Sandbox,
    batch: bool,  # noqa: FBT001
) -> None:
    """A message that has to be on record and cannot be is not sent, and is by the next try."""
    (tmp_path / "messages.ndjson").write_text(json.dumps(MESSAGE) + "\n")
    what: dict[str, Any] = {"payload_path": str(tmp_path / "messages.ndjson")} if batch else {"payload": MESSAGE}
    close(audit)
    with pytest.raises(RedoxAuditError, match=r"Nothing was sent.*audit_path"):
        execute(RedoxDataModelPostOperator(task_id="p", **what))
    assert redox_connection.control("GET", "messages") == []
    audit.unlink()
    assert execute(RedoxDataModelPostOperator(task_id="p", **what))["accepted"] == 1
    assert len(redox_connection.control("GET", "messages")) == 1


def test_the_outcome_may_be_missing(
    execute: Execute, audit: Path, redox_connection: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that was sent stays sent when its outcome cannot be recorded: the log says so; its announcement stands."""
    redox_connection.fault("delay", seconds=1.0, match={"path": "/endpoint"})

    def closes() -> None:
        while not list(audit.rglob("*.ndjson")):
            time.sleep(0.01)
        audit.rename(audit.with_name("moved"))
        close(audit)

    closing = threading.Thread(target=closes)
    closing.start()
    assert execute(RedoxDataModelPostOperator(task_id="p", payload=MESSAGE))["accepted"] == 1
    closing.join()
    assert "could not be put on record" in caplog.text
    assert [kind(event) for event in written(audit.with_name("moved"))] == [("create", None)]


def test_best_effort_goes_on(
    execute: Execute, audit: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With best_effort what cannot be recorded is told in the log, and done."""
    monkeypatch.setenv("AIRFLOW__REDOX__AUDIT", "best_effort")
    close(audit)
    operator = RedoxFhirSearchOperator(task_id="s", resource_type="Observation", search_params=DIABETICS)
    assert execute(operator)["output"]
    assert "could not be put on record" in caplog.text


def test_an_author_may_be_stricter_and_not_laxer(execute: Execute, audit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`audit=` cannot undo what the deployment asks for; it can ask for more."""
    where: dict[str, Any] = {"task_id": "s", "resource_type": "Patient", "search_params": GREEN}
    for level in ("off", "best_effort"):
        with pytest.raises(AirflowFailException, match=rf"audit: '{level}' is less than \[redox\] audit"):
            execute(RedoxFhirSearchOperator(audit=level, **where))
    with refused("audit: must be one of required, best_effort, off"):
        execute(RedoxFhirSearchOperator(audit="always", **where))
    monkeypatch.setenv("AIRFLOW__REDOX__AUDIT", "off")
    execute(RedoxFhirSearchOperator(**where))
    assert not audit.exists()
    execute(RedoxFhirSearchOperator(audit="required", **where))
    assert audit.exists()
    monkeypatch.delenv("AIRFLOW__REDOX__AUDIT_PATH")
    with pytest.raises(AirflowFailException, match=r"set \[redox\] audit_path"):
        execute(RedoxFhirSearchOperator(audit="required", **where))


@pytest.mark.parametrize("kept", [True, False])
def test_the_log_has_the_event_without_patients(
    execute: Execute,
    audit: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kept: bool,  # noqa: FBT001
) -> None:
    """The logger `airflow_provider_redox.audit` has one event for each disclosure, kept or not, and no patient in it."""
    if not kept:
        monkeypatch.delenv("AIRFLOW__REDOX__AUDIT_PATH")
    caplog.set_level(logging.INFO if kept else logging.DEBUG, "airflow_provider_redox.audit")
    execute(RedoxFhirSearchOperator(task_id="s", resource_type="Observation", search_params=DIABETICS))
    execute(RedoxDataModelPostOperator(task_id="p", payload=MESSAGE))
    told = [record.getMessage() for record in caplog.records if record.name == "airflow_provider_redox.audit"]
    events = [json.loads(line) for line in told]
    assert [kind(event) for event in events] == [("search-type", "0"), ("create", None), ("create", "0")]
    assert all(person(event) is None for event in events)
    assert all("Patient/" not in line and "mrn-77" not in line for line in told)
    assert audit.exists() == kept


def test_hooks_keep_the_record_too(audit: Path, redox_connection: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """What a task of one's own does with a hook is on record, blocking and awaiting alike, page by page."""
    patient = KEVA
    hook = RedoxHook()
    seen = {one["subject"]["reference"] for one in hook.fhir_search("Observation", DIABETICS)}
    hook.fhir_read("Patient", patient)
    hook.post_data_model(MESSAGE)
    hook.query_data_model(QUESTION)
    hook.upload(b"bytes")
    hook.request("GET", f"fhir/R4/general-hospital/Development/Patient/{patient}")
    blocking = [(kind(event), person(event)) for event in written(audit)]
    assert {one.rpartition("Development/")[2] for _, one in blocking if one} >= {*seen, f"Patient/{patient}", "mrn-77"}
    shutil.rmtree(audit)

    async def awaited() -> None:
        async with RedoxAsyncHook() as other:
            async for _ in other.fhir_search("Observation", DIABETICS):
                pass
            await other.fhir_read("Patient", patient)
            await other.post_data_model(MESSAGE)
            await other.query_data_model(QUESTION)
            await other.upload(b"bytes")
            await other.request("GET", f"fhir/R4/general-hospital/Development/Patient/{patient}")

    asyncio.run(awaited())
    assert [(kind(event), person(event)) for event in written(audit)] == blocking


def test_a_page_that_cannot_be_recorded_is_not_given(audit: Path, redox_connection: Sandbox) -> None:
    """A hook's search gives nothing of a page before the page is on record."""
    close(audit)
    found = RedoxHook().fhir_search("Observation", DIABETICS)
    with pytest.raises(RedoxAuditError):
        next(found)


def test_a_search_that_fails_is_on_record_with_whom_it_saw(execute: Execute, audit: Path, redox_connection: Sandbox) -> None:
    """What was received before a search failed is disclosed all the same."""
    redox_connection.fault("status", status=400, match={"path": "Observation"}, skip=2, times=None)
    with pytest.raises((AirflowFailException, RedoxResponseError)):
        execute(RedoxFhirSearchOperator(task_id="s", resource_type="Observation", search_params=DIABETICS))
    assert {kind(event) for event in written(audit)} == {("search-type", "4")}
    assert people(audit) != set()


def test_a_sensor_is_on_record(execute: Execute, audit: Path) -> None:
    """Waiting for a patient's result asks for it: the beginning and the end are on record."""
    sensor = RedoxFhirSearchSensor(task_id="w", resource_type="Observation", search_params={"code": "4548-4"})
    execute(sensor)
    assert {kind(event) for event in written(audit)} == {("search-type", "0")}


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_wait_is_on_record_once_and_not_at_each_look(
    audit: Path, redox_connection: Sandbox, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """In mode reschedule each look is a new process; begun and ended are two records, however often it asks between."""

    def look(code: str, try_number: int = 1) -> bool:
        """Look as a new process does."""
        params = {"code": code}
        sensor = RedoxFhirSearchSensor(task_id="w", resource_type="Observation", search_params=params, mode=mode)
        ti = SimpleNamespace(dag_id="wait", run_id="r", task_id="w", map_index=-1, try_number=try_number)
        monkeypatch.setattr(sdk, "get_current_context", lambda: {"ti": ti})
        return bool(sensor.poke({"ti": ti}).is_done)

    assert [look("of-nobody") for _ in range(5)] == [False] * 5
    assert len(records(audit)) == 1
    assert len(redox_connection.ledger("Observation")) == 5
    look("of-nobody-else")  # what is asked is another question, which a template may make of it
    assert len(records(audit)) == 2
    look("of-nobody", try_number=2)
    assert len(records(audit)) == 3
    assert look("4548-4")
    assert len(records(audit)) == 5  # it began, and it ended
    assert {event["entity"][0]["role"]["code"] for event in written(audit)} == {"24"}


def records(audit: Path) -> list[str]:
    return sorted(path.name for path in audit.rglob("*.ndjson"))


def test_files_of_the_record_are_for_their_owner(execute: Execute, audit: Path) -> None:
    """The record names patients: nobody else on the machine reads it; no name of a file tells one."""
    execute(RedoxDataModelPostOperator(task_id="p", payload=MESSAGE))
    files = [path for path in audit.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in audit.rglob("*") if path.is_dir()} == {0o700}
    assert not any("mrn" in str(path) for path in files)


def test_a_wrong_purpose_is_refused(redox_connection: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """`extra.purpose_of_use` is a code of HL7's."""
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(redox_connection.with_extra(purpose_of_use="because")))
    with pytest.raises(RedoxConfigError, match=r"extra\.purpose_of_use: .*TREAT"):
        RedoxHook().client  # noqa: B018


def test_a_wrong_place_is_named(audit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit_path that cannot be is told by its own name."""
    for place, said in (("nowhere", "must be an absolute path"), ("s4://x", "no driver")):
        monkeypatch.setenv("AIRFLOW__REDOX__AUDIT_PATH", place)
        with pytest.raises(RedoxConfigError, match=rf"^\[redox\] audit_path: {said}"):
            RedoxHook().client  # noqa: B018


@pytest.fixture
def store_that_hangs() -> Iterator[tuple[str, threading.Event]]:
    """A store that takes a connection and never answers, and what tells that somebody came."""
    came = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        kept: list[socket.socket] = []

        def take() -> None:
            try:
                while True:
                    kept.append(server.accept()[0])
                    came.set()
            except OSError:
                return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", came
        for one in kept:
            one.close()


def test_killed_between_result_and_record(
    audit: Path, redox_connection: Sandbox, tmp_path: Path, store_that_hangs: tuple[str, threading.Event], monkeypatch: Any
) -> None:
    """Killed when the result is whole and the record is being written: neither is visible, and a next try brings both."""
    pytest.importorskip("s3fs", reason="no S3 driver is installed in this environment")
    url, came = store_that_hangs
    hanging = json.dumps(
        {"conn_type": "aws", "login": "a", "password": "b", "extra": {"endpoint_url": url, "region_name": "us-east-1"}}
    )
    results = tmp_path / "results"
    arguments = {"pages": 2, "resource_type": "Observation", "search_params": DIABETICS, "output_path": f"file://{results}"}
    connections = {"redox_default": json.dumps(redox_connection.with_extra(purpose_of_use="TREAT")), "hanging": hanging}
    monkeypatch.setenv("AIRFLOW__REDOX__AUDIT_PATH", "s3://hanging@audit/record")
    worker = Worker("search", connections, **arguments)
    if not came.wait(120):
        pytest.fail(worker.kill())
    asked = len(redox_connection.ledger("Observation"))
    worker.kill()
    staged = [path for path in results.rglob("*") if path.is_file()]
    assert [path for path in staged if path.name == "manifest.json" or "type=Observation" in str(path)] == []
    monkeypatch.setenv("AIRFLOW__REDOX__AUDIT_PATH", str(audit))
    told = Worker("search", connections, **arguments).end()["returned"]
    lines = [msgspec.json.decode(line) for _, line in parse_manifest(told).resources(None)]
    named = {one.rpartition("Development/")[2] for one in people(audit)}
    assert named == {line["subject"]["reference"] for line in lines}
    again = redox_connection.ledger("Observation")[asked:]
    assert len(again) < asked  # what was there already is in the record, though it was not asked for again


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_what_a_killed_try_had_received_is_on_record(
    execute: Execute, audit: Path, redox_connection: Sandbox, monkeypatch: pytest.MonkeyPatch, compression: str | None
) -> None:
    """Its successor asks something else, and discards what was written: the patients are on record before it is removed."""
    from airflow_provider_redox.operators.pulls import drain
    from airflow_provider_redox.storage.results import Results

    class KilledError(BaseException):
        """What the kernel does, as far as a test in one process can do it."""

    monkeypatch.setattr(drain, "PAGES_OF_A_PART", 2)
    pages = iter(range(4))
    with monkeypatch.context() as dying:

        def write_page(*arguments: Any, real: Callable[..., Any] = Results.write_page) -> None:
            real(*arguments)
            if next(pages) == 2:
                raise KilledError

        dying.setattr(Results, "write_page", write_page)

        def closed(results: Results, *_: object) -> None:  # as the kernel does
            for part in results._open.values():
                part.abandon()
            assert results._checkpoint is not None
            results._checkpoint.close()

        dying.setattr(Results, "__exit__", closed)
        dying.setattr(RedoxHook().client.__class__, "on_record", lambda *_: contextlib.nullcontext())
        search = {"task_id": "s", "resource_type": "Observation", "compression": compression}
        with pytest.raises(KilledError):
            execute(RedoxFhirSearchOperator(search_params=DIABETICS, **search))
    assert not audit.exists()
    staged = list((audit.parent / "results").rglob("staged/*/s.Observation*"))
    content = b"".join(gzip.decompress(one.read_bytes()) if compression else one.read_bytes() for one in staged)
    received = set(re.findall(rb'"subject":{"reference":"Patient/([^"]+)', content))
    assert len(received) > 5
    execute(RedoxFhirSearchOperator(search_params={"_id": "no-such"}, **search))
    assert {one.rpartition("/")[2].encode() for one in people(audit)} == received
    assert not list((audit.parent / "results").rglob("staged/*"))


@pytest.mark.parametrize("ended", [TimeoutError, SystemExit, OSError])
def test_what_ends_a_task_is_on_record(
    execute: Execute, audit: Path, monkeypatch: pytest.MonkeyPatch, ended: type[BaseException]
) -> None:
    """A task that is stopped from outside, or whose disk is full, has seen what it saw: that is recorded as failed."""
    from airflow_provider_redox.storage.results import Results

    def full(*_: Any, **__: Any) -> None:
        raise ended

    monkeypatch.setattr(Results, "write_page", full)
    with pytest.raises(ended):
        execute(RedoxFhirSearchOperator(task_id="s", resource_type="Observation", search_params=DIABETICS))
    assert {kind(event) for event in written(audit)} == {("search-type", "8")}
    assert people(audit) != set()


def test_what_an_answer_names_is_on_record(audit: Path, redox_connection: Sandbox) -> None:
    """A write's answer may hold patients that were not sent, and a Bundle that is read those that only it names."""
    whole = {"resourceType": "Patient", "id": "777"}
    answer = {"resourceType": "Bundle", "type": "document", "id": "b", "entry": [{"resource": whole}]}
    for path in ("/Bundle/b", r"\$observation-create"):
        redox_connection.fault("status", status=200, body=json.dumps(answer), match={"path": path})
    hook = RedoxHook()
    hook.fhir_read("Bundle", "b")
    assert [one.rpartition("/")[2] for one in people(audit)] == ["777"]
    shutil.rmtree(audit)
    note = {"resourceType": "Observation", "status": "final"}
    hook.fhir_writeback(
        "Observation", "$observation-create", {"resourceType": "Bundle", "type": "message", "entry": [{"resource": note}]}
    )
    assert [one.rpartition("/")[2] for one in people(audit)] == ["777"]


def test_a_record_of_production_is_encrypted(audit: Path, redox_connection: Sandbox) -> None:
    """Also where only the call says that it is Production: a place in clear holds no record of it, and nothing is given."""
    with pytest.raises(RedoxAuditError, match=r"audit_path: name an encrypted bucket"):
        RedoxHook().fhir_read("Patient", KEVA, environment="Production")
    assert not audit.exists()


def test_a_wait_begins_when_it_is_on_record(execute: Execute, audit: Path, redox_connection: Sandbox) -> None:
    """A sensor that pokes asks nothing before."""
    close(audit)
    with pytest.raises(RedoxAuditError):
        execute(RedoxFhirSearchSensor(task_id="w", resource_type="Observation", search_params={"code": "4548-4"}))
    assert redox_connection.ledger("Observation") == []
