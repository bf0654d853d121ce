"""Sends under Airflow itself: what a next try knows when worker and disk are gone, and what stays in the database."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from local_airflow import LocalAirflow, run_path

from tests.support.database import rows
from tests.support.run_dags import run_dags
from tests.support.sandbox import Sandbox
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "sends"
FERNET_KEY = Fernet.generate_key().decode()


@pytest.fixture
def server() -> Iterator[Sandbox]:
    """A sandbox of its own: tasks of other processes speak to it."""
    sandbox = Sandbox.start("--population", "5")
    yield sandbox
    sandbox.stop()


def markers(home: Path) -> list[dict[str, Any]]:
    """Give the markers that are left in the metadata database, decrypted."""
    found = rows(home, 'select "key", val, is_encrypted from variable where "key" like \'redox_send__%\'')
    assert all(re.fullmatch(r"redox_send__[0-9a-f]{32}", key) for key, _, _ in found)
    fernet = Fernet(FERNET_KEY)
    return [json.loads(fernet.decrypt(value.encode()) if encrypted else value) for _, value, encrypted in found]


@pytest.mark.airflow_run
def test_a_marker_stays_only_while_the_outcome_is_open(tmp_path: Path, server: Sandbox):
    """After an answer, yes or no, the Variable is gone; without one it holds a status and a hash, nothing else."""
    server.fault("status", status=400, match={"path": "/endpoint", "body": '"refused"'}, times=None)
    server.fault("drop", when="after", match={"path": "/endpoint", "body": '"lost"'}, times=None)
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "AIRFLOW_CONN_REDOX_DEFAULT": server.connection_json,
        "AIRFLOW__REDOX__OUTPUT_ROOT": f"file://{tmp_path}/results",
        "AIRFLOW__CORE__FERNET_KEY": FERNET_KEY,
        "AIRFLOW__REDOX__OUTPUT_ROOT_IS_SHARED": "True",
        "RESEND_IF": str(tmp_path / "resend"),
    }
    ended, printed = run_dags(home, FOLDER, ["send_accepted", "send_refused"], **environment)
    assert [how[:7] for how in ended.values()] == ["success", "failed:"], printed[-3000:]
    assert markers(home) == []
    ended, printed = run_dags(home, FOLDER, ["send_lost"], **environment)
    assert ended["send_lost"].startswith("failed"), printed[-3000:]
    (left,) = markers(home)
    line = json.loads(next((tmp_path / "results").rglob("*dag_id=send_lost/**/*.ndjson")).read_text())
    assert left == {"status": "sending", "hash": line["hash"], "attempt": 1}
    assert line["outcome"] == "ambiguous"
    assert "RedoxAmbiguousOutcomeError" in printed
    assert server.stats()["messages"] == 2


class Task:
    """The one task of a run, as Airflow's API has it."""

    def __init__(self, airflow: LocalAirflow, dag_id: str) -> None:
        self.airflow, self.dag_id = airflow, dag_id
        self.run_id = airflow.trigger(dag_id, run_id="killed")

    def facts(self) -> dict[str, Any]:
        (found,) = self.airflow.task_instances(self.dag_id, self.run_id)
        return found

    def kill(self) -> None:
        """SIGKILL to the process that executes the task; Airflow sees it die."""
        pid = until(lambda: self.facts().get("pid"), "the task has a process")
        os.kill(pid, signal.SIGKILL)

    def clear(self) -> None:
        """Clear it, as the author does in the UI."""
        body = {"dry_run": False, "dag_run_id": self.run_id, "task_ids": ["post"], "only_failed": False}
        self.airflow.request("POST", f"/dags/{self.dag_id}/clearTaskInstances", json=body)
        until(lambda: self.airflow.request("GET", run_path(self.dag_id, self.run_id))["state"] != "failed", "it is cleared")

    def ends(self) -> str:
        return self.airflow.wait(self.dag_id, self.run_id, timeout=120)

    def log(self) -> str:
        tried = self.facts()["try_number"]
        return "\n".join(self.airflow.task_log(self.dag_id, self.run_id, "post", try_number=tried))


@pytest.fixture
def airflow(tmp_path: Path, server: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAirflow]:
    """A real Airflow whose results lie on the worker's own disk."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RESEND_IF", str(tmp_path / "resend"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"AIRFLOW__CORE__FERNET_KEY": FERNET_KEY, "AIRFLOW__REDOX__OUTPUT_ROOT": f"file://{tmp_path}/disk"}
    with LocalAirflow(tmp_path / "home", FOLDER, port, env=settings) as running:
        running.add_connection("redox_default", server.connection)
        running.wait_for_dags()
        yield running


@pytest.mark.airflow_run
@pytest.mark.slow
def test_a_worker_killed_between_send_and_answer_is_not_repeated(airflow: LocalAirflow, server: Sandbox, tmp_path: Path):
    """With its disk gone too, neither Airflow's retry nor a clear sends again; a clear with resend=True does, once."""
    server.fault("delay", seconds=30, when="after", match={"path": "/endpoint"}, times=1)
    task = Task(airflow, "send_killed")
    until(lambda: server.stats()["messages"] == 1, "the message has arrived")
    (mark,) = markers(airflow.home)
    assert (mark["status"], set(mark)) == ("sending", {"status", "hash", "attempt"})
    shutil.rmtree(tmp_path / "disk")
    task.kill()
    assert task.ends() == "failed"
    assert task.facts()["try_number"] == 2
    assert "RedoxAmbiguousOutcomeError" in task.log()
    assert mark["hash"] in task.log() + json.dumps(markers(airflow.home))

    task.clear()
    assert task.ends() == "failed"
    assert task.facts()["try_number"] == 3
    assert "An earlier try of this task may have sent" in task.log()
    assert server.stats()["messages"] == 1
    assert markers(airflow.home) == [mark]

    (tmp_path / "resend").touch()
    task.clear()
    assert task.ends() == "success"
    assert server.stats()["messages"] == 2
    assert [left["status"] for left in markers(airflow.home)] == ["accepted"]  # the disk might go again
    assert airflow.xcom("send_killed", "killed", "post")["accepted"] == 1
    assert "Quillfeather" not in task.log()
