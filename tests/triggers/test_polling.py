"""Triggers of one triggerer share their polling, and none of them is lost with it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_redox.exceptions import RedoxAuthError
from airflow_provider_redox.protocol.delivery import Rules, Watch
from airflow_provider_redox.triggers import polling
from airflow_provider_redox.triggers.delivery import RedoxDeliveryTrigger
from airflow_provider_redox.triggers.polling import REQUESTS, Poller, Wait, wait_with_others
from tests.support.sandbox import Sandbox
from tests.support.tasks import event_of, fired

Logs = Callable[..., list[str]]


def trigger(*log_ids: str, timeout: float = 30, interval: float = 0.2, **more: Any) -> RedoxDeliveryTrigger:
    now = time.time()
    return RedoxDeliveryTrigger(
        **{
            "redox_conn_id": "redox_default",
            "logs": list(log_ids),
            "since": now - 60,
            "rules": {"filtered": "fail", "failed": "wait"},
            "grace_until": now + 300,
            "deadline": now + timeout,
            "interval": interval,
            "ticket": "t",
            **more,
        }
    )


def platform(sandbox: Sandbox) -> list[dict[str, Any]]:
    return sandbox.ledger("/platform/")


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  (what is waited for is in another process)
            await asyncio.sleep(0.02)


def test_a_thousand_waits_cost_twenty_pages(redox_connection: Sandbox, logs: Logs):
    """Triggers that begin together are asked for together, by one token, fifty on a page."""
    ids = logs(1000, "succeeded")
    events = fired(*[trigger(one) for one in ids])
    assert {event["status"] for event in events} == {"delivered"}
    assert [event["log_ids"] for event in events] == [[one] for one in ids]
    assert len(platform(redox_connection)) == 20
    assert redox_connection.stats()["tokens"] == 1


def test_the_requests_of_a_minute_are_limited(redox_connection: Sandbox, logs: Logs):
    """However short the interval and however many the waits: sixty in a minute, and the sixty-first waits."""
    ids = logs(1000)

    async def run() -> None:
        tasks = [asyncio.create_task(event_of(trigger(one, interval=0.1))) for one in ids]
        await until(lambda: len(platform(redox_connection)) >= REQUESTS)
        await asyncio.sleep(2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    assert len(platform(redox_connection)) <= REQUESTS


def test_the_budget_outlives_a_poller(redox_connection: Sandbox, logs: Logs):
    """A polling that ends and begins again goes on with what the minute has left."""
    for _ in range(2):
        fired(trigger(*logs(2, "succeeded")))
    (pace,) = polling._paces.values()
    assert len(pace._granted) == len(platform(redox_connection)) == 2


def test_each_wait_ends_when_its_own_logs_do(redox_connection: Sandbox, logs: Logs):
    """One that is over goes at once; the polling goes on for the others, and ends with the last."""
    first, second = logs(2)

    async def run() -> tuple[Any, Any]:
        tasks = [asyncio.create_task(event_of(trigger(one))) for one in (first, second)]
        await until(lambda: platform(redox_connection))
        redox_connection.control("PATCH", "logs", {"status": "succeeded", "ids": [first]})
        early = await tasks[0]
        assert not tasks[1].done()
        redox_connection.control("PATCH", "logs", {"status": "filtered", "ids": [second]})
        late = await tasks[1]
        await asyncio.sleep(0.1)
        assert [task for task in asyncio.all_tasks() if "Poller" in repr(task)] == []
        return early, late

    early, late = asyncio.run(run())
    assert (early["status"], late["status"]) == ("delivered", "failed")


def test_a_bad_log_id_poisons_no_other_wait(redox_connection: Sandbox, logs: Logs):
    """One that is not found after its grace fails alone, and one whose request breaks hangs alone."""
    good = logs(3, "succeeded")
    redox_connection.fault("status", status=500, match={"path": "/logs/broken"}, times=None)
    lost = trigger("no-such-log", grace_until=0.0)
    broken = trigger("broken", timeout=4)
    events = fired(lost, broken, *[trigger(one) for one in good])
    assert [event["status"] for event in events] == ["failed", "timeout", *["delivered"] * 3]
    assert events[0]["statuses"] == ["HTTP 404"]


def test_a_poller_that_dies_is_begun_again(redox_connection: Sandbox, logs: Logs, caplog: pytest.LogCaptureFixture):
    """The waits see that it is gone, and lose nothing but time."""
    ids = logs(3)

    async def run() -> list[Any]:
        tasks = [asyncio.create_task(event_of(trigger(one))) for one in ids]
        await until(lambda: platform(redox_connection))
        (poller,) = polling._pollers[asyncio.get_running_loop()].values()
        poller.task.cancel()
        redox_connection.control("PATCH", "logs", {"status": "succeeded"})
        return await asyncio.gather(*tasks)

    assert {event["status"] for event in asyncio.run(run())} == {"delivered"}
    assert "begun again" in caplog.text


def test_a_mistake_of_ours_does_not_end_the_polling(
    redox_connection: Sandbox, logs: Logs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A look that fails in a way that nobody foresaw is told in the log and tried again; ten in a row end all waits."""
    ids, looks = logs(2, "succeeded"), []
    real = Poller._look

    async def sometimes(self: Poller) -> None:
        looks.append(1)
        if len(looks) < 3:
            raise ValueError("nobody foresaw this")
        await real(self)

    monkeypatch.setattr(Poller, "_look", sometimes)
    assert {event["status"] for event in fired(*[trigger(one) for one in ids])} == {"delivered"}
    assert "it goes on" in caplog.text

    async def never(_self: Poller) -> None:
        raise ValueError("nobody foresaw this")

    monkeypatch.setattr(Poller, "_look", never)
    assert [(event["status"], event["error"]) for event in fired(*[trigger(one) for one in ids])] == [
        ("error", "RedoxProtocolError")
    ] * 2


