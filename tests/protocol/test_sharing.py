"""One token for all who share a slot: by hand, and for a fleet of workers on simulated time."""

from __future__ import annotations

import json
import random
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxAuthError, RedoxTransportError
from airflow_provider_redox.protocol.effects import Place, Recall, RedoxResponse, Remember, Send, Sign, Wait
from airflow_provider_redox.protocol.sharing import BOUND, LEASE, LONGEST, RELEASED, SHORTEST, SKEW, obtain, term_of
from airflow_provider_redox.protocol.token import Claim, Held, Token

from .fleet import Fleet
from .flows import NOW, World, answer
from .material import settings

FRESH = Token("held", NOW, NOW + 300)
AGED = Token("aged", NOW - 260, NOW + 40)
"""Serves for ten seconds more, and is due to be renewed."""


def token_answer(value: str = "new", **more: Any) -> RedoxResponse:
    return answer(200, json.dumps({"access_token": value, "token_type": "Bearer", "expires_in": 300, **more}))


def ask(world: World, refused: str | None = None) -> Token:
    token: Token = world.run(obtain(settings(), refused, env=world.env()))
    return token


# ── one worker, by hand ──


def test_a_token_in_memory_is_used() -> None:
    """A fresh token in this process is given without a look at anything else."""
    world = World()
    world.places[Place.MEMORY] = Held(FRESH)
    assert ask(world) == FRESH
    assert world.asked == [Recall(Place.MEMORY)]


def test_a_token_that_the_workers_share_is_used_and_kept() -> None:
    """A fresh token in the shared place is given and put into memory: one call to the store for a process's life."""
    world = World()
    world.places[Place.SHARED] = FRESH
    assert ask(world) == FRESH
    kept = Held(FRESH, NOW + 240)
    assert world.asked == [Recall(Place.MEMORY), Recall(Place.SHARED), Remember(Place.MEMORY, kept)]


def test_a_new_token_is_asked_for_after_a_claim_that_stood() -> None:
    """With no token anywhere a claim is written, read again after a while, and only then is a token asked for and shared."""
    world = World(token_answer())
    token = ask(world)
    assert token == Token("new", NOW + SHORTEST, NOW + SHORTEST + 300)
    assert [type(effect).__name__ for effect in world.asked] == [
        *("Recall", "Recall", "Recall", "Remember", "Wait", "Recall"),  # memory, shared, claim; the claim; and it stood
        *("Recall", "Turn", "Sign", "Send", "Remember", "Remember"),
    ]
    assert world.places[Place.SHARED] == token


def test_a_token_that_came_meanwhile_is_used() -> None:
    """Whoever is elected late, because its claim was written late, finds the token that another has brought."""

    class Late(World):
        def answer(self, effect: Any) -> Any:
            if isinstance(effect, Wait):
                self.places[Place.SHARED] = FRESH
            return super().answer(effect)

    world = Late()
    assert ask(world) == FRESH
    assert world.sent == []


def test_nobody_to_share_with_is_not_waited_for() -> None:
    """Where a claim cannot be written, as with the memory backend, a token is asked for at once."""

    class Alone(World):
        def answer(self, effect: Any) -> Any:
            return False if isinstance(effect, Remember) else super().answer(effect)

    world = Alone(token_answer())
    assert ask(world).value == "new"
    assert world.waits == []


@pytest.mark.parametrize("place", [Place.MEMORY, Place.SHARED])
def test_a_stale_token_is_not_used(place: Place) -> None:
    """A token near its end, wherever it lies, is replaced."""
    world = World(token_answer())
    stale = Token("stale", NOW - 280, NOW + 20)
    world.places[place] = Held(stale) if place is Place.MEMORY else stale
    assert ask(world).value == "new"


@pytest.mark.parametrize("place", [Place.MEMORY, Place.SHARED])
def test_the_refused_token_is_not_used_again(place: Place) -> None:
    """A token that was refused is replaced though it is fresh by the clock."""
    world = World(token_answer())
    refused = Token("refused", NOW, NOW + 300)
    world.places[place] = Held(refused) if place is Place.MEMORY else refused
    assert ask(world, "refused").value == "new"


def test_a_token_that_another_worker_renewed_is_used() -> None:
    """After a refusal the shared place is read before a new token is asked for."""
    world = World()
    world.places[Place.MEMORY] = Held(Token("refused", NOW, NOW + 300))
    world.places[Place.SHARED] = Token("renewed", NOW, NOW + 300)
    assert ask(world, "refused").value == "renewed"
    assert world.sent == []


def test_an_aged_token_is_renewed_by_who_finds_no_claim() -> None:
    """A token in the last stretch of its use is renewed although it serves."""
    world = World(token_answer())
    world.places[Place.SHARED] = AGED
    assert ask(world).value == "new"


