"""A thousand deferred waits in a real triggerer, which is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from local_airflow import COMPONENTS, LocalAirflow

from tests.support.database import rows
from tests.support.sandbox import Sandbox
from tests.support.waiting import until

pytestmark = [pytest.mark.airflow_run, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "waits"
WAITS = int(os.environ.get("REDOX_WAITS", "1000"))


@pytest.fixture
def server() -> Iterator[Sandbox]:
    """A sandbox of its own."""
    sandbox = Sandbox.start("--population", "5")
    yield sandbox
    sandbox.stop()


@pytest.fixture
def log_ids(server: Sandbox, tmp_path: Path) -> Path:
    """A file of log IDs, none of them delivered, and others' logs between them."""
    server.control("POST", "logs", {"count": 200, "age": 60})
    path = tmp_path / "log_ids.json"
    path.write_text(json.dumps(server.control("POST", "logs", {"count": WAITS, "age": 60, "status": "pending"})["ids"]))
    return path


@pytest.fixture
def airflow(tmp_path: Path, server: Sandbox, log_ids: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAirflow]:
    """A real Airflow whose pool `closed` lets no task run."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("LOG_IDS", str(log_ids))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "AIRFLOW__TRIGGERER__CAPACITY": "2000",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
        "AIRFLOW__CORE__MAX_MAP_LENGTH": "2000",
    }
    with LocalAirflow(tmp_path / "home", FOLDER, port, env=settings) as running:
        running.add_connection("redox_default", server.connection)
        running.request("POST", "/pools", json={"name": "closed", "slots": 0, "include_deferred": False})
        running.wait_for_dags()
        yield running


def count(airflow: LocalAirflow, where: str) -> int:
    found = rows(airflow.home, f"select count(*) from task_instance where {where}")
    return int(found[0][0])


def kill_triggerer(airflow: LocalAirflow) -> None:
    """SIGKILL to the triggerer and all that it started, and a new one."""
    (child,) = [one for one in airflow.processes.children if one.name == "Airflow's triggerer"]
    os.killpg(child.process.pid, signal.SIGKILL)
    airflow.processes._end([child], grace=0)
    command = airflow._airflow(*COMPONENTS["triggerer"][0])
    airflow.processes.start("Airflow's triggerer", command, log=child.log, env=airflow._environment())


def most_in_a_minute(moments: list[float]) -> int:
    return max(sum(start <= moment < start + 60 for moment in moments) for start in moments)


def test_a_thousand_waits_outlive_their_triggerer(airflow: LocalAirflow, server: Sandbox, log_ids: Path):
    """All are asked for together, within sixty requests a minute; the triggerer dies, and each ends as it should."""
    run_id = airflow.trigger("thousand_waits")
    until(lambda: count(airflow, "map_index >= 0") == WAITS, "the task is mapped")
    environ = {**airflow._environment(), "AIRFLOW_CONN_REDOX_DEFAULT": server.connection_json}
    command = [sys.executable, "-m", "tests.support.defer_waits", run_id, str(log_ids)]
    subprocess.run(command, env=environ, check=True, timeout=240, cwd=ROOT)
    assert count(airflow, "state = 'deferred'") == WAITS

    whole_look = WAITS // 50
    until(lambda: len(server.ledger("/platform/")) >= 2 * whole_look, "all are polled")
    ids = json.loads(log_ids.read_text())
    early, lost, late = ids[: WAITS // 2], ids[WAITS // 2 : WAITS // 2 + 5], ids[WAITS // 2 + 5 :]
    server.control("PATCH", "logs", {"status": "succeeded", "ids": early})
    until(lambda: count(airflow, "state != 'deferred' and map_index >= 0") > 0, "some are woken")
    kill_triggerer(airflow)
    server.control("PATCH", "logs", {"status": "succeeded", "ids": late})
    server.control("PATCH", "logs", {"status": "filtered", "ids": lost})
    until(lambda: count(airflow, "state = 'deferred'") == 0, "all are woken", timeout=400)

    told = [str(kwargs) for (kwargs,) in rows(airflow.home, "select next_kwargs from task_instance where map_index >= 0")]
    assert sum('"delivered"' in kwargs for kwargs in told) == WAITS - len(lost)
    assert sum('"failed"' in kwargs for kwargs in told) == len(lost)
    asked = [datetime.fromisoformat(entry["time"]).timestamp() for entry in server.ledger("/platform/")]
    assert most_in_a_minute(asked) <= 60
    assert server.stats()["tokens"] <= 3
