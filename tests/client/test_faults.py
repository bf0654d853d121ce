"""What the wire can do to a request: which error comes, and how often the server saw the request.

Reading may be repeated and is, until patience runs out; a message reaches the server at most once, whatever happens,
unless it cannot have been processed.
"""

from __future__ import annotations

import gzip
import resource
import socket
import threading
import time
import zlib
from typing import Any

import pytest

from airflow_provider_redox.exceptions import (
    RedoxAmbiguousOutcomeError,
    RedoxError,
    RedoxProtocolError,
    RedoxResponseError,
    RedoxSecurityError,
    RedoxTransportError,
)
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from tests.client.conftest import Driver
from tests.client.drivers import ACCEPTED, PATIENT, connection_to, with_token
from tests.support.wire import OK, Scene, Wire, answers, breaks_after, http, pours, reads_then_resets

TRIES = 3
RESOURCE = b'{"resourceType": "Patient", "id": "1"}'
HALF = OK + b'Content-Length: 500\r\n\r\n{"resourceType": "Pat'
CHUNKED = OK + b'Transfer-Encoding: chunked\r\n\r\n15\r\n{"resourceType": "Pa'
ENCODED = OK + b"Content-Encoding: gzip\r\n"


def gzipped(body: bytes, *, length: int | None = None) -> bytes:
    return ENCODED + f"Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def broken(where: int) -> bytes:
    packed = bytearray(gzip.compress(RESOURCE * 40))
    packed[where] ^= 0xFF
    return bytes(packed)


