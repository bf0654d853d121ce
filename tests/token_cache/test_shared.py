"""One token for tasks that have nothing in common but the metadata database, run by Airflow itself.

Airflow runs twice, in two processes one after the other, on one database without encryption. Every task and trigger
begins with an empty memory, as in a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.airflow_run

ROOT = Path(__file__).resolve().parents[2]
DAGS = """
from tests.token_cache.airflow_side import only_mapped, sharing, spoiling  # makes DAGs of Airflow

dags = [sharing("redox_variable"), sharing("redox_xcom"), only_mapped("redox_xcom"), spoiling("redox_variable")]
globals().update({dag.dag_id: dag for dag in dags})
"""
ONCE = ("sharing:redox_variable", "sharing:redox_xcom", "only_mapped:redox_xcom")
AGAIN = ("sharing:redox_variable", "spoiling:redox_variable")


@dataclass
class Ran:
    """What the tasks noted, by run, and what was left behind."""

    runs: dict[str, list[dict[str, Any]]]
    assertions: list[str]
    database: bytes
    output: str
    secrets: list[str]

    def tokens(self, run: str) -> dict[str, str]:
        """Each task's token, as a digest."""
        return {note["task"]: note["token"] for note in self.runs[run] if "state" not in note and "text" not in note}

    def asked(self, scope: str) -> int:
        """Count the token requests of a connection."""
        return sum(body.endswith(f"scope={scope}") for body in self.assertions)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Run the DAGs, and give what came of it."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    (home / "dags" / "shared_tokens.py").write_text(DAGS)
    sandbox = Sandbox.start("--population", "5")
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "airflow_provider_redox=DEBUG",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_CONN_REDOX_VARIABLE": json.dumps(sandbox.with_extra(cache_backend="variable", scope="variable")),
        "AIRFLOW_CONN_REDOX_XCOM": json.dumps(sandbox.with_extra(cache_backend="xcom", scope="xcom")),
    }
    output = ""
    runs: dict[str, list[dict[str, Any]]] = {}
    for number, wanted in enumerate((ONCE, AGAIN)):
        for run in wanted:
            runs[f"{run} {number}"] = []
        command = f"from tests.token_cache.airflow_side import main; main(*{wanted!r})"
        output += airflow(command, {**environment, "TEST_NOTES": str(home / f"notes-{number}")})
        notes = [json.loads(line) for line in (home / f"notes-{number}").read_text().splitlines()]
        for note in notes:
            runs[f"{note['run']} {number}"].append(note)
    assertions = [entry["body"] for entry in sandbox.ledger("/v2/auth/token")]
    secrets = [*sandbox.connection["password"].splitlines()[1:-1], *used_tokens(sandbox)]
    secrets += [body.split("client_assertion=")[1].split("&")[0] for body in assertions]
    sandbox.stop()
    return Ran(runs, assertions, (home / "airflow.db").read_bytes(), output, secrets)


def used_tokens(sandbox: Sandbox) -> set[str]:
    """Every token that a task sent."""
    headers = [pair for entry in sandbox.ledger("/platform") for pair in entry["headers"]]
    return {value.removeprefix("Bearer ") for name, value in headers if name.lower() == "authorization"}


def airflow(command: str, environment: dict[str, str]) -> str:
    """Run Python code in a process of its own, and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_all_went_well(ran: Ran) -> None:
    """Every run is a success."""
    states = {run: notes[-1].get("state") for run, notes in ran.runs.items()}
    assert states == dict.fromkeys(ran.runs, "success"), ran.output[-5000:]


def test_a_variable_serves_a_run(ran: Ran) -> None:
    """Tasks, mapped tasks, a trigger and the task after it share one token through the Variable."""
    tokens = ran.tokens("sharing:redox_variable 0")
    assert len(tokens) == 7
    assert len(set(tokens.values())) == 1


def test_a_variable_serves_the_next_process(ran: Ran) -> None:
    """Another process, in another run of the DAG, uses the token that lies in the Variable."""
    first, second = (set(ran.tokens(f"sharing:redox_variable {number}").values()) for number in (0, 1))
    assert first == second


def test_one_token_request(ran: Ran) -> None:
    """For two processes with seven tasks and triggers each there was one token request, and one after the spoiling."""
    assert ran.asked("variable") == 2


def test_an_xcom_serves_a_run(ran: Ran) -> None:
    """Tasks, mapped ones too, and the task after a trigger share one token through an XCom of their run."""
    tokens = ran.tokens("sharing:redox_xcom 0")
    del tokens["trigger"]
    assert len(tokens) == 6
    assert len(set(tokens.values())) == 1


def test_an_xcom_serves_mapped_tasks(ran: Ran) -> None:
    """Mapped tasks of a DAG without others share a token too, or two, as instance 0 drops its XComs when it starts."""
    tokens = ran.tokens("only_mapped:redox_xcom 0")
    assert len(tokens) == 3
    assert len(set(tokens.values())) <= 2


def test_token_requests_with_an_xcom(ran: Ran) -> None:
    """The tasks of a run cost one token request; a trigger, which has no slot in the run, costs one, not ten."""
    of_mapped = len(set(ran.tokens("only_mapped:redox_xcom 0").values()))
    assert ran.asked("xcom") == 2 + of_mapped


def test_hooks_of_a_trigger_ask_together(ran: Ran) -> None:
    """Ten hooks of one trigger that need a token at once get the same one."""
    noted = [note for notes in ran.runs.values() for note in notes if note["task"] == "trigger"]
    assert len(noted) == 3
    assert all(note["alone"] for note in noted)


def test_a_spoiled_entry_is_replaced(ran: Ran) -> None:
    """Rubbish in the Variable costs one token, which then lies there for the others."""
    tokens = ran.tokens("spoiling:redox_variable 1")
    assert len(tokens) == 2
    assert len(set(tokens.values())) == 1
    (variable,) = (note["text"] for note in ran.runs["spoiling:redox_variable 1"] if "text" in note)
    assert re.fullmatch(r"v1\.[\w=-]{100,600}", variable)


def test_no_secret_in_the_database(ran: Ran) -> None:
    """The whole database, which is not encrypted here, holds no token in clear, no assertion and no line of the key."""
    assert b"redox_cache__" in ran.database
    assert len(ran.secrets) > 30
    assert not [secret for secret in ran.secrets if secret.encode() in ran.database]


def test_no_secret_in_the_log(ran: Ran) -> None:
    """What Airflow printed holds no token, no assertion and no line of the key."""
    assert not [secret for secret in ran.secrets if secret in ran.output]
