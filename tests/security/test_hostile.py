"""A hostile or broken server, and each way to use a connection: nothing leaves that should not, nothing is shown."""

from __future__ import annotations

import json
import re
import socket
import ssl
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType
from typing import Any

import pytest
import trustme
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.exceptions import RedoxError
from tests.security.conftest import Ended, pairs, secrets_of
from tests.security.ways import PATIENT, SENDING, WAYS, CommandFailedError, Way
from tests.security.witness import holding
from tests.support.wire import Scene, Wire, answers, http, token_answer

pytestmark = pytest.mark.filterwarnings("ignore:.*determine_kwargs:FutureWarning")

Go = Callable[..., Ended]
OURS = (RedoxError, AirflowFailException, CommandFailedError)
ECHO = "Zyxwvuecho"


def says(data: bytes) -> Scene:
    """Answer everything with this, requests for a token too."""

    def scene(line: Any) -> bool:
        line.request()
        line.send(data)
        return True

    return scene


def failed_well(ended: Ended, wire: Wire, *more: str) -> None:
    """It failed with an error of ours, and nothing that was said holds a secret, the patient, or what is named."""
    assert isinstance(ended.error, OURS), ended.error
    assert holding(ended.said, PATIENT, *secrets_of(wire), *more) == []


@pytest.fixture
def evil() -> Iterator[Wire]:
    """Run the server to which redirects lead: it would give whoever comes a token, and whatever is asked for."""
    with Wire() as running:
        yield running


@pytest.mark.parametrize("status", [302, 307])
def test_a_token_request_is_not_redirected(way: Way, go: Go, evil: Wire, status: int) -> None:
    """The target of a redirected token request sees nothing of the assertion, nor anything else."""
    moved = http(b"", status=f"{status} Moved", Location=f"{evil.url}/v2/auth/token")
    with Wire(says(moved)) as wire:
        failed_well(go(way, wire), wire)
    assert (evil.accepted, evil.received) == (0, b"")
    assert b"client_assertion=" in wire.received


@pytest.mark.parametrize("status", [302, 308])
def test_no_other_request_is_redirected(sending: Way, go: Go, evil: Wire, status: int) -> None:
    """The target of a redirect sees neither body nor token, and the request is not sent again to where it came from."""
    moved = http(b"", status=f"{status} Moved", Location=f"{evil.url}/{PATIENT}")
    with Wire(answers(moved)) as wire:
        ended = go(sending, wire)
        if sending.name != "probe":  # it asks on
            failed_well(ended, wire)
            assert len(wire.requests) == 2
    assert (evil.accepted, evil.received) == (0, b"")


