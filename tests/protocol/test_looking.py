"""Looking logs up: what is asked, how much it costs, and what one bad log does to the others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import (
    RedoxAuthError,
    RedoxConfigError,
    RedoxError,
    RedoxProtocolError,
    RedoxSecurityError,
    RedoxServerError,
    RedoxTransportError,
)
from airflow_provider_redox.protocol.delivery import Window
from airflow_provider_redox.protocol.effects import Happened, Request, Stage, Tell
from airflow_provider_redox.protocol.looking import (
    Knowledge,
    Pace,
    Platform,
    apart_from_search,
    find_in_window,
    look,
    moment_of,
)
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from airflow_provider_redox.protocol.platform import PAGE, PAGES_AT_MOST

from .flows import NOW, World, answer, failure
from .material import settings

WHERE = {"environment_id": "env", "organization_id": "org"}


class Redox:
    """A Platform API in a function: logs by age, searched by page and asked for by ID."""

    def __init__(
        self, logs: dict[str, tuple[float, str]], *, refuse_search: int = 0, statuses: dict[str, int] | None = None
    ):
        self.logs = dict(sorted(logs.items(), key=lambda pair: pair[1][0]))
        self.refuse_search = refuse_search
        self.statuses = statuses or {}
        self.searches: list[dict[str, Any]] = []
        self.asked: list[str] = []

    def __call__(self, request: Request) -> Happened:
        parts = urlsplit(request.url)
        if request.method == "GET":
            log_id = parts.path.rpartition("/")[2]
            self.asked.append(log_id)
            if log_id in self.statuses:
                return answer(self.statuses[log_id])
            return (
                answer(200, json.dumps({"payload": {"result": self.shown(log_id)}})) if log_id in self.logs else answer(404)
            )
        body = json.loads(request.body or b"{}")
        self.searches.append(body)
        if self.refuse_search:
            return answer(self.refuse_search)
        after = datetime.fromisoformat(body["createdAfter"]).timestamp()
        found = [log_id for log_id, (made, _) in self.logs.items() if made >= after]
        start = int(parse_qs(parts.query).get("_cursor", ["0"])[0])
        rows = [self.shown(log_id) for log_id in found[start : start + PAGE]]
        links = {"next": f"/x?_cursor={start + PAGE}"} if start + PAGE < len(found) else {}
        return answer(200, json.dumps({"payload": {"results": rows}, "meta": {"page": {"links": links}}}))

    def shown(self, log_id: str) -> dict[str, str]:
        made, status = self.logs[log_id]
        return {"id": log_id, "status": status, "createdAt": datetime.fromtimestamp(made, UTC).isoformat()}

    @property
    def requests(self) -> int:
        return len(self.searches) + len(self.asked)


def made(names: Iterable[str], *, ago: float = 60.0, status: str = "pending") -> dict[str, tuple[float, str]]:
    return dict.fromkeys(names, (NOW - ago, status))


def many(name: str, count: int, *, ago: float = 60.0, status: str = "pending") -> dict[str, tuple[float, str]]:
    return made((f"{name}{number}" for number in range(count)), ago=ago, status=status)


def looked(redox: Any, wanted: Iterable[str], knowledge: Knowledge | None = None, **options: Any) -> dict[str, str]:
    told: dict[str, str] = {}
    world = World(*[redox] * 3000)
    platform = Platform(settings(**WHERE), world.env(retry=RetryPolicy(attempts=1)), options.pop("data_mode", None))
    since = dict.fromkeys(wanted, NOW - options.pop("ago", 120.0))
    world.run(look(platform, since, knowledge or Knowledge(), told.update, **options))
    return told


def test_a_thousand_waits_cost_twenty_pages():
    """Their logs lie in one window: fifty on a page, each told, none asked for by its ID."""
    redox = Redox(many("mine", 1000, status="succeeded"))
    told = looked(redox, redox.logs)
    assert set(told.values()) == {"succeeded"}
    assert (len(told), len(redox.searches), redox.asked) == (1000, 20, [])


def test_one_wait_costs_one_request():
    """A single log is asked for by its ID, which no traffic of others makes dearer."""
    redox = Redox(many("other", 500) | made(["mine"]))
    assert looked(redox, ["mine"]) == {"mine": "pending"}
    assert (redox.searches, redox.asked) == ([], ["mine"])


def test_the_window_begins_with_the_oldest_wait():
    """Logs before it are of no interest. Clocks may differ by ten seconds."""
    redox = Redox(many("mine", 3))
    looked(redox, redox.logs, ago=100.0)
    assert datetime.fromisoformat(redox.searches[0]["createdAfter"]).timestamp() == NOW - 110


def test_the_search_ends_when_all_are_seen():
    """Pages after the last log that is waited for are not read."""
    redox = Redox(many("mine", 10, ago=90) | many("other", 1000, ago=30))
    assert len(looked(redox, [f"mine{number}" for number in range(10)])) == 10
    assert redox.requests == 1


@pytest.mark.parametrize("others", [0, 100, 1000, 20_000])
def test_a_look_costs_no_more_than_twice_the_best(others: int):
    """However much others send: the search is broken off when asking for each log would have been as cheap."""
    redox = Redox(many("other", others, ago=90) | many("mine", 20, ago=60))
    mine = [f"mine{number}" for number in range(20)]
    assert set(looked(redox, mine)) == set(mine)
    best = min(20, -(-(others + 20) // PAGE))
    assert redox.requests <= 2 * best + 1


def test_a_dense_window_is_not_searched_for_ever():
    """What a search has shown of others' traffic decides the next time: what lies before it is asked for by ID."""
    early, late = made("abcdefghij", ago=100), made("klmnopqrst", ago=20)
    redox, knowledge = Redox(many("other", 20_000, ago=60) | early | late), Knowledge()
    mine = [*early, *late]
    for _ in range(2):
        looked(redox, mine, knowledge)
    before = redox.requests
    looked(redox, mine, knowledge)
    assert redox.requests - before == 11
    assert sorted(redox.asked[-10:]) == sorted(early)


