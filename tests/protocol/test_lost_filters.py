"""A server that loses the filters of a search, in any way that was seen: exactly what was asked comes, or an error.

The ways are those of public reports: Vonk's links after a POST hold only an offset (firely-net-sdk 479), Azure's later pages
held others' resources (microsoft/fhir-server 860), Medplum's links lost `_include` (medplum 2481), tx.fhir.org's begin with
`&` (HealthIntersections/fhirserver 194), gateways refuse a GET for its method or length.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxError, RedoxProtocolError
from airflow_provider_redox.protocol.calls import Calls
from airflow_provider_redox.protocol.counting import Search, count_matches
from airflow_provider_redox.protocol.effects import Happened, Request
from airflow_provider_redox.protocol.fhir import Endpoint
from airflow_provider_redox.protocol.paging import start_walk
from airflow_provider_redox.protocol.terms import Terms

from .flows import World, answer, said_by
from .material import settings as connection

BASE = Endpoint("https://api.redoxengine.com", "hospital", "Production")
ASKED = {"patient": "p1", "code": "http://loinc.org|8867-4", "date": "ge2026-01-01"}
OURS, OTHER = 7, 9
SIZE = 3
WHOLE_SERVER = '{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"Patient","id":"p9"}}]}'


def observation(number: int, patient: str = "p1", code: str = "8867-4", day: str = "2026-02-01") -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "subject": {"reference": f"Patient/{patient}"},
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "effectiveDateTime": day,
    }


def held() -> list[dict[str, Any]]:
    """Make what the server holds: what is asked for, between resources that miss one of the filters each."""
    others = [{"patient": "p2"}, {"code": "4548-4"}, {"day": "2025-12-31"}]
    ours = [observation(number) for number in range(OURS)]
    strange = [observation(OURS + number, **others[number % 3]) for number in range(OTHER)]
    return [one for pair in zip(strange, ours, strict=False) for one in pair] + strange[OURS:]


def fits(resource: dict[str, Any], asked: dict[str, str]) -> bool:
    return (
        ("patient" not in asked or resource["subject"]["reference"] == "Patient/p1")
        and ("code" not in asked or resource["code"]["coding"][0]["code"] == "8867-4")
        and ("date" not in asked or resource["effectiveDateTime"] >= "2026")
    )


@dataclass
class Server:
    """Answers a search for one patient's observations.

    :param ignores: filters that it never uses.
    :param links: what its next links hold: all, a part, an offset only, or a cursor that it remembers with the filters or
        without.
    :param style: how its next links are written.
    :param says: what its self links say: what it used, what was asked, a cursor, or nothing.
    :param refuses: the status that GET is answered.
    :param counts: whether it tells a total.
    :param modes: whether its entries have a search mode.
    """

    ignores: frozenset[str] = frozenset()
    links: str = "all"
    style: str = "absolute"
    says: str = "used"
    refuses: int | None = None
    counts: bool = True
    modes: bool = True
    remembered: dict[str, dict[str, str]] = field(default_factory=dict)

    def __call__(self, request: Request) -> Happened:
        """Answer a request."""
        if request.method == "GET" and self.refuses is not None:
            return answer(self.refuses)
        if "/Observation" not in request.url:
            return answer(200, WHOLE_SERVER)
        given = dict(parse_qsl(urlsplit(request.url).query) + parse_qsl((request.body or b"").decode()))
        asked = {**given, **self.remembered.get(given.get("cursor", ""), {})}
        used = {name: value for name, value in asked.items() if name in ASKED and name not in self.ignores}
        found = [one for one in held() if fits(one, used)]
        if given.get("_summary") == "count":
            return self.answered([], len(found), used, given, None)
        begin = int(asked.get("_skip", 0))
        following = begin + SIZE if begin + SIZE < len(found) else None
        return self.answered(found[begin : begin + SIZE], len(found), used, given, following)

    def answered(
        self, shown: list[Any], total: int, used: dict[str, str], given: dict[str, str], following: int | None
    ) -> Any:
        mode = {"search": {"mode": "match"}} if self.modes else {}
        links = [{"relation": "self", "url": self._self(used, given)}] if self.says != "nothing" else []
        links += [{"relation": "next", "url": self._next(used, following)}] if following is not None else []
        document = {
            "resourceType": "Bundle",
            "type": "searchset",
            "entry": [{"resource": one, **mode} for one in shown],
            "link": links,
            **({"total": total} if self.counts or given.get("_summary") else {}),
        }
        return answer(200, json.dumps(document))

    def _self(self, used: dict[str, str], given: dict[str, str]) -> str:
        said = {"used": used, "asked": ASKED, "cursor": {"_getpages": "7b1f-a"}, "empty": {}}[self.says]
        skip = {"_skip": given["_skip"]} if "_skip" in given and self.says != "empty" else {}
        return f"{BASE.url}/Observation?{urlencode({**said, **skip})}"

    def _next(self, used: dict[str, str], skip: int) -> str:
        cursor = f"c-{len(self.remembered)}"
        if self.links.startswith("cursor"):
            self.remembered[cursor] = {**(used if self.links == "cursor" else {}), "_skip": str(skip)}
            query = {"cursor": cursor}
        else:
            kept = {"all": ASKED, "part": {"code": ASKED["code"]}, "offset": {}}[self.links]
            query = {**kept, "_skip": str(skip)}
        path = {
            "absolute": f"{BASE.url}/Observation?",
            "host": "/app/FHIR/r4/Observation/_search?",
            "relative": "Observation?",
            "query": "?",
            "ampersand": "&",
        }[self.style]
        return path + urlencode(query)


servers = st.builds(
    Server,
    ignores=st.frozensets(st.sampled_from(sorted(ASKED)), max_size=2),
    links=st.sampled_from(["all", "part", "offset", "cursor", "cursor without filters"]),
    style=st.sampled_from(["absolute", "host", "relative", "query", "ampersand"]),
    says=st.sampled_from(["used", "asked", "cursor", "empty", "nothing"]),
    refuses=st.sampled_from([None, None, 400, 403, 404, 405, 414, 501]),
    counts=st.booleans(),
    modes=st.booleans(),
)


def walked(server: Server, **terms: Any) -> list[str]:
    world = World(*[server] * 60)
    walk = start_walk(BASE, "Observation", urlencode(ASKED).encode(), headers={}, env=world.env(), terms=Terms(**terms))
    found: list[str] = []
    while (page := world.run(walk.next_page())) is not None:
        found += [str(resource.id) for resource in page.resources]
    return found


def outcome(server: Server) -> tuple[list[str], RedoxError | None]:
    try:
        return walked(server), None
    except RedoxError as error:
        return [], error


@settings(max_examples=300, deadline=None)
@given(servers)
def test_exactly_what_was_asked_or_an_error(server: Server) -> None:
    """However a server loses filters, all that was asked for comes and nothing else, or the search fails without a value."""
    found, error = outcome(server)
    if error is not None:
        assert isinstance(error, RedoxProtocolError) or server.refuses is not None
        assert not [value for value in ("p1", "8867-4", "2026-01") if value in said_by(error)]
        return
    lies = server.says == "asked" and server.ignores and "patient" not in server.ignores
    if not lies:  # a server that says that it used what it did not is found out by its subjects only
        assert sorted(found) == [f"o{number}" for number in range(OURS)]


@settings(max_examples=200, deadline=None)
@given(servers)
def test_a_count_is_not_of_others(server: Server) -> None:
    """A server that counts without the filters does not make a search have enough matches, where that can be seen."""
    server.says = "empty" if server.says == "asked" else server.says
    search = Search("Observation", ASKED, "hospital", "Production")
    world = World(*[server] * 60)
    try:
        counted = world.run(count_matches(Calls(connection(), world.env()), search, OURS + 1))
    except RedoxError:
        return
    assert counted <= OURS


@pytest.mark.parametrize("links", ["all", "offset", "part", "cursor"])
@pytest.mark.parametrize("style", ["absolute", "host", "relative", "query", "ampersand"])
@pytest.mark.parametrize("refuses", [None, 400, 404, 405, 414, 501])
@pytest.mark.parametrize("says", ["used", "empty", "nothing"])
def test_a_server_that_only_forgets_what_it_writes_is_read_to_the_end(
    links: str, style: str, refuses: int | None, says: str
) -> None:
    """A link without the filters costs nothing: the search's own form goes along by POST."""
    server = Server(links=links, style=style, refuses=refuses, says=says)
    assert walked(server) == [f"o{number}" for number in range(OURS)]


