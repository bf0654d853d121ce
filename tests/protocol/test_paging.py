"""A search from its first page to its last: everything once, or an exception."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import (
    RedoxConfigError,
    RedoxDestinationError,
    RedoxError,
    RedoxProtocolError,
    RedoxResponseError,
    RedoxSecurityError,
)
from airflow_provider_redox.protocol.effects import Happened, RedoxResponse, Request
from airflow_provider_redox.protocol.fhir import Endpoint
from airflow_provider_redox.protocol.pages import Page
from airflow_provider_redox.protocol.paging import BARREN_PAGES_AT_MOST, Walk, start_walk
from airflow_provider_redox.protocol.terms import Terms

from .flows import World, answer, said_by

BASE = Endpoint("https://api.redoxengine.com", "hospital", "Production")


def patients(*ids: str, following: str | None = None, **headers: str) -> RedoxResponse:
    """Make a page of patients, with a next link to `following`."""
    entries = [{"resource": {"resourceType": "Patient", "id": one}} for one in ids]
    links = [{"relation": "next", "url": following}] if following else []
    document = {"resourceType": "Bundle", "type": "searchset", "entry": entries, "link": links}
    return answer(200, json.dumps(document), **headers)


def begin(world: World, form: bytes = b"family=Green", **options: Any) -> Walk:
    return start_walk(BASE, "Patient", form, headers={"redox-source-id": "s"}, env=world.env(), **options)


def walk(world: World, **options: Any) -> tuple[list[str | None], Walk]:
    """Walk a search to its end; give the ids in order, and the walk."""
    search = begin(world, **options)
    found: list[str | None] = []
    while (page := world.run(search.next_page())) is not None:
        found += [resource.id for resource in page.resources]
    return found, search


def stopped(world: World, **options: Any) -> RedoxError:
    with pytest.raises(RedoxError) as raised:
        walk(world, **options)
    return raised.value


def test_nothing_is_sent_before_the_first_page_is_asked_for() -> None:
    """To begin a search asks for nothing."""
    search = begin(World())
    assert (search.position.pages, search.requests) == (0, 0)


def test_a_search_of_one_page_is_one_request() -> None:
    """A page without a next link is the last; asking again sends nothing."""
    world = World(patients("a", "b"))
    found, search = walk(world)
    assert (found, search.position.pages, search.requests) == (["a", "b"], 1, 1)
    assert world.run(search.next_page()) is None
    assert len(world.sent) == 1


def test_pages_are_followed_to_the_end() -> None:
    """Every page is read in turn, by GET on its link, with the connection's headers and no body."""
    world = World(patients("a", following="Patient?_page=p2"), patients("b", following="Patient?_page=p3"), patients("c"))
    found, search = walk(world)
    assert (found, search.position.pages, search.requests) == (["a", "b", "c"], 3, 3)
    assert [request.method for request in world.sent] == ["POST", "GET", "GET"]
    assert world.sent[1].url == f"{BASE.url}/Patient?_page=p2"
    assert world.sent[1].body is None
    assert world.sent[1].headers.keys() == {"redox-source-id", "accept", "authorization"}


def test_a_link_is_in_no_label() -> None:
    """A next link may hold a patient's name, so a log line shows neither it nor its query."""
    world = World(patients("a", following="Patient?family=Green&_page=p2"), patients("b"))
    walk(world)
    assert not [request for request in world.sent if "Green" in request.label or "Green" in repr(request)]


def test_the_form_is_sent_with_the_first_page_only() -> None:
    """The search's parameters are in the body of the first request."""
    world = World(patients("a", following="Patient?_page=p2"), patients("b"))
    walk(world)
    assert [request.body for request in world.sent] == [b"family=Green", None]


def test_the_date_of_the_first_answer_is_kept() -> None:
    """The Date of the first page is when the search happened."""
    world = World(patients("a", following="Patient?_page=p2", date="first"), patients("b", date="second"))
    assert walk(world)[1].position.date == "first"


def test_empty_pages_in_between_are_walked_over() -> None:
    """A page without resources and with a next link is not the end."""
    world = World(*[patients(following=f"Patient?_page=p{page}") for page in range(2, 10)], patients("a"))
    assert walk(world)[0] == ["a"]


def test_a_page_that_fails_once_is_asked_for_again() -> None:
    """A page is a question: a 503 in the middle costs one more request and no resource."""
    world = World(patients("a", following="Patient?_page=p2"), answer(503), patients("b"))
    assert walk(world)[0] == ["a", "b"]


