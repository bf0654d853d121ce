"""The commands, run as a user runs them: `python -m airflow_provider_redox` in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_redox.cli.main import main
from tests.support.sandbox import Sandbox


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stdout holds, which is JSON and nothing else."""
        return json.loads(self.out)


Run = Callable[..., Done]


def run_command(*arguments: str | Path, stdin: str = "", **environment: str) -> Done:
    command = [sys.executable, "-m", "airflow_provider_redox", *map(str, arguments)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN_")}
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=60, check=False, env={**inherited, **environment}
    )
    assert "Traceback" not in done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def run() -> Run:
    return run_command


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: quicker, for what needs no process of its own."""

    def in_process(*arguments: str | Path) -> Done:
        try:
            status = main([str(one) for one in arguments])
        except SystemExit as left:  # argparse
            status = int(left.code or 0)
        return Done(status, *capsys.readouterr())

    return in_process


@pytest.fixture
def connection_file(sandbox: Sandbox, tmp_path: Path) -> Path:
    """Write the sandbox's connection to a file."""
    path = tmp_path / "connection.json"
    path.write_text(sandbox.connection_json)
    return path


def key_lines(pem: str) -> list[str]:
    """Give the lines of a key that nobody may see."""
    return [line for line in pem.splitlines() if line and "-----" not in line]