def test_a_link_without_the_includes_has_lost_them() -> None:
    """A next link with the filters and an offset, but without `_include`, would bring pages without what is included."""
    link = "Observation?patient=p1&_offset=3&_count=3"
    first = {"resourceType": "Bundle", "type": "searchset", "link": [{"relation": "next", "url": link}]}
    last = {"resourceType": "Bundle", "type": "searchset"}
    world = World(answer(200, json.dumps(first)), answer(200, json.dumps(last)))
    form = {"patient": "p1", "_include": "Observation:subject", "_count": "5"}
    walk = start_walk(BASE, "Observation", urlencode(form).encode(), headers={}, env=world.env())
    while world.run(walk.next_page()) is not None:
        pass
    assert world.sent[1].method == "POST"
    sent = dict(parse_qsl((world.sent[1].body or b"").decode()))
    assert sent == {"patient": "p1", "_include": "Observation:subject", "_offset": "3", "_count": "3"}


@pytest.mark.parametrize(
    "link",
    [
        "?_getpages=7b1f0a3c-0000&_getpagesoffset=20&_count=20&_bundletype=searchset",
        "Observation?ct=AbC%2B&_count=10",
        "Observation?_page_token=Cj0YWt",
        "Observation?sessionID=17-ABC",
        "Observation/__page/DECAFBAD",
        "Observation?_snapshot=27e5683a&start=20",
        "Observation/_search?_count=100&_shipPagination=eyJvZmZzZXQiOjEwMH0%3D",
        "Observation?stateid=23&page=3",
    ],
    ids=["HAPI", "Azure", "Google", "Epic", "Blaze", "Spark", "Essen", "FHIR's own example"],
)
def test_a_cursor_is_followed_as_it_is(link: str) -> None:
    """What only the server can read is asked by GET, and nothing is added to it."""
    first = {"resourceType": "Bundle", "type": "searchset", "link": [{"relation": "next", "url": link}]}
    world = World(answer(200, json.dumps(first)), answer(200, '{"resourceType":"Bundle","type":"searchset"}'))
    walk = start_walk(BASE, "Observation", b"patient=p1", headers={}, env=world.env())
    while world.run(walk.next_page()) is not None:
        pass
    assert (world.sent[1].method, world.sent[1].body) == ("GET", None)
    assert world.sent[1].url == BASE.follow(link)