# ── duplicates ──


def test_a_duplicate_is_left_out_and_counted() -> None:
    """A resource of the same type, id and version is given once."""
    world = World(patients("a", "b", "a", following="Patient?_page=p2"), patients("b", "c"))
    found, search = walk(world)
    assert (found, search.position.duplicates) == (["a", "b", "c"], 2)


def page_of(*resources: dict[str, Any]) -> RedoxResponse:
    entries = [{"resource": resource} for resource in resources]
    return answer(200, json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": entries}))


def test_two_versions_of_a_resource_are_two() -> None:
    """A resource that changed while the search ran is given in both versions."""
    versions = [{"resourceType": "Patient", "id": "a", "meta": {"versionId": version}} for version in ("1", "2", "1")]
    found, search = walk(World(page_of(*versions)))
    assert (found, search.position.duplicates) == (["a", "a"], 1)


def test_one_version_with_two_contents_is_two() -> None:
    """A server that changes a resource without a new version gives both, and one match; each comes once."""
    meta = {"versionId": "1"}
    one, other = ({"resourceType": "Patient", "id": "a", "meta": meta, "active": active} for active in (True, False))
    world = World(page_of(one, other, one, other, {"resourceType": "Patient", "id": "b", "meta": meta}))
    found, search = walk(world)
    assert (found, search.position.duplicates, search.position.matches) == (["a", "a", "b"], 2, 2)


def test_the_same_id_of_another_type_is_another_resource() -> None:
    """Ids are unique within a type only."""
    resources = [{"resourceType": kind, "id": "a"} for kind in ("Patient", "Observation")]
    found, _ = walk(World(page_of(*resources)), form=b"family=Green&_revinclude=Observation:subject")
    assert found == ["a", "a"]


def test_resources_without_an_id_are_all_given() -> None:
    """What cannot be told apart is not left out."""
    found, search = walk(World(page_of({"resourceType": "Patient"}, {"resourceType": "Patient"})))
    assert (found, search.position.duplicates) == ([None, None], 0)


# ── searches without end ──


def test_a_page_that_names_itself_is_a_loop() -> None:
    """A next link that leads to the page it stands on ends the search with an error."""
    world = World(patients("a", following="Patient?_page=p2"), patients("b", following="Patient?_page=p2"))
    error = stopped(world)
    assert isinstance(error, RedoxProtocolError)
    assert "circle" in str(error)
    assert error.__notes__ == ["The search for Patient stopped at page 2."]


def test_pages_that_name_each_other_are_a_loop() -> None:
    """A, B, A again is a circle, though each link differs from the one before."""
    world = World(
        patients("a", following="Patient?_page=A"),
        patients("b", following="Patient?_page=B"),
        patients("c", following="Patient?_page=A"),
    )
    assert "circle" in str(stopped(world))
    assert len(world.sent) == 3


def test_a_link_is_the_same_in_every_spelling() -> None:
    """A relative and an absolute link to one page are one link."""
    world = World(
        patients("a", following="Patient?_page=p2"), patients("b", following=f"{BASE.url}/Observation/../Patient?_page=p2")
    )
    assert isinstance(stopped(world), RedoxProtocolError)


def endless(make: Any) -> World:
    pages = ((lambda _, number=number: make(number)) for number in range(10_000))
    return World(*pages)


def test_empty_pages_without_end_are_an_error() -> None:
    """A server that names ever new empty pages is given up on."""
    world = endless(lambda number: patients(following=f"Patient?_cursor={number}"))
    assert "brought nothing new" in str(stopped(world))
    assert len(world.sent) == BARREN_PAGES_AT_MOST + 1


def test_one_page_repeated_without_end_is_an_error() -> None:
    """A server that gives the same page under ever new links is given up on."""
    world = endless(lambda number: patients("a", "b", following=f"Patient?_cursor={number}"))
    assert "brought nothing new" in str(stopped(world))
    assert len(world.sent) == BARREN_PAGES_AT_MOST + 2


def test_two_pages_repeated_without_end_are_an_error() -> None:
    """A server that goes round under ever new links is given up on."""
    world = endless(lambda number: patients("ab"[number % 2], following=f"Patient?_cursor={number}"))
    assert "brought nothing new" in str(stopped(world))


def test_resources_without_an_id_repeated_without_end_are_an_error() -> None:
    """Pages are compared by what they hold, where there are no ids to compare."""

    def make(number: int) -> RedoxResponse:
        link = {"relation": "next", "url": f"Patient?_cursor={number}"}
        entry = [{"resource": {"resourceType": "Patient"}}]
        return answer(200, json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": entry, "link": [link]}))

    assert "brought nothing new" in str(stopped(endless(make)))


def test_more_pages_than_allowed_are_an_error() -> None:
    """A search that has more than max_pages pages fails before the next is asked for."""
    world = endless(lambda number: patients(str(number), following=f"Patient?_page=p{number}"))
    error = stopped(world, terms=Terms(max_pages=3))
    assert "there are more than 3 pages" in str(error)
    assert len(world.sent) == 3


def test_as_many_pages_as_allowed_are_no_error() -> None:
    """A search that ends on its last allowed page is complete."""
    world = World(patients("a", following="Patient?_page=p2"), patients("b"))
    assert walk(world, terms=Terms(max_pages=2))[0] == ["a", "b"]


# ── pages that fail ──


@pytest.mark.parametrize(
    ("second", "kind"),
    [
        (answer(400), RedoxResponseError),
        (answer(200, "<html>Canary</html>"), RedoxProtocolError),
        (answer(200, '{"resourceType":"OperationOutcome","issue":[]}'), RedoxDestinationError),
        (patients("b", following="https://evil.example/x"), RedoxSecurityError),
    ],
)
def test_a_failure_names_its_page(second: Happened, kind: type[RedoxError]) -> None:
    """An error in the middle of a search says by number which page it was."""
    error = stopped(World(patients("a", following="Patient?_page=p2"), *[second] * 5))
    assert isinstance(error, kind)
    assert error.__notes__[-1] == "The search for Patient stopped at page 2."
    assert "Canary" not in said_by(error)


def test_a_page_whose_link_leads_elsewhere_is_not_given() -> None:
    """A page with a link that must not be followed is an error, not the last page."""
    world = World(patients("a", following="https://evil.example/fhir/R4/hospital/Production/Patient"))
    assert isinstance(stopped(world), RedoxSecurityError)
    assert len(world.sent) == 1


def test_a_refused_first_page_is_not_asked_for_in_another_way() -> None:
    """The first page is a POST to `_search`; a 404 there is the answer."""
    world = World(answer(404))
    assert isinstance(stopped(world), RedoxResponseError)
    assert len(world.sent) == 1


def test_a_refused_search_names_the_parameter_and_not_its_value() -> None:
    """Of a refusal's text only those words are told that are names of the author's own parameters."""
    issue = {"severity": "error", "code": "invalid", "diagnostics": "unknown parameter family: Green, Keva"}
    error = stopped(World(answer(400, json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}))))
    assert "The answer mentions the parameter family." in error.__notes__
    for word in ("Green", "Keva", "unknown parameter"):
        assert word not in said_by(error)


