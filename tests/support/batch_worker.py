"""A worker that can be killed: one try of a task that sends a file of messages, in a process with its own AIRFLOW_HOME.

    python -m tests.support.batch_worker '{"payload_path": "s3://...", ...}'

Prints `{"summary": ...}` or `{"failed": "..."}`, and the peak of its memory in bytes.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from types import SimpleNamespace
from typing import Any


class BatchWorker:
    """A try that runs. Its AIRFLOW_HOME is gone with it: a next try finds nothing of it on a disk."""

    def __init__(self, connections: dict[str, str], **arguments: Any) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="redox-worker-")
        mine = {f"AIRFLOW_CONN_{name.upper()}": text for name, text in connections.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.batch_worker", json.dumps(arguments)],
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

    def end(self) -> dict[str, Any]:
        """Let it come to its end."""
        said, complained = self.process.communicate(timeout=600)
        self._home.cleanup()
        assert self.process.returncode == 0, complained[-3000:]
        told: dict[str, Any] = json.loads(said.splitlines()[-1])
        return told


def main(arguments: dict[str, Any]) -> None:
    """Execute the operator as a task runner does."""
    from airflow.providers.common.compat.sdk import AirflowFailException

    from airflow_provider_redox.exceptions import RedoxError
    from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator

    facts = {"try_number": 2, "max_tries": 9}
    ti = SimpleNamespace(dag_id="feed", run_id="manual__2026-11-23T10:00:00+00:00", task_id="post", map_index=-1, **facts)
    told: dict[str, Any] = {}
    try:
        told["summary"] = RedoxDataModelPostOperator(task_id="post", **arguments).execute({"ti": ti})  # type: ignore[typeddict-item]
    except (RedoxError, AirflowFailException) as error:
        told["failed"] = str(error)
    told["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(told))  # noqa: T201


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
