"""Strangers at the receiver: what they say is neither kept nor counted one by one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_redox.receiver.app import Receiver
from airflow_provider_redox.receiver.settings import ReceiverSettings

TOKEN, METRICS = "the-destinations-own-token", "who-may-read-the-metrics"


@pytest.fixture
def receiver(tmp_path: Path) -> Receiver:
    environment = {"INBOX": f"{tmp_path}/inbox", "TOKENS": TOKEN, "METRICS_TOKEN": METRICS, "MAX_BYTES": "1000"}
    return Receiver(
        ReceiverSettings.from_environment({f"REDOX_RECEIVER_{name}": text for name, text in environment.items()})
    )


def ask(receiver: Receiver, path: str, *, method: str = "POST", token: str = "", body: tuple[bytes, ...] = (b"",)) -> Any:
    """Send a request as an ASGI server does, the body in pieces, and give status and text."""
    headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
    events = [{"type": "http.request", "body": piece, "more_body": True} for piece in body]
    events[-1]["more_body"] = False
    told: list[Any] = []

    async def receive() -> Any:
        return events.pop(0) if events else {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        told.append(event)

    asyncio.run(receiver(scope, receive, send))
    return told[0]["status"], told[1]["body"].decode()


def metrics(receiver: Receiver) -> str:
    return str(ask(receiver, "/metrics", method="GET", token=METRICS)[1])


def test_feeds_that_strangers_make_up_are_not_counted_one_by_one(receiver: Receiver) -> None:
    """Without a token, or with a wrong one, a name of a feed takes no memory: all are counted together."""
    for number in range(200):
        assert ask(receiver, f"/made-up-{number}")[0] == 401
        assert ask(receiver, f"/made-up-{number}", token="not-the-token-at-all")[0] == 401
        assert ask(receiver, f"/made-up-{number}", method="DELETE")[0] == 405
    told = metrics(receiver)
    assert "made-up" not in told
    assert 'redox_receiver_requests_total{feed="-",outcome="unauthorised"} 400' in told


def test_a_body_that_is_too_large_is_given_back_whole(receiver: Receiver) -> None:
    """What a refused body held counts no more when it is gone, so that the bound on memory stays where it is."""
    for _ in range(5):
        assert ask(receiver, "/results", token=TOKEN, body=(b"x" * 900, b"x" * 900))[0] == 413
    assert "redox_receiver_pending_bytes 0" in metrics(receiver)
