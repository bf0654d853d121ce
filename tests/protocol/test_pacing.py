"""The share of a rolling window, a 429, and what grows back, on a clock that only moves when it is told to."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from itertools import count, pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_redox.protocol.pacing import DOCUMENTED, Gate, Lane, Refusal, limit_of

WINDOW = 300.0


class Server:
    """Counts as Redox does: so many requests in a rolling window, the rest is refused."""

    def __init__(self, limit: int, *, counts_refused: bool = False) -> None:
        self.limit, self.counts_refused = limit, counts_refused
        self._counted: deque[float] = deque()
        self.seen: list[tuple[float, int, bool]] = []

    def takes(self, now: float, who: int) -> bool:
        while self._counted and self._counted[0] <= now - WINDOW:
            self._counted.popleft()
        taken = len(self._counted) < self.limit
        if taken or self.counts_refused:
            self._counted.append(now)
        self.seen.append((now, who, taken))
        return taken

    def in_window(self, number: int, who: int, *, taken: bool = True) -> int:
        """Count one's requests in the window of this number."""
        return sum(
            one == who and was is taken and number * WINDOW <= at < (number + 1) * WINDOW for at, one, was in self.seen
        )

    def most_after(self, start: float) -> int:
        """Give the most requests, refused ones too, in any window that begins after a moment."""
        recent: deque[float] = deque()
        most = 0
        for at, _, _ in self.seen:
            if at > start:
                recent.append(at)
            while recent and recent[0] <= at - WINDOW:
                recent.popleft()
            most = max(most, len(recent))
        return most


BYSTANDER = -1


class Fleet:
    """Processes with work for all their threads, and perhaps somebody else on their address, before one server."""

    def __init__(self, server: Server, shares: list[int], *, threads: int, latency: Callable[[Random], float]) -> None:
        self.server, self.latency = server, latency
        self.gates = [Gate(share, WINDOW) for share in shares]
        self.idle = [threads] * len(shares)
        self._random, self._events, self._order = Random(1), [], count()  # type: ignore[var-annotated]
        self._looks = [math.inf] * len(shares)

    def run(self, windows: float, *, bystander: int = 0, late: float = 0.0) -> None:
        for who in range(len(self.gates)):
            self._at(who * late, self._look, who)
        if bystander:
            self._at(0.0, self._pass_by, bystander)
        while self._events and self._events[0][0] <= windows * WINDOW:
            now, _, act, args = heapq.heappop(self._events)
            act(now, *args)

    def _at(self, when: float, act: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self._events, (when, next(self._order), act, args))

    def _look(self, now: float, who: int) -> None:
        gate = self.gates[who]
        self._looks[who] = math.inf if self._looks[who] <= now else self._looks[who]
        while self.idle[who]:
            wait = gate.ask(now)
            if wait > 0:
                if now + wait < self._looks[who]:
                    self._looks[who] = now + max(wait, 1e-6)
                    self._at(self._looks[who], self._look, who)
                return
            self.idle[who] -= 1
            took = self.latency(self._random)
            self._at(now + took * self._random.random(), self._arrive, who, gate.take(now), now + took)

    def _arrive(self, now: float, who: int, place: Any, ends: float) -> None:
        self._at(ends, self._end, who, place, self.server.takes(now, who))

    def _end(self, now: float, who: int, place: Any, taken: bool) -> None:  # noqa: FBT001
        self.gates[who].leave(place, now, answered=taken)
        if not taken:
            self.gates[who].refuse(place, now, Refusal(self.server.limit, 30.0, stated=False))
        self.idle[who] += 1
        self._look(now, who)

    def _pass_by(self, now: float, often: int) -> None:
        self.server.takes(now, BYSTANDER)
        self._at(now + WINDOW / often, self._pass_by, often)


@settings(deadline=None, max_examples=60)
@given(share=st.integers(2, 40), threads=st.integers(1, 30), seed=st.integers(0, 999), slow=st.floats(0.01, 200.0))
def test_no_window_of_the_server_holds_more_than_the_share(share: int, threads: int, seed: int, slow: float) -> None:
    """However long the network takes, a server that counts on arrival never counts more than the share in a window."""
    server = Server(DOCUMENTED)
    fleet = Fleet(server, [share], threads=threads, latency=lambda random: random.random() * slow)
    fleet._random.seed(seed)
    fleet.run(4)
    assert server.most_after(-1.0) <= share


