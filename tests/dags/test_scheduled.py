"""Every example DAG runs through the installed Airflow's own scheduler and triggerer, whichever Airflow that is.

Each component is a process of its own, on the embedded defaults. Runs are asked for by Airflow's command, and what became of
them is read from its database: all that Airflow 2.11 and 3 have in common.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_airflow import COMPONENTS
from local_processes import Processes

from tests.support.database import rows
from tests.support.examples import AIRFLOW_3, DAG_IDS, FOLDER, surroundings
from tests.support.sandbox import Sandbox

pytestmark = [pytest.mark.airflow_run, pytest.mark.slow]

PATIENCE = 900.0

TRIGGER = """
import sys
from airflow.cli import cli_parser
parser = cli_parser.get_parser()
for dag_id in sys.argv[1:]:
    args = parser.parse_args(["dags", "trigger", dag_id])
    args.func(args)
"""


class Scheduled:
    """An Airflow home, its processes, and what its database says."""

    def __init__(self, home: Path, environ: dict[str, str], processes: Processes) -> None:
        self.home, self.environ, self.processes = home, environ, processes

    def start(self) -> None:
        migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
        subprocess.run(migrate, env=self.environ, check=True, capture_output=True, timeout=300)
        for name in COMPONENTS if AIRFLOW_3 else ("scheduler", "triggerer"):
            command = [sys.executable, "-m", "airflow", *COMPONENTS[name][0]]
            self.processes.start(name, command, log=self.home / f"{name}.log", env=self.environ)
        self.until_there_are(len(DAG_IDS), "select count(*) from serialized_dag", patience=180)

    def trigger(self) -> None:
        command = [sys.executable, "-W", "ignore", "-c", TRIGGER, *DAG_IDS]
        subprocess.run(command, env=self.environ, check=True, capture_output=True, timeout=300)

    def until_there_are(self, count: int, query: str, *, patience: float) -> None:
        deadline = time.monotonic() + patience
        while (found := rows(self.home, query)[0][0]) < count:
            self.processes.check()
            assert time.monotonic() < deadline, f"{found} of {count}: {query}\n{self.states()}"
            time.sleep(1)

    def states(self) -> list[tuple[str, str, str]]:
        query = "select dag_id, task_id, state from task_instance where state is null or state not in ('success', 'skipped')"
        return rows(self.home, query)


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduled]:
    home = tmp_path_factory.mktemp("scheduled")
    folder = home / "dags"
    folder.mkdir()
    for dag_id in DAG_IDS:
        (folder / f"{dag_id}.py").write_text((FOLDER / f"{dag_id}.py").read_text())
    sandbox = Sandbox.start()
    with Processes() as processes:
        environ = environment(home, folder) | surroundings(home, sandbox)
        airflow = Scheduled(home, environ, processes)
        airflow.start()
        airflow.trigger()
        ended = "select count(distinct dag_id) from dag_run where state in ('success', 'failed')"
        airflow.until_there_are(len(DAG_IDS), ended, patience=PATIENCE)
        yield airflow
    sandbox.stop()


def environment(home: Path, folder: Path) -> dict[str, str]:
    """Airflow's own defaults, but for what a home of its own needs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return inherited | {
        "AIRFLOW_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # Airflow 2 starts tasks by its command's name
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor" if AIRFLOW_3 else "SequentialExecutor",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=60",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_the_scheduler_runs_it(scheduled: Scheduled, dag_id: str) -> None:
    """The run that was asked for ends well, and so does any that an asset started."""
    states = [state for (state,) in rows(scheduled.home, f"select state from dag_run where dag_id = '{dag_id}'")]
    unwell = [task for task in scheduled.states() if task[0] == dag_id]
    assert states[0] == "success", unwell
    assert set(states) <= {"success", "running", "queued"}, unwell
