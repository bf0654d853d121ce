"""A search against a server that is drawn at random: it pages, repeats, miscounts, fails, goes round in circles.

The law: a walk gives every resource of the server's pages exactly once (by type, id and version), or it raises an error
that names the page by number. It never gives less, and never asks for ever. A walk that is killed and taken up again,
at any page and however often, gives the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxError, RedoxProtocolError, RedoxResponseError
from airflow_provider_redox.protocol.effects import Happened, Request, Stage
from airflow_provider_redox.protocol.fhir import Endpoint
from airflow_provider_redox.protocol.gathered import key_of, print_of
from airflow_provider_redox.protocol.pages import read_line
from airflow_provider_redox.protocol.paging import BARREN_PAGES_AT_MOST, Position, Walk, start_walk
from airflow_provider_redox.protocol.terms import Terms

from .flows import World, answer, failure

BASE = Endpoint("https://api.redoxengine.com", "hospital", "Production")
FORM = "family=Green&_include=Patient:organization"
PATIENCE = 4
"""Tries after the first."""
PAGES_AT_MOST = 45
REQUESTS_AT_MOST = PAGES_AT_MOST * 2 * (PATIENCE + 2)


@dataclass(frozen=True)
class Item:
    """One resource, and how its entry is marked."""

    type: str
    id: str
    version: str | None = None
    mode: str | None = "match"

    @property
    def identity(self) -> tuple[str, str, str | None]:
        return self.type, self.id, self.version

    @property
    def is_match(self) -> bool:
        return self.mode == "match" or (self.mode is None and self.type == "Patient")

    def as_entry(self) -> dict[str, Any]:
        meta = {"meta": {"versionId": self.version}} if self.version else {}
        mode = {"search": {"mode": self.mode}} if self.mode else {}
        return {"resource": {"resourceType": self.type, "id": self.id, **meta}, **mode}


PASSING: dict[str, Happened] = {
    **{str(status): answer(status) for status in (408, 429, 500, 502, 503, 504)},
    "429 with a time": answer(429, retry_after="2"),
    "503 with a time": answer(503, retry_after="1"),
    "not sent": failure(Stage.UNSENT),
    "no answer": failure(Stage.UNANSWERED),
    "cut off": failure(Stage.CUT, 200),
    "an error cut off": failure(Stage.CUT, 502),
    "nothing": answer(200, b""),
    "HTML": answer(200, "<html>Please sign in</html>"),
    "half a page": answer(200, '{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"Pati'),
    "another Bundle": answer(200, '{"resourceType":"Bundle","type":"collection"}'),
    "an entry without a resource": answer(200, '{"resourceType":"Bundle","type":"searchset","entry":[{}]}'),
    "an empty next link": answer(200, '{"resourceType":"Bundle","type":"searchset","link":[{"relation":"next","url":""}]}'),
}
"""What a second try may heal."""

RENEWING: dict[str, Happened] = {"401": answer(401), "a 401 cut off": failure(Stage.CUT, 401)}
"""What one new token heals."""

FINAL: dict[str, Happened] = {
    **{str(status): answer(status) for status in (302, 406, 410, 422)},
    "a wait without measure": answer(429, retry_after="86400"),
    "an outcome": answer(200, '{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"invalid"}]}'),
    "not trusted": failure(Stage.UNTRUSTED),
    "too large": failure(Stage.OVERSIZE, 200),
}
"""What no try heals."""

EVERY = {**PASSING, **RENEWING, **FINAL}


@dataclass(frozen=True)
class Plan:
    """What a server holds and how it behaves.

    :param pages: the items of each page.
    :param totals: what each page tells.
    :param faults: what the first requests for each page meet.
    :param stays: pages whose last fault meets all further requests too.
    :param behind: what follows the last page: nothing, or pages without end.
    :param links: what a next link holds: a cursor, a number and the filters, or a number alone.
    """

    pages: tuple[tuple[Item, ...], ...]
    totals: tuple[int | None, ...]
    faults: tuple[tuple[str, ...], ...]
    stays: frozenset[int] = frozenset()
    behind: str = "nothing"
    absolute: bool = False
    links: str = "cursor"
    only_post: bool = False
    indent: int | None = None

    @property
    def repeats(self) -> bool:
        """Whether a search that is continued by POST meets a page for the second time."""
        shown = [tuple(item.identity for item in page) for page in self.pages if page]
        return (self.only_post or self.links == "number") and len(set(shown)) < len(shown)

    @property
    def broken(self) -> int | None:
        """The index of the first page that cannot be had."""
        return next((number for number, met in enumerate(self.faults) if self._is_broken(number, met)), None)

    def _is_broken(self, number: int, met: tuple[str, ...]) -> bool:
        renewals = sum(name in RENEWING for name in met)
        return bool(met) and (
            number in self.stays or renewals > 1 or len(met) - renewals > PATIENCE or any(name in FINAL for name in met)
        )


@dataclass
class Server:
    """Serves a plan. `given` are the items of the pages that went out whole, in their order."""

    plan: Plan
    given: list[Item] = field(default_factory=list)
    served: int = 0
    requests: int = 0
    forgetful: bool = False
    _tries: dict[int, int] = field(default_factory=dict)

    def __call__(self, request: Request) -> Happened:
        """Answer a request."""
        self.requests += 1
        assert self.requests <= REQUESTS_AT_MOST, "a search without end"
        query = urlsplit(request.url).query or (request.body or b"").decode()
        number = int(parse_qs(query).get("_page", ["0"])[0].removeprefix("c"))
        if self.forgetful and number:
            return answer(410)
        met = self._fault(number)
        if met is not None:
            return EVERY[met]
        if request.method == "GET" and self.plan.only_post:
            return answer(405)
        return self._page(number)

    def _fault(self, number: int) -> str | None:
        faults = self.plan.faults[number] if number < len(self.plan.pages) else ()
        tries = self._tries[number] = self._tries.get(number, 0) + 1
        if tries > len(faults):
            return faults[-1] if faults and number in self.plan.stays else None
        return faults[tries - 1]

    def _page(self, number: int) -> Happened:
        items, following = self._items(number), self._following(number)
        self.given += items
        self.served += 1
        total = self.plan.totals[min(number, len(self.plan.totals) - 1)]
        document = {
            "resourceType": "Bundle",
            "type": "searchset",
            "entry": [item.as_entry() for item in items],
            "link": [{"relation": "next", "url": self._link(following)}] if following is not None else [],
            **({"total": total} if total is not None else {}),
        }
        return answer(200, json.dumps(document, indent=self.plan.indent))

    def _items(self, number: int) -> tuple[Item, ...]:
        behind = number - len(self.plan.pages)
        if behind < 0:
            return self.plan.pages[number]
        endless = {"new pages": (Item("Patient", f"new-{behind}"),), "one page": self.plan.pages[-1]}
        return endless.get(self.plan.behind, ())

    def _following(self, number: int) -> int | None:
        if number < len(self.plan.pages) - 1:
            return number + 1
        back = {"nothing": None, "itself": number or 1, "the first link": 1}
        return back.get(self.plan.behind, number + 1)

    def _link(self, number: int) -> str:
        pages = {"cursor": f"_page=c{number}", "number": f"_page={number}"}
        query = pages.get(self.plan.links, f"{FORM}&_page={number}")
        return f"{BASE.url}/Patient?{query}" if self.plan.absolute else f"Patient?{query}"


# ── drawing a server ──

ENDLESS = ("itself", "the first link", "new pages", "one page", "empty pages")

KINDS = st.sampled_from(
    [
        ("Patient", None, "match"),
        ("Patient", None, None),
        ("Patient", "1", "match"),
        ("Organization", None, "include"),
        ("Organization", "7", None),
    ]
)


@st.composite
def paged(draw: st.DrawFn) -> tuple[tuple[Item, ...], ...]:
    """Draw pages: any size, empty ones too; later ones repeat what earlier ones gave, in a newer version or the same."""
    pages: list[tuple[Item, ...]] = []
    known: list[Item] = []
    for number in range(draw(st.integers(1, 6))):
        fresh = [
            Item(kind, f"{number}-{n}", version, mode)
            for n, (kind, version, mode) in enumerate(draw(st.lists(KINDS, max_size=4)))
        ]
        again = draw(st.lists(st.sampled_from(known), max_size=3)) if known else []
        newer = [replace(item, version=f"{number}-new") for item in again if item.version and draw(st.booleans())]
        pages.append((*again, *fresh, *newer))
        known += [*fresh, *newer]
    return tuple(pages)


def matches(items: list[Item]) -> int:
    """Count the distinct matches: versions of one resource are one, what has no version is told apart by its content."""
    return len({item.identity if item.version is None else (item.type, item.id) for item in items if item.is_match})


@st.composite
def told(draw: st.DrawFn, pages: tuple[tuple[Item, ...], ...]) -> tuple[int | None, ...]:
    """Draw totals: none, the right one, one too small or too large, or another on each page."""
    right = matches([item for page in pages for item in page])
    one = st.sampled_from([None, right, right, max(right - 1, 0), right + 2])
    return tuple(draw(one) for _ in pages) if draw(st.booleans()) else (draw(one),) * len(pages)


@st.composite
def healthy(draw: st.DrawFn) -> Plan:
    """Draw a server on which a search comes to its end."""
    pages = draw(paged())
    passing = st.lists(st.sampled_from(sorted(PASSING)), max_size=PATIENCE)
    faults = tuple(tuple(draw(st.just([]) | passing)) for _ in pages)
    options: dict[str, Any] = {name: draw(st.booleans()) for name in ("absolute", "only_post")}
    options["links"] = draw(st.sampled_from(["cursor", "number", "number and filters"]))
    plan = Plan(pages, draw(told(pages)), faults, indent=draw(st.sampled_from([None, 0, 2])), **options)
    assume(not plan.repeats)
    return plan


@st.composite
def failing(draw: st.DrawFn) -> Plan:
    """Draw a server on which one page may meet anything, once or for good, and of which the pages may have no end."""
    plan = draw(healthy())
    page = draw(st.integers(0, len(plan.pages) - 1))
    met = draw(st.just(plan.faults[page]) | st.lists(st.sampled_from(sorted(EVERY)), max_size=6).map(tuple))
    stays = frozenset(draw(st.sampled_from([(), (), (page,)])))
    behind = draw(st.just("nothing") | st.sampled_from(ENDLESS))
    return replace(plan, faults=(*plan.faults[:page], met, *plan.faults[page + 1 :]), stays=stays, behind=behind)


# ── walking ──


def begin(server: Server, lines: list[bytes], position: Position, **terms: Any) -> tuple[World, Walk]:
    """Begin a walk, or take one up, as a new process would: with what is on disk and nothing else."""
    world = World(*[server] * REQUESTS_AT_MOST)
    stored = msgspec.json.decode(msgspec.json.encode(position), type=Position)
    known = [(key_of(resource), resource) for resource in map(read_line, lines)]
    seen = {mark for key, resource in known if key is not None for mark in (key, print_of(key, resource))}
    agreed = Terms(**{"max_pages": PAGES_AT_MOST, **terms})
    where: dict[str, Any] = {"headers": {}, "env": world.env(), "seen": seen, "position": stored}
    walk = start_walk(BASE, "Patient", FORM.encode(), terms=agreed, **where)
    return world, walk


Durable = list[tuple[Position, int]]
"""Positions, and how many lines stood when each was stored."""


def drain(world: World, walk: Walk, lines: list[bytes], durable: Durable, pages: int = 10_000) -> bool:
    """Walk on for so many pages; say whether that was all."""
    for _ in range(pages):
        page = world.run(walk.next_page())
        if page is None:
            return True
        lines += [resource.line for resource in page.resources]
        durable.append((walk.position, len(lines)))
    return False


def once(items: list[Item]) -> list[tuple[str, str, str | None]]:
    """Give the identities, each once, in the order in which they came."""
    return list(dict.fromkeys(item.identity for item in items))


def identities(lines: list[bytes]) -> list[tuple[str, str, str | None]]:
    resources = [json.loads(line) for line in lines]
    return [(one["resourceType"], one["id"], one.get("meta", {}).get("versionId")) for one in resources]


def short(plan: Plan, given: list[Item]) -> int:
    """Return by how much every total that a server's pages tell is more than its matches; none differs from another much."""
    totals = [total for total in plan.totals[: len(plan.pages)] if total is not None]
    return max(min(totals) - matches(given), 0) if totals else 0