def test_a_dense_window_is_tried_again_some_time():
    """Traffic may have gone: what is known of it fades."""
    redox, knowledge = Redox(many("other", 20_000, ago=90) | many("mine", 20)), Knowledge()
    mine = [f"mine{number}" for number in range(20)]
    looked(redox, mine, knowledge)
    redox.logs, before = {log_id: log for log_id, log in redox.logs.items() if log_id in mine}, len(redox.searches)
    for _ in range(100):
        looked(redox, mine, knowledge)
    assert len(redox.searches) > before


def test_old_logs_do_not_stretch_the_window():
    """Of a hundred new waits and one of last week the old one is asked for by ID, once its age and the traffic are known."""
    week = 7 * 86400.0
    redox = Redox(many("other", 2000, ago=week / 2) | many("mine", 100, ago=60) | made(["old"], ago=week))
    knowledge = Knowledge(density=2000 / week, made={"old": NOW - week} | {f"mine{n}": NOW - 60 for n in range(100)})
    told = looked(redox, [*(f"mine{n}" for n in range(100)), "old"], knowledge, ago=week)
    assert len(told) == 101
    assert (redox.asked, len(redox.searches)) == (["old"], 2)


def test_what_is_older_than_thought_is_found_by_its_id():
    """The guessed beginning of the window may be too late; the answer tells when the log was made, for the next time."""
    redox, knowledge = Redox(made(["a", "b", "c"], ago=5000)), Knowledge()
    assert set(looked(redox, "abc", knowledge)) == set("abc")
    assert sorted(redox.asked) == ["a", "b", "c"]
    assert set(knowledge.made.values()) == {NOW - 5000}


def test_where_one_is_older_than_thought_others_may_be():
    """The next search begins so much earlier, and finds them by the page."""
    redox, knowledge = Redox(many("mine", 100, ago=5000)), Knowledge()
    looked(redox, redox.logs, knowledge, by_id=5)
    before = redox.requests
    assert len(looked(redox, redox.logs, knowledge, by_id=5)) == 100
    assert redox.requests - before <= 2 + 5


def test_what_is_not_there_is_told_and_poisons_nothing():
    """A log that is not found, forbidden or refused as an ID is told as that; the others are told as they are."""
    redox = Redox(many("mine", 60), statuses={"bad": 400, "secret": 403})
    told = looked(redox, [*redox.logs, "bad", "secret", "new"])
    assert {name: told[name] for name in ("bad", "secret", "new")} == {
        "bad": "HTTP 400",
        "secret": "HTTP 403",
        "new": "HTTP 404",
    }
    assert len(told) == 63


