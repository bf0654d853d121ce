"""What the logs say of an exchange at their most talkative, and what they never say."""

from __future__ import annotations

import logging
import re
import urllib.parse

import pytest
import requests

from airflow_provider_redox.exceptions import RedoxError
from airflow_provider_redox.protocol.effects import RedoxResponse, Request
from airflow_provider_redox.protocol.token import Token
from tests.client.conftest import Driver
from tests.client.drivers import PATIENT, QUICK, connection_to, pem
from tests.support.sandbox import Sandbox
from tests.support.wire import TOKEN, Wire, answers, breaks_after, http

LOGGERS = ("airflow_provider_redox", "urllib3", "urllib3.connectionpool", "aiohttp", "aiohttp.client", "asyncio", "requests")


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Every logger at DEBUG, into one text."""
    for name in ("", *LOGGERS):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


def said(caplog: pytest.LogCaptureFixture) -> str:
    """All that was logged, percent-encoding undone, tracebacks included."""
    formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
    text = "\n".join(formatter.format(record) + repr(record.args) for record in caplog.records)
    return text + urllib.parse.unquote_plus(text)


def secrets_of(wire_or_ledger: str, key: str) -> list[str]:
    """Give the assertions that were sent, and every line of the key."""
    assertions = re.findall(r"client_assertion=([\w.-]{40,})", wire_or_ledger)
    return [*assertions, *(line for line in key.splitlines() if len(line) > 16 and "-----" not in line)]


def test_an_exchange_is_logged_without_secrets(
    sandbox: Sandbox, driver: Driver, everything: pytest.LogCaptureFixture
) -> None:
    """At DEBUG no log holds a token, an assertion, a key, a search value or a patient, and ours say what happened."""
    sandbox.settings(page_size=1)
    drive = driver(sandbox.connection)
    found = drive.search(given="Keva", family="Green", birthdate="1995-08-26")
    drive.post()
    assert found
    tokens = {value for entry in sandbox.ledger() for name, value in entry["headers"] if name.lower() == "authorization"}
    sent = "\n".join(entry["body"] or "" for entry in sandbox.ledger())
    hidden = [token.removeprefix("Bearer ") for token in tokens] + secrets_of(sent, sandbox.connection["password"])
    log = said(everything)
    for secret in [*hidden, "Keva", "Green", "1995-08-26", PATIENT, found[0]["id"]]:
        assert secret not in log
    trace = sandbox.ledger("/endpoint")[0]["trace_id"]
    assert re.search(rf"POST /endpoint\b.* -> 200 \(attempt 1, trace {trace}\)", log)
    assert "POST /fhir/R4/" in log


def test_a_next_link_may_hold_a_patient(driver: Driver, everything: pytest.LogCaptureFixture) -> None:
    """A name that the server puts into a next link is sent back to it and shows in no log."""
    link = f"/fhir/R4/general-hospital/Development/Patient?family={PATIENT}&page=2"
    first = f'{{"resourceType":"Bundle","type":"searchset","link":[{{"relation":"next","url":"{link}"}}]}}'.encode()
    last = b'{"resourceType":"Bundle","type":"searchset"}'
    with Wire(answers(), answers(http(first)), answers(http(last))) as wire:
        driver(connection_to(wire.url)).search(name="x")
        assert PATIENT.encode() in wire.requests[2]
    assert PATIENT not in said(everything)


@pytest.mark.parametrize(
    "answer",
    [
        http(f"{PATIENT} is unknown".encode(), status="400 Bad Request"),
        http(f'{{"issue": [{{"code": "invalid", "diagnostics": "{PATIENT}"}}]}}'.encode(), status="422 No"),
        http(b"", status="302 Found", Location=f"/x?family={PATIENT}"),
        http(f"<html>{PATIENT}</html>".encode(), kind="text/html"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + PATIENT.encode(),
        b"HTTP/1.1 200 OK\r\n" + PATIENT.encode() + b"\r\n\r\n{}",
        PATIENT.encode() + b"\r\n\r\n",
        http(b"{}", status=f"500 {PATIENT}"),
        http(b"{}", status="500 No", Redox_Trace_Id=f"{PATIENT} \x1b[31m"),
    ],
    ids=["text", "diagnostics", "redirect", "html", "cut", "bad header", "bad status", "reason", "trace"],
)
def test_failures_are_logged_without_what_the_server_said(
    driver: Driver, everything: pytest.LogCaptureFixture, answer: bytes
) -> None:
    """What a server says in an error, in any place, reaches neither a log nor the exception or its chain."""
    with Wire(answers(), breaks_after(answer)) as wire:
        drive = driver(connection_to(wire.url), retry=QUICK)
        for act in (drive.read, drive.post):
            with pytest.raises(RedoxError) as caught:
                act()
            chain = f"{caught.value!r}{caught.value.__cause__!r}{caught.value.__context__!r}"
            assert PATIENT not in chain
            assert TOKEN not in chain
    log = said(everything)
    assert "-> " in log
    for secret in (PATIENT, TOKEN, *secrets_of(wire.received.decode("latin-1"), pem())):
        assert secret not in log


def test_other_users_of_urllib3_keep_their_log(everything: pytest.LogCaptureFixture) -> None:
    """urllib3's log is silenced for our own requests only."""
    with Wire() as wire:
        requests.get(f"{wire.url}/someone-elses", timeout=5)
    assert "someone-elses" in said(everything)


def test_nothing_shows_in_a_repr(sandbox: Sandbox, driver: Driver) -> None:
    """The repr of settings, requests, responses and tokens holds no secret, no parameter and no patient."""
    drive = driver(sandbox.connection)
    answer = RedoxResponse(200, {"x": TOKEN}, PATIENT.encode())
    request = Request("POST", f"http://x/?family={PATIENT}", "POST /x", {"authorization": TOKEN}, PATIENT.encode())
    text = repr((drive.settings, request, Token(TOKEN, 1.0, 2.0), answer))
    for secret in (PATIENT, TOKEN, *secrets_of("", sandbox.connection["password"])):
        assert secret not in text
