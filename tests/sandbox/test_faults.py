"""Faults on order: what a client sees, and what the ledger says about it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from typing import Any

import pytest
import requests

from .conftest import KEVA, Client, message


def read(redox: Client, **options: Any) -> requests.Response:
    return redox.call("GET", redox.fhir(f"Patient/{KEVA}"), **options)


def send(redox: Client) -> requests.Response:
    return redox.post(message("Device", "New", redox.extra["destinations"]["general"]["id"]))


def raw(redox: Client, path: str = "") -> bytes:
    """Send a read by hand and return every byte until the connection ends; a reset ends it too."""
    head = (
        f"GET {path or redox.fhir(f'Patient/{KEVA}')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {redox.token()}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", redox.connection["port"]), timeout=5) as line:
        line.sendall(head.encode())
        received = b""
        while True:
            try:
                chunk = line.recv(65536)
            except ConnectionResetError:
                return received + b"<reset>"
            if not chunk:
                return received + b"<end>"
            received += chunk


@pytest.fixture
def ready(redox: Client) -> Client:
    """Give a sandbox whose token is fetched, so that a fault meets the next request."""
    redox.token()
    redox.control("DELETE", "ledger")
    return redox


def test_a_status_is_answered_as_ordered(ready: Client) -> None:
    """The fault status has a status, a body, a content type and headers of its own."""
    ready.fault("status", status=503, body="busy", content_type="text/html", headers={"Retry-After": "3"})
    answer = read(ready)
    assert (answer.status_code, answer.text, answer.headers["Retry-After"]) == (503, "busy", "3")
    assert answer.headers["Content-Type"] == "text/html"
    assert read(ready).status_code == 200


def test_before_means_nothing_was_stored(ready: Client) -> None:
    """A fault before the work: the message is not there, and the ledger says not committed."""
    ready.fault("status", status=502)
    assert send(ready).status_code == 502
    assert ready.control("GET", "messages").json() == []
    (entry,) = ready.ledger()
    assert (entry["status"], entry["fault"], entry["committed"]) == (502, "status", False)


@pytest.mark.parametrize("kind", ["drop", "reset", "garbage", "raw", "status", "html", "reset_in_body", "truncate"])
def test_after_means_it_was_stored(ready: Client, kind: str) -> None:
    """A fault after the work: the client sees a failure, the message is there all the same."""
    ready.fault(kind, when="after")
    with contextlib.suppress(requests.RequestException):
        assert not send(ready).headers["Content-Type"].startswith("application/json")
    assert len(ready.control("GET", "messages").json()) == 1
    (entry,) = ready.ledger()
    assert (entry["fault"], entry["committed"]) == (kind, True)


def test_a_drop_is_an_end_without_an_answer(ready: Client) -> None:
    """The connection closes and not one byte came; the ledger has no status."""
    ready.fault("drop")
    assert raw(ready) == b"<end>"
    assert ready.ledger()[0]["status"] is None


def test_a_reset_is_a_reset(ready: Client) -> None:
    """The client gets RST, not FIN."""
    ready.fault("reset")
    assert raw(ready) == b"<reset>"
    assert (ready.ledger()[0]["status"], ready.ledger()[0]["committed"]) == (None, False)


def split(answer: bytes) -> tuple[int, bytes]:
    """Return the promised and the received body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    return int(length.split(b":")[1]), body


def test_a_reset_in_the_body_comes_after_its_first_half(ready: Client) -> None:
    """The status line, the headers and half of the body arrive, then RST."""
    ready.fault("reset_in_body")
    length, body = split(raw(ready))
    assert body.endswith(b"<reset>")
    assert len(body.removesuffix(b"<reset>")) == length // 2


def test_a_truncated_body_ends_politely(ready: Client) -> None:
    """Half of the promised bytes arrive, then FIN."""
    ready.fault("truncate")
    length, body = split(raw(ready))
    assert body.endswith(b"<end>")
    assert len(body.removesuffix(b"<end>")) == length // 2


def test_a_length_may_be_wrong(ready: Client) -> None:
    """The whole body arrives, and more was promised."""
    ready.fault("wrong_length", length=100_000)
    length, body = split(raw(ready))
    assert length == 100_000
    assert body.removesuffix(b"<end>").endswith(b"}")


def test_html_comes_with_200(ready: Client) -> None:
    """A gateway's page of maintenance has a good status."""
    ready.fault("html")
    answer = read(ready)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert answer.text.startswith("<!DOCTYPE html>")


def test_an_outcome_comes_with_200(ready: Client) -> None:
    """A destination's failure is an OperationOutcome of severity error inside a 200."""
    ready.fault("outcome", text="no answer")
    answer = ready.search("Patient", {"_id": KEVA})
    assert (answer.status_code, answer.json()["issue"][0]["severity"]) == (200, "error")
    assert answer.json()["issue"][0]["diagnostics"] == "no answer"


def test_a_body_drips(ready: Client) -> None:
    """The body comes slowly and whole, at the speed that was ordered."""
    plain = read(ready)
    ready.fault("drip", bytes_per_second=len(plain.content) * 4)
    began = time.monotonic()
    assert read(ready).content == plain.content
    assert time.monotonic() - began > 0.15


def test_a_delay_comes_before_or_after_the_work(ready: Client) -> None:
    """The answer is right, only late; a client that left before the work began has nothing stored."""
    ready.fault("delay", seconds=0.3)
    began = time.monotonic()
    assert read(ready).status_code == 200
    assert time.monotonic() - began >= 0.3
    for when, stored in (("before", 0), ("after", 1)):
        ready.control("DELETE", "ledger")
        ready.fault("delay", seconds=0.4, when=when)
        with pytest.raises(requests.ReadTimeout):
            ready.call("POST", "/endpoint", json=message("Device", "New", *_ids(ready)), timeout=0.15)
        time.sleep(0.4)
        assert len(ready.control("GET", "messages").json()) == stored
        (entry,) = ready.ledger()
        assert (entry["committed"], entry["status"]) == (bool(stored), None)


