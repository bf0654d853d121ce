"""A sandbox for tests: a server process on the loopback interface, orders for it, and what it wrote down.

The fixture `redox_sandbox` of `pytest_plugin.py` gives one. Where there is no pytest, or two are needed at a time:

    with RedoxSandbox.start("--population", "20") as lakeside:
        os.environ["AIRFLOW_CONN_LAKESIDE"] = lakeside.connection_json

Needs the packages of the extra `[sandbox]`. Everything here is asked of the process over HTTP, so it holds for what tasks
in other processes have done, too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any, Literal, NotRequired, Self, TypedDict, Unpack

import requests

TOKEN_PATH = "/v2/auth/token"  # noqa: S105  (a path)
_PATIENCE = 30.0
"""Seconds for an answer of the control plane, on a machine that is busy."""

FaultKind = Literal[
    "body",
    "delay",
    "drip",
    "drop",
    "garbage",
    "gzip_bomb",
    "headers",
    "html",
    "outcome",
    "raw",
    "redirect",
    "reset",
    "reset_in_body",
    "status",
    "truncate",
    "wrong_length",
]
"""What a fault does; docs/sandbox.md says what the client sees."""


class FaultMatch(TypedDict, total=False):
    """Which requests a fault hits: regular expressions, searched for; that of the method has to fit whole."""

    method: str
    path: str
    query: str
    body: str


class FaultOrder(TypedDict, total=False):
    """How a fault is ordered.

    `skip` matching requests pass first, then `times` are hit (1; None is all), `before` or `after` they are processed.
    """

    match: FaultMatch
    skip: int
    times: int | None
    when: Literal["before", "after"]
    status: int
    body: Any
    body_base64: str
    headers: Mapping[str, str | None]
    content_type: str
    bytes_per_second: float
    seconds: float
    size: int
    location: str
    length: int
    text: str


class SandboxSettings(TypedDict, total=False):
    """What can be changed while the sandbox runs; times are seconds. docs/sandbox.md says what each does."""

    token_lifetime: float
    token_response: dict[str, Any] | None
    page_size: int
    link_style: Literal["absolute", "relative", "post-only", "get-only", "foreign", "loop", "aba", "endless"]
    foreign_origin: str
    total_offset: int
    shift: int
    ignored_parameters: list[str]
    strict_supported: bool
    patient_search_rule: bool
    get_search: bool
    delivery_seconds: float
    failing_attempts: int
    log_delay: float
    final_status: str | list[str]
    destination_errors: list[dict[str, Any]] | None
    clock_offset: float
    quota: int
    quota_window: float
    quota_counts_refused: bool
    retry_after: str | int | None
    source_id: str | None


class LedgerEntry(TypedDict):
    """One request that arrived. `committed` says whether it was processed, whatever the client got to see.

    `status` is None where the connection was cut; a body that is not UTF-8 is in `body_base64`.
    """

    n: int
    time: str
    method: str
    path: str
    query: str
    headers: list[list[str]]
    trace_id: str
    body: str | None
    body_base64: NotRequired[str]
    status: int | None
    fault: str | None
    committed: bool


class SentMessage(TypedDict):
    """A message that was accepted: a Data Model message, or a FHIR writeback, and the log of each destination."""

    kind: str
    n: int
    time: str
    trace_id: str
    operation: str
    destinations: list[str]
    logs: list[str]
    body: dict[str, Any]


class SandboxDidNotStartError(RuntimeError):
    """The process ended before it listened; the message is what it said."""


class RedoxSandbox:
    """A running sandbox.

    :param process: the server.
    :param connection: the Airflow connection that it printed, in the form of `AIRFLOW_CONN_...` as JSON.
    """

    def __init__(self, process: subprocess.Popen[str], connection: dict[str, Any]) -> None:
        self.process = process
        self.connection = connection
        self._session = requests.Session()
        self._session.trust_env = False  # it is on this machine, whatever proxy the environment names

    @classmethod
    def start(cls, *arguments: str) -> Self:
        """Start a sandbox on a free port and wait until it listens.

        :param arguments: of the command `python -m airflow_provider_redox.sandbox`.
        :raises SandboxDidNotStartError: an argument is wrong, or a package of the extra `[sandbox]` is not there.
        """
        command = [sys.executable, "-m", "airflow_provider_redox.sandbox", "--port", "0", "--print-connection", *arguments]
        with tempfile.TemporaryFile("w+") as said:  # a pipe that nobody reads would stop it one day
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True)  # noqa: S603
            line = _only_line(process.stdout)
            if not line:
                process.wait()
                said.seek(0)
                raise SandboxDidNotStartError(said.read().strip())
        return cls(process, json.loads(line))

    def stop(self) -> None:
        """End the process."""
        self._session.close()
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self.connection['host']}:{self.connection['port']}"

    @property
    def connection_json(self) -> str:
        """The connection as `AIRFLOW_CONN_...` takes it."""
        return json.dumps(self.connection)

    def with_extra(self, **changes: Any) -> dict[str, Any]:
        """Give the connection with other extras; None takes one away."""
        extra = {**self.connection["extra"], **changes}
        return {**self.connection, "extra": {name: value for name, value in extra.items() if value is not None}}

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the control plane, which is below `/_sandbox/`, and give its answer. docs/sandbox.md lists its paths.

        :raises ValueError: it refused; the message says why.
        """
        answer = self._session.request(method, f"{self.url}/_sandbox/{path}", json=body, timeout=_PATIENCE)
        if not answer.ok:
            raise ValueError(f"{path}: {answer.json()['error']}")
        return answer.json()

    def reset(self) -> None:
        """Go back to the start: no ledger, faults, messages or tokens; the patients and settings of the start."""
        self.control("POST", "reset")

    def settings(self, **changes: Unpack[SandboxSettings]) -> None:
        """Change settings, until the next reset."""
        self.control("PATCH", "settings", changes)

    def fault(self, kind: FaultKind, **order: Unpack[FaultOrder]) -> None:
        """Order a fault, until the next reset: `fault("status", status=503, match={"path": "/endpoint"}, times=2)`."""
        self.control("POST", "faults", {"kind": kind, **order})

    def add(self, *resources: dict[str, Any]) -> list[dict[str, Any]]:
        """Add FHIR resources, until the next reset; what has no ID, version or update time gets one."""
        added: list[dict[str, Any]] = self.control("POST", "resources", list(resources))
        return added

    def resources(self, resource_type: str) -> list[dict[str, Any]]:
        """Give all resources of a type."""
        found: list[dict[str, Any]] = self.control("GET", f"resources?type={resource_type}")
        return found

    def patients(self) -> list[dict[str, Any]]:
        """Give all patients."""
        return self.resources("Patient")

    def messages(self) -> list[SentMessage]:
        """Give every message that was accepted, in order."""
        found: list[SentMessage] = self.control("GET", "messages")
        return found

    def logs(self) -> list[dict[str, Any]]:
        """Give every log, one for each destination of a message, as the Platform API shows it."""
        found: list[dict[str, Any]] = self.control("GET", "logs")
        return found

    def stats(self) -> dict[str, Any]:
        """Count what is there: requests, tokens, messages, logs, uploads, resources."""
        counts: dict[str, Any] = self.control("GET", "stats")
        return counts

    def ledger(self, path: str = "") -> list[LedgerEntry]:
        """Give every request that arrived, in order; only those whose path holds `path`."""
        entries: list[LedgerEntry] = self.control("GET", "ledger")
        return [entry for entry in entries if path in entry["path"]]

    def token_exchanges(self) -> list[LedgerEntry]:
        """Give the requests for an access token."""
        return self.ledger(TOKEN_PATH)

    def searches(self, resource_type: str = "") -> list[LedgerEntry]:
        """Give the FHIR searches that were begun, of a type or of all. `ledger("/Patient")` has their further pages, too."""
        return self.ledger(f"/{resource_type}/_search" if resource_type else "/_search")

    def log_lookups(self) -> list[LedgerEntry]:
        """Give the requests for logs: single ones, and searches among them."""
        return self.ledger("/platform/v1/")


def _only_line(printed: IO[str] | None) -> str:
    """Read the connection; the process prints nothing else."""
    if printed is None:
        return ""
    with printed:
        return printed.readline()
