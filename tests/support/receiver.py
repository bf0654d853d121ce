"""A receiver process, and messages to push to it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

TOKEN = "verification-token-of-tests"
OTHER_TOKEN = "the-token-that-replaces-it"


def message(log_id: str | None = None, **more: Any) -> dict[str, Any]:
    """A result that arrives, with a patient that nothing but the inbox may hold."""
    meta = {
        "DataModel": "Results",
        "EventType": "New",
        "Source": {"ID": "7ce6f387-c33c-417d-8682-81e83628cbd9", "Name": "General"},
        "Logs": [{"ID": log_id or str(uuid.uuid4()), "AttemptID": str(uuid.uuid4())}],
    }
    patient = {"Demographics": {"FirstName": "Quillfeather", "LastName": "Ashgrove"}}
    return {"Meta": {**meta, **more}, "Patient": patient, "Orders": [{"Results": [{"Code": "2345-7", "Value": "5.10"}]}]}


@dataclass
class ReceiverProcess:
    """A running receiver. `said` is its log so far."""

    process: subprocess.Popen[str]
    url: str
    lines: list[str] = field(default_factory=list)
    reader: threading.Thread | None = None

    @classmethod
    def start(
        cls, inbox: Path | str, *, port: int = 0, environ: dict[str, str] | None = None, **settings: str | None
    ) -> ReceiverProcess:
        """Start a receiver with its settings; one that is None is not set."""
        port = port or free_port()
        told = {"INBOX": str(inbox), "TOKENS": f"{TOKEN},{OTHER_TOKEN}", **settings}
        env = {
            **os.environ,
            **(environ or {}),
            **{f"REDOX_RECEIVER_{name}": value for name, value in told.items() if value is not None},
        }
        command = [sys.executable, "-m", "airflow_provider_redox.receiver", "--port", str(port)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
        running = cls(process, f"http://127.0.0.1:{port}")
        running.reader = threading.Thread(target=lambda: running.lines.extend(process.stderr or ()), daemon=True)
        running.reader.start()
        while process.poll() is None:
            with contextlib.suppress(requests.ConnectionError):
                requests.get(f"{running.url}/health", timeout=30)
                return running
            time.sleep(0.05)
        raise AssertionError(running.said)

    @property
    def said(self) -> str:
        return "".join(self.lines)

    def last(self) -> str:
        """The last line of its log, once it has had time to be read."""
        time.sleep(0.3)
        return self.lines[-1]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def stop(self, number: int = signal.SIGTERM) -> str:
        self.process.send_signal(number)
        self.process.wait(timeout=40)
        if self.reader:
            self.reader.join(timeout=10)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return self.said

    def push(self, body: Any, feed: str = "results", *, token: str | None = TOKEN, **headers: str) -> requests.Response:
        """Send a message as Redox does."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        shown = {"verification-token": token, "Authorization": f"Bearer {token}"} if token else {}
        return requests.post(f"{self.url}/{feed}", data=data, headers={**shown, **headers}, timeout=60)

    def memory(self) -> int:
        """Its resident memory, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found.group(1)) * 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def messages_in(inbox: Path, feed: str = "results") -> dict[str, bytes]:
    """What lies in an inbox, by log ID."""
    return {path.stem: path.read_bytes() for path in (inbox / feed / "messages").rglob("*.json")}


def arrivals_in(inbox: Path, feed: str = "results") -> list[str]:
    """The names of what arrived, in their order."""
    return sorted(path.name for path in (inbox / feed / "arrivals").rglob("*") if path.is_file())
