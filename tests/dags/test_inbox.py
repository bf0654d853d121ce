"""The inbox under a real Airflow: a message that is pushed starts the example DAG, and lands in its table once."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from local_airflow import LocalAirflow

from tests.support.database import rows
from tests.support.leftovers import Leftovers
from tests.support.receiver import TOKEN, ReceiverProcess, free_port, message
from tests.support.sandbox import Sandbox
from tests.support.waiting import until

pytestmark = [pytest.mark.airflow_run, pytest.mark.slow]
EXAMPLE = Path(__file__).parents[2] / "dags" / "redox_inbox_results.py"
DAG_ID = "redox_inbox_results"


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "dags").mkdir()
    shutil.copy(EXAMPLE, tmp_path / "dags")
    return {name: tmp_path / name for name in ("dags", "home", "inbox", "table", "logs")}


@pytest.fixture
def airflow(places: dict[str, Path]) -> Iterator[LocalAirflow]:
    env = {
        "REDOX_INBOX": str(places["inbox"] / "results"),
        "REDOX_TABLE": str(places["table"]),
        "REDOX_RECEIVER_INBOX": str(places["inbox"]),
        "REDOX_RECEIVER_TOKENS": TOKEN,
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
    }
    with LocalAirflow(places["home"], places["dags"], free_port(), env=env, logs=places["logs"]) as running:
        running.wait_for_dags()
        yield running


def landed(table: Path) -> list[str]:
    """The log IDs of the rows of the table."""
    with contextlib.closing(sqlite3.connect(table, timeout=60)) as database:
        try:
            return [row[0] for row in database.execute("select log_id from results")]
        except sqlite3.OperationalError:
            return []


def replace_triggerer(airflow: LocalAirflow) -> None:
    """SIGKILL to the triggerer with all that it runs, and another one."""
    child = next(one for one in airflow.processes.children if "triggerer" in one.name)
    airflow.processes.children.remove(child)
    os.killpg(child.process.pid, signal.SIGKILL)
    for path in Path("/proc").glob("[0-9]*/stat"):  # its runner has a session of its own
        with contextlib.suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[1] == str(child.process.pid):
                os.kill(int(path.parent.name), signal.SIGKILL)
    child.process.wait()
    command = airflow._airflow("triggerer", "--skip-serve-logs")
    airflow.processes.start("Airflow's triggerer", command, log=child.log, env=airflow._environment())


def returned(airflow: LocalAirflow) -> list[dict[str, int]]:
    runs = airflow.request("GET", f"/dags/{DAG_ID}/dagRuns", params={"limit": 100})["dag_runs"]
    assert {run["state"] for run in runs} == {"success"}
    return [airflow.xcom(DAG_ID, run["dag_run_id"], "load") for run in runs]


def test_a_message_that_is_pushed_starts_a_dag(airflow: LocalAirflow, places: dict[str, Path]):
    """Through a triggerer that is killed, and into Airflow's own server too; each once, and no patient in the database."""
    sandbox, receiver = Sandbox.start("--population", "5"), ReceiverProcess.start(places["inbox"])
    try:
        told = {"name": "results", "url": f"{receiver.url}/results", "token": TOKEN}
        sandbox.control("POST", "feeds", told)
        sandbox.control("POST", "push", {"feed": "results", "count": 30})
        until(lambda: len(landed(places["table"])) == 30, "the first messages have landed")
        replace_triggerer(airflow)
        sandbox.control("POST", "push", {"feed": "results", "count": 30})
        until(lambda: len(landed(places["table"])) == 60, "the messages after the restart have landed")

        poison = message("poison", EventType="New")
        poison["Orders"] = "none"
        last = message("by-airflow")
        last["Orders"][0]["ID"] = "o"
        headers = {"verification-token": TOKEN}
        for one in (poison, last):
            url = f"{airflow.url}/redox-inbox/results"
            assert requests.post(url, json=one, headers=headers, timeout=60).status_code == 200
        assert requests.post(url, json=last, timeout=60).status_code == 401
        until(lambda: "by-airflow" in landed(places["table"]), "the message that Airflow's server took has landed")
        until(lambda: {run["state"] for run in runs(airflow)} == {"success"}, "all runs have ended")

        totals = returned(airflow)
        assert sum(one["messages"] for one in totals) == 61
        assert sum(one["dead"] for one in totals) == 1
        assert sorted(landed(places["table"])) == sorted([*sandbox.control("GET", "feeds?delivered=results"), "by-airflow"])
        extras = rows(places["home"], "select extra from asset_event")
        assert sum(len(json.loads(extra)["payload"]["messages"]) for (extra,) in extras) >= 62
        left = Leftovers([places["home"], places["logs"]], sandbox)
        assert left.holding({"Quillfeather", "Ashgrove", "1995-08-26", TOKEN}) == []
    finally:
        receiver.stop()
        sandbox.stop()


def runs(airflow: LocalAirflow) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = airflow.request("GET", f"/dags/{DAG_ID}/dagRuns", params={"limit": 100})["dag_runs"]
    return found
