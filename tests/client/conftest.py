"""A factory for each of the two drivers, which closes what it made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_redox.client.slots import MemorySlot
from tests.client.drivers import Awaiting, Blocking, Drive

Driver = Callable[..., Drive]


@pytest.fixture(params=[Blocking, Awaiting], ids=["blocking", "awaiting"])
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    """Make drivers of one kind for a connection."""
    made: list[Drive] = []

    def make(connection: dict[str, Any], **options: Any) -> Drive:
        made.append(Drive(request.param, connection, **options))
        return made[-1]

    MemorySlot.forget_all()
    yield make
    for drive in made:
        drive.face.close()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no CA bundle of the machine that runs the tests."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "curl_ca_bundle", "requests_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
