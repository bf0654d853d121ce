"""Nothing secret and no patient is left behind: not in a log at DEBUG, nor in any table of the metadata database."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.run_dags import run_dags
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.airflow_run

FOLDER = Path(__file__).parent / "canaries"
CANARY = "Zyxwvupatient"
REFUSAL = {
    "resourceType": "OperationOutcome",
    "issue": [{"severity": "error", "code": "invalid", "diagnostics": f"no {CANARY}"}],
}
META_ERROR = {"Meta": {"Errors": [{"ID": 1, "Text": f"{CANARY} is unknown", "Module": "Send"}]}}


class Leftovers:
    """All text that a run left behind, results aside, and the secrets that went over the wire in it."""

    def __init__(self, home: Path, sandbox: Sandbox, printed: str) -> None:
        # Airflow's in-process supervisor, which only `dags test` has, logs at DEBUG every secret that it is asked to mask,
        # the password of each connection included. Not ours to mend; the slow suite looks at real task processes.
        lines = [line for line in printed.splitlines() if "msg=MaskSecret(" not in line]
        self.texts = {"printed": "\n".join(lines)}
        for path in home.rglob("*"):
            if path.is_file() and "redox" not in path.relative_to(home).parts:
                self.texts[str(path.relative_to(home))] = path.read_bytes().decode("utf-8", "replace")
        ledger = sandbox.ledger()
        headers = [value for entry in ledger for name, value in entry["headers"] if name.lower() == "authorization"]
        self.tokens = {header.removeprefix("Bearer ") for header in headers}
        self.assertions = {m for entry in ledger for m in re.findall(r"client_assertion=([^&]+)", entry["body"])}
        body = "".join(line for line in sandbox.connection["password"].splitlines() if "-----" not in line)
        self.key_parts = {body[start : start + 24] for start in range(100, len(body) - 24, 24)}

    def holding(self, secrets: set[str]) -> list[str]:
        return sorted(name for name, text in self.texts.items() if any(secret in text for secret in secrets))


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leftovers]:
    home = tmp_path_factory.mktemp("airflow")
    canary = tmp_path_factory.mktemp("canary") / "name"
    canary.write_text(CANARY)
    sandbox = Sandbox.start("--population", "20")
    sandbox.fault("body", body=json.dumps(META_ERROR), match={"path": "/endpoint"}, skip=2, times=1)
    sandbox.fault("status", status=400, body=json.dumps(REFUSAL), match={"path": "/Patient/", "body": "unknown"}, times=9)
    sandbox.fault("drop", when="after", match={"path": "/endpoint"}, skip=2, times=1)
    sandbox.fault("garbage", match={"path": "/endpoint", "body": "PatientSearch"}, skip=1, times=9)
    try:
        dag_ids = ["canary_success", "canary_refused", "canary_destination_error", "canary_ambiguous", "canary_garbage"]
        ended, printed = run_dags(
            home,
            FOLDER,
            dag_ids,
            AIRFLOW_CONN_REDOX_DEFAULT=sandbox.connection_json,
            AIRFLOW__LOGGING__LOGGING_LEVEL="DEBUG",
            CANARY_FILE=str(canary),
        )
        assert ended["canary_success"] == "success", printed[-3000:]
        yield Leftovers(home, sandbox, printed)
    finally:
        sandbox.stop()


def test_the_harness_sees_what_is_there(left: Leftovers):
    """The search covers the database and the logs: what must be there is found there."""
    assert "airflow.db" in left.holding({"canary_success"})
    assert "printed" in left.holding({"canary_refused"})
    assert "RedoxAmbiguousOutcomeError" in left.texts["printed"]
    assert "RedoxDestinationError" in left.texts["printed"]
    assert left.tokens
    assert left.assertions
    assert left.key_parts


def test_no_patient_is_left_behind(left: Leftovers):
    """The canary's name is in no log, rendered field, XCom, serialized DAG or any other row."""
    assert left.holding({CANARY}) == []


def test_no_token_is_left_behind(left: Leftovers):
    """No access token stands in clear in a log or a row; the shared one is sealed."""
    assert left.holding(left.tokens) == []
    assert left.holding({"redox_cache__"}) != []


def test_no_assertion_is_left_behind(left: Leftovers):
    """No signed assertion is in a log or a row."""
    assert left.holding(left.assertions) == []


def test_no_part_of_the_key_is_left_behind(left: Leftovers):
    """No 24 characters of the private key are in a log or a row. The connection itself is given by the environment."""
    assert left.holding(left.key_parts) == []
