"""The search over the Platform API's logs: what is asked, every page of it, and when it is believed."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxError, RedoxProtocolError, RedoxServerError
from airflow_provider_redox.protocol import platform
from airflow_provider_redox.protocol.effects import RedoxResponse
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from airflow_provider_redox.protocol.platform import (
    PAGES_AT_MOST,
    SETTLED_AFTER,
    SKEW,
    Sought,
    find_logs,
    is_witnessed,
    settle,
)

from .flows import NOW, World, answer, said_by
from .material import settings

WHERE = {"environment_id": "env/1"}
SOUGHT = Sought("PatientAdmin", "NewPatient", "the-destination", NOW, NOW + SETTLED_AFTER)
NEXT = "/environments/env/logs/search/metadata?_count=50&_cursor="


def logs(*ids: str, following: str | None = None) -> RedoxResponse:
    """Make a page of logs; `following` is the whole next link."""
    links = {"self": "x", **({"next": following} if following else {})}
    found = [{"id": one, "status": "pending", "type": "send", "patient": "Quillfeather"} for one in ids]
    return answer(200, json.dumps({"meta": {"version": "1.0.0", "page": {"links": links}}, "payload": {"results": found}}))


def find(world: World, **extra: Any) -> list[str]:
    flow = find_logs(settings(**{**WHERE, **extra}), world.env(retry=RetryPolicy(attempts=2)), SOUGHT, {"x-mine": "1"})
    return [log.id for log in world.run(flow)]


def settled(world: World, sought: Sought = SOUGHT) -> list[str]:
    return [log.id for log in world.run(settle(settings(**WHERE), world.env(), sought, {}))]


def test_it_asks_for_metadata_by_event_destination_and_time():
    """One POST that may be repeated, with the window widened by what clocks may differ, and no payload asked for."""
    world = World(logs("a"))
    assert find(world) == ["a"]
    (request,) = world.sent
    parts = urlsplit(request.url)
    assert (request.method, parts.path) == ("POST", "/platform/v1/environments/env%2F1/logs/search/metadata")
    assert json.loads(request.body or b"") == {
        "dataModel": "PatientAdmin",
        "eventType": "NewPatient",
        "destinationId": "the-destination",
        "createdAfter": "2025-12-31T23:59:50.000Z",
        "createdBefore": "2026-01-01T00:02:40.000Z",
    }
    assert request.headers["x-mine"] == "1"
    assert "env/1" not in request.label
    assert SKEW == 10.0


def test_it_follows_the_cursor_and_nothing_else_of_a_link():
    """The next link may name any host or path: only its cursor is taken."""
    world = World(logs("a", following=f"{NEXT}c%2F1"), logs("b", following="https://evil.example/else?_cursor=2"), logs("c"))
    assert find(world) == ["a", "b", "c"]
    asked = [urlsplit(request.url) for request in world.sent]
    assert len({(parts.scheme, parts.netloc, parts.path) for parts in asked}) == 1
    assert [parse_qs(parts.query).get("_cursor") for parts in asked] == [None, ["c/1"], ["2"]]
    assert len({request.body for request in world.sent}) == 1


@pytest.mark.parametrize(
    "stated",
    [
        {"dataModel": "Results"},
        {"eventType": "PatientUpdate"},
        {"destination": {"id": "another"}},
        {"createdAt": "2025-12-31T23:59:00Z"},
        {"createdAt": "2026-01-01T00:10:00Z"},
    ],
)
def test_logs_that_do_not_fit_prove_nothing(stated: dict[str, Any]):
    """A service that knows no such filter shows everybody's logs: none of them is ours, nor a witness."""
    others = answer(200, json.dumps({"payload": {"results": [{"id": "a", **stated}]}}))
    with pytest.raises(RedoxProtocolError, match="do not fit its filter"):
        find(World(others))
    if "destination" in stated:
        with pytest.raises(RedoxProtocolError, match="do not fit its filter"):
            World(others).run(is_witnessed(settings(**WHERE), World().env(), "the-destination", NOW, {}))