def test_a_log_that_breaks_the_server_does_not_stop_the_others():
    """One ID that is always answered with 500, or with garbage, is passed over; three in a row are an outage."""
    redox = Redox(made("ab"), refuse_search=503, statuses={"bad": 500})
    assert looked(redox, ["bad", "a", "b"]) == {"a": "pending", "b": "pending"}
    broken = Redox({}, refuse_search=503, statuses=dict.fromkeys("abcd", 500))
    with pytest.raises(RedoxServerError):
        looked(broken, "abcd")
    assert len(broken.asked) == 3


def test_a_search_that_is_not_allowed_is_not_asked_for_again():
    """Then logs are asked for one by one, and the log says why, once."""
    redox, knowledge = Redox(made("abc"), refuse_search=403), Knowledge()
    for _ in range(3):
        assert len(looked(redox, "abc", knowledge)) == 3
    assert len(redox.searches) == 1


def test_a_search_that_fails_for_now_is_tried_again():
    """A 504 says that the window is too large, for the moment: logs are asked for one by one meanwhile."""
    redox, knowledge = Redox(made("abc"), refuse_search=504), Knowledge()
    for _ in range(3):
        assert len(looked(redox, "abc", knowledge)) == 3
    assert len(redox.searches) == 3


@pytest.mark.parametrize(
    ("happened", "error"),
    [
        (answer(401), RedoxAuthError),
        (answer(302, location="https://evil.example"), RedoxSecurityError),
        (failure(Stage.UNSENT), RedoxTransportError),
    ],
)
def test_what_is_wrong_with_the_connection_is_an_error(happened: Happened, error: type[RedoxError]):
    """A refused key, a redirect or a dead line is no matter of one log."""
    with pytest.raises(error):
        looked(happened, "abc")
    with pytest.raises(error):
        looked(happened, "a")


def test_few_are_asked_for_at_a_time_and_each_has_its_turn():
    """With a limit on requests by ID, those that were asked for least recently come first; a new one before all."""
    redox, knowledge = Redox(many("mine", 10), refuse_search=403), Knowledge()
    for _ in range(3):
        looked(redox, redox.logs, knowledge, by_id=4)
    assert len(redox.asked) == 12
    assert len(set(redox.asked[:10])) == 10
    redox.logs |= made(["fresh"])
    looked(redox, redox.logs, knowledge, by_id=1)
    assert redox.asked[-1] == "fresh"


def test_statuses_are_told_as_they_come():
    """Whoever waits for a log on the first page does not wait for the last."""
    redox = Redox(many("mine", 120))
    pages: list[int] = []
    world = World(*[redox] * 10)
    platform = Platform(settings(**WHERE), world.env())
    flow = look(platform, dict.fromkeys(redox.logs, NOW - 120), Knowledge(), lambda told: pages.append(len(told)))
    world.run(flow)
    assert pages == [50, 50, 20]


def test_a_row_without_a_status_is_looked_up():
    """What a page does not say, the log itself does."""
    redox = Redox(made("ab") | {"c": (NOW - 60, "")})
    redox.logs["c"] = (NOW - 60, "")
    assert looked(redox, "abc")["c"] == "unknown"
    assert redox.asked == ["c"]


def test_the_data_mode_goes_along():
    """A backfill's logs are asked for as such, by search and by ID."""
    world = World(Redox(made("ab")), Redox(made("c")))
    platform = Platform(settings(**WHERE), world.env(), "backfill")
    world.run(look(platform, dict.fromkeys("ab", NOW - 120), Knowledge(), lambda _: None))
    world.run(look(platform, {"c": NOW - 120}, Knowledge(), lambda _: None))
    assert json.loads(world.sent[0].body or b"")["dataMode"] == "backfill"
    assert urlsplit(world.sent[1].url).query == "dataMode=backfill"


def test_what_is_told_of_trouble_names_no_content():
    """A warning says that the search does not work, and nothing of what the answer held."""
    world = World(answer(400, '{"errors": [{"message": "Quillfeather"}]}'), *[Redox(made("ab"))] * 2)
    world.run(look(Platform(settings(**WHERE), world.env()), dict.fromkeys("ab", NOW), Knowledge(), lambda _: None))
    (told,) = [effect.words for effect in world.asked if isinstance(effect, Tell)]
    assert "one by one" in told
    assert "Quillfeather" not in told


def test_what_is_no_longer_waited_for_is_forgotten():
    """Knowledge does not grow for ever."""
    knowledge = Knowledge(made={"a": 1.0, "b": 2.0})
    knowledge.asked("a")
    knowledge.forget_but(["b"])
    assert (knowledge.made, knowledge._asked) == ({"b": 2.0}, {})