def test_a_poller_that_hangs_holds_no_wait_beyond_its_deadline(logs: Logs, monkeypatch: pytest.MonkeyPatch):
    """Each wait keeps its own time."""

    async def hang(_self: Poller) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(Poller, "_look", hang)
    assert fired(trigger(*logs(1, "succeeded"), timeout=0.5))["status"] == "timeout"


def test_a_refused_key_ends_all_waits(redox_connection: Sandbox, logs: Logs):
    """Asked twice, the connection read anew in between; then each task is told."""
    redox_connection.fault("status", status=401, match={"path": "/platform/"}, times=None)
    events = fired(*[trigger(one) for one in logs(3)])
    assert [(event["status"], event["error"], event["http_status"]) for event in events] == [
        ("error", "RedoxAuthError", 401)
    ] * 3


def test_a_key_that_is_changed_in_time_ends_no_wait(redox_connection: Sandbox, logs: Logs, monkeypatch: pytest.MonkeyPatch):
    """After an error the connection is read anew."""
    ids = logs(1, "succeeded")
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(redox_connection.with_extra(kid="of-yesterday")))

    async def run() -> Any:
        task = asyncio.create_task(event_of(trigger(*ids, interval=1.0)))
        await until(lambda: redox_connection.ledger("/auth/token"))
        monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", redox_connection.connection_json)
        return await task

    assert asyncio.run(run())["status"] == "delivered"


def test_a_wait_after_its_deadline_is_over(redox_connection: Sandbox, logs: Logs):
    """The deadline is in the row: a triggerer that was away does not give more time."""
    assert fired(trigger(*logs(1, "succeeded"), timeout=-1))["status"] == "timeout"
    assert platform(redox_connection) == []


def test_nothing_is_lost_when_the_triggerer_restarts(redox_connection: Sandbox, logs: Logs):
    """A wait is rebuilt from its row alone, in another event loop, and ends as it would have."""
    ids = logs(20)
    rows = [trigger(one) for one in ids]

    async def first_life() -> None:
        tasks = [asyncio.create_task(event_of(row)) for row in rows]
        await until(lambda: platform(redox_connection))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(first_life())
    redox_connection.control("PATCH", "logs", {"status": "succeeded"})
    assert {event["status"] for event in fired(*rows)} == {"delivered"}


def test_traffic_of_others_costs_latency_not_requests(redox_connection: Sandbox, logs: Logs):
    """A window full of others' logs: a look costs what asking for each would, and all are found."""
    logs(3000, "succeeded", age=50)
    ids = logs(10, "succeeded", age=40)
    assert {event["status"] for event in fired(*[trigger(one) for one in ids])} == {"delivered"}
    assert len(platform(redox_connection)) <= 11 + 10


def test_backfills_and_live_messages_are_polled_side_by_side(redox_connection: Sandbox, logs: Logs):
    """Each in its own searches, by one poller."""
    live, backfill = logs(2, "succeeded"), logs(2, "succeeded", data_mode="backfill")
    events = fired(trigger(*live), trigger(*backfill, data_mode="backfill"))
    assert [event["counts"] for event in events] == [{"succeeded": 2}] * 2


def test_a_connection_that_is_gone_ends_the_waits(redox_connection: Sandbox, logs: Logs, monkeypatch: pytest.MonkeyPatch):
    """Not at once, as Airflow may have a bad day; the event names the class of what happened."""
    one = trigger(*logs(1), redox_conn_id="no_such_connection")
    assert fired(one)["status"] == "error"


def test_an_error_is_handed_to_whoever_waits(redox_connection: Sandbox):
    """As it is, not as a broken task of asyncio's."""
    redox_connection.fault("status", status=401, match={"path": "/platform/"}, times=None)

    async def run() -> None:
        wait = Wait(Watch({"a": time.time()}, Rules(), 0.0, time.time() + 30), 0.1)
        await wait_with_others("redox_default", wait)

    with pytest.raises(RedoxAuthError):
        asyncio.run(run())
