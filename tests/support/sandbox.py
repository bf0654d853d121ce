"""A sandbox process, and the few words that tests say to its control plane."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import requests


@dataclass
class Sandbox:
    """A running sandbox.

    `connection` is the Airflow connection it printed, as a dict.
    """

    process: subprocess.Popen[str]
    connection: dict[str, Any]

    @classmethod
    def start(cls, *arguments: str) -> Sandbox:
        command = [sys.executable, "-m", "airflow_provider_redox.sandbox", "--port", "0", "--print-connection", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(process.communicate()[1])
        return cls(process, json.loads(line))

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=10)

    @property
    def url(self) -> str:
        return f"{self.connection['host']}:{self.connection['port']}"

    @property
    def connection_json(self) -> str:
        """The connection as `AIRFLOW_CONN_...` takes it."""
        return json.dumps(self.connection)

    def with_extra(self, **changes: Any) -> dict[str, Any]:
        """The connection with other extras; None takes one away."""
        extra = {**self.connection["extra"], **changes}
        return {**self.connection, "extra": {name: value for name, value in extra.items() if value is not None}}

    def control(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(method, f"{self.url}/_sandbox/{path}", json=body, timeout=10)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def settings(self, **changes: Any) -> None:
        self.control("PATCH", "settings", changes)

    def fault(self, kind: str, **order: Any) -> None:
        """Order a fault: match={"path": regex, "method": ...}, times=1, skip=0, when="before" or "after"."""
        self.control("POST", "faults", {"kind": kind, **order})

    def ledger(self, path: str = "") -> list[dict[str, Any]]:
        """Every request that was received, oldest first; only those whose path holds `path`."""
        return [entry for entry in self.control("GET", "ledger") if path in entry["path"]]

    def stats(self) -> dict[str, Any]:
        return self.control("GET", "stats")

    def reset(self) -> None:
        """Put it back to its start: no ledger, faults, messages or tokens; default settings."""
        self.control("POST", "reset")