@pytest.mark.parametrize("latency", [0.01, 1.0, 8.0])
def test_the_share_is_used_where_there_is_work(latency: float) -> None:
    """With work for all, every window of five minutes holds at least 95 % of the share."""
    server = Server(DOCUMENTED)
    Fleet(server, [1000], threads=64, latency=lambda random: latency * (0.5 + random.random())).run(5)
    assert all(server.in_window(number, 0) >= 950 for number in range(5))


def test_a_short_job_goes_at_full_speed() -> None:
    """Half of the share goes without a pause."""
    gate = Gate(1000, WINDOW)
    for _ in range(500):
        assert gate.ask(0.0) == 0
        gate.leave(gate.take(0.0), 0.0, answered=True)
    assert gate.ask(0.0) > 0


def test_a_long_job_never_stands_still() -> None:
    """What is left of the share is spread: the pause between two requests is short, and even."""
    server = Server(DOCUMENTED)
    Fleet(server, [1000], threads=4, latency=lambda _: 0.01).run(3)
    times = [at for at, _, _ in server.seen]
    assert max(later - earlier for earlier, later in pairwise(times)) < WINDOW / 1000 * 3


def test_one_place_is_kept_for_a_token() -> None:
    """Those that hold a place may wait for a token, so asking for one needs no place that they hold."""
    gate = Gate(3, WINDOW)
    held = [gate.take(0.0) for _ in range(2)]
    assert gate.ask(250.0) == math.inf
    assert gate.ask_for_token(250.0) == 0
    token = gate.take(250.0)
    for place in (*held, token):
        gate.leave(place, 250.0, answered=True)
    assert gate.ask(250.0) == pytest.approx(303.0)


def test_a_place_that_was_not_used_is_given_back() -> None:
    """A request that was never sent costs nothing."""
    gate = Gate(2, WINDOW)
    gate.give_back(gate.take(0.0))
    assert gate.ask(0.0) == 0


def refused(gate: Gate, now: float, **said: Any) -> bool:
    place = gate.take(now)
    gate.leave(place, now, answered=False)
    return gate.refuse(place, now, Refusal(**{"limit": None, "pause": 30.0, "stated": False, **said}))


def used(gate: Gate, now: float, times: int) -> Gate:
    for _ in range(times):
        gate.leave(gate.take(now), now, answered=True)
    return gate


def test_a_429_cuts_the_share_to_a_part_of_what_was_had() -> None:
    """What all that share an address take after a 429 is below its limit, as each takes a part of what it had."""
    gate = used(Gate(5000, WINDOW), 0.0, 1999)
    assert refused(gate, 10.0)
    assert gate.limit(10.0) == 1500


def test_who_came_too_late_has_a_fair_part() -> None:
    """A process that had nothing yet is left with something to begin with."""
    gate = Gate(5000, WINDOW)
    refused(gate, 0.0)
    assert gate.limit(0.0) == 375


def test_what_was_under_way_at_a_429_tells_nothing_new() -> None:
    """Sixteen threads that are refused together are one 429."""
    gate = used(Gate(5000, WINDOW), 0.0, 2000)
    places = [gate.take(1.0) for _ in range(16)]
    news = []
    for place in places:
        gate.leave(place, 2.0, answered=False)
        news.append(gate.refuse(place, 2.0, Refusal(None, 30.0, stated=False)))
    assert news == [True] + [False] * 15
    assert gate.shut_for(2.0) == 30.0


def test_after_a_429_one_request_goes_alone() -> None:
    """When the pause is over one request finds out, and the others wait for what it finds."""
    gate = Gate(5000, WINDOW)
    refused(gate, 0.0)
    assert gate.ask(0.0) == 30.0
    assert gate.ask(30.0) == 0
    probe = gate.take(30.0)
    assert gate.ask(31.0) > 0
    gate.leave(probe, 32.0, answered=True)
    assert gate.ask(32.0) == 0


def test_a_probe_that_hangs_holds_nobody_up_for_long() -> None:
    """A tenth of a window later another one may find out."""
    gate = Gate(5000, WINDOW)
    refused(gate, 0.0)
    gate.take(30.0)
    assert gate.ask(31.0) == 29.0
    assert gate.ask(60.0) == 0


def test_pauses_double_while_nothing_else_comes() -> None:
    """One 429 after the other makes the pause longer, up to a window; an answer makes it short again."""
    gate = Gate(5000, WINDOW)
    now, pauses = 0.0, []
    for _ in range(6):
        refused(gate, now)
        pauses.append(gate.shut_for(now))
        now += pauses[-1]
    assert pauses == [30, 60, 120, 240, 300, 300]
    gate.leave(gate.take(now), now, answered=True)
    refused(gate, now + 1)
    assert gate.shut_for(now + 1) == 30