ages = st.lists(st.floats(0, 1e6), min_size=1, max_size=40).map(lambda found: sorted(NOW - age for age in found))


@given(ages, st.none() | st.floats(0, 1e4))
def test_the_cut_between_search_and_ids_is_the_cheapest(since: list[float], density: float | None):
    """No other cut costs fewer requests, by what is known of the traffic."""

    def cost(cut: int) -> float:
        pages = 0.0 if cut == len(since) else max((density or 0.0) * (NOW - since[cut] + 10) / PAGE, 1.0)
        return cut + pages

    chosen = apart_from_search(since, density, NOW)
    assert cost(chosen) == min(cost(cut) for cut in range(len(since) + 1))


WINDOW = Window("dest", NOW - 100, NOW)


def test_a_window_is_searched_by_destination_and_time():
    """One search, filtered by the server, every page of it; each log with its status and when it was made."""
    redox = Redox(many("mine", 60, status="succeeded"))
    world = World(*[redox] * 2)
    found = world.run(find_in_window(Platform(settings(**WHERE), world.env()), WINDOW))
    assert len(found) == 60
    assert set(found.values()) == {("succeeded", NOW - 60)}
    assert {key: value for key, value in redox.searches[0].items() if key == "destinationId"} == {"destinationId": "dest"}
    assert set(redox.searches[0]) == {"destinationId", "createdAfter", "createdBefore"}


def test_logs_of_another_destination_do_not_stand_for_those_of_a_window():
    """Where the service knows no such filter, others' logs would be waited for, and delivered."""
    other = {"id": "a", "status": "succeeded", "destination": {"id": "another"}}
    world = World(answer(200, json.dumps({"payload": {"results": [other]}})))
    with pytest.raises(RedoxProtocolError, match="do not fit its filter"):
        world.run(find_in_window(Platform(settings(**WHERE), world.env()), WINDOW))


def test_another_log_is_not_the_one_that_was_asked_for():
    """What became of it says nothing of ours."""
    told: dict[str, str] = {}
    world = World(*[answer(200, json.dumps({"payload": {"result": {"id": "other", "status": "succeeded"}}}))] * 9)
    platform = Platform(settings(**WHERE), world.env(retry=RetryPolicy(attempts=1)))
    world.run(look(platform, {"mine": NOW - 60.0}, Knowledge(), told.update))
    assert told == {}


def test_a_window_with_too_many_logs_is_refused():
    """The complaint says what to do."""
    world = World(*[Redox(many("mine", 2000))] * (PAGES_AT_MOST + 1))
    with pytest.raises(RedoxConfigError, match="window: holds more than 1000"):
        world.run(find_in_window(Platform(settings(**WHERE), world.env()), WINDOW))


@pytest.mark.parametrize("text", [None, 7, "", "yesterday", "2026-01-01T00:00:00"])
def test_a_time_that_cannot_be_read_is_none(text: object):
    """A time without a zone is none either."""
    assert moment_of(text) is None


@given(st.recursive(st.none() | st.text(max_size=9) | st.integers(), lambda one: st.dictionaries(st.text(max_size=9), one)))
def test_any_answer_is_a_status_or_an_error(document: Any):
    """Whatever the Platform API answers for a log, it is told as a status or is an error of ours."""
    told: dict[str, str] = {}
    world = World(answer(200, json.dumps(document)))
    platform = Platform(settings(**WHERE), world.env(retry=RetryPolicy(attempts=1)))
    world.run(look(platform, {"a": NOW}, Knowledge(), told.update))
    assert set(told.values()) <= {"succeeded", "failed", "filtered", "pending", "unknown"}


def test_it_needs_the_ids_of_organization_and_environment():
    """The complaint names the field."""
    world = World()
    with pytest.raises(RedoxConfigError, match="organization_id"):
        world.run(look(Platform(settings(), world.env()), {"a": NOW}, Knowledge(), lambda _: None))


def test_the_server_counts_no_more_in_a_minute_than_was_agreed() -> None:
    """A request may overtake the one before it by a second: the next place is a minute and a second after the first."""
    pace = Pace(3)
    assert [pace.reserve(now) for now in (0.0, 1.0, 2.0)] == [0.0, 0.0, 0.0]
    assert [pace.reserve(2.0), pace.reserve(2.0)] == [59.0, 60.0]
