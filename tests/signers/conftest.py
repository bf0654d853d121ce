"""Connections that hold no key, and a proxy that counts what a key service is asked."""

from __future__ import annotations

import contextlib
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import pytest
import trustme

from airflow_provider_redox import signers, token_cache
from airflow_provider_redox.client.slots import MemorySlot
from airflow_provider_redox.hooks.redox import RedoxHook
from tests.operators.conftest import markers
from tests.signers.fakes import Fake, Proxy
from tests.support.sandbox import Sandbox

__all__ = ["markers"]

F = TypeVar("F", bound=Fake)
Connect = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def fresh_signers() -> None:
    """Let no test use what another one has asked."""
    signers.forget()
    token_cache._warn_of_memory.cache_clear()
    MemorySlot.forget_all()


@pytest.fixture
def connect(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Put a connection by a remote signer into the environment, and give its public key to the sandbox."""

    def put(signer: str, key: str, *, register: bool = True, **extra: Any) -> dict[str, Any]:
        connection = {**sandbox.with_extra(**{"kid": None, "signer": signer, "signer_key": key, **extra}), "password": None}
        monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(connection))
        if register:
            register_at(sandbox, RedoxHook())
        return connection

    return put


def register_at(sandbox: Sandbox, hook: RedoxHook) -> None:
    """Give a connection's public key to the sandbox, as `jwks` would print it."""
    settings = hook.client.settings
    jwks = {"keys": [key.public_jwk() for key in settings.keys]}
    sandbox.control("POST", "clients", {"client_id": settings.client_id, "jwks": jwks})
    MemorySlot.forget_all()


@contextlib.contextmanager
def led_to(kind: type[F], hosts: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[F]:
    """Run a stand-in to which the real host names of a service lead, with certificates that this process trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*hosts).configure_cert(tls)
    running = kind(tls)
    proxy = Proxy(running.port)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "ca.pem"))
    yield running
    proxy.stop()
    running.stop()
    assert set(proxy.hosts) <= set(hosts)


class Counter:
    """A server before a key service. It passes on what it is asked, and counts; or answers as the test says.

    :param calls: the names of the calls, such as `Sign`, in order.
    :param answer: what to answer instead, `(status, body)`; a callable is called first.
    """

    def __init__(self, target: str) -> None:
        self.calls: list[str] = []
        self.bodies: list[bytes] = []
        self.answer: Any = None
        counter = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                counter.calls.append(self.headers.get("x-amz-target", self.path).rpartition(".")[2])
                counter.bodies.append(body)
                said = counter.answer() if callable(counter.answer) else counter.answer
                status, answer = said or passed_on(target + self.path, body, dict(self.headers))
                self.send_response(status)
                self.send_header("content-type", "application/x-amz-json-1.1")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)


def passed_on(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    kept = {name: value for name, value in headers.items() if name.lower() not in ("content-length", "connection")}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, kept), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.fixture
def counted(kms: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter]:
    """A counter before the KMS, where boto3 finds it."""
    counter = Counter(kms.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", counter.url)
    yield counter
    counter.stop()
