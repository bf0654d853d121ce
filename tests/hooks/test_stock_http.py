"""Airflow's own HTTP classes on a redox connection: whatever they do with it, no secret of it goes on the wire.

Only an HttpOperator that is not deferrable goes through our hook. The others make stock hooks from the connection's ID,
which send a login and password as Basic auth and extras as headers: with the login empty, nothing of the key.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.providers.http.notifications.http import HttpNotifier
from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor

from tests.client.drivers import connection_to, pem
from tests.hooks.conftest import Connect
from tests.support.wire import Wire

# The http provider's own imports are deprecated by newer Airflow versions.
pytestmark = pytest.mark.filterwarnings("ignore:.*determine_kwargs:FutureWarning")


def operator() -> None:
    HttpOperator(task_id="ask", http_conn_id="redox_default", method="POST", endpoint="/endpoint", data="{}").execute({})


def sensor() -> None:
    HttpSensor(task_id="ask", http_conn_id="redox_default", endpoint="/x").poke({})


def notifier() -> None:
    HttpNotifier(http_conn_id="redox_default", endpoint="/x", json={}).notify({})


def async_notifier() -> None:
    asyncio.run(HttpNotifier(http_conn_id="redox_default", endpoint="/x", json={}).async_notify({}))


async def first_event(trigger: Any) -> None:
    async for _ in trigger.run():
        return


def deferrable() -> None:
    ask = HttpOperator(task_id="ask", http_conn_id="redox_default", method="GET", endpoint="/x", deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        ask.execute({})
    asyncio.run(first_event(deferred.value.trigger))


WAYS: list[Callable[[], None]] = [operator, sensor, notifier, async_notifier, deferrable]


def pieces_of_the_key(key: str) -> set[str]:
    """Every piece of twenty characters of the key's body, and of its base64, at each of the three offsets."""
    body = "".join(key.splitlines()[1:-1])
    whole = [body, *(base64.b64encode((" " * offset + key).encode()).decode() for offset in range(3))]
    return {text[start : start + 20] for text in whole for start in range(len(text) - 19)}


@pytest.mark.parametrize("way", WAYS)
def test_no_key_on_the_wire(connect: Connect, way: Callable[[], None]) -> None:
    """No part of the private key, plain or in base64, is in any byte that a server receives."""
    with Wire() as wire:
        connect(connection_to(wire.url))
        with contextlib.suppress(Exception):
            way()
        sent = wire.received.decode("latin-1")
    assert sent
    assert not any(piece in sent for piece in pieces_of_the_key(pem()))
    assert "basic" not in sent.lower()


@pytest.mark.parametrize("way", WAYS)
def test_assertions_go_to_the_token_endpoint_only(connect: Connect, way: Callable[[], None]) -> None:
    """An assertion, which anyone could exchange for a token, is in no other request."""
    with Wire() as wire:
        connect(connection_to(wire.url))
        with contextlib.suppress(Exception):
            way()
        elsewhere = [request for request in wire.requests if not request.startswith(b"POST /v2/auth/token ")]
    assert elsewhere
    assert not any(re.search(rb"eyJ[\w-]+\.[\w-]+\.[\w-]+|client_assertion", request) for request in elsewhere)


def test_the_trigger_row_holds_no_key(connect: Connect) -> None:
    """What a deferred HttpOperator stores in the database holds nothing of the key."""
    connect(connection_to("http://127.0.0.1"))
    ask = HttpOperator(task_id="ask", http_conn_id="redox_default", method="GET", endpoint="/x", deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        ask.execute({})
    row: Any = deferred.value.trigger.serialize()
    assert not any(piece in repr(row) for piece in pieces_of_the_key(pem()))