def _ids(redox: Client) -> list[str]:
    return [redox.extra["destinations"]["general"]["id"]]


def test_a_bomb_is_small_on_the_wire(ready: Client) -> None:
    """A few kilobytes unpack to the size that was ordered, and to valid JSON."""
    ready.fault("gzip_bomb", size=5_000_000, times=2)
    packed = raw_length(ready)
    answer = read(ready)
    assert packed < 20_000
    assert len(answer.content) == 5_000_000
    assert answer.json()["resourceType"] == "Bundle"


def raw_length(redox: Client) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", redox.connection["port"], timeout=10)
    connection.request("GET", redox.fhir(f"Patient/{KEVA}"), headers={"Authorization": f"Bearer {redox.token()}"})
    answer = connection.getresponse()
    size = len(answer.read())
    connection.close()
    return size


def test_a_redirect_leads_where_it_is_told(ready: Client) -> None:
    """The default is 307; status and location are given."""
    ready.fault("redirect", location="http://127.0.0.1:1/x")
    ready.fault("redirect", status=302, location="/y")
    answers = [read(ready), read(ready)]
    assert [(answer.status_code, answer.headers["Location"]) for answer in answers] == [
        (307, "http://127.0.0.1:1/x"),
        (302, "/y"),
    ]


def test_garbage_is_not_http(ready: Client) -> None:
    """What comes back has no status line; raw sends the very bytes that were ordered."""
    ready.fault("garbage")
    assert not raw(ready).startswith(b"HTTP")
    ready.fault("raw", body="HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    assert raw(ready) == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi<end>"
    ready.fault("raw", body_base64="AP8=")
    assert raw(ready) == b"\x00\xff<end>"


def test_headers_are_added_to_the_real_answer(ready: Client) -> None:
    """The body stays; headers are added or replaced, null takes one away."""
    headers = {"X-Extra": "1", "Redox-Trace-Id": None, "Content-Type": "application/json"}
    ready.fault("headers", headers=headers)
    answer = read(ready)
    assert answer.json()["id"] == KEVA
    assert (answer.headers["X-Extra"], answer.headers["Content-Type"]) == ("1", "application/json")
    assert "Redox-Trace-Id" not in answer.headers


def test_a_body_is_replaced_under_the_real_status(ready: Client) -> None:
    """The status and type stay, the body is the one that was ordered."""
    ready.fault("body", body={"resourceType": "Bundle"})
    answer = read(ready)
    assert (answer.status_code, answer.json()) == (200, {"resourceType": "Bundle"})
    assert answer.headers["Content-Type"].startswith("application/fhir+json")


def test_an_order_meets_what_it_matches(ready: Client) -> None:
    """Method, path, query and body are patterns, and all of them have to fit."""
    match = {"method": "POST", "path": "_search$", "body": "family=Gr", "query": "^$"}
    ready.fault("status", status=500, match=match)
    assert read(ready).status_code == 200
    assert ready.search("Patient", {"_id": KEVA}).status_code == 200
    found = ready.search("Patient", {"given": "Keva", "family": "Green", "birthdate": "1995-08-26"})
    assert found.status_code == 500


def test_an_order_can_wait_and_repeat(ready: Client) -> None:
    """With skip, requests pass first; times says how many are hit, null is for ever."""
    ready.fault("status", status=500, skip=1, times=2)
    assert [read(ready).status_code for _ in range(4)] == [200, 500, 500, 200]
    ready.fault("status", status=500, times=None)
    assert {read(ready).status_code for _ in range(4)} == {500}
    shown = ready.control("GET", "faults").json()
    assert [(order["times"], order["hits"]) for order in shown] == [(0, 2), (None, 4)]
    ready.control("DELETE", "faults")
    assert read(ready).status_code == 200


def test_orders_are_carried_out_in_their_sequence(ready: Client) -> None:
    """A list of orders is a script: the first that is due meets the request."""
    ready.control("POST", "faults", [{"kind": "status", "status": 503}, {"kind": "status", "status": 429}])
    assert [read(ready).status_code for _ in range(3)] == [503, 429, 200]


def test_a_token_request_can_fail_too(redox: Client) -> None:
    """The token endpoint is a path like the others."""
    redox.fault("status", match={"path": "/v2/auth/token"}, status=500)
    assert [redox.ask_token().status_code, redox.ask_token().status_code] == [500, 200]


def test_the_control_plane_never_fails(redox: Client) -> None:
    """A fault for everything does not meet the control plane."""
    redox.fault("status", status=500, times=None)
    assert redox.control("GET", "stats").status_code == 200


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"kind": "explode"},
        {"kind": "status", "when": "later"},
        {"kind": "truncate", "when": "before"},
        {"kind": "status", "match": {"path": "("}},
        {"kind": "status", "match": {"header": "x"}},
        {"kind": "status", "times": -1},
        {"kind": "status", "skip": True},
        {"kind": "status", "status": 99},
        {"kind": "status", "colour": "red"},
        {"kind": "raw", "body_base64": "%"},
        {"kind": "headers", "headers": {"Content-Length": "1"}},
        [{"kind": "status"}, {"kind": "explode"}],
    ],
)
def test_an_order_that_makes_no_sense_is_refused(redox: Client, order: Any) -> None:
    """A wrong order gets 400 and a sentence, and nothing of it is taken."""
    answer = redox.control("POST", "faults", order)
    assert (answer.status_code, bool(answer.json()["error"])) == (400, True)
    assert redox.control("GET", "faults").json() == []