# ── servers that continue by POST ──


@pytest.mark.parametrize("status", [400, 403, 404, 405, 414, 431, 501])
def test_a_server_that_refuses_get_is_asked_by_post(status: int) -> None:
    """Where a link cannot be got, its query is posted to `_search`, and so are the later ones at once."""
    link = "Patient?family=Green&_page=%2B2"
    world = World(patients("a", following=link), answer(status), patients("b", following="Patient?_page=p3"), patients("c"))
    found, search = walk(world)
    assert found == ["a", "b", "c"]
    assert [request.method for request in world.sent] == ["POST", "GET", "POST", "POST"]
    assert (search.position.pages, search.requests) == (3, 4)
    continued = world.sent[2]
    assert continued.url == f"{BASE.url}/Patient/_search"
    assert parse_qs((continued.body or b"").decode()) == {"family": ["Green"], "_page": ["+2"]}
    assert continued.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "Green" not in continued.label


def test_a_link_that_names_a_search_is_posted_there() -> None:
    """A link to `_search` of some type is continued at that address."""
    world = World(patients("a", following="Observation/_search?_page=p2"), answer(405), patients("b"))
    walk(world)
    assert world.sent[2].url == f"{BASE.url}/Observation/_search"


def test_a_server_that_refuses_both_fails_with_the_second_refusal() -> None:
    """Where neither GET nor POST gives the page, the search fails."""
    error = stopped(World(patients("a", following="Patient?_page=p2"), answer(405), answer(404)))
    assert isinstance(error, RedoxResponseError)
    assert error.status == 404