@pytest.mark.parametrize(
    "stated",
    [
        {"dataModel": "Patient Admin", "eventType": "newpatient", "destination": {"id": "THE-DESTINATION", "name": "x"}},
        {"createdAt": "2026-01-01T00:00:01.5Z", "destination": "the-destination", "environment": {"id": "any"}},
        {"createdAt": None, "dataModel": None, "eventType": ""},
    ],
)
def test_logs_that_fit_are_taken_as_redox_writes_them(stated: dict[str, Any]):
    """Spaces and capitals are no difference, and what a log does not say is not held against it."""
    assert find(World(answer(200, json.dumps({"payload": {"results": [{"id": "a", **stated}]}})))) == ["a"]


def test_a_log_on_two_pages_is_one():
    """A log that is made while pages are read may move another one onto the next page."""
    assert find(World(logs("a", "b", following=f"{NEXT}1"), logs("b", "c"))) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        "[]",
        "null",
        '{"payload": null, "errors": [{"message": "Quillfeather"}]}',
        '{"payload": {}}',
        '{"payload": {"result": []}}',
        '{"payload": {"results": null}}',
        '{"payload": {"results": [{"status": "pending"}]}}',
        '{"payload": {"results": ["a"]}}',
        "<html>Quillfeather</html>",
    ],
)
def test_an_answer_without_a_list_does_not_say_that_there_is_none(body: str):
    """Only a list of logs is believed, an empty one too; anything else is an error after it was asked again."""
    world = World(answer(200, body), answer(200, body))
    with pytest.raises(RedoxProtocolError) as caught:
        find(world)
    assert "Quillfeather" not in said_by(caught.value)
    assert len(world.sent) == 2


def test_a_next_page_without_a_cursor_is_an_error():
    """What cannot be read to its end is not taken for all."""
    with pytest.raises(RedoxProtocolError, match="without a cursor"):
        find(World(logs("a", following="/environments/env/logs?_page=2")))


def test_pages_without_end_are_an_error():
    """A cursor that goes round in a circle ends."""
    world = World(*[logs("a", following=f"{NEXT}1")] * (PAGES_AT_MOST + 1))
    with pytest.raises(RedoxProtocolError, match="too many pages"):
        find(world)
    assert len(world.sent) == PAGES_AT_MOST


def test_a_search_may_be_repeated():
    """A fault that passes is healed; one that stays is an error, not an empty list."""
    assert find(World(answer(500), logs("a"))) == ["a"]
    with pytest.raises(RedoxServerError):
        find(World(answer(500), answer(500)))


def test_without_an_environment_nothing_is_asked():
    """The error names the field of the connection."""
    world = World()
    with pytest.raises(RedoxConfigError, match=r"extra\.environment_id"):
        find(world, environment_id=None)
    assert world.sent == []


def test_none_is_believed_when_a_log_would_be_there():
    """An empty answer is asked for again until the time has come, and then once more."""
    times: list[float] = []

    def none(_request: object) -> RedoxResponse:
        times.append(world.clock - NOW)
        return logs()

    world = World(*[none] * 30)
    assert settled(world) == []
    assert times[0] == 0
    assert times[-2] < SETTLED_AFTER <= times[-1]
    assert len(world.waits) == len(times) - 1


def test_a_log_that_is_there_is_not_waited_for():
    """The first answer with a log ends it."""
    world = World(logs(), logs("a"))
    assert settled(world) == ["a"]
    assert len(world.waits) == 1


def test_long_after_it_is_asked_once():
    """A try of the next day waits for nothing."""
    world = World(logs())
    assert settled(world, Sought("m", "e", "d", NOW - 9000, NOW - 8000)) == []
    assert world.waits == []


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(["payload", "results", "meta", "page", "links", "next", "id", "status"])
    return st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), objects))
def test_any_json_is_a_list_of_logs_or_an_error(document: Any):
    """Whatever comes, it is read or refused with an error of ours."""
    page = answer(200, json.dumps(document))
    try:
        assert isinstance(find(World(page, page)), list)
    except RedoxError:
        pass
    else:
        assert isinstance(document["payload"]["results"], list)


def test_a_page_is_as_large_as_redox_gives():
    """Fifty logs at most on a page."""
    world = World(logs())
    find(world)
    assert parse_qs(urlsplit(world.sent[0].url).query)["_count"] == [str(platform.PAGE)] == ["50"]
