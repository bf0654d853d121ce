"""Counting the matches of a search: the server's own count, or as many pages as are needed."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest

from airflow_provider_redox.exceptions import RedoxProtocolError, RedoxResponseError
from airflow_provider_redox.protocol.calls import Calls
from airflow_provider_redox.protocol.counting import Search, count_matches
from airflow_provider_redox.protocol.effects import RedoxResponse

from .flows import World, answer
from .material import settings

SEARCH = Search("Patient", {"family": "Quillfeather"}, "general-hospital", "Development")


def bundle(*ids: str, total: int | None = None, following: bool = False, self_link: str = "") -> RedoxResponse:
    base = "https://api.redoxengine.com/fhir/R4/general-hospital/Development/Patient/_search"
    links = [{"relation": "next", "url": f"{base}?page={'-'.join(ids)}"}] if following else []
    links += [{"relation": "self", "url": self_link}] if self_link else []
    entries = [{"resource": {"resourceType": "Patient", "id": one}, "search": {"mode": "match"}} for one in ids]
    shown: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "link": links, "entry": entries}
    return answer(200, json.dumps(shown if total is None else {**shown, "total": total}))


def counted(world: World, enough: int = 1, search: Search = SEARCH) -> int:
    count: int = world.run(count_matches(Calls(settings(), world.env()), search, enough))
    return count


def form(world: World, number: int = 0) -> dict[str, str]:
    return dict(parse_qsl((world.sent[number].body or b"").decode()))


def test_a_server_that_counts_is_asked_once():
    """The count is the server's own, and no resource is sent."""
    world = World(bundle(total=12_345))
    assert counted(world, 3) == 12_345
    assert form(world) == {"family": "Quillfeather", "_summary": "count"}
    assert world.sent[0].headers["prefer"] == "handling=strict"


def test_none_are_none():
    """A count of nothing is believed."""
    assert counted(World(bundle(total=0))) == 0


def test_a_server_that_gives_resources_instead_is_read_until_there_is_enough():
    """What it gives is counted, page by page, and not further than needed."""
    world = World(bundle("a", "b", following=True, total=9), bundle("c", following=True, total=9))
    assert counted(world, 3) == 3
    assert len(world.sent) == 2


def test_a_total_beside_resources_is_not_a_count():
    """A server that ignores the summary may estimate its total: what it gives is counted."""
    assert counted(World(bundle("a", total=1000)), 1000) == 1


def test_a_server_that_refuses_the_summary_is_asked_without():
    """Strict handling may refuse what it does not know; the search itself is then asked for its pages."""
    world = World(answer(400), bundle("a"))
    assert counted(world) == 1
    assert "_summary" not in form(world, 1)


def test_a_search_that_is_wrong_is_an_error():
    """What is refused without the summary too is refused."""
    with pytest.raises(RedoxResponseError):
        counted(World(answer(400), answer(400)))


def test_a_count_without_a_total_is_counted():
    """An answer that tells neither a total nor resources has no matches."""
    assert counted(World(bundle())) == 0


def test_a_filter_that_the_server_did_not_use_is_an_error():
    """Its count would be of other people. Lenient handling warns."""
    link = "https://api.redoxengine.com/fhir/R4/general-hospital/Development/Patient?_summary=count"
    with pytest.raises(RedoxProtocolError, match="family"):
        counted(World(bundle(total=5, self_link=link)))
    lenient = Search("Patient", {"family": "x"}, "general-hospital", "Development", handling="lenient")
    assert counted(World(bundle(total=5, self_link=link)), search=lenient) == 5
