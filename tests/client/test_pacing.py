"""Pacing against servers that count: both drivers, threads and coroutines, a scaled-down window."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from airflow_provider_redox.client import pacing
from airflow_provider_redox.client.asynchronous import AsyncClient
from airflow_provider_redox.client.driver import real_environment
from airflow_provider_redox.client.pacing import Address, Wanted
from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.exceptions import RedoxProtocolError, RedoxRateLimitError
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from tests.client.drivers import QUICK, connection_to, settings_of, with_token
from tests.support.sandbox import Sandbox
from tests.support.waiting import until
from tests.support.wire import Line, Wire, answers, http

WINDOW = 1.5
HERE = "127.0.0.1"
KEVA = "81c2f5eb-f99f-40c4-b504-59483e6148d7"


def reads(client: SyncClient, times: int, *, threads: int = 8) -> list[Any]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda _: client.run(client.calls.read("Patient", KEVA)), range(times)))


def counted(sandbox: Sandbox) -> dict[str, int]:
    counts: dict[str, int] = sandbox.stats()["addresses"][HERE]
    return counts


def test_a_counting_server_never_counts_more_than_the_share(sandbox: Sandbox) -> None:
    """With work for more than two windows, no window at the server holds more than the share, the token included."""
    sandbox.settings(quota=10_000, quota_window=WINDOW)
    connection = sandbox.with_extra(requests_per_5min=40)
    client = SyncClient(settings_of(connection), env=real_environment(QUICK), address=Address(window=WINDOW))
    reads(client, 90)
    client.close()
    found = counted(sandbox)
    assert found["accepted"] == 91
    assert 30 < found["most"] <= 40


def test_coroutines_and_threads_share(sandbox: Sandbox) -> None:
    """A blocking and an awaiting client of one connection in one process keep to one share."""
    sandbox.settings(quota=10_000, quota_window=WINDOW)
    connection = sandbox.with_extra(requests_per_5min=30)
    address = Address(window=WINDOW)

    async def read() -> None:
        client = AsyncClient(settings_of(connection), env=real_environment(QUICK), address=address)
        await asyncio.gather(*(client.run(client.calls.read("Patient", KEVA)) for _ in range(30)))
        await client.close()

    client = SyncClient(settings_of(connection), env=real_environment(QUICK), address=address)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(asyncio.run, read())
        reads(client, 30, threads=4)
        waiting.result()
    client.close()
    assert counted(sandbox)["most"] <= 30


def test_a_bystander_meets_no_429(sandbox: Sandbox) -> None:
    """What the share leaves of the limit is there for others on the same address, all the time."""
    sandbox.settings(quota=60, quota_window=WINDOW)
    connection = sandbox.with_extra(requests_per_5min=30)
    client = SyncClient(settings_of(connection), env=real_environment(QUICK), address=Address(window=WINDOW))
    with ThreadPoolExecutor(1) as pool:
        pull = pool.submit(reads, client, 75)
        met = []
        while not pull.done():
            met.append(requests.get(f"{sandbox.url}/blob/none", timeout=10).status_code)
            time.sleep(WINDOW / 25)
        pull.result()
    client.close()
    assert set(met) == {401}
    assert counted(sandbox)["refused"] == 0


def test_one_429_slows_the_whole_process_down(sandbox: Sandbox) -> None:
    """When others use the address up, each thread that was under way meets one 429 at the most, then one request tries."""
    sandbox.settings(quota=12, quota_window=WINDOW)
    patient = RetryPolicy(attempts=30, base=0.01, cap=0.02, rate_limit_floor=WINDOW / 10)
    client = SyncClient(settings_of(sandbox.connection), env=real_environment(patient), address=Address(window=WINDOW))
    assert len(reads(client, 24)) == 24
    client.close()
    statuses = [entry["status"] for entry in sandbox.ledger("/fhir/")]
    together = statuses[: statuses.index(429) + 8]
    assert together.count(429) <= 8
    assert statuses.count(429) - together.count(429) <= 12


def test_a_429_is_told_once(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """The log says that the process slows down, how long it rests, and how far: once for all threads."""
    sandbox.settings(quota=10, quota_window=0.4)
    patient = RetryPolicy(attempts=30, base=0.01, cap=0.02, rate_limit_floor=0.1)
    client = SyncClient(settings_of(sandbox.connection), env=real_environment(patient), address=Address(window=0.4))
    with caplog.at_level(logging.WARNING, logger="airflow_provider_redox.client"):
        reads(client, 14, threads=6)
    client.close()
    told = [record.getMessage() for record in caplog.records if "429" in record.getMessage()]
    assert 1 <= len(told) < sum(entry["status"] == 429 for entry in sandbox.ledger("/fhir/")) + 1
    assert "used up its quota" in told[0]


class Hospitals:
    """A scene: answers for every hospital but those that hang, which answer when they are let go; counts who is there."""

    def __init__(self, *hanging: str, pause: float = 0.0) -> None:
        self.hanging, self.pause = hanging, pause
        self.let_go = threading.Event()
        self.most = 0
        self._under_way = 0
        self._lock = threading.Lock()

    def __call__(self, line: Line) -> bool:
        request = line.request()
        with self._lock:
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        if any(f"/{slug}/".encode() in request for slug in self.hanging):
            self.let_go.wait(20)
        time.sleep(self.pause)
        with self._lock:
            self._under_way -= 1
        line.send(http(b'{"resourceType": "Patient", "id": "1"}'))
        return True


def together(client: Any, destinations: list[str]) -> None:
    """Read from these destinations, all at the same time, with a driver of either kind."""
    flows = [client.calls.read("Patient", "1", destination=one) for one in destinations]
    if isinstance(client, SyncClient):
        with ThreadPoolExecutor(len(flows)) as pool:
            list(pool.map(client.run, flows))
        return

    async def gather() -> None:
        await asyncio.gather(*map(client.run, flows))
        await client.close()

    asyncio.run(gather())


def client_of(kind: type[Any], url: str, **extra: Any) -> Any:
    connection = with_token(connection_to(url, **extra))
    return kind(settings_of(connection), env=real_environment(QUICK), address=Address())


KINDS = pytest.mark.parametrize("kind", [SyncClient, AsyncClient], ids=["blocking", "awaiting"])


@KINDS
def test_a_destinations_own_limit_holds(kind: type[Any]) -> None:
    """No more requests are under way to a destination than its `max_concurrency`, by its name, its slug or its UUID."""
    hospitals = Hospitals(pause=0.05)
    destinations = {"one": {"slug": "one-hospital", "max_concurrency": 3}}
    with Wire(hospitals) as wire:
        together(client_of(kind, wire.url, destinations=destinations), ["one", "one-hospital"] * 6)
        assert len(wire.requests) == 12
    assert hospitals.most == 3


@KINDS
def test_a_hospital_that_hangs_holds_nobody_up(kind: type[Any]) -> None:
    """While all that a hung destination takes is under way, and more waits for it, every other one is served."""
    hospitals = Hospitals("hung-hospital")
    destinations = {"hung": {"slug": "hung-hospital", "max_concurrency": 2}}
    with Wire(hospitals) as wire, ThreadPoolExecutor(1) as pool:
        client = client_of(kind, wire.url, destinations=destinations, requests_per_5min=120)
        mixed = ["hung"] * 30 + [f"hospital-{number}" for number in range(25)]
        done = pool.submit(together, client, mixed)
        served = [f"/hospital-{number}/".encode() for number in range(25)]
        until(
            lambda: all(any(slug in request for request in wire.requests) for slug in served),
            "all are asked",
            20,
            every=0.02,
        )
        assert sum(b"/hung-hospital/" in request for request in wire.requests) <= 2
        hospitals.let_go.set()
        done.result()


def test_coroutines_have_a_limit_to_each_destination(sandbox: Sandbox) -> None:
    """A thousand coroutines do not open a thousand connections: 16 are under way to a destination that names no limit."""
    hospitals = Hospitals(pause=0.02)
    with Wire(hospitals) as wire:
        together(client_of(AsyncClient, wire.url), ["one-hospital"] * 60)
    assert hospitals.most == 16


def test_a_destinations_429_is_its_own() -> None:
    """A 429 without Redox's header shuts the way to that destination; the others go on."""
    busy = http(b"busy", status="429 Too Many Requests", Retry_After="30")

    def scene(line: Line) -> bool:
        request = line.request()
        line.send(busy if b"/busy-hospital/" in request else http(b'{"resourceType": "Patient", "id": "1"}'))
        return True

    with Wire(scene) as wire, ThreadPoolExecutor(2) as pool:
        client = client_of(SyncClient, wire.url)
        client._sleep = lambda _: None
        waiting = pool.submit(client.run, client.calls.read("Patient", "1", destination="busy-hospital"))
        until(lambda: len(wire.requests) == 1, "one is asked", 20, every=0.02)
        for _ in range(5):
            client.run(client.calls.read("Patient", "1", destination="other-hospital"))
        assert sum(b"/busy-hospital/" in request for request in wire.requests) == 1
        assert not waiting.done()
        shut(client)
        with pytest.raises(RedoxRateLimitError):
            waiting.result()