def stopped_at(error: RedoxError) -> int:
    """Give the number of the page that an error names."""
    (note,) = [note for note in error.__notes__ if note.startswith("The search for Patient stopped at page ")]
    return int(note.removeprefix("The search for Patient stopped at page ").removesuffix("."))


def attempt(server: Server, lines: list[bytes], **terms: Any) -> tuple[Walk, RedoxError | None]:
    """Walk from the first page to the end, or to an error."""
    world, walk = begin(server, lines, Position(), **terms)
    try:
        assert drain(world, walk, lines, [])
    except RedoxError as error:
        return walk, error
    return walk, None


@settings(max_examples=150, deadline=None)
@given(failing(), st.sampled_from(["fail", "warn"]))
def test_all_of_it_once_or_an_error_that_names_the_page(plan: Plan, on_mismatch: str) -> None:
    """Every resource of every page once, or an error with the page's number; never less, and never for ever."""
    server, lines = Server(plan), []
    walk, error = attempt(server, lines, on_total_mismatch=on_mismatch)
    if plan.broken is not None:
        assert error is not None
        assert stopped_at(error) == plan.broken + 1
    elif plan.behind != "nothing" or (on_mismatch == "fail" and short(plan, server.given)):
        assert isinstance(error, RedoxProtocolError)
        assert stopped_at(error) == server.served
    else:
        assert error is None
        assert identities(lines) == once(server.given) == once([item for page in plan.pages for item in page])
        assert (walk.position.missing) == short(plan, server.given)


