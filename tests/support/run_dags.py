"""Run DAGs through Airflow's own `dags test`, several in one process: `python -m tests.support.run_dags DAG_ID...`.

Prints one line of JSON for each: `{"dag_id": ..., "ended": "success" | "failed: ..."}`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def main(dag_ids: list[str]) -> None:
    """Run each DAG; what goes wrong is told, not raised."""
    from airflow.cli import cli_parser

    parser = cli_parser.get_parser()
    for dag_id in dag_ids:
        args = parser.parse_args(["dags", "test", dag_id])
        try:
            args.func(args)
            ended = "success"
        except BaseException as error:  # noqa: BLE001  (SystemExit is how the command says that a run failed)
            ended = f"failed: {type(error).__name__}"
        print(json.dumps({"dag_id": dag_id, "ended": ended}), flush=True)  # noqa: T201


def run_dags(home: Path, dags_folder: Path, dag_ids: list[str], **environment: str) -> tuple[dict[str, str], str]:
    """Run DAGs in a process with its own Airflow home. Give how each ended, and all that the process printed."""
    environ = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
        **environment,
    }
    if not (home / "airflow.db").exists():
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        subprocess.run(command, env=environ, check=True, capture_output=True, timeout=180)
    command = [sys.executable, "-m", "tests.support.run_dags", *dag_ids]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=600)
    reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"dag_id"')]
    printed = done.stdout + done.stderr
    if len(reports) != len(dag_ids):
        raise AssertionError(printed[-4000:])
    return {report["dag_id"]: report["ended"] for report in reports}, printed


if __name__ == "__main__":
    main(sys.argv[1:])