FAULTS: dict[str, Scene] = {
    "reset before a byte was read": reads_then_resets(0),
    "reset after ten bytes": reads_then_resets(10),
    "reset in the headers": reads_then_resets(120),
    "closed after the whole request": breaks_after(),
    "reset after the whole request": breaks_after(reset=True),
    "not HTTP": breaks_after(b"220 mail.example.com ESMTP\r\n"),
    "half a status line": breaks_after(b"HTTP/1.1 20"),
    "half the headers": breaks_after(b"HTTP/1.1 200 OK\r\nContent-Ty"),
    "half a body": breaks_after(HALF),
    "half a body, then reset": breaks_after(HALF, reset=True),
    "chunks cut off": breaks_after(CHUNKED),
    "chunks without an end": breaks_after(CHUNKED + b"ti\r\n"),
    "a chunk size that is none": breaks_after(OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n"),
    "only interim answers": breaks_after(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n"),
    "damaged gzip header": breaks_after(gzipped(broken(0))),
    "damaged gzip checksum": breaks_after(gzipped(broken(-6))),
    "gzip cut off, its length right": breaks_after(gzipped(gzip.compress(RESOURCE * 40)[:-9])),
    "gzip cut off before any data": breaks_after(gzipped(gzip.compress(RESOURCE)[:8])),
    "gzip with garbage behind it": breaks_after(gzipped(gzip.compress(RESOURCE) + b"and more")),
    "gzip that is none": breaks_after(gzipped(RESOURCE)),
    "deflate, not asked for": breaks_after(http(zlib.compress(RESOURCE), Content_Encoding="deflate")),
    "gzip twice": breaks_after(http(gzip.compress(gzip.compress(RESOURCE)), Content_Encoding="gzip, gzip")),
    "brotli": breaks_after(http(b"\x0b\x02\x80hello\x03", Content_Encoding="br")),
    "a login page": breaks_after(http(b"<html>Please sign in</html>", kind="text/html")),
    "500": answers(http(b"oops", status="500 Internal Server Error")),
    "502": answers(http(b"oops", status="502 Bad Gateway")),
    "503 without a time": answers(http(b"oops", status="503 Service Unavailable")),
    "504": answers(http(b"oops", status="504 Gateway Timeout")),
    "408": answers(http(b"oops", status="408 Request Timeout")),
}


def seen(wire: Wire) -> int:
    """Count the requests of which the server saw anything."""
    return sum(1 for record in wire.connections for _ in range(max(record.count(b" HTTP/1.1\r\n"), 1)))


@pytest.mark.parametrize("fault", FAULTS)
def test_reading_is_tried_again(driver: Driver, fault: str) -> None:
    """Whatever happens to a request that may be repeated, it is tried again, and the next answer counts."""
    with Wire(FAULTS[fault], answers(http(RESOURCE))) as wire:
        assert driver(with_token(connection_to(wire.url))).read()["id"] == "1"
        assert seen(wire) == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_reading_ends_in_an_error(driver: Driver, fault: str) -> None:
    """When patience runs out, a request that may be repeated ends in an error that says so and that retrying may heal."""
    with Wire(FAULTS[fault]) as wire:
        with pytest.raises((RedoxTransportError, RedoxResponseError, RedoxProtocolError)) as caught:
            driver(with_token(connection_to(wire.url))).read()
        assert seen(wire) == TRIES
    assert caught.value.retryable


@pytest.mark.parametrize("fault", FAULTS)
def test_a_message_is_sent_once(driver: Driver, fault: str) -> None:
    """A message whose fate is unknown is not sent again: the outcome is ambiguous."""
    with Wire(FAULTS[fault], answers(http(ACCEPTED))) as wire:
        with pytest.raises(RedoxAmbiguousOutcomeError) as caught:
            driver(with_token(connection_to(wire.url))).post()
        assert seen(wire) == 1
    assert PATIENT not in str(caught.value)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "fault",
    [
        "reset before a byte was read",
        "reset after ten bytes",
        "closed after the whole request",
        "half the headers",
        "half a body",
        "gzip cut off before any data",
        "only interim answers",
        "500",
    ],
)
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_sent_once(driver: Driver, fault: str, method: str) -> None:
    """A method that HTTP calls idempotent is still not repeated, not even on a connection that was used before."""
    good = answers(http(RESOURCE))
    with Wire(good, FAULTS[fault], good) as wire:
        drive = driver(with_token(connection_to(wire.url)))
        drive.read()
        with pytest.raises(RedoxAmbiguousOutcomeError):
            drive.run(drive.calls.request(method, "/fhir/x", data=b"{}"))
        assert wire.received.count(f"{method} /fhir/x".encode()) <= 1


@pytest.mark.parametrize("status", ["400 Bad Request", "403 Forbidden", "404 Not Found", "413 Too Large", "501 No"])
def test_refusals_are_final(driver: Driver, status: str) -> None:
    """A refusal is not tried again, and is not ambiguous for a message either."""
    with Wire(answers(http(b"no", status=status))) as wire:
        drive = driver(with_token(connection_to(wire.url)))
        for act in (drive.read, drive.post):
            with pytest.raises(RedoxResponseError) as caught:
                act()
            assert caught.value.status == int(status[:3])
        assert len(wire.requests) == 2


def test_a_busy_gateway_that_names_a_time(driver: Driver) -> None:
    """A 503 with Retry-After has not passed a message on, so it is sent again."""
    busy = answers(http(b"", status="503 Service Unavailable", Retry_After="0"))
    with Wire(busy, answers(http(ACCEPTED))) as wire:
        assert driver(with_token(connection_to(wire.url))).post().log_ids == ("log-1",)
        assert len(wire.requests) == 2


def test_interim_answers_are_skipped(driver: Driver) -> None:
    """Answers of class 1xx are not the answer."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    with Wire(answers(interim + http(ACCEPTED))) as wire:
        assert driver(with_token(connection_to(wire.url))).post().log_ids == ("log-1",)


@pytest.mark.parametrize(
    "answer",
    [
        gzipped(gzip.compress(RESOURCE)),
        gzipped(gzip.compress(RESOURCE[:9]) + gzip.compress(RESOURCE[9:])),
        http(gzip.compress(RESOURCE), Content_Encoding="x-gzip"),
        http(RESOURCE, Content_Encoding="identity"),
        OK + b"\r\n" + RESOURCE,
        OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(RESOURCE), RESOURCE),
        OK + b"Transfer-Encoding: chunked\r\n\r\n%x;name=value\r\n%s\r\n0\r\nX-After: 1\r\n\r\n" % (len(RESOURCE), RESOURCE),
        OK.replace(b"1.1", b"1.0") + b"\r\n" + RESOURCE,
    ],
    ids=["gzip", "gzip in two members", "x-gzip", "identity", "until close", "chunked", "trailers", "HTTP/1.0"],
)
def test_odd_but_whole_answers(driver: Driver, answer: bytes) -> None:
    """Every whole form of an answer that HTTP allows and that was asked for is read."""
    with Wire(breaks_after(answer)) as wire:
        assert driver(with_token(connection_to(wire.url))).read()["id"] == "1"
        assert seen(wire) == 1


@pytest.mark.parametrize("length", [3, 5000])
def test_wrong_content_length(driver: Driver, length: int) -> None:
    """A body of another length than was stated is never taken for whole."""
    wrong = OK + f"Content-Length: {length}\r\n\r\n".encode() + RESOURCE
    with Wire(breaks_after(wrong)) as wire, pytest.raises((RedoxTransportError, RedoxProtocolError)):
        driver(with_token(connection_to(wire.url))).read()


@pytest.mark.parametrize(
    "head",
    [b"X-Long: " + b"x" * 200_000 + b"\r\n", b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(20_000))],
    ids=["one of 200 kB", "20,000 of them"],
)
def test_huge_headers(driver: Driver, head: bytes) -> None:
    """Headers without measure are an error, and a message is not sent again for them."""
    with Wire(breaks_after(OK + head + b"Content-Length: 2\r\n\r\n{}")) as wire:
        drive = driver(with_token(connection_to(wire.url)))
        with pytest.raises((RedoxTransportError, RedoxProtocolError)):  # older aiohttp counts no headers, and reads on
            drive.read()
        with pytest.raises(RedoxAmbiguousOutcomeError):
            drive.post()


def test_oversize_stated(driver: Driver) -> None:
    """A body above the limit is left unread: a protocol error, not tried again; for a message ambiguous."""
    with Wire(breaks_after(http(b"x" * 2000, Connection="close"))) as wire:
        drive = driver(with_token(connection_to(wire.url)), body_limit=1000)
        with pytest.raises(RedoxProtocolError, match="more than 1000 bytes"):
            drive.read()
        with pytest.raises(RedoxAmbiguousOutcomeError):
            drive.post()
        assert seen(wire) == 2


def test_a_body_of_exactly_the_limit(driver: Driver) -> None:
    """The limit itself is allowed."""
    body = RESOURCE.ljust(1000)
    with Wire(breaks_after(http(body))) as wire:
        assert driver(with_token(connection_to(wire.url)), body_limit=1000).read()["id"] == "1"


def test_endless_body(driver: Driver) -> None:
    """A body without an end is left at the limit."""
    with Wire(pours(OK + b"\r\n", b" " * 65536, 100_000)) as wire:
        with pytest.raises(RedoxProtocolError):
            driver(with_token(connection_to(wire.url)), body_limit=1 << 20).read()
        assert seen(wire) == 1


@pytest.mark.parametrize(
    ("member", "error"), [("behind the end", "too many parts"), ("empty blocks", "larger than the limit")]
)
def test_endless_gzip_that_yields_nothing(driver: Driver, member: str, error: str) -> None:
    """Compressed data that never yields a byte is left too: at the limit on its way in, or after a hundred members."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = packer.compress(b"{}") + packer.flush(zlib.Z_FULL_FLUSH)
    head, chunk = {
        "behind the end": (gzip.compress(b"{}"), gzip.compress(b"") * 3000),
        "empty blocks": (start, b"\x00\x00\x00\xff\xff" * 12_000),
    }[member]
    errors = (RedoxProtocolError, RedoxTransportError)
    with Wire(pours(ENCODED + b"\r\n" + head, chunk, 2000)) as wire, pytest.raises(errors, match=error):
        driver(with_token(connection_to(wire.url)), body_limit=1 << 20).read()


@pytest.fixture(scope="module")
def gibibyte() -> bytes:
    """1 GiB of spaces, packed into 1 MB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = packer.compress(b"{") + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b" " * (1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + block * 64


def test_gzip_bomb(driver: Driver, gibibyte: bytes) -> None:
    """A body that unpacks to 1 GiB is left at the limit, within 150 MB of memory."""
    with Wire(breaks_after(http(gibibyte, Content_Encoding="gzip"))) as wire:
        drive = driver(with_token(connection_to(wire.url)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(RedoxProtocolError, match="larger than the limit"):
            drive.read()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 150 * 1024
        assert seen(wire) == 1


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("act", ["read", "post"])
def test_refused_port(driver: Driver, act: str) -> None:
    """A refused connection is a transport error for a message too: nothing was sent. It names no query and no body."""
    drive = driver(with_token(connection_to(f"http://127.0.0.1:{closed_port()}")))
    with pytest.raises(
        RedoxTransportError, match=r"nothing was sent: the connection was refused \(after 3 tries\)"
    ) as caught:
        getattr(drive, act)()
    assert PATIENT not in repr(caught.value)


@pytest.mark.parametrize("act", ["read", "post"])
def test_unknown_host(driver: Driver, act: str) -> None:
    """A host without an address is a transport error that says so."""
    drive = driver(with_token(connection_to("https://redox.invalid")))
    with pytest.raises(RedoxTransportError, match="nothing was sent: the host name cannot be resolved"):
        getattr(drive, act)()


def test_a_search_that_fails_shows_no_parameter(driver: Driver) -> None:
    """An error of a search and its chain hold none of its parameters."""
    drive = driver(with_token(connection_to(f"http://127.0.0.1:{closed_port()}")))
    with pytest.raises(RedoxTransportError) as caught:
        drive.search(family=PATIENT)
    assert PATIENT not in everything_said(caught.value)


def everything_said(error: BaseException | None) -> str:
    said = ""
    while error is not None:
        said += f"{error!r} {error} {getattr(error, '__notes__', '')}"
        error = error.__cause__ or error.__context__
    return said


def test_the_server_comes_back(driver: Driver) -> None:
    """A message that could not be sent is sent when the server is there, once."""
    port = closed_port()
    late: list[Wire] = []

    def start() -> None:
        time.sleep(0.2)
        late.append(Wire(answers(http(ACCEPTED)), port=port).__enter__())

    starting = threading.Thread(target=start)
    starting.start()
    drive = driver(with_token(connection_to(f"http://127.0.0.1:{port}")), retry=RetryPolicy(attempts=50, base=0.05, cap=0.1))
    try:
        drive.post()
        assert len(late[0].requests) == 1
    finally:
        starting.join()
        late[0].__exit__()


def test_the_token_endpoint_is_asked_again(driver: Driver) -> None:
    """A token request that is cut off is repeated, with another assertion, and the message goes out once."""
    with Wire(breaks_after(), breaks_after(reset=True), answers(http(ACCEPTED))) as wire:
        driver(connection_to(wire.url)).post()
        asked = [request for request in wire.requests if b"/v2/auth/token" in request]
        assert len(set(asked)) == 3
        assert sum(b"/endpoint" in request.split(b"\r\n")[0] for request in wire.requests) == 1


def test_no_token_no_message(driver: Driver) -> None:
    """While there is no token, nothing but token requests leaves, and the error is not an ambiguous one."""
    with Wire(breaks_after()) as wire:
        with pytest.raises(RedoxTransportError, match="token endpoint"):
            driver(connection_to(wire.url)).post()
        assert len(wire.requests) == TRIES
        assert PATIENT.encode() not in wire.received


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("act", ["token", "read", "post"])
def test_redirects_are_not_followed(driver: Driver, status: str, act: str) -> None:
    """The target of a redirect sees nothing, and no request is sent twice.

    A server may have processed a message before it names where to look (301 to 303): that is ambiguous.
    """
    with Wire() as target:
        away = http(b"", status=status, Location=f"{target.url}/elsewhere")

        def redirects(line: Any) -> bool:
            line.request()
            line.send(away)
            return True

        with Wire(redirects) as wire:
            connection = connection_to(wire.url)
            drive = driver(connection if act == "token" else with_token(connection))
            processed = act == "post" and not status.startswith(("307", "308"))
            with pytest.raises(RedoxAmbiguousOutcomeError if processed else RedoxSecurityError) as caught:
                getattr(drive, act)()
            assert len(wire.requests) == 1
        assert not target.connections
    assert not caught.value.retryable
    assert isinstance(caught.value, RedoxError)


def test_a_redirect_to_the_same_server_is_not_followed_either(driver: Driver) -> None:
    """A redirect within the origin would repeat the request, so it is refused as well."""
    with Wire(answers(http(b"", status="307 Temporary", Location="/endpoint2"))) as wire:
        with pytest.raises(RedoxSecurityError):
            driver(with_token(connection_to(wire.url))).post()
        assert len(wire.requests) == 1


PAGE = b'{"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": {"resourceType": "Patient", "id": "1"}}]}'
ANSWER = b'{"Meta": {"DataModel": "Scheduling", "EventType": "Booked"}}'
LOG = b'{"payload": {"result": {"id": "1"}}}'
NOT_WHOLE: dict[str, tuple[str, dict[str, str]]] = {
    "206": ("206 Partial Content", {"Content-Range": "bytes 0-9/100"}),
    "206 that says nothing": ("206 Partial Content", {}),
    "200 with a range": ("200 OK", {"Content-Range": "bytes 0-9/100"}),
    "202": ("202 Accepted", {}),
    "203": ("203 Non-Authoritative Information", {}),
    "204": ("204 No Content", {}),
    "205": ("205 Reset Content", {}),
}


@pytest.mark.parametrize("status", NOT_WHOLE.values(), ids=NOT_WHOLE)
@pytest.mark.parametrize("asked", ["page", "resource", "query", "log"])
def test_a_part_of_an_answer_is_none(driver: Driver, asked: str, status: tuple[str, dict[str, str]]) -> None:
    """What only asks takes status 200 alone for a whole answer: any other is asked for again, and then an error."""
    body = {"page": PAGE, "resource": RESOURCE, "query": ANSWER, "log": LOG}[asked]
    said, headers = status
    part = http(b"" if said[:3] in ("204", "205") else body, status=said, **headers)
    with Wire(breaks_after(part)) as wire:
        drive = driver(with_token(connection_to(wire.url, organization_id="1")))
        asks = {
            "page": drive.search,
            "resource": drive.read,
            "query": lambda: drive.run(drive.calls.query(drive.calls.complete_message(QUESTION))),
            "log": lambda: drive.run(drive.calls.log("1")),
        }
        with pytest.raises(RedoxProtocolError, match=r"not a whole answer|Content-Range"):
            asks[asked]()
        assert seen(wire) == TRIES


QUESTION = {"Meta": {"DataModel": "Scheduling", "EventType": "Booked", "Destinations": [{"ID": "0f4bd1d1-451d"}]}}


@pytest.mark.parametrize("kind", ["text/csv", "application/fhir+ndjson", "application/json"])
def test_a_raw_answer_that_may_have_been_cut_is_an_error(driver: Driver, kind: str) -> None:
    """A GET of the author's own whose answer ends with its connection is no success, unless it is whole JSON."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n".encode()
    with Wire(breaks_after(head + b'{"a": 1}\n{"a": ')) as wire, pytest.raises(RedoxProtocolError):
        drive = driver(with_token(connection_to(wire.url)))
        drive.run(drive.calls.request("GET", "/fhir/x"))
    with Wire(breaks_after(head + b'{"a": 1}')) as wire:
        drive = driver(with_token(connection_to(wire.url)))
        if kind == "application/json":
            assert drive.run(drive.calls.request("GET", "/fhir/x")).json() == {"a": 1}
        else:
            with pytest.raises(RedoxProtocolError, match="does not say where it ends"):
                drive.run(drive.calls.request("GET", "/fhir/x"))
