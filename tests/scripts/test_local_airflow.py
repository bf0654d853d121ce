"""LocalAirflow: a real Airflow for the length of a `with` block."""

from __future__ import annotations

import configparser
import os
import socket
from typing import TYPE_CHECKING

import pytest
from local_airflow import DagImportError, LocalAirflow, dag_files, log_lines
from local_processes import HOST, ProcessDiedError, live_processes

if TYPE_CHECKING:
    from pathlib import Path

DAG = """
from airflow.sdk import dag, task

@dag(dag_id="numbers", schedule="@daily", tags=["redox"])
def numbers():
    @task
    def double(number, dag_run=None):
        return dag_run.conf["factor"] * number

    @task
    def divide(numbers):
        print("dividing", sum(numbers))
        return 1 / dag_run_zero

    dag_run_zero = 0
    divide(double.expand(number=[1, 2]))

numbers()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def test_only_files_for_airflow_are_awaited(tmp_path: Path) -> None:
    """A file is for Airflow if it mentions both words, and .airflowignore does not name it or its folder."""
    for name in ("cohort.py", "ignored.py", "helpers/dag.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("from airflow.sdk import DAG")
    (tmp_path / "names.py").write_text("NAMES = []")
    (tmp_path / ".airflowignore").write_text("ignored*\nhelpers/\n")
    assert list(dag_files(tmp_path)) == ["cohort.py"]


def test_log_lines_end_with_the_error() -> None:
    """An exception is shown by where it was raised, its type and its message; the frames are for the UI."""
    error = {
        "exc_type": "ValueError",
        "exc_value": "no",
        "frames": [{"filename": "dags/a.py", "lineno": 7, "name": "f"}],
    }
    entry = {"event": "Task failed", "level": "error", "error_detail": [error]}
    assert log_lines(entry) == ["ERROR Task failed", "dags/a.py:7: ValueError: no"]
    assert log_lines({"event": "::group::Pre Execute"}) == []


def test_caller_settings_win_and_the_environment_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are those of the constructor, kept in a file for its owner alone; the caller's own Airflow stays out."""
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "99")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid")
    env = {"AIRFLOW__REDOX__OUTPUT_ROOT": "file:///a%20b", "AIRFLOW__CORE__EXECUTOR": "X", "COLOUR": "red"}
    airflow = LocalAirflow(tmp_path / "home", tmp_path, env=env)
    airflow._write_config()
    config = configparser.ConfigParser()
    config.read(airflow.home / "airflow.cfg")
    assert config["redox"]["output_root"] == "file:///a%20b"
    assert config["core"]["executor"] == "X"
    assert (airflow.home / "airflow.cfg").stat().st_mode & 0o077 == 0
    environment = airflow._environment()
    assert [name for name in environment if name.startswith("AIRFLOW")] == ["AIRFLOW_HOME"]
    assert environment["COLOUR"] == "red"
    assert HOST in environment["no_proxy"]


@pytest.mark.slow
def test_runs_a_dag_and_is_gone(tmp_path: Path) -> None:
    """DAGs run in real processes; states, XComs and logs can be read; a death is noticed; nothing is left over."""
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "numbers.py").write_text(DAG)
    with LocalAirflow(tmp_path / "home", dags, free_port()) as airflow:
        sessions = {child.process.pid for child in airflow.processes.children}
        airflow.wait_for_dags()
        assert airflow.dag_ids(tag="redox") == ["numbers"]
        run_id = airflow.trigger("numbers", {"factor": 21})
        assert airflow.wait("numbers", run_id, timeout=60) == "failed"
        states = {(task["task_id"], task["map_index"]): task["state"] for task in airflow.task_instances("numbers", run_id)}
        assert states == {("double", 0): "success", ("double", 1): "success", ("divide", -1): "failed"}
        assert airflow.xcom("numbers", run_id, "double", map_index=1) == 42
        assert sorted(airflow.xcoms("numbers", run_id)) == [
            ("double", "return_value", 21),
            ("double", "return_value", 42),
        ]
        log = airflow.task_log("numbers", run_id, "divide")
        assert any("dividing 63" in line for line in log)
        assert any("ZeroDivisionError" in line for line in log)

        (dags / "broken.py").write_text("from airflow.sdk import DAG\nimport no_such_module\n")
        with pytest.raises(DagImportError, match=r"no_such_module|No DAG came from broken\.py"):
            airflow.wait_for_dags(timeout=1)

        os.kill(airflow.processes.children[0].process.pid, 9)
        with pytest.raises(ProcessDiedError, match="scheduler was ended by SIGKILL"):
            airflow.wait("numbers", airflow.trigger("numbers", {"factor": 1}), timeout=60)
    assert not [pid for pid, session in live_processes() if session in sessions]