@settings(max_examples=100, deadline=None)
@given(healthy(), st.sampled_from(sorted(RENEWING)), st.data())
def test_what_passes_is_healed(plan: Plan, renewing: str, data: st.DataObject) -> None:
    """Up to four faults that pass, and one refused token, on each page: the search comes to its end, and is whole."""
    faults = []
    for met in plan.faults:
        place = data.draw(st.integers(0, len(met)))
        faults.append((*met[:place], renewing, *met[place:]))
    server, lines = Server(replace(plan, faults=tuple(faults), totals=(None,))), []
    assert drain(*begin(server, lines, Position()), lines, [])
    assert identities(lines) == once([item for page in plan.pages for item in page])


def without_faults(plan: Plan) -> Plan:
    return replace(plan, faults=((),) * len(plan.pages))


@settings(max_examples=150, deadline=None)
@given(healthy().map(without_faults))
def test_a_total_of_more_than_came_is_told(plan: Plan) -> None:
    """A total that is more than the distinct matches on every page fails the last page, or is a warning."""
    server, lines = Server(plan), []
    walk, error = attempt(server, lines, on_total_mismatch="warn")
    assert error is None
    assert (walk.position.missing) == short(plan, server.given)
    _, error = attempt(Server(plan), [], on_total_mismatch="fail")
    assert (error is not None) == (walk.position.missing > 0)
    assert error is None or stopped_at(error) == len(plan.pages)