def test_an_aged_token_serves_while_another_renews_it() -> None:
    """Who finds a claim goes on with the token at hand, without a wait, and looks again some seconds later."""
    world = World()
    world.places |= {Place.SHARED: AGED, Place.CLAIM: Claim("other", term_of(AGED), NOW - 1)}
    assert ask(world) == AGED
    assert world.waits == []
    assert world.places[Place.MEMORY] == Held(AGED, NOW + 5)


@pytest.mark.parametrize("happened", [answer(500), answer(401, '{"error": "invalid_client"}'), answer(429)], ids=str)
def test_an_aged_token_serves_when_it_cannot_be_renewed(happened: RedoxResponse) -> None:
    """While the old token serves, a token endpoint that fails is asked once and fails no task."""
    world = World(happened)
    world.places[Place.SHARED] = AGED
    assert ask(world) == AGED


class Unsigned(World):
    """A world whose signer is away."""

    def answer(self, effect: Any) -> Any:
        if isinstance(effect, Sign):
            raise RedoxTransportError("the signer is away")
        return super().answer(effect)


def test_an_aged_token_serves_while_the_signer_is_away() -> None:
    """A key service that does not answer fails no task while the old token serves."""
    world = Unsigned()
    world.places[Place.SHARED] = AGED
    assert ask(world) == AGED


def test_a_signer_that_is_away_keeps_nobody_waiting() -> None:
    """With no token that serves it is an error, and the claim is void."""
    world = Unsigned()
    with pytest.raises(RedoxTransportError):
        ask(world)
    assert world.places[Place.CLAIM].term == RELEASED


@pytest.mark.parametrize(
    "claim",
    [
        Claim("dead", term_of(AGED), NOW - LEASE - 1),
        Claim("of another term", "", NOW),
        Claim("from a clock far ahead", term_of(AGED), NOW + SKEW + 1),
        Claim("odd", term_of(AGED), float("nan")),
    ],
    ids=lambda claim: claim.nonce,
)
def test_a_claim_that_does_not_count(claim: Claim) -> None:
    """A claim of long ago, of another term or of another time keeps nobody from renewing."""
    world = World(token_answer())
    world.places |= {Place.SHARED: AGED, Place.CLAIM: claim}
    assert ask(world).value == "new"


def test_a_refused_key_lets_the_others_go_on() -> None:
    """When the elected worker gets no token, its claim is void, so that nobody waits for it."""
    world = World(answer(401, '{"error": "invalid_client"}'))
    with pytest.raises(RedoxAuthError):
        ask(world)
    claim = world.places[Place.CLAIM]
    assert isinstance(claim, Claim)
    assert claim.term != term_of(None)


# ── a fleet ──


def waited(fleet: Fleet) -> list[float]:
    return [seconds for worker in fleet.workers for _, seconds in worker.got]