def test_a_refusal_of_both_says_what_get_was_answered() -> None:
    """A link that neither GET nor POST gives is an error that names both statuses."""
    error = stopped(World(patients("a", following="Patient?_page=p2"), answer(400), answer(404)))
    assert error.__notes__[0] == "GET of the next link was answered HTTP 400, and then POST was tried."


@pytest.mark.parametrize("status", [410, 422])
def test_another_refusal_of_a_link_is_final(status: int) -> None:
    """A cursor that expired is not asked for by POST."""
    world = World(patients("a", following="Patient?_page=p2"), answer(status))
    assert isinstance(stopped(world), RedoxResponseError)
    assert [request.method for request in world.sent] == ["POST", "GET"]


def test_a_name_that_is_no_resource_type_begins_no_search() -> None:
    """A walk over something that is no resource type is refused at once."""
    with pytest.raises(RedoxConfigError):
        start_walk(BASE, "../Patient", b"", headers={}, env=World().env())


def test_a_walks_repr_shows_no_patient() -> None:
    """The repr of a walk holds neither the form nor the link that it is on."""
    world = World(patients("a", following="Patient?family=Green"), patients("b"))
    search = begin(world)
    world.run(search.next_page())
    assert "Green" not in repr(search)


# ── the law ──


@st.composite
def servers(draw: st.DrawFn) -> tuple[list[str], dict[str, RedoxResponse]]:
    """Draw a server: distinct ids, given in pages of any size with any earlier ones repeated anywhere."""
    ids = [f"id-{number}" for number in range(draw(st.integers(0, 12)))]
    stream: list[str] = []
    for number, one in enumerate(ids):
        stream += [ids[again] for again in draw(st.lists(st.integers(0, max(number - 1, 0)), max_size=2)) if again < number]
        stream.append(one)
    pages: list[list[str]] = []
    while stream:
        size = draw(st.integers(0, 4)) if len(pages) < 15 else len(stream)
        pages.append(stream[:size])
        stream = stream[size:]
    pages = pages or [[]]
    last = len(pages) - 1
    answers = {
        f"p{number}": patients(*page, following=f"Patient?_page=p{number + 1}" if number < last else None)
        for number, page in enumerate(pages)
    }
    return ids, answers


@settings(max_examples=60, deadline=None)
@given(servers(), st.booleans())
def test_a_search_gives_every_distinct_resource_once_in_order(
    server: tuple[list[str], dict[str, RedoxResponse]],
    only_post: bool,  # noqa: FBT001
) -> None:
    """However a server cuts and repeats its results, and whether it is continued by GET or POST, all come out once.

    By POST a page that comes again is an error: the server may not have read what was added to the search.
    """
    ids, pages = server
    shown = [body.partition(b'"link"')[0] for body in (page.body for page in pages.values()) if b'"id"' in body]
    assume(not only_post or len(set(shown)) == len(shown))

    def serve(request: Request) -> Happened:
        if request.method == "GET" and only_post:
            return answer(405)
        query = urlsplit(request.url).query or (request.body or b"").decode()
        return pages[parse_qs(query).get("_page", ["p0"])[0]]

    found, search = walk(World(*[serve] * 40))
    assert found == ids
    assert search.position.pages == len(pages)


@settings(max_examples=60, deadline=None)
@given(servers(), st.integers(0, 10), st.sampled_from([answer(400), answer(200, "<html>"), answer(200, "{}")]))
def test_a_search_that_breaks_is_an_exception_and_never_a_shorter_result(
    server: tuple[list[str], dict[str, RedoxResponse]], broken: int, happened: RedoxResponse
) -> None:
    """A page that cannot be had ends the search in an exception that names it, after all pages before it."""
    _, pages = server
    broken %= len(pages)

    def serve(request: Request) -> Happened:
        query = urlsplit(request.url).query or (request.body or b"").decode()
        page = parse_qs(query).get("_page", ["p0"])[0]
        return happened if page == f"p{broken}" else pages[page]

    error = stopped(World(*[serve] * 40))
    assert error.__notes__[-1] == f"The search for Patient stopped at page {broken + 1}."


def test_a_page_is_what_the_walk_gives() -> None:
    """A page of a walk tells total and outcomes as the server sent them."""
    document = {"resourceType": "Bundle", "type": "searchset", "total": 0, "entry": []}
    document["entry"] = [{"resource": {"resourceType": "OperationOutcome", "issue": [{"severity": "warning"}]}}]
    world = World(answer(200, json.dumps(document)))
    page = world.run(begin(world).next_page())
    assert isinstance(page, Page)
    assert (page.total, len(page.outcomes), page.resources) == (0, 1, [])