@settings(max_examples=60, deadline=None)
@given(healthy(), st.sampled_from(ENDLESS))
def test_pages_without_end_are_given_up_on(plan: Plan, behind: str) -> None:
    """A circle is left where it closes; pages that bring nothing new after twenty of them; the others at max_pages."""
    server, lines = Server(replace(plan, behind=behind)), []
    with pytest.raises(RedoxProtocolError) as raised:
        drain(*begin(server, lines, Position()), lines, [])
    circles = dict.fromkeys(("itself", "the first link"), max(len(plan.pages), 2))
    assert server.served <= {**circles, "new pages": PAGES_AT_MOST}.get(behind, len(plan.pages) + BARREN_PAGES_AT_MOST + 1)
    assert stopped_at(raised.value) == server.served


# ── killed and taken up ──


def go_on(server: Server, lines: list[bytes], durable: Durable, pages: int = 10_000) -> tuple[Walk, bool]:
    """Take a walk up where it was left, or begin anew where that leads nowhere, as a task does."""
    world, walk = begin(server, lines, durable[-1][0], on_total_mismatch="warn")
    try:
        return walk, drain(world, walk, lines, durable, pages)
    except RedoxProtocolError:
        assert walk.taken_up
        assert walk.astray
    lines.clear()
    durable[:] = [(Position(), 0)]
    world, walk = begin(server, lines, Position(), on_total_mismatch="warn")
    return walk, drain(world, walk, lines, durable, pages)