def shut(client: SyncClient) -> None:
    """Have the server name a time that nobody waits for: who waits gives up."""
    steps = client.address.enter(Wanted(5000, "busy-hospital"), lambda: None)
    next(steps)
    way = client.address._ways["busy-hospital"]
    way.lane.shut_until(time.monotonic() + 4000)
    way.queue.wake_first()
    steps.close()


def test_a_time_that_is_too_long_is_told_to_all() -> None:
    """After a Retry-After of an hour no other request of the process is sent to find that out: each fails at once."""
    busy = http(b"busy", status="429 Too Many Requests", Retry_After="4000", X_RateLimit_Limit="10000")
    with Wire(answers(busy)) as wire:
        client = client_of(SyncClient, wire.url)
        for _ in range(3):
            with pytest.raises(RedoxRateLimitError) as caught:
                client.run(client.calls.read("Patient", "1", destination="any-hospital"))
            assert caught.value.retry_after
            assert caught.value.retryable
        assert len(wire.requests) == 1


def test_who_gives_up_waiting_holds_nothing() -> None:
    """A coroutine that is cancelled while it waits lets those behind it pass."""
    hospitals = Hospitals("hung-hospital")
    destinations = {"hung": {"slug": "hung-hospital", "max_concurrency": 1}}

    async def scenario() -> None:
        client = client_of(AsyncClient, wire.url, destinations=destinations)
        read = lambda: asyncio.create_task(client.run(client.calls.read("Patient", "1", destination="hung")))  # noqa: E731
        first, second, third = read(), read(), read()
        await asyncio.sleep(0.1)
        second.cancel()
        first.cancel()
        await asyncio.sleep(0.1)
        hospitals.let_go.set()
        assert (await third).json()["id"] == "1"
        await client.close()

    with Wire(hospitals) as wire:
        asyncio.run(scenario())


