"""A hostile page: each way to search follows its next link onto the connection's own base, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.security.conftest import Ended, secrets_of
from tests.security.test_hostile import OURS
from tests.security.ways import PATIENT, WAYS, Way
from tests.security.witness import holding
from tests.support.wire import Wire, http, token_answer

Go = Callable[..., Ended]
BASE = "/fhir/R4/general-hospital/Development"
PAGING = [way for way in WAYS if way.pages]

DISGUISES: dict[str, Callable[[Wire, Wire], str]] = {
    "another port": lambda _, evil: f"{evil.url}{BASE}/Patient?page=2",
    "no scheme": lambda _, evil: f"//127.0.0.1:{evil.port}{BASE}/Patient?page=2",
    "https": lambda own, _: f"https://127.0.0.1:{own.port}{BASE}/Patient?page=2",
    "another name of the host": lambda own, _: f"http://localhost:{own.port}{BASE}/Patient?page=2",
    "ours as the user": lambda own, evil: f"http://127.0.0.1:{own.port}@127.0.0.1:{evil.port}{BASE}/Patient",
    "a backslash": lambda own, evil: f"http://127.0.0.1:{evil.port}\\@127.0.0.1:{own.port}{BASE}/Patient",
    "a trailing dot": lambda own, _: f"http://127.0.0.1.:{own.port}{BASE}/Patient",
    "a whole number as host": lambda own, _: f"http://2130706433:{own.port}{BASE}/Patient",
    "dot segments": lambda _own, _evil: f"{BASE}/../../../../platform/v1/environments",
    "encoded dots": lambda _own, _evil: f"{BASE}/%2e%2e/%2e%2e/platform",
    "another hospital": lambda own, _: f"{own.url}/fhir/R4/other-hospital/Development/Patient",
    "a second request": lambda own, _: f"{own.url}{BASE}/Patient HTTP/1.1\r\nX-Evil: 1\r\n\r\n",
}


@pytest.fixture
def evil() -> Iterator[Wire]:
    """Run a server that would answer anybody."""
    with Wire() as running:
        yield running


def page(link: str | None) -> bytes:
    """Make a page with a Patient that leads on."""
    resource = {"resourceType": "Patient", "id": "1", "meta": {"versionId": "1"}}
    links = [] if link is None else [{"relation": "next", "url": link}]
    return http(
        json.dumps(
            {"resourceType": "Bundle", "type": "searchset", "link": links, "entry": [{"resource": resource}]}
        ).encode()
    )


def leads(to: Callable[[Wire], str]) -> Callable[[Any], bool]:
    """Answer the search with a page that leads somewhere, and whatever follows with a last one."""

    def scene(line: Any) -> bool:
        request = line.request()
        first = b"/_search " in request.split(b"\r\n")[0]
        line.send(token_answer(request) or page(to(line.wire) if first else None))
        return True

    return scene


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("way", PAGING, ids=lambda way: way.name)
def test_a_page_leads_nowhere_else(way: Way, go: Go, evil: Wire, disguise: str) -> None:
    """A next link that leaves the origin or the destination's base ends the search before anything is sent there."""
    with Wire(leads(lambda own: DISGUISES[disguise](own, evil))) as wire:
        ended = go(way, wire)
        assert isinstance(ended.error, OURS), ended.error
        assert "next link" in ended.said
        assert len(wire.requests) == 2
        assert holding(ended.said, PATIENT, *secrets_of(wire)) == []
    assert (evil.accepted, evil.received) == (0, b"")


@pytest.mark.parametrize("way", PAGING, ids=lambda way: way.name)
def test_a_page_leads_on_to_our_own_host(way: Way, go: Go) -> None:
    """A link to the same origin is followed, whatever the case of its scheme, and with the token."""
    with Wire(leads(lambda own: f"HTTP://127.0.0.1:{own.port}{BASE}/Patient?family={PATIENT}&page=p2")) as wire:
        ended = go(way, wire)
        assert ended.error is None
        assert len(wire.requests) == 3
        assert b"\r\nauthorization: Bearer " in wire.requests[2].lower().replace(b"bearer", b"Bearer")
        assert holding(ended.said, PATIENT, *secrets_of(wire)) == []