def test_plain_http_is_refused(way: Way, go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over plain http nothing is sent to another machine, not even a name is looked up."""
    looked_up: list[Any] = []
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *asked, **rest: (looked_up.append(asked[0]), real(*asked, **rest))[1])
    ended = go(way, "http://redox.invalid")
    assert isinstance(ended.error, OURS)
    assert "https" in f"{ended.error}"
    assert "redox.invalid" not in looked_up


def test_an_unknown_certificate_is_refused(way: Way, go: Go) -> None:
    """A server whose certificate nobody vouches for gets a handshake: no request, no second try, nothing weaker."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with Wire(answers(), tls=context) as wire:
        failed_well(go(way, wire), wire)
        assert wire.requests == []
        assert wire.accepted == (2 if way.name == "RedoxDeliveryTrigger" else 1)  # it looks twice before it gives up


def test_netrc_is_not_read(way: Way, go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry of ~/.netrc for the host changes nothing in any request."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login intruder password hunter2\ndefault login intruder password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with Wire() as wire:
        go(way, wire)
        assert wire.requests
    assert not re.search(rb"intruder|Basic|hunter2", wire.received)


ODD_TOKENS = {
    "no access_token": http(json.dumps({"token": ECHO}).encode()),
    "access_token is null": http(json.dumps({"access_token": None, "x": ECHO}).encode()),
    "another type": http(json.dumps({"access_token": ECHO, "token_type": "mac"}).encode()),
    "a header in it": http(json.dumps({"access_token": f"{ECHO}\r\nX-Evil: 1"}).encode()),
    "not ASCII": http(json.dumps({"access_token": f"{ECHO}é"}).encode()),
    "no end": http(json.dumps({"access_token": ECHO, "expires_in": 0}).encode()),
    "before its time": http(json.dumps({"access_token": ECHO, "expires_in": -5}).encode()),
    "NaN": http(b'{"access_token": "%s", "expires_in": NaN}' % ECHO.encode()),
    "infinite": http(b'{"access_token": "%s", "expires_in": 1e999}' % ECHO.encode()),
    "HTML": http(f"<html>{ECHO}</html>".encode(), kind="text/html"),
    "a list": http(json.dumps([ECHO]).encode()),
    "10 MB": http(json.dumps({"access_token": ECHO + "a" * 10_000_000}).encode()),
    "deep": http(b"[" * 100_000 + ECHO.encode()),
    "a content type that talks": http(b"no", kind=f"text/plain; who={ECHO}"),
}


@pytest.mark.parametrize(("way", "answer"), pairs(WAYS, ODD_TOKENS))
def test_an_odd_token_is_not_used(way: Way, go: Go, answer: bytes) -> None:
    """What the token endpoint sends instead of a token is refused, shown nowhere, and no other request follows."""
    with Wire(says(answer)) as wire:
        ended = go(way, wire)
        failed_well(ended, wire, ECHO)
        usable = way.name == "probe" and b"X-Evil" not in wire.received  # it asks on, to tell what is odd
        assert usable or all(request.startswith(b"POST /v2/auth/token ") for request in wire.requests)


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return b"".join([*(packer.compress(b"0" * 1_000_000) for _ in range(size // 1_000_000)), packer.flush()])


OUTCOME = {"severity": "error", "code": ECHO, "diagnostics": ECHO, "details": {"text": ECHO}, "expression": [ECHO]}
META = {"ID": ECHO, "Text": ECHO, "Type": f"{ECHO} 1", "Module": f"{ECHO} 2"}
ODD_ANSWERS = {
    "400 that quotes": http(json.dumps({"resourceType": "OperationOutcome", "issue": [OUTCOME]}).encode(), status="400 No"),
    "200 that quotes": http(json.dumps({"resourceType": "OperationOutcome", "issue": [OUTCOME]}).encode()),
    "Meta.Errors that quote": http(json.dumps({"Meta": {"Errors": [META]}}).encode(), status="400 No"),
    "Meta.Errors in a 200": http(json.dumps({"Meta": {"Errors": [META]}, "resourceType": "OperationOutcome"}).encode()),
    "text": http(ECHO.encode(), kind="text/plain", status="422 No"),
    "HTML with 200": http(f"<html>{ECHO}</html>".encode(), kind="text/html"),
    "a content type that talks": http(ECHO.encode(), kind=f"text/html; who={ECHO}"),
    "a reason that talks": http(b"{}", status=f"500 {ECHO}"),
    "a limit that talks": http(b"{}", status="429 No", X_RateLimit_Limit=f"{ECHO} a day", Retry_After="0"),
    "a Retry-After that talks": http(b"{}", status="503 No", Retry_After=ECHO),
    "a trace that talks": http(b"{}", status="404 No", Redox_Trace_Id=f"{ECHO} was here"),
    "a trace with colours": http(b"{}", status="500 No", Redox_Trace_Id=f"{ECHO}\x1b[31m"),
    "JSON that is cut": http(f'{{"resourceType": "{ECHO}'.encode()),
    "not UTF-8": http(b'{"resourceType": "' + ECHO.encode() + b'\xff"}'),
    "deep": http(b'{"resourceType":' * 100_000 + ECHO.encode()),
    "NaN": http(b'{"resourceType": NaN, "x": "' + ECHO.encode() + b'"}'),
    "5,000 digits": http(b'{"resourceType": ' + b"9" * 5000 + b', "x": "' + ECHO.encode() + b'"}'),
    "a bomb": http(bomb(70_000_000), Content_Encoding="gzip"),
    "a coding nobody asked for": http(ECHO.encode(), Content_Encoding="br"),
    "a body that is cut": b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + ECHO.encode(),
    "a header that is none": b"HTTP/1.1 200 OK\r\n" + ECHO.encode() + b"\r\n\r\n{}",
    "no HTTP": ECHO.encode() + b"\r\n\r\n",
}


@pytest.mark.parametrize(("way", "answer"), pairs(SENDING, ODD_ANSWERS))
def test_what_a_server_says_is_not_repeated(way: Way, go: Go, answer: bytes) -> None:
    """Whatever a server says, in whatever place: an error is ours, and nothing of it is in an error, a log or a pickle."""

    def scene(line: Any) -> bool:
        request = line.request()
        token = token_answer(request)
        line.send(token or answer)
        return token is not None

    with Wire(scene) as wire:
        ended = go(way, wire)
        assert isinstance(ended.error, (*OURS, NoneType)), ended.error
        assert holding(ended.said, PATIENT, ECHO, *secrets_of(wire)) == []
