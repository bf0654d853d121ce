"""Start the sandbox as a process of its own, and talk to it as a client would."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

COMMAND = [sys.executable, "-m", "airflow_provider_redox.sandbox"]
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
KEVA = "81c2f5eb-f99f-40c4-b504-59483e6148d7"


@dataclass
class Client:
    """A client of a sandbox: it signs, holds a token, and has short words for the calls."""

    connection: dict[str, Any]
    _token: str = ""
    _key: Any = field(default=None)

    @property
    def url(self) -> str:
        """Where the sandbox listens."""
        return f"{self.connection['host']}:{self.connection['port']}"

    @property
    def extra(self) -> dict[str, Any]:
        """The extra fields of the connection."""
        return self.connection["extra"]

    @property
    def key(self) -> Any:
        """The private key of the connection."""
        self._key = self._key or RSAKey.import_key(self.connection["password"])
        return self._key

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Claims as Redox wants them; a change to None leaves the claim out."""
        now = int(time.time())
        own = {"iss": self.extra["client_id"], "sub": self.extra["client_id"], "aud": f"{self.url}/v2/auth/token"}
        own |= {"iat": now, "exp": now + 240, "jti": uuid.uuid4().hex}
        return {name: value for name, value in (own | changes).items() if value is not None}

    def sign(self, claims: dict[str, Any] | None = None, key: Any = None, **header: Any) -> str:
        """Sign claims; header fields may be changed, None leaves one out."""
        head = {"alg": "RS384", "typ": "JWT", "kid": self.extra["kid"]} | header
        head = {name: value for name, value in head.items() if value is not None}
        return jwt.encode(head, claims or self.claims(), key or self.key, algorithms=[head["alg"]])

    def ask_token(self, assertion: str | None = None, **changes: Any) -> requests.Response:
        """Ask for a token; form fields may be changed, None leaves one out."""
        form = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE}
        form["client_assertion"] = self.sign() if assertion is None else assertion
        form = {name: value for name, value in (form | changes).items() if value is not None}
        return requests.post(f"{self.url}/v2/auth/token", data=form, timeout=10)

    def token(self) -> str:
        """Return a token, asking for it the first time."""
        self._token = self._token or self.ask_token().json()["access_token"]
        return self._token

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request with the token."""
        headers = {"Authorization": f"Bearer {self.token()}"} | options.pop("headers", {})
        options = {"timeout": 10, "allow_redirects": False} | options
        return requests.request(method, self.url + path, headers=headers, **options)

    def fhir(self, path: str) -> str:
        """Return a path below the FHIR base."""
        return f"/fhir/R4/general-hospital/Development/{path}"

    def search(self, kind: str, params: Any = None, **options: Any) -> requests.Response:
        """Search by POST."""
        return self.call("POST", self.fhir(f"{kind}/_search"), data=params or {"_count": "1000"}, **options)

    def found(self, kind: str, params: Any = None) -> list[dict[str, Any]]:
        """Return the resources of the first page."""
        answer = self.search(kind, params)
        assert answer.status_code == 200, answer.text
        return [entry["resource"] for entry in answer.json().get("entry", [])]

    def post(self, message: dict[str, Any], path: str = "/endpoint") -> requests.Response:
        """Send a Data Model message."""
        return self.call("POST", path, json=message)

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Call the control plane."""
        options = {} if body is None else {"json": body}
        return requests.request(method, f"{self.url}/_sandbox/{path}", timeout=10, **options)

    def settings(self, **changes: Any) -> None:
        """Change settings."""
        assert self.control("PATCH", "settings", changes).status_code == 200

    def fault(self, kind: str, **order: Any) -> None:
        """Order a fault."""
        answer = self.control("POST", "faults", {"kind": kind} | order)
        assert answer.status_code == 200, answer.text

    def ledger(self) -> list[dict[str, Any]]:
        """Return the ledger."""
        return self.control("GET", "ledger").json()

    def forget(self) -> None:
        """Put the sandbox back to its start, and drop the token that died with it."""
        self.control("POST", "reset")
        self._token = ""


def message(model: str, event: str, *destinations: str, **body: Any) -> dict[str, Any]:
    """Make a Data Model message to destinations by their ID."""
    meta = {"DataModel": model, "EventType": event, "EventDateTime": "2026-01-01T00:00:00.000Z", "Test": True}
    return {"Meta": meta | {"Destinations": [{"ID": key} for key in destinations]}, **body}


@dataclass
class Running:
    """A sandbox process."""

    process: subprocess.Popen[str]
    client: Client

    def stop(self) -> tuple[int, str, float]:
        """End it with SIGTERM; return its exit code, its stderr and how many seconds that took."""
        began = time.monotonic()
        self.process.terminate()
        _, errors = self.process.communicate(timeout=10)
        return self.process.returncode, errors, time.monotonic() - began


def launch(*arguments: str) -> Running:
    """Start a sandbox on a free port and wait until it listens."""
    command = [*COMMAND, "--port", "0", "--print-connection", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(process.communicate()[1])
    return Running(process, Client(json.loads(line)))


@pytest.fixture(scope="session")
def shared() -> Iterator[Client]:
    """One process for all tests that do not need their own arguments."""
    running = launch()
    yield running.client
    code, errors, _ = running.stop()
    assert code == 0
    assert "Traceback" not in errors, errors


@pytest.fixture
def redox(shared: Client) -> Client:
    """Give the shared sandbox, as it was at its start."""
    shared.forget()
    return shared


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Start sandboxes with arguments; they end with the test."""
    started: list[Running] = []

    def starter(*arguments: str) -> Running:
        started.append(launch(*arguments))
        return started[-1]

    yield starter
    for running in started:
        if running.process.poll() is None:
            running.stop()


@pytest.fixture(scope="session")
def p384() -> ECKey:
    return ECKey.generate_key("P-384", {"kid": "ec-1"})
