"""What a search insists on: that no filter was ignored, that the total came, that it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxError, RedoxProtocolError
from airflow_provider_redox.protocol.effects import RedoxResponse, Tell
from airflow_provider_redox.protocol.fhir import Endpoint
from airflow_provider_redox.protocol.filters import Filters
from airflow_provider_redox.protocol.paging import Walk, start_walk
from airflow_provider_redox.protocol.terms import Terms, counts_only, terms

from .flows import World, answer, said_by

BASE = Endpoint("https://api.redoxengine.com", "hospital", "Production")
SHAPING = (
    "_count=5&_sort=_id&_include=a&_revinclude=b&_summary=false&_elements=id&_total=accurate&_contained=both&_format=json"
)


# ── filters ──


@pytest.mark.parametrize(
    ("form", "said", "ignored"),
    [
        ("family=Green&gender=male", "https://x/Patient?family=Green", ["gender"]),
        ("family=Green&gender=male&_id=1", "https://x/Patient?gender=male", ["_id", "family"]),
        ("family=Green&gender=male", "https://x/Patient?gender=male&family=Green&_count=50", []),
        ("family=Green", "", []),
        ("family=Green", "https://x/Patient", []),
        ("family=Green", "https://x/Patient?", []),
        ("family=Green", "http://[", []),
        ("family=Green", "Patient?_getpages=7b1f", []),
        ("family=Green", "Patient?_getpages=17&_getpagesoffset=20&_count=20&_bundletype=searchset", []),
        ("family=Green", "https://x/Patient/_search?_skip=20&_count=20", []),
        ("family=Green&gender=male", "https://x/Patient?gender=male&_offset=20&page=2", ["family"]),
        ("family=Green&gender=male", "https://x/Patient?gender=male&ct=cursor", []),
        ("name:exact=Green", "https://x/Patient?name=Green", []),
        ("name=Green", "https://x/Patient?name:contains=Green", []),
        ("subject:Patient.name=Green", "https://x/Observation?subject.name:exact=Green", []),
        ("date=ge2026-01-01&date=lt2026-02-01", "https://x/Observation?date=ge2026-01-01", ["date"]),
        ("date=ge2026-01-01&date=lt2026-02-01", "https://x/Observation?date=ge2026-01-01&date=lt2026-02-01", []),
        ("name=a%26gender%3Dmale&gender=male", "https://x/Patient?name=a%26gender%3Dmale", ["gender"]),
        ("_has:Observation:patient:code=1", "https://x/Patient?_has:Observation:patient:code=1", []),
        (SHAPING, "https://x/Patient?_page=2", []),
        *(
            (f"{name}=x", "https://x/Patient?_count=5", [name])
            for name in ("_id", "_lastUpdated", "_tag", "_profile", "_has")
        ),
    ],
)
def test_a_filter_that_the_self_link_does_not_name_was_ignored(form: str, said: str, ignored: list[str]) -> None:
    """Names count, up to modifier and chain, and how often; what shapes the answer is no filter; no query says nothing."""
    assert Filters.of(form.encode()).heard(said).ignored == ignored


@pytest.mark.parametrize(
    ("form", "only"),
    [
        ("_summary=count", True),
        ("_count=0", True),
        ("_total=estimate", True),
        ("_summary=true&_count=10&_total=accurate", False),
        ("code=_count%3D0", False),
    ],
)
def test_a_search_for_a_number_or_an_estimate_has_no_total_to_hold_against(form: str, *, only: bool) -> None:
    """Where nothing is sent but a count, or the count is an estimate, the total says nothing about the pages."""
    assert counts_only(form.encode()) is only


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"max_pages": 0}, "max_pages"),
        ({"max_pages": True}, "max_pages"),
        ({"max_pages": "5"}, "max_pages"),
        ({"on_total_mismatch": "ignore"}, "on_total_mismatch: must be one of fail, warn"),
        ({"handling": "Strict"}, "handling: must be one of strict, lenient; did you mean strict?"),
        ({"handling": None}, "handling"),
    ],
)
def test_terms_that_make_no_sense_are_refused_by_name(wrong: dict[str, Any], named: str) -> None:
    """A wrong term is a RedoxConfigError that names it."""
    with pytest.raises(RedoxConfigError, match=named):
        terms(**wrong)


# ── a walk on its terms ──


def page(*ids: str, said: str = "", following: str = "", modes: tuple[str | None, ...] = (), **more: Any) -> RedoxResponse:
    """Make a page of patients; `modes` are their search modes."""
    marks = modes or ("match",) * len(ids)
    entries = [
        {"resource": {"resourceType": "Patient", "id": one}, **({"search": {"mode": mark}} if mark else {})}
        for one, mark in zip(ids, marks, strict=True)
    ]
    urls = {"self": said, "next": following}
    links = [{"relation": relation, "url": url} for relation, url in urls.items() if url]
    return answer(200, json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": entries, "link": links, **more}))


def walk(world: World, form: str = "family=Green", headers: dict[str, str] | None = None, **options: Any) -> Walk:
    """Walk a search to its end."""
    search = start_walk(BASE, "Patient", form.encode(), headers=headers or {}, env=world.env(), terms=Terms(**options))
    while world.run(search.next_page()) is not None:
        pass
    return search


def stopped(*pages: RedoxResponse, **options: Any) -> RedoxError:
    with pytest.raises(RedoxError) as raised:
        walk(World(*pages), **options)
    return raised.value


def warnings(world: World) -> list[str]:
    return [effect.words for effect in world.asked if isinstance(effect, Tell)]


@pytest.mark.parametrize("handling", ["strict", "lenient"])
def test_the_server_is_told_how_to_take_unknown_parameters(handling: str) -> None:
    """The first request says so in a Prefer header; the links of the server's own making need none."""
    world = World(page("a", following="Patient?_page=2"), page("b"))
    walk(world, handling=handling)
    assert [request.headers.get("prefer") for request in world.sent] == [f"handling={handling}", None]