@pytest.mark.parametrize(
    ("workers", "stalled", "skew", "round_trip"),
    [(16, 0.0, 0, 0.05), (16, 0.02, 0, 0.05), (16, 0.02, 20, 0.05), (64, 0.02, 0, 0.05), (16, 0.0, 0, 0.5)],
    ids=str,
)
def test_a_cold_start_costs_one_exchange(workers: int, stalled: float, skew: float, round_trip: float) -> None:
    """Workers that start at once with nothing ask for one token in the median and never for more than two.

    So too where one call in fifty hangs for up to three seconds, where half of the clocks are 20 seconds off, and where
    every call takes ten times as long.
    """
    exchanges = []
    for seed in range(1600 // workers):
        fleet = Fleet(seed, stalled=stalled, round_trip=round_trip)
        for number in range(workers):
            fleet.worker(start=fleet.random.uniform(0, 0.5), skew=skew * (number % 2))
        fleet.run()
        assert len(waited(fleet)) == workers
        exchanges.append(len(fleet.exchanges))
    assert statistics.median(exchanges) == 1
    assert max(exchanges) <= 2


def test_a_claim_stands_for_longer_where_the_store_is_slow() -> None:
    """On a store that is slow and takes ten times as long now and then, a cold start costs one exchange too, each time."""
    exchanges = []
    for seed in range(60):
        fleet = Fleet(seed, round_trip=0.2, tail=1.3)
        for _ in range(12):
            fleet.worker(start=fleet.random.uniform(0, 0.5))
        fleet.run()
        exchanges.append(len(fleet.exchanges))
    assert exchanges == [1] * 60


@pytest.mark.parametrize("lifetime", [20.0, 300.0])
def test_twenty_lifetimes_cost_twenty_exchanges(lifetime: float) -> None:
    """Over twenty lifetimes, with tasks that come and go and workers that stay, each costs one exchange, never above two."""
    fleet = Fleet(1, lifetime=lifetime, stalled=0.02)
    for _ in range(8):
        fleet.worker(start=fleet.random.random(), skew=fleet.random.uniform(-20, 20)).again = lifetime / 40
    for _ in range(400):
        fleet.worker(start=fleet.random.uniform(0, 20 * lifetime), skew=fleet.random.uniform(-20, 20))
    fleet.run(until=20 * lifetime)
    generations = fleet.generations()
    assert statistics.median(generations) == 1
    assert max(generations) <= 2
    assert 20 <= sum(generations) <= 26
    assert not [worker.failed for worker in fleet.workers if worker.failed]


def test_nobody_waits_at_a_renewal() -> None:
    """While a token is renewed all but the one that renews it go on, with the calls to the store that they make anyway."""
    fleet = Fleet(3)
    for _ in range(16):
        fleet.worker(start=0).again = 0.7
    fleet.run(until=200)
    for worker in fleet.workers:
        worker.got.clear()
    fleet.run(until=600)
    slow = [seconds for seconds in waited(fleet) if seconds > 4 * SHORTEST]
    assert len(fleet.exchanges) == 3
    assert len(slow) <= 2 * 2
    assert max(slow) < 2


@given(st.integers(0, 10_000), st.floats(0, 3))
@hypothesis_settings(max_examples=30, deadline=None)
def test_a_killed_leader_costs_a_bounded_wait(seed: int, killed_at: float) -> None:
    """Whoever is killed at whatever moment, the others have their token within the lease and one election more."""
    fleet = Fleet(seed)
    for number in range(8):
        fleet.worker(start=0.01 * number)
    fleet.at(killed_at, lambda: min(fleet.workers, key=lambda worker: isinstance(worker.doing, Recall)).kill())
    fleet.run()
    alive = [worker for worker in fleet.workers if not worker.dead]
    assert all(worker.got for worker in alive)
    assert max(waited(fleet)) < LEASE + LONGEST + 5
    assert len(fleet.exchanges) <= 2


@given(st.lists(st.sampled_from(["claim", "claim", "nothing"]), min_size=60, max_size=120), st.integers(0, 100))
@hypothesis_settings(max_examples=30, deadline=None)
def test_a_claim_that_is_written_again_and_again_is_not_waited_for_without_end(writes: list[str], seed: int) -> None:
    """Whatever somebody else writes as a claim, and how often, a token comes within the bound."""
    fleet = Fleet(seed)
    fleet.worker(start=0)
    for second, write in enumerate(writes):
        claim = Claim(str(second), "", NOW + second) if write == "claim" else None
        fleet.at(second, lambda claim=claim: fleet.store.update({Place.CLAIM: claim}))  # type: ignore[misc]
    fleet.run()
    assert max(waited(fleet)) < BOUND + 2 * LONGEST


def test_a_store_that_takes_nothing_costs_no_wait() -> None:
    """Where nothing can be written each worker asks for itself, at once."""
    fleet = Fleet(1, writable=False)
    for _ in range(5):
        fleet.worker(start=0)
    fleet.run()
    assert len(fleet.exchanges) == 5
    assert max(waited(fleet)) < 2


def test_a_token_that_is_revoked_for_all_is_replaced_once() -> None:
    """When Redox refuses the shared token to all workers at once, they ask for one new token."""
    exchanges = []
    for seed in range(50):
        fleet = Fleet(seed)
        revoked = Token("revoked", NOW, NOW + 300)
        fleet.store[Place.SHARED] = revoked
        for _ in range(16):
            fleet.worker(start=fleet.random.random(), memory=Held(revoked)).refused = "revoked"
        fleet.run()
        assert len(waited(fleet)) == 16
        exchanges.append(len(fleet.exchanges))
    assert (statistics.median(exchanges), max(exchanges) <= 2) == (1, True)


def test_a_refused_client_fails_every_worker_within_the_bound() -> None:
    """When the token endpoint refuses the client, every worker gets to hear it, and nobody waits without end."""
    fleet = Fleet(1, down=True)
    for _ in range(16):
        fleet.worker(start=0)
    fleet.run()
    assert all(worker.failed for worker in fleet.workers)
    assert fleet.time < BOUND + 2 * LONGEST


def test_the_first_in_line_differs() -> None:
    """Workers think of renewing a token at moments that are spread over its last stretch."""
    places = [random.Random(seed).random() for seed in range(100)]
    moments = [FRESH.renewal(place) - NOW for place in places]
    assert 240 <= min(moments) < 243
    assert 267 < max(moments) < 270


def test_one_worker_sends_one_request() -> None:
    """Alone with a store, a worker waits once, for the shortest time."""
    world = World(token_answer())
    ask(world)
    assert [effect.seconds for effect in world.asked if isinstance(effect, Wait)] == [SHORTEST]
    assert len([effect for effect in world.asked if isinstance(effect, Send)]) == 1
