"""A worker that can be killed: one try of one task in a process of its own, with an AIRFLOW_HOME of its own.

    python -m tests.support.worker search '{"pages": 50, "resource_type": "Observation", ...}'
    python -m tests.support.worker post '{"payload_path": "s3://...", ...}'

The object holds the operator's arguments; of a search also `pages`, how many pages a segment has. Printed is one line:
`{"returned": ..., "memory": ...}` or `{"failed": "...", "memory": ...}`, the memory being the peak in bytes.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class Worker:
    """A try that runs. Its AIRFLOW_HOME is gone with it: a next try finds nothing of it on a disk."""

    def __init__(self, kind: str, connections: dict[str, str], **arguments: Any) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="redox-worker-")
        self._said, self._logged = Path(self._home.name, "said"), Path(self._home.name, "logged")
        mine = {f"AIRFLOW_CONN_{name.upper()}": text for name, text in connections.items()}
        with self._said.open("w") as said, self._logged.open("w") as logged:  # a pipe that nobody reads would stop it
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.worker", kind, json.dumps(arguments)],
                stdout=said,
                stderr=logged,
                env={**os.environ, **mine, "AIRFLOW_HOME": self._home.name, "TMPDIR": self._home.name},
            )

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> str:
        """SIGKILL, and its disk with it. Gives what it logged."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=30)
        told = self._said.read_text() + self._logged.read_text()
        self._home.cleanup()
        return told

    def end(self) -> dict[str, Any]:
        """Let it come to its end. Gives the line that it printed."""
        status = self.process.wait(timeout=600)
        said, logged = self._said.read_text(), self._logged.read_text()
        self._home.cleanup()
        assert status == 0, logged[-3000:]
        told: dict[str, Any] = json.loads(said.splitlines()[-1])
        return told


def search(arguments: dict[str, Any]) -> Any:
    """Execute a search."""
    from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
    from airflow_provider_redox.operators.pulls import drain

    drain.PAGES_OF_A_PART = arguments.pop("pages")
    return RedoxFhirSearchOperator(task_id="pull", **arguments).execute({"ti": task_instance("pull", try_number=1)})


def post(arguments: dict[str, Any]) -> Any:
    """Execute a post, as a try that Airflow began by itself."""
    from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator

    return RedoxDataModelPostOperator(task_id="post", **arguments).execute({"ti": task_instance("post", try_number=2)})


def download(arguments: dict[str, Any]) -> Any:
    """Execute a download of documents."""
    from airflow_provider_redox.operators.documents import RedoxDocumentDownloadOperator

    operator = RedoxDocumentDownloadOperator(task_id="documents", **arguments)
    return operator.execute({"ti": task_instance("documents", try_number=1)})


def task_instance(name: str, *, try_number: int) -> Any:
    """What Airflow's task runner hands over, as far as operators read it."""
    run = "manual__2026-11-23T10:00:00+00:00"
    return SimpleNamespace(dag_id=name, run_id=run, task_id=name, map_index=-1, try_number=try_number, max_tries=9)


def main(kind: str, arguments: dict[str, Any]) -> None:
    """Execute the operator as a task runner does, and print what came of it."""
    from airflow.providers.common.compat.sdk import AirflowFailException

    from airflow_provider_redox.exceptions import RedoxError

    told: dict[str, Any] = {}
    try:
        told["returned"] = {"search": search, "post": post, "download": download}[kind](arguments)
    except (RedoxError, AirflowFailException) as error:
        told["failed"] = str(error)
    told["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(told))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