@settings(max_examples=150, deadline=None)
@given(healthy().map(without_faults), st.data())
def test_a_walk_that_is_killed_anywhere_gives_the_same(plan: Plan, data: st.DataObject) -> None:
    """Killed at any page and taken up from any position that was stored, again and again: the lines are the same.

    One that ends without anything new where it was taken up is begun anew.
    """
    whole: list[bytes] = []
    world, undisturbed = begin(Server(plan), whole, Position(), on_total_mismatch="warn")
    drain(world, undisturbed, whole, [])

    server, lines, durable = Server(plan), [], [(Position(), 0)]
    for pages in data.draw(st.lists(st.integers(0, len(plan.pages)), max_size=3), label="pages before each kill"):
        walk = go_on(server, lines, durable, pages)[0]
        kept = data.draw(st.integers(1, len(durable)), label="positions that were stored")
        durable, lines = durable[:kept], lines[: durable[kept - 1][1]]
    walk, ended = go_on(server, lines, durable)
    assert ended
    assert lines == whole
    assert walk.position == undisturbed.position


@settings(max_examples=60, deadline=None)
@given(healthy(), st.data())
def test_a_walk_is_stuck_where_its_link_has_died(plan: Plan, data: st.DataObject) -> None:
    """A server that forgot the cursor since: an error that names the page, and a walk from the first page is whole."""
    plan = without_faults(replace(plan, totals=(None,), pages=(*plan.pages, (Item("Patient", "last"),))))
    server, lines, durable = Server(plan), [], [(Position(), 0)]
    pages = data.draw(st.integers(1, len(plan.pages) - 1))
    drain(*begin(server, lines, Position()), lines, durable, pages)

    server.forgetful = True
    world, walk = begin(server, lines, durable[-1][0])
    with pytest.raises(RedoxResponseError) as raised:
        world.run(walk.next_page())
    assert (walk.is_stuck, stopped_at(raised.value)) == (True, pages + 1)

    server.forgetful, anew = False, []
    assert drain(*begin(server, anew, Position()), anew, [])
    assert identities(anew) == once([item for page in plan.pages for item in page])


# ── totals, by example ──


def plan_of(*pages: tuple[Item, ...], total: int) -> Plan:
    """Make a healthy server of these pages, which tells the same total on each."""
    return Plan(pages, (total,) * len(pages), ((),) * len(pages))


def test_an_update_while_paging_does_not_make_up_for_a_lost_resource() -> None:
    """A resource that moved to the end in a newer version is one match, so that the one it pushed out is missed."""
    a, b = Item("Patient", "a", "1"), Item("Patient", "b", "1")
    moved = replace(a, version="2")
    _, error = attempt(Server(plan_of((a, b), (moved,), total=3)), [])
    assert isinstance(error, RedoxProtocolError)


def test_what_was_included_on_an_earlier_page_is_a_match_on_a_later_one() -> None:
    """A group that one page includes with its member and a later page finds counts as found."""
    member, group = Item("Patient", "a"), Item("Patient", "b")
    _, error = attempt(Server(plan_of((member, replace(group, mode="include")), (group,), total=2)), [])
    assert error is None


def taken_up(server: Server, pages: int, **terms: Any) -> tuple[World, Walk]:
    """Kill a walk after so many pages, and take it up."""
    lines: list[bytes] = []
    durable: Durable = []
    drain(*begin(server, lines, Position(), **terms), lines, durable, pages)
    return begin(server, lines, durable[-1][0], **terms)


def test_a_walk_that_is_killed_after_its_last_page_still_knows_what_is_missing() -> None:
    """Where a total that is too large is only a warning, it is one after a restart too."""
    world, walk = taken_up(Server(plan_of((Item("Patient", "a"),), total=3)), 1, on_total_mismatch="warn")
    assert world.run(walk.next_page()) is None
    assert walk.position.missing == 2


def test_a_duplicate_after_a_restart_does_not_make_up_for_a_lost_resource() -> None:
    """A search counts a resource once, though it is killed between the two pages that hold it."""
    a, b, c = (Item("Patient", one) for one in "abc")
    world, walk = taken_up(Server(plan_of((a, b), (b, c), total=4)), 1)
    with pytest.raises(RedoxProtocolError):
        world.run(walk.next_page())