def test_the_authors_own_preference_is_kept() -> None:
    """A Prefer header of the author's, or of the connection's, is sent as it is."""
    world = World(page("a"))
    walk(world, headers={"prefer": "respond-async"})
    assert world.sent[0].headers["prefer"] == "respond-async"


def test_an_ignored_filter_is_an_error_on_the_first_page() -> None:
    """It names the parameter and the page, and neither the value nor the link; no further page is asked for."""
    world = World(page("a", said="Patient?gender=male", following="Patient?_page=2"))
    with pytest.raises(RedoxProtocolError, match="the parameter family") as raised:
        walk(world, "family=Green&gender=male")
    assert raised.value.__notes__ == ["The search for Patient stopped at page 1."]
    assert "Green" not in said_by(raised.value)
    assert "male" not in said_by(raised.value)


def test_an_ignored_filter_is_a_warning_for_the_lenient() -> None:
    """With handling lenient, the search goes on, and the log is told the parameter's name, without its value."""
    world = World(page("a", said="Patient?gender=male"))
    assert walk(world, "family=Green&gender=male", handling="lenient").position.pages == 1
    (words,) = warnings(world)
    assert "family" in words
    assert "Green" not in words
    assert "gender" not in words


@pytest.mark.parametrize("said", ["", "Patient", "Patient?_getpages=7b1f&_getpagesoffset=1", "Patient?_skip=1&_count=1"])
def test_a_later_page_may_say_nothing(said: str) -> None:
    """The self link of a later page may be its cursor, and no word about filters."""
    pages = page("a", said="Patient?family=Green", following="Patient?_page=p2"), page("b", said=said)
    assert walk(World(*pages)).position.pages == 2


@pytest.mark.parametrize("said", ["Patient?_count=1", "Patient?gender=male&_skip=1"])
def test_a_later_page_that_tells_other_filters_is_an_error(said: str) -> None:
    """A filter that is lost between two pages is found out where the later page says what it used."""
    pages = page("a", said="Patient?family=x&gender=male", following="Patient?_page=p2"), page("b", said=said)
    with pytest.raises(RedoxProtocolError, match="the parameter family") as raised:
        walk(World(*pages), "family=Green&gender=male")
    assert raised.value.__notes__ == ["The search for Patient stopped at page 2."]


