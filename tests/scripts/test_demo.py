"""`make demo` as a newcomer runs it."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.mark.slow
@pytest.mark.airflow_run
def test_the_demo_does_the_main_job_and_says_what_happened() -> None:
    """The demo runs each DAG tagged `redox` in a real Airflow, prints what was fetched and sent, and leaves no process."""
    airflow, sandbox = free_ports(2)
    command = [sys.executable, "scripts/demo.py", "--port", str(airflow), "--sandbox-port", str(sandbox)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    dag_ids = [path.stem for path in (ROOT / "dags").glob("*.py") if '"redox", "example"' in path.read_text()]
    assert sorted(re.findall(r"(\w+): success", done.stdout)) == sorted(dag_ids)
    assert re.search(r"Observation +\d+ +\S+\.ndjson", done.stdout)
    assert re.search(r"log IDs of the messages: [0-9a-f-]{36}", done.stdout)
    for port in (airflow, sandbox):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
