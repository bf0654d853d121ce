"""Servers that attack, and a witness of what a use of the connection leaves to be seen."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_redox.client import driver
from airflow_provider_redox.client.slots import MemorySlot
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from airflow_provider_redox.triggers import polling
from tests.client.drivers import connection_to, pem
from tests.security.ways import SENDING, WAYS, Way
from tests.security.witness import chain, logged
from tests.support.wire import TOKEN, Wire

QUICK = RetryPolicy(attempts=2, base=0.01, cap=0.02, rate_limit_floor=0.01)
LOGGERS = ("", "airflow_provider_redox", "urllib3", "urllib3.connectionpool", "aiohttp", "aiohttp.client", "asyncio")


@dataclass
class Ended:
    """How a use of the connection ended, and all that was said in it."""

    error: BaseException | None
    said: str
    result: Any = None


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No token at hand, no proxy, no waiting of half a minute between two tries."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    real = driver.real_environment
    monkeypatch.setattr(driver, "real_environment", lambda retry=None, **options: real(retry or QUICK, **options))
    monkeypatch.setattr(polling, "GATHERING", 0.0)
    monkeypatch.setattr(polling, "_RETRY", QUICK)
    MemorySlot.forget_all()
    yield
    MemorySlot.forget_all()


@pytest.fixture
def go(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Ended]:
    """Go a way on a connection to a server, everything at DEBUG, and tell how it ended."""
    for name in LOGGERS:
        caplog.set_level(logging.DEBUG, logger=name)

    def use(way: Way, server: Wire | str, **extra: Any) -> Ended:
        url = server if isinstance(server, str) else server.url
        monkeypatch.setenv(
            "AIRFLOW_CONN_REDOX_DEFAULT",
            json.dumps(connection_to(url, **{"organization_id": "o-1", "environment_id": "e-1", **extra})),
        )
        caplog.clear()
        error, result = None, None
        try:
            result = way.use(tmp_path)
        except Exception as raised:  # noqa: BLE001  (what it is, is for the test to judge)
            error = raised
        out, err = capfd.readouterr()
        return Ended(error, "\n".join((logged(caplog.records), out, err, chain(error) if error else "")), result)

    return use


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    """Each way to use a connection."""
    return request.param


@pytest.fixture(params=SENDING, ids=lambda way: way.name)
def sending(request: pytest.FixtureRequest) -> Way:
    """Each way that sends a patient."""
    return request.param


def pairs(ways: list[Way], cases: dict[str, Any], *, of: int = 6) -> list[Any]:
    """Pair each way with each case. One pair in six, so that each way and each case is there, is quick, the rest is slow."""
    return [
        pytest.param(way, case, id=f"{way.name}-{name}", marks=() if (row + column) % of == 0 else pytest.mark.slow)
        for row, way in enumerate(ways)
        for column, (name, case) in enumerate(cases.items())
    ]


def secrets_of(wire: Wire) -> list[str]:
    """Give what must not be seen: the key, the token, and each assertion that was sent."""
    body = wire.received.decode("latin-1")
    assertions = [part.split("&")[0].split("\n")[0] for part in body.split("client_assertion=")[1:]]
    return [pem(), TOKEN, *assertions]