@pytest.mark.parametrize(
    "pages",
    [
        (page("a", "b", total=2),),
        (page("a", "b"),),
        (page("a", "b", total=0),),
        (page("a", total=2, following="Patient?_page=2"), page("b", total=2)),
        (page("a", total=3, following="Patient?_page=2"), page("b", total=2)),
        (page("a", total=2, following="Patient?_page=2"), page("b", total=5)),
        (page("a", "b", total=2, following="Patient?_page=2"), page(*"cdefghi", total=7)),
        (page("a", total=1, following="Patient?_page=2"), page("b", total=2)),
        (page("a", total=9, following="Patient?_page=2"), page(*"bcdefghi", total=8)),
        (page("a", "b", total=2, modes=(None, None)),),
    ],
    ids=[
        "right",
        "none",
        "too small",
        "right on two",
        "one less",
        "some more",
        "of the page",
        "so far",
        "what is left",
        "no modes",
    ],
)
def test_a_total_that_is_right_or_small_or_moves_a_little_is_no_error(pages: tuple[RedoxResponse, ...]) -> None:
    """A server that is written to may count a little more or less on each page; some count the page, or what came so far."""
    world = World(*pages)
    assert walk(world).position.missing == 0
    assert warnings(world) == []


@pytest.mark.parametrize(
    "pages",
    [
        (page("a", "b", total=3),),
        (page("a", total=4, following="Patient?_page=2"), page("b", total=3)),
        (page("a", total=3, following="Patient?_page=2"), page("b", total=4)),
        (page("a", total=3, following="Patient?_page=2"), page("b", total=3)),
        (page("a", "b", total=3, following="Patient?_page=2"), page("b", total=3)),
        (page("a", "b", "c", total=3, modes=("match", "match", "include")),),
        (page("a", "b", "c", total=3, modes=(None, "match", "outcome")),),
    ],
    ids=["one page", "one less", "one more", "two pages", "a duplicate", "an include", "an outcome"],
)
def test_a_total_of_more_than_came_is_an_error(pages: tuple[RedoxResponse, ...]) -> None:
    """Duplicates and what was included count for nothing; the error tells how many are missing, and the last page."""
    error = stopped(*pages)
    assert isinstance(error, RedoxProtocolError)
    assert "1 are missing" in str(error)
    assert error.__notes__ == [f"The search for Patient stopped at page {len(pages)}."]


def test_a_total_that_jumps_is_an_error() -> None:
    """A total of 15, then of 60, is of two searches, though as many came: the filters were lost on the way."""
    pages = page("a", total=15, following="Patient?_page=2"), page(*map(str, range(59)), total=60)
    assert "went from 15 to 60" in str(stopped(*pages))
    world = World(*pages)
    assert walk(world, on_total_mismatch="warn").position.missing == 0
    assert ["went from 15 to 60" in words for words in warnings(world)] == [True]


def test_far_fewer_than_one_page_told_is_an_error() -> None:
    """A total that shrinks from 60 to 15 does not make 15 resources of 60 complete."""
    pages = page("a", total=60, following="Patient?_page=2"), page(*map(str, range(14)), total=15)
    assert "45 are missing" in str(stopped(*pages))


def test_a_total_of_more_than_came_can_be_a_warning() -> None:
    """With on_total_mismatch warn, the search is complete; the log and the walk know how many may be missing."""
    world = World(page("a", total=3))
    assert walk(world, on_total_mismatch="warn").position.missing == 2
    (words,) = warnings(world)
    assert "2 may be missing" in words


def test_a_search_for_a_count_is_complete_without_resources() -> None:
    """`_summary=count` is answered with a total and no entries."""
    assert walk(World(page(total=162)), "_summary=count").position.missing == 0