def test_a_link_whose_plus_is_not_escaped_goes_on_with_the_searchs_own_date() -> None:
    """A server that cannot read its own link (LinuxForHealth/FHIR 3245) gets the date by POST, as it was written."""
    date = "gt1940-10-04T00:00:00+00:00"
    link = f"Observation?_count=10&date={date}&patient=p1&_page=2"
    first = {"resourceType": "Bundle", "type": "searchset", "link": [{"relation": "next", "url": link}]}
    last = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": observation(1)}]}
    world = World(answer(200, json.dumps(first)), answer(400), answer(200, json.dumps(last)))
    form = urlencode({"patient": "p1", "date": date}).encode()
    walk = start_walk(BASE, "Observation", form, headers={}, env=world.env())
    while world.run(walk.next_page()) is not None:
        pass
    sent = dict(parse_qsl((world.sent[-1].body or b"").decode()))
    assert sent == {"patient": "p1", "date": date, "_count": "10", "_page": "2"}


@pytest.mark.parametrize(
    ("query", "method"),
    [
        ("token=&_offset=3", "POST"),
        ("_id=&_offset=3", "POST"),
        ("given=&_page=2", "POST"),
        ("token=b1", "GET"),
        ("eyJwYWdlIjoyLCJxIjoiIn0=", "GET"),
    ],
)
def test_an_empty_cursor_stands_for_no_filters(query: str, method: str) -> None:
    """By GET, such a link would be answered with everybody; no resource shows that it was not asked for by its name."""
    first = {"resourceType": "Bundle", "type": "searchset", "link": [{"relation": "next", "url": f"Patient?{query}"}]}
    world = World(answer(200, json.dumps(first)), answer(200, WHOLE_SERVER))
    walk = start_walk(BASE, "Patient", b"family=Green", headers={}, env=world.env())
    while world.run(walk.next_page()) is not None:
        pass
    assert world.sent[-1].method == method
    assert method == "GET" or b"family=Green" in (world.sent[-1].body or b"")


