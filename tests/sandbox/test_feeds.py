"""The sandbox on Redox's side: it verifies a destination, pushes, tries again, alerts, redelivers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from tests.support.sandbox import Sandbox

TOKEN = "the-token-of-the-destination"


class Destination(ThreadingHTTPServer):
    """A destination that keeps what it gets, and answers as it is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.got: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_port}/results"


class Answering(BaseHTTPRequestHandler):
    server: Destination

    def do_GET(self) -> None:
        self.answer(200, parse_qs(urlsplit(self.path).query)["challenge"][0])

    def do_POST(self) -> None:
        body = msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"])))
        if "challenge" in body:
            self.answer(200 if body["verification-token"] == TOKEN else 401, body["challenge"])
            return
        self.server.got.append(body)
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.answer(self.server.answers.pop(0) if self.server.answers else 200, "")

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def destination() -> Iterator[Destination]:
    server = Destination()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(10)


def feed(sandbox: Sandbox) -> dict[str, Any]:
    (only,) = sandbox.control("GET", "feeds")
    return only


def until(sandbox: Sandbox, **facts: Any) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while {name: (found := feed(sandbox))[name] for name in facts} != facts:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return feed(sandbox)


def connect(sandbox: Sandbox, destination: Destination, **more: Any) -> None:
    told = {"name": "results", "url": destination.url, "token": TOKEN, "backoff": 0.01, **more}
    sandbox.control("POST", "feeds", told)


def log_ids(destination: Destination) -> list[str]:
    return [body["Meta"]["Logs"][0]["ID"] for body in destination.got]


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_destination_is_verified_by_its_challenge(sandbox: Sandbox, destination: Destination, method: str):
    """In either of Redox's ways."""
    connect(sandbox, destination, method=method)
    assert until(sandbox, verified=True)["trouble"] == ""


def test_a_destination_that_does_not_echo_gets_nothing(sandbox: Sandbox, destination: Destination):
    """And the feed says why. The token is not shown."""
    connect(sandbox, destination, token="another-token")
    sandbox.control("POST", "push", {"feed": "results", "count": 1})
    found = until(sandbox, last_status=401)
    assert (found["verified"], found["delivered"], "token" in found) == (False, 0, False)
    assert "401" in found["trouble"]
    assert destination.got == []


def test_messages_are_pushed_in_order_with_the_token(sandbox: Sandbox, destination: Destination):
    """Each with a log ID of its own, in both headers."""
    connect(sandbox, destination)
    sandbox.control("POST", "push", {"feed": "results", "count": 3, "rate": 100})
    until(sandbox, delivered=3, queued=0)
    assert [body["Orders"][0]["ID"] for body in destination.got] == ["order-0", "order-1", "order-2"]
    assert len(set(log_ids(destination))) == 3
    assert {(one["verification-token"], one["authorization"]) for one in destination.headers} == {(TOKEN, f"Bearer {TOKEN}")}
    assert sandbox.control("GET", "feeds?delivered=results") == log_ids(destination)


def test_a_refusal_pauses_the_feed_and_the_same_message_comes_again(sandbox: Sandbox, destination: Destination):
    """With another attempt ID; after the third failure somebody is alerted, once."""
    destination.answers = [503, 400, 500, 429, 200]
    connect(sandbox, destination)
    sandbox.control("POST", "push", {"feed": "results", "count": 2})
    found = until(sandbox, delivered=2)
    ids = log_ids(destination)
    assert ids == [ids[0]] * 5 + [ids[5]]
    assert len({body["Meta"]["Logs"][0]["AttemptID"] for body in destination.got}) == 6
    assert found["alerts"] == [{"log_id": ids[0], "status": 500, "failures": 3}]
    assert (found["attempts"], found["paused"]) == (6, False)


def test_a_test_is_not_sent_again(sandbox: Sandbox, destination: Destination):
    """Redox retries production traffic only."""
    destination.answers = [500]
    connect(sandbox, destination)
    sandbox.control("POST", "push", {"feed": "results", "count": 2, "test": True})
    assert until(sandbox, delivered=1, dropped=1)["attempts"] == 2


def test_what_was_delivered_can_be_redelivered(sandbox: Sandbox, destination: Destination):
    """By log ID, or the last so many."""
    connect(sandbox, destination)
    message = {"Meta": {"DataModel": "Orders", "EventType": "New", "Logs": [{"ID": "mine"}]}}
    sandbox.control("POST", "push", {"feed": "results", "messages": [message]})
    sandbox.control("POST", "push", {"feed": "results", "count": 2})
    until(sandbox, delivered=3)
    sandbox.control("POST", "redeliver", {"feed": "results", "log_ids": ["mine"]})
    until(sandbox, delivered=4)
    sandbox.control("POST", "redeliver", {"feed": "results", "last": 1})
    until(sandbox, delivered=5)
    assert log_ids(destination)[3:] == ["mine", "mine"]


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("feeds", {"name": "x"}),
        ("feeds", {"name": "x", "url": "ftp://x", "token": "t"}),
        ("feeds", {"name": "x", "url": "http://x", "token": "t", "backoff": -1}),
        ("feeds", []),
        ("push", {"feed": "nobody", "count": 1}),
        ("push", []),
        ("redeliver", {"feed": "nobody"}),
    ],
)
def test_an_order_that_cannot_be_is_refused(sandbox: Sandbox, path: str, wanted: Any):
    """With 400."""
    import requests

    assert requests.post(f"{sandbox.url}/_sandbox/{path}", json=wanted, timeout=10).status_code == 400


def test_a_reset_ends_all_feeds(sandbox: Sandbox, destination: Destination):
    """Nothing is pushed after it."""
    connect(sandbox, destination)
    until(sandbox, verified=True)
    sandbox.reset()
    assert sandbox.control("GET", "feeds") == []
