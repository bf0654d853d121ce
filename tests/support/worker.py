"""A worker that can be killed: one try of one search task in a process of its own, with an AIRFLOW_HOME of its own.

    python -m tests.support.worker '{"pages": 50, "resource_type": "Observation", ...}'

`pages` is how many pages a segment has; the rest are the operator's arguments. Prints the manifest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from types import SimpleNamespace
from typing import Any


class Worker:
    """A try that runs. Its AIRFLOW_HOME is gone with it: a next try finds nothing of it on a disk."""

    def __init__(self, connections: dict[str, str], **arguments: Any) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="redox-worker-")
        mine = {f"AIRFLOW_CONN_{name.upper()}": text for name, text in connections.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.worker", json.dumps(arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **mine, "AIRFLOW_HOME": self._home.name, "TMPDIR": self._home.name},
        )

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> str:
        """SIGKILL, and its disk with it. Gives what it logged."""
        self.process.send_signal(signal.SIGKILL)
        told = "".join(self.process.communicate(timeout=30))
        self._home.cleanup()
        return told

    def manifest(self) -> dict[str, Any]:
        """Let it come to its end."""
        said, complained = self.process.communicate(timeout=300)
        self._home.cleanup()
        assert self.process.returncode == 0, complained[-3000:]
        manifest: dict[str, Any] = json.loads(said.splitlines()[-1])
        return manifest


def main(arguments: dict[str, Any]) -> None:
    """Execute the operator as a task runner does, and print what it returns."""
    from airflow_provider_redox.operators import drain
    from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator

    drain.PAGES_OF_A_PART = arguments.pop("pages")
    owner = SimpleNamespace(dag_id="pull", run_id="manual__2026-11-23T10:00:00+00:00", task_id="pull", map_index=-1)
    manifest = RedoxFhirSearchOperator(task_id="pull", **arguments).execute({"ti": owner})
    print(json.dumps(manifest))  # noqa: T201


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