BROKEN = {
    "https://api.redoxengine.com:443:443/fhir/R4/hospital/Production?_getpages=a-b&_getpagesoffset=3": "not followed",
    "Observation/patient=p1&_count=0&page=1": "an earlier one again",
    "Observation/_search": "an earlier one again",
    "Observation?_count=3": "an earlier one again",
}
"""Next links that nobody could follow: opensrp/fhircore 1714, fhirbase-plv8 78, and links without a place."""


@pytest.mark.parametrize("link", BROKEN)
def test_a_next_link_that_leads_nowhere_is_an_error(link: str) -> None:
    """A broken link does not end a search, and does not begin another."""
    first = json.loads(Server().answered([observation(0)], 2, ASKED, {}, None).body)
    first["link"].append({"relation": "next", "url": link})
    page = answer(200, json.dumps(first))
    by_path = lambda request: answer(404) if request.method == "GET" else page  # noqa: E731
    world = World(page, *[by_path] * 5)
    walk = start_walk(BASE, "Observation", urlencode(ASKED).encode(), headers={}, env=world.env())
    world.run(walk.next_page()) if "443" not in link else None
    with pytest.raises(RedoxProtocolError, match=BROKEN[link]):
        world.run(walk.next_page())


def test_a_server_without_next_links_is_found_out_by_its_total() -> None:
    """A server that leaves the next page to be computed (mosaic-hgw/gICS 4) has more than it sends."""
    first = json.loads(Server().answered([observation(0)], 7, ASKED, {}, None).body)
    world = World(answer(200, json.dumps(first)))
    walk = start_walk(BASE, "Observation", urlencode(ASKED).encode(), headers={}, env=world.env())
    with pytest.raises(RedoxProtocolError, match="6 are missing"):
        world.run(walk.next_page())


def test_lenient_is_warned_of_strays() -> None:
    """With handling lenient all that came is given, and the log tells how many do not meet which parameters."""
    server = Server(ignores=frozenset({"patient"}), says="nothing")
    world = World(*[server] * 60)
    walk = start_walk(
        BASE, "Observation", urlencode(ASKED).encode(), headers={}, env=world.env(), terms=Terms(handling="lenient")
    )
    while world.run(walk.next_page()) is not None:
        pass
    told = [effect.words for effect in world.asked if type(effect).__name__ == "Tell"]
    assert walk.position.strays == OTHER // 3
    assert ["the parameter patient" in told[0], f"{OTHER // 3} resources in all" in told[1], len(told)] == [True, True, 2]
    assert "p1" not in " ".join(told)
