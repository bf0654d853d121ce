"""Nothing secret and no patient is left behind: in no log at DEBUG, no table of the metadata database, no page, no file.

Every operator runs, and fails in every way that the sandbox knows, through Airflow. Each place through which a patient or
a secret can enter has a value of its own, so that a leak says where it came from. New operators, sensors and triggers join
by a task in `canaries/canaries.py`.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from local_airflow import AirflowApiError, LocalAirflow

from airflow_provider_redox.storage.holdings import Selection
from airflow_provider_redox.storage.purging import Purge
from tests.support.database import rows
from tests.support.leftovers import Leftovers
from tests.support.receiver import OTHER_TOKEN, TOKEN, ReceiverProcess, message
from tests.support.run_dags import run_dags
from tests.support.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "canaries"
CANARY = "Zyxwvu"
GATEWAY_KEY = "Qponml-gateway-key-in-a-header"
"""A secret that a connection may have: a header for a gateway, in `extra.headers`."""

REFUSAL = {
    "resourceType": "OperationOutcome",
    "issue": [
        {
            "severity": "error",
            "code": f"{CANARY}code",
            "diagnostics": f"no {CANARY}diagnostics",
            "details": {"text": f"{CANARY}details", "coding": [{"code": f"{CANARY} coding", "display": f"{CANARY}display"}]},
            "expression": [f"Patient.name.where(family='{CANARY}expression')"],
        }
    ],
}
META_ERROR = {"ID": 1, "Text": f"{CANARY}text is unknown", "Type": f"{CANARY} type", "Module": f"{CANARY} module"}
FOREIGN = {"resourceType": "Bundle", "type": "searchset", "link": [{"relation": "next", "url": f"https://{CANARY}host/x"}]}
SAID = {
    "Redox-Trace-Id": f"{CANARY} trace",
    "X-RateLimit-Limit": f"{CANARY} limit",
    "Content-Type": f"text/{CANARY}; a={CANARY}",
}

FAULTS: dict[str, dict[str, Any]] = {
    "drop": {"kind": "drop", "when": "after"},
    "reset": {"kind": "reset", "when": "after"},
    "reset_in_body": {"kind": "reset_in_body"},
    "truncate": {"kind": "truncate"},
    "wrong_length": {"kind": "wrong_length"},
    "html": {"kind": "html", "when": "after"},
    "garbage": {"kind": "garbage", "when": "after"},
    "redirect": {"kind": "redirect", "location": f"https://{CANARY}redirect/x"},
    "gzip_bomb": {"kind": "gzip_bomb", "size": 100_000_000},
    "outcome": {"kind": "outcome", "text": f"{CANARY}outcome", "when": "after"},
    "refused": {"kind": "status", "status": 400, "body": json.dumps({"Meta": {"Errors": [META_ERROR]}})},
    "unable": {"kind": "status", "status": 500, "body": f"{CANARY}unable", "headers": SAID},
    "errors_in_a_200": {"kind": "body", "body": json.dumps({"Meta": {"Errors": [META_ERROR]}})},
    "text_in_a_200": {"kind": "body", "body": f"{CANARY}plain", "headers": SAID},
    "log_id_that_talks": {"kind": "body", "body": json.dumps({"Meta": {"Logs": [{"ID": f"{CANARY} log"}], "Errors": "x"}})},
    "raw": {"kind": "raw", "body": f"HTTP/1.1 200 {CANARY}reason\r\n{CANARY}header\r\n\r\n{CANARY}raw"},
}
"""What happens to the message of the task `fault_...`, by its name."""

FINE = {"canary_fine": "success"}
FAILING = {"canary_failing": "failed"}
KEPT = {"airflow.cfg"}
"""Files that hold a secret on purpose: Airflow's own keys."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The author's own files, which hold patients: read by the tasks alone."""
    folder = tmp_path_factory.mktemp("canary")
    (folder / "name").write_text(CANARY)
    rows = [{"mrn": f"{CANARY}row{n}", "family": f"{CANARY}family{n}", "given": "A", "born": "1990-01-01"} for n in range(3)]
    (folder / "cohort.ndjson").write_text("\n".join(map(json.dumps, rows)))
    meta = {"DataModel": "PatientAdmin", "EventType": "NewPatient"}
    messages = [{"Meta": meta, "Patient": {"Name": f"{CANARY}line{number}"}} for number in range(5)]
    (folder / "messages.ndjson").write_text("\n".join(map(json.dumps, messages)))
    note = {"resourceType": "Observation", "status": "final", "note": [{"text": f"{CANARY}file"}]}
    (folder / "bundle.json").write_text(
        json.dumps({"resourceType": "Bundle", "type": "message", "entry": [{"resource": note}]})
    )
    (folder / "upload.txt").write_text(f"{CANARY}upload")
    return folder


@pytest.fixture(scope="module")
def received(files: Path) -> str:
    """What a receiver said at DEBUG while it took two messages, and was attacked by who names a patient everywhere."""
    receiver = ReceiverProcess.start(files / "inbox", LOG_LEVEL="debug", MAX_BYTES="100000")
    for log_id in ("7ce6f387-c33c-417d-8682-81e83628cbd9", "8ce6f387-c33c-417d-8682-81e83628cbd9"):
        pushed = {**message(log_id), "Patient": {"Name": f"{CANARY}pushed"}}
        assert receiver.push(pushed, **{"X-Note": f"{CANARY}header"}).status_code == 200
    answers = [
        receiver.push(message(), token=f"{CANARY}token"),
        receiver.push(message(), feed=f"{CANARY}feed"),
        receiver.push(message(), feed=f"results?name={CANARY}query"),
        receiver.push(f"{CANARY}garbage".encode()),
        receiver.push({"Meta": {"DataModel": f"{CANARY}model", "Logs": [{"ID": f"{CANARY}/../log"}]}}),
        receiver.push(CANARY.encode() * 20_000),
        receiver.push(message(), **{"Content-Encoding": f"{CANARY}coding"}),
        requests.delete(f"{receiver.url}/results", headers={"verification-token": f"{CANARY}token"}, timeout=60),
        requests.get(f"{receiver.url}/results?challenge={CANARY}challenge", timeout=60),
    ]
    for answer in answers:
        assert CANARY not in answer.text
    said = receiver.stop()
    assert {str(answer.status_code) for answer in answers} >= {"401", "404", "400", "413", "405"}
    return said


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    """A sandbox with a fault for each task that is to meet one."""
    sandbox = Sandbox.start("--population", "20")
    for name, fault in FAULTS.items():
        sandbox.fault(**fault, match={"path": "/endpoint", "body": f"fault_{name}\\W"}, times=None)
    status = {"kind": "status", "times": None}
    sandbox.fault(**status, status=400, body=json.dumps(REFUSAL), match={"path": "/Patient/", "body": "unknown"})
    refused = json.dumps({"Meta": {"Errors": [META_ERROR]}})
    sandbox.fault(**status, status=400, body=refused, match={"path": "/endpoint", "body": "post_refused"})
    sandbox.fault(**status, status=400, body=refused, match={"path": "/endpoint", "body": "line3"})
    sandbox.fault("body", body=json.dumps(FOREIGN), match={"path": "/Patient/_search", "body": "_count=1"}, times=None)
    sandbox.fault("body", body=json.dumps(held()), match={"path": "/DocumentReference/_search"}, times=None)
    sandbox.fault("status", status=503, headers={"Retry-After": "0"}, match={"path": "/Patient/_search"}, times=1)
    yield sandbox
    sandbox.stop()


def held() -> dict[str, Any]:
    """A page with a document that its resource holds itself, and one that is not to be had."""
    inline = {"contentType": "text/plain", "title": f"{CANARY}title", "data": base64.b64encode(CANARY.encode()).decode()}
    document = {
        "resourceType": "DocumentReference",
        "id": "held",
        "status": "current",
        "subject": {"reference": f"Patient/{CANARY}holder", "display": f"{CANARY}display"},
        "content": [{"attachment": inline}, {"attachment": {"url": "Binary/gone", "title": f"{CANARY}gone"}}],
    }
    return {"resourceType": "Bundle", "type": "searchset", "total": 1, "entry": [{"resource": document}]}


def connection_of(server: Sandbox) -> dict[str, Any]:
    return server.with_extra(headers={"x-gateway-key": GATEWAY_KEY}, meta={"Note": f"{CANARY}meta"})


LINEAGE = importlib.util.find_spec("airflow.providers.openlineage") is not None


def environment(home: Path, files: Path) -> dict[str, str]:
    """What Airflow and the workers are told. Where OpenLineage's provider is installed its events are written to a file."""
    events = {"type": "file", "log_file_path": str(home / "lineage.ndjson"), "append": True}
    return {
        **({"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(events)} if LINEAGE else {}),
        "CANARY_FILE": str(files / "name"),
        "CANARY_FOLDER": str(files),
        "CANARY_FAULTS": json.dumps(list(FAULTS)),
        "CANARY_LEDGER": str(home.parent / "results" / "ledger"),
        "CANARY_INBOX": str(files / "inbox" / "results"),
        "AIRFLOW__REDOX__AUDIT_PATH": str(home.parent / "audit"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "AIRFLOW__REDOX__OUTPUT_ROOT": f"file://{home.parent}/results",
    }


def left_by_dags_test(home: Path, server: Sandbox, files: Path, *dag_ids: str) -> tuple[dict[str, str], Leftovers]:
    """Run DAGs by `airflow dags test`."""
    connection = {"AIRFLOW_CONN_REDOX_DEFAULT": json.dumps(connection_of(server))}
    ended, printed = run_dags(home, FOLDER, list(dag_ids), **connection, **environment(home, files))
    # Airflow's in-process supervisor, which only `dags test` has, logs at DEBUG every secret that it is asked to mask, the
    # password of each connection included, and each connection as it came. Not ours to mend; the slow suite looks at real
    # task processes.
    lines = [line for line in printed.splitlines() if "msg=MaskSecret(" not in line]
    return ended, Leftovers([home, home.parent / "results"], server, kept=KEPT, printed="\n".join(lines))


def left_by_airflow(home: Path, server: Sandbox, files: Path, monkeypatch: pytest.MonkeyPatch) -> Leftovers:
    """Run the DAGs in a real Airflow: scheduler, triggerer, api-server, the connection in the metadata database."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with LocalAirflow(home, FOLDER, port, env=environment(home, files)) as airflow:
        airflow.add_connection("redox_default", connection_of(server))
        airflow.wait_for_dags()
        runs = {dag_id: airflow.trigger(dag_id, run_id="canary") for dag_id in (*FINE, *FAILING)}
        ended = {dag_id: airflow.wait(dag_id, run_id, timeout=400) for dag_id, run_id in runs.items()}
        pages = {f"page {path}": text for path, text in pages_of(airflow, runs)}
    assert set(ended.values()) <= {"success", "failed"}
    return Leftovers([home], server, kept=KEPT, **pages)


def pages_of(airflow: LocalAirflow, runs: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Give what the API shows of the runs, which is what the pages of the UI are made of."""
    for dag_id, run_id in runs.items():
        tasks = airflow.task_instances(dag_id, run_id)
        yield dag_id, json.dumps(tasks)
        yield f"{dag_id}/xcoms", json.dumps(airflow.xcoms(dag_id, run_id))
        for path in (f"/dags/{dag_id}/details", f"/dags/{dag_id}/tasks", f"/dags/{dag_id}/dagRuns/{run_id}"):
            yield path, json.dumps(airflow.request("GET", path))
        for one in tasks:
            path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{one['task_id']}"
            yield f"{path}/log", str(airflow.task_log(dag_id, run_id, one["task_id"]))
            for more in ("/tries", "/links", "/dependencies"):
                yield path + more, told(airflow, path + more)
    for path in ("/variables", "/eventLogs", "/assets/events", "/importErrors", "/xcomEntries", "/jobs"):
        yield path, told(airflow, path)


def told(airflow: LocalAirflow, path: str) -> str:
    """Give a page, or the words with which there is none."""
    try:
        return json.dumps(airflow.request("GET", path))
    except AirflowApiError as error:
        return str(error)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("dags test", marks=pytest.mark.airflow_run),
        pytest.param("airflow", marks=[pytest.mark.airflow_run, pytest.mark.slow]),
    ],
)
def left(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, server: Sandbox, files: Path, received: str
) -> Iterator[Leftovers]:
    """What each way of running the DAGs leaves behind."""
    server.control("DELETE", "ledger")
    home = tmp_path_factory.mktemp("airflow") / "home"
    home.mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        if request.param == "dags test":
            _, found = left_by_dags_test(home, server, files, *FINE, *FAILING)
        else:
            found = left_by_airflow(home, server, files, monkeypatch)
        found.texts["receiver"] = received
        states = set(rows(home, "select dag_id, task_id, state from task_instance"))
        for dag_id, state in (*FINE.items(), *FAILING.items()):
            assert {one for one in states if one[0] == dag_id and one[2] != state} == set()
        found.audit = "".join(path.read_text() for path in (home.parent / "audit").rglob("*.ndjson"))
        purge = Purge(f"file://{home.parent}/results", Selection(before=time.time() + 1), by={"user": "compliance"})
        found.certificate = purge.run()
        found.purged = Leftovers([home.parent / "results"], server)
        yield found
    shutil.rmtree(home.parent)


def patients(left: Leftovers) -> list[str]:
    """Name what holds a patient; results may."""
    return [name for name in left.holding({CANARY}) if "/type=" not in name and "staged" not in name]


def test_the_harness_sees_what_is_there(left: Leftovers) -> None:
    """The search covers the database and the logs: what must be there is found there, and each fault was met."""
    assert {"airflow.db", "table dag_run", "table task_instance"} <= set(left.holding({"canary_failing"}))
    said = "\n".join(left.texts.values())
    for error in ("RedoxAmbiguousOutcomeError", "RedoxDestinationError", "RedoxSecurityError", "RedoxResponseError"):
        assert error in said
    assert not LINEAGE or "lineage.ndjson" in left.holding({"canary_fine"})
    assert left.tokens
    assert left.assertions
    assert left.key_parts


def test_no_patient_is_left_behind(left: Leftovers) -> None:
    """No canary's name is in a log, rendered field, XCom, serialized DAG, page or any other row; in results it may be."""
    assert patients(left) == []


def test_the_record_has_every_patient_and_no_secret(left: Leftovers) -> None:
    """Each disclosed patient that has a name or a number is in the record of disclosures; names and secrets are not."""
    named = {"holder", "mrn"}
    assert {place for place in named if f"{CANARY}{place}" in left.audit} == named
    for place in ("message", "query", "search", "bundle", "upload", "bytes", "display", "title"):
        assert f"{CANARY}{place}" not in left.audit
    for secret in (*left.tokens, *left.assertions, *left.key_parts, GATEWAY_KEY):
        assert secret not in left.audit


def test_nothing_is_left_of_what_was_purged(left: Leftovers) -> None:
    """After a purge no patient is in the results' place, nor in the certificate, which names what was destroyed."""
    assert left.certificate["counts"]["destroyed"] > 10
    assert left.purged.texts
    assert left.purged.holding({CANARY}) == []


def test_no_token_is_left_behind(left: Leftovers) -> None:
    """No access token stands in clear in a log or a row; the shared one is sealed."""
    assert left.holding(left.tokens) == []
    assert left.holding({"redox_cache__"}) != []


def test_no_assertion_is_left_behind(left: Leftovers) -> None:
    """No signed assertion is in a log or a row."""
    assert left.holding(left.assertions) == []


def test_no_part_of_the_key_is_left_behind(left: Leftovers) -> None:
    """No 24 characters of the private key are in a log or a row; a connection in the database is encrypted by Fernet."""
    assert left.holding(left.key_parts) == []


def test_no_other_secret_of_the_connection_is_left_behind(left: Leftovers) -> None:
    """A key for a gateway that stands in extra.headers is in no log and no row."""
    assert left.holding({GATEWAY_KEY}) == []


def test_no_token_of_the_receiver_is_left_behind(left: Leftovers) -> None:
    """What a sender shows to the receiver is in none of its lines; that it took two messages is."""
    assert left.texts["receiver"].count("status=200 outcome=new") == 2, left.texts["receiver"]
    assert left.holding({TOKEN, OTHER_TOKEN}) == []


@pytest.mark.airflow_run
def test_a_leak_would_be_found(tmp_path: Path, server: Sandbox, files: Path) -> None:
    """What a task leaks on purpose is found: in a log and in a row, in base64, URL-quoted, and a part of the key."""
    home = tmp_path / "home"
    home.mkdir()
    ended, left = left_by_dags_test(home, server, files, "canary_leak")
    assert ended == {"canary_leak": "success"}, left.texts["printed"][-3000:]
    assert "printed" in left.holding({f"{CANARY}leak/log"})
    assert "table xcom" in left.holding({f"{CANARY}leak_xcom"})
    assert "printed" in left.holding(left.tokens)
    assert "printed" in left.holding({left.key.splitlines()[2][:30]})