def test_retry_after_is_heeded() -> None:
    """A stated time is waited for, the longer one of two; a time beyond an hour is not believed."""
    gate = Gate(5000, WINDOW)
    late = gate.take(0.0)
    refused(gate, 1.0, pause=7.0, stated=True)
    assert gate.shut_for(1.0) == 7.0
    gate.leave(late, 1.0, answered=False)
    gate.refuse(late, 1.0, Refusal(None, 10.0**12, stated=True))
    assert gate.shut_for(1.0) == 3600


def test_a_token_is_not_asked_for_in_a_pause() -> None:
    """The token endpoint counts for the same address."""
    gate = Gate(5000, WINDOW)
    refused(gate, 0.0)
    assert gate.ask_for_token(10.0) == 20.0


def test_the_servers_own_number_is_heeded() -> None:
    """A share above what the server says is cut to below that."""
    gate = used(Gate(5000, WINDOW), 0.0, 699)
    refused(gate, 1.0, limit=700)
    assert gate.limit(1.0) == 525
    assert gate.limit(1.0 + 2 * WINDOW) < 700


def test_a_number_of_another_interface_is_left_aside() -> None:
    """A limit below what the server has just taken is not this limit."""
    gate = used(Gate(5000, WINDOW), 0.0, 1999)
    refused(gate, 1.0, limit=5)
    assert gate.limit(1.0) == 1500


@given(st.integers(0, 5000), st.integers(2, 10_000))
def test_what_was_cut_grows_back(had: int, share: int) -> None:
    """The share grows all the time, slowly near to where it was cut, and is whole again after some hours at the most."""
    gate = used(Gate(share, WINDOW), 0.0, had)
    refused(gate, 0.0)
    limits = [gate.limit(number * WINDOW / 4) for number in range(200)]
    assert limits == sorted(limits)
    assert limits[0] >= 2
    assert limits[-1] == share


@pytest.mark.parametrize("counts_refused", [False, True], ids=["refused do not count", "refused count"])
def test_eight_processes_stay_below_the_limit_after_the_first_429(counts_refused: bool) -> None:  # noqa: FBT001
    """Each learns by its own 429, and together they stay below for more than half an hour; nobody starves."""
    server = Server(2000, counts_refused=counts_refused)
    fleet = Fleet(server, [1000] * 8, threads=8, latency=lambda random: 0.2 + random.random())
    fleet.run(7, bystander=100)
    first = next(at for at, _, taken in server.seen if not taken)
    assert server.most_after(first + WINDOW / 10) <= server.limit
    for number in range(2, 7):
        assert server.in_window(number, BYSTANDER, taken=False) == 0
        each = [server.in_window(number, who) for who in range(8)]
        assert min(each) > sum(each) / 8 / 2
        assert sum(each) > server.limit * 0.7


def test_who_begins_later_gets_a_part() -> None:
    """Processes that begin one after the other, on an address that is full, have at least a fair part in the end."""
    server = Server(2000)
    Fleet(server, [1000] * 8, threads=8, latency=lambda _: 0.5).run(12, late=60.0)
    assert min(server.in_window(11, who) for who in range(8)) >= 50


def test_shares_that_are_together_below_the_limit_never_meet_it() -> None:
    """A bystander meets no 429 that it would not have met: what is left of the limit is left to it."""
    server = Server(2000)
    Fleet(server, [400] * 4, threads=8, latency=lambda random: random.random()).run(6, bystander=390)
    assert all(taken for _, _, taken in server.seen)


def test_a_lane_takes_so_many_at_a_time() -> None:
    """A destination's limit is on what is under way; None is no limit."""
    lane = Lane()
    lane.enter(0.0)
    assert lane.ask(0.0, 2) == 0
    lane.enter(0.0)
    assert lane.ask(0.0, 2) == math.inf
    assert lane.ask(0.0, None) == 0
    lane.leave()
    assert lane.ask(0.0, 2) == 0


LIMITS = [("10000", 10_000), (" 7500 ", 7500), ("100;w=300", 100), ("100, 100;w=5", 100)]
NO_LIMITS = ["", "0", "-5", "1.5", "many", "9" * 12, "٣"]


@pytest.mark.parametrize(("value", "limit"), [*LIMITS, *((text, None) for text in NO_LIMITS)])
def test_the_limit_is_read(value: str, limit: int | None) -> None:
    """X-RateLimit-Limit is a number above 0, perhaps with what RFC drafts put behind it; anything else is none."""
    assert limit_of({"x-ratelimit-limit": value}) == limit


def test_no_header_is_no_limit() -> None:
    """Redox documents the header; a destination's own 429 may lack it."""
    assert limit_of({}) is None
