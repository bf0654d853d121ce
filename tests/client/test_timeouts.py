"""Every wait has an end: the connection's timeout for a silence, a deadline for what drips, room for what is large."""

from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_provider_redox.client import network
from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError, RedoxTransportError
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from tests.client.conftest import Driver
from tests.client.drivers import connection_to, with_token
from tests.support.wire import OK, Wire, drips, http

ONCE = RetryPolicy(attempts=1)
BRIEF = {"timeout": 0.3}
"""A timeout shorter than a connection may say, so that the tests are short."""


def silent(line: Any) -> None:
    """Read the request and say nothing."""
    line.request()
    line.wire.stopping.wait()


@pytest.fixture(autouse=True)
def short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than half a second to reach the server."""
    monkeypatch.setattr(network, "CONNECT_TIMEOUT", 0.4)


def test_silence(driver: Driver) -> None:
    """A server that says nothing is left after the connection's timeout."""
    with Wire(silent) as wire:
        drive = driver(with_token(connection_to(wire.url, timeout=1)), retry=ONCE)
        started = time.monotonic()
        with pytest.raises(RedoxTransportError, match="no answer in time"):  # the server would wait for ever
            drive.read()
        assert time.monotonic() - started > 0.9


def test_silence_after_a_message(driver: Driver) -> None:
    """A message that gets no answer in time is ambiguous, and was sent once."""
    with Wire(silent) as wire:
        with pytest.raises(RedoxAmbiguousOutcomeError, match="no answer in time"):
            driver(with_token(connection_to(wire.url)), change=BRIEF).post()
        assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (OK + b"Content-Length: 100000\r\n\r\n", b" "),
        (OK + b"\r\n", b" "),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n", b" "),
        (OK + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\0", b"name"),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ],
    ids=["stated length", "until close", "chunks", "one chunk", "gzip header", "a header", "interim answers"],
)
def test_drips(driver: Driver, head: bytes, drop: bytes) -> None:
    """An answer that never falls silent and never ends is left as well."""
    with Wire(drips(head, drop, at_most=100)) as wire:
        drive = driver(with_token(connection_to(wire.url)), retry=ONCE, change=BRIEF)
        with pytest.raises(RedoxTransportError, match="in time"):
            drive.read()


def test_slow_is_not_too_slow(driver: Driver) -> None:
    """An answer that takes its time but keeps coming is read to its end."""

    def slow(line: Any) -> None:
        line.request()
        for byte in http(b'{"resourceType": "Patient", "id": "1"}'):
            line.send(bytes([byte]))
            time.sleep(0.005)

    with Wire(slow) as wire:
        assert driver(with_token(connection_to(wire.url, timeout=2)), retry=ONCE).read()["id"] == "1"


def test_a_large_body_has_time(driver: Driver) -> None:
    """Sending may take longer than connecting may: a slow line carries a large message."""

    def sluggish(line: Any) -> None:
        line.sock.setsockopt(1, 8, 65536)  # SOL_SOCKET, SO_RCVBUF
        head = b""
        while b"\r\n\r\n" not in head:
            head += line.read(2000)
        time.sleep(0.6)
        left = 12_000_000 - len(head.partition(b"\r\n\r\n")[2])
        while left > 0:
            left -= len(line.read(1 << 20))
        line.send(http(b"{}"))

    with Wire(sluggish) as wire:
        drive = driver(with_token(connection_to(wire.url, timeout=3)), retry=ONCE)
        drive.run(drive.calls.request("POST", "/endpoint", data=b" " * 12_000_000))


def test_a_server_that_does_not_read(driver: Driver) -> None:
    """A message that the server does not take off the line is given up, as ambiguous."""

    def deaf(line: Any) -> None:
        line.sock.setsockopt(1, 8, 65536)
        line.wire.stopping.wait()

    with Wire(deaf) as wire:
        drive = driver(with_token(connection_to(wire.url)), change=BRIEF)
        with pytest.raises(RedoxAmbiguousOutcomeError):  # the server would wait for ever
            drive.run(drive.calls.request("POST", "/endpoint", data=b" " * 12_000_000))