def test_a_loop_that_was_closed_holds_nothing() -> None:
    """Whoever waits behind one whose event loop is gone is not forgotten."""
    address = Address()
    steps = address.enter(Wanted(10, "one", at_most=1), lambda: None)
    ticket = only(steps)

    def gone() -> None:
        raise RuntimeError("Event loop is closed")

    lost = address.enter(Wanted(10, "one", at_most=1), gone)
    next(lost)
    woken = threading.Event()
    behind = address.enter(Wanted(10, "one", at_most=1), woken.set)
    next(behind)
    ticket.leave()
    assert woken.is_set()
    assert only(behind)


def only(steps: Any) -> Any:
    """Give what the steps end with, which have to end at once."""
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def test_what_was_never_sent_costs_nothing(sandbox: Sandbox) -> None:
    """A request whose token cannot be had leaves its place, and takes no part of the share."""
    sandbox.settings(token_response={"access_token": None})
    connection = sandbox.with_extra(requests_per_5min=6)
    address = Address()
    client = SyncClient(settings_of(connection), env=real_environment(RetryPolicy(attempts=1)), address=address)
    for _ in range(2):
        with pytest.raises(RedoxProtocolError):
            client.run(client.calls.read("Patient", KEVA))
    client.close()
    assert address._shares[6].gate.under_way == 0
    assert only(address.enter(Wanted(6), lambda: None))


def test_a_child_process_begins_with_nothing() -> None:
    """A fork does not take its parent's requests for its own."""
    address = pacing.address_of("https://example.test")
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, b"new" if pacing.address_of("https://example.test") is not address else b"old")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 3) == b"new"
    assert pacing.address_of("https://example.test") is address


def test_a_child_process_waits_for_no_thread_of_its_parents(sandbox: Sandbox) -> None:
    """A lock that a thread of the parent's holds when it forks is free in the child: it asks for a token of its own."""
    client = SyncClient(settings_of(sandbox.connection))
    read, write = os.pipe()
    with client.lock:
        child = os.fork()
        if not child:
            os.write(write, b"free" if client.lock.acquire(timeout=10) else b"held")
            os._exit(0)
        os.waitpid(child, 0)
    assert os.read(read, 4) == b"free"
    client.close()