def test_a_404_of_the_first_link_is_asked_by_post_with_the_authors_own_parameters() -> None:
    """A 404 may mean "ask by POST"; the search's parameters go along, so that no server can answer with other people."""
    world = World(patients("a", following="Patient?_page=p2"), answer(404), patients("b"))
    ids, _ = walk(world)
    assert ids == ["a", "b"]
    sent = parse_qs((world.sent[-1].body or b"").decode())
    assert sent["_page"] == ["p2"]
    assert set(parse_qs((world.sent[0].body or b"").decode())) < set(sent)


@pytest.mark.parametrize("status", [403, 404])
def test_a_link_that_dies_later_ends_the_search(status: int) -> None:
    """A link that neither GET nor POST gives is dead, also after pages that came by GET: it is tried once in each way."""
    first, second = patients("a", following="Patient?_page=p2"), patients("b", following="Patient?_page=p3")
    world = World(first, second, answer(status), answer(status))
    assert getattr(stopped(world), "status", None) == status
    assert len(world.sent) == 4


@pytest.mark.parametrize("status", [400, 403, 404, 405, 414, 431, 501])
def test_a_link_that_get_does_not_give_deep_in_is_asked_by_post(status: int) -> None:
    """A gateway may refuse a link for its length or its method on any page; POST is tried, and then kept to."""
    links = [f"Patient?_page=p{number}" for number in range(2, 6)]
    first = [patients(str(number), following=link) for number, link in enumerate(links)]
    world = World(*first[:3], answer(status), first[3], patients("z"))
    assert walk(world)[0] == ["0", "1", "2", "3", "z"]
    assert [request.method for request in world.sent] == ["POST", "GET", "GET", "GET", "POST", "POST"]
    assert parse_qs((world.sent[4].body or b"").decode()) == {"family": ["Green"], "_page": ["p4"]}


def test_a_server_that_forgets_the_cursor_by_post_deep_in_is_found_out() -> None:
    """Where the POST after a refused GET gives the first page again, the search fails."""
    first, second = patients("a", following="Patient?_page=p2"), patients("b", following="Patient?_page=p3")
    assert "an earlier one again" in str(stopped(World(first, second, answer(400), first)))


@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.parametrize("last", [(), ("b",)])
def test_an_end_without_anything_new_by_post_after_a_dead_link_is_no_end(status: int, last: tuple[str, ...]) -> None:
    """A server that forgot the cursor refuses the link by GET, and takes the form for a question that finds nothing."""
    first, second = patients("a", following="Patient?_page=p2"), patients("b", "c", following="Patient?_page=p3")
    error = stopped(World(first, second, answer(status), patients(*last)))
    assert isinstance(error, RedoxProtocolError)
    assert f"GET of the next link was answered HTTP {status}, and POST then ended the search" in str(error)


def test_an_empty_last_page_is_an_end_where_nothing_speaks_against_it() -> None:
    """Some servers name a page after the last full one: by POST it is an end where GET is refused, or by the total."""
    first = patients("a", following="Patient?_page=p2")
    assert walk(World(first, answer(405), patients()))[0] == ["a"]
    second = patients("b", following="Patient?_page=p3")
    assert walk(World(first, answer(404), second, patients()))[0] == ["a", "b"]
    counted = [answer(200, page.body.replace(b"{", b'{"total": 2, ', 1)) for page in (first, second, patients())]
    assert walk(World(*counted[:2], answer(404), counted[2]))[0] == ["a", "b"]


@pytest.mark.parametrize("status", [403, 404])
def test_an_earlier_page_that_comes_again_by_post_is_an_error(status: int) -> None:
    """A server that ignores the cursor in the form gives the first page again: an error, not the end of the search."""
    world = World(patients("a", following="Patient?_page=p2"), answer(status), patients("a"))
    assert isinstance(stopped(world), RedoxProtocolError)


def test_the_same_id_without_a_version_is_told_apart_by_its_content() -> None:
    """Two hospitals behind one gateway may use the same id; nothing of either is lost."""
    one, two = ({"resourceType": "Patient", "id": "1", "gender": gender} for gender in ("male", "female"))
    ids, done = walk(World(page_of(one, two, one)))
    assert ids == ["1", "1"]
    assert done.position.duplicates == 1
