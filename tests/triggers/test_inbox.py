"""RedoxInboxTrigger and the trigger of RedoxInboxSensor, run as the triggerer runs them: on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.storage.inbox.place import message_url
from airflow_provider_redox.triggers import inbox as module
from airflow_provider_redox.triggers.inbox import Batches, InboxArrivalTrigger, RedoxInboxTrigger
from tests.inbox.boxes import Box


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    monkeypatch.setattr(module, "_SETTLE_SECONDS", 0.0)
    return Box(f"file://{tmp_path}/inbox/results")


@contextlib.asynccontextmanager
async def running(trigger: Any) -> AsyncIterator[Any]:
    """The events of a trigger that is made anew from its row, as the triggerer makes it."""
    path, kwargs = trigger.serialize()
    assert path == f"{type(trigger).__module__}.{type(trigger).__name__}"
    events = type(trigger)(**json.loads(json.dumps(kwargs))).run()
    try:
        yield events
    finally:
        await events.aclose()


async def told(events: Any, number: int) -> list[str]:
    """The log IDs of so many messages."""
    found: list[str] = []
    while len(found) < number:
        event = await asyncio.wait_for(anext(events), 30)
        found += [one["log_id"] for one in event.payload["messages"]]
    return found


async def quiet(events: Any, seconds: float = 0.5) -> bool:
    """Whether nothing is told for a while; the trigger has settled what it told of by then."""
    waiting = asyncio.ensure_future(anext(events))
    done, _ = await asyncio.wait([waiting], timeout=seconds)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
        await waiting
    return not done


def trigger_for(box: Box, **arguments: Any) -> RedoxInboxTrigger:
    return RedoxInboxTrigger(box.root, **{"poll_interval": 0.05, **arguments})


def test_new_messages_become_events_in_order(box: Box):
    """What is there, and what comes, with URLs and IDs and nothing else."""
    box.put("b", "a")

    async def watch() -> None:
        async with running(trigger_for(box)) as events:
            assert (await anext(events)).payload == {
                "inbox": box.root,
                "state": box.root,
                "messages": [
                    {
                        "log_id": key,
                        "data_model": "Results",
                        "event_type": "New",
                        "source": "7ce6f387-c33c-417d-8682-81e83628cbd9",
                        "url": message_url(box.root, key),
                    }
                    for key in ("b", "a")
                ],
            }
            await asyncio.to_thread(box.put, "c")
            assert await told(events, 1) == ["c"]

    asyncio.run(watch())


def test_a_restart_loses_nothing_and_doubles_nothing(box: Box):
    """What was told of and settled is not told again by the next triggerer; what came meanwhile is."""

    async def watch(expected: list[str]) -> None:
        async with running(trigger_for(box)) as events:
            assert await told(events, len(expected)) == expected
            assert await quiet(events)

    box.put("a", "b")
    asyncio.run(watch(["a", "b"]))
    box.put("c")
    asyncio.run(watch(["c"]))


def test_what_airflow_may_not_have_is_told_again(box: Box, monkeypatch: pytest.MonkeyPatch):
    """While Airflow does not answer, nothing is written down as told."""

    async def unanswered() -> bool:
        return False

    async def watch() -> list[str]:
        async with running(trigger_for(box)) as events:
            found = await told(events, 2)
            assert await quiet(events)
            return found

    box.put("a", "b")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_airflow_answers", unanswered)
        assert asyncio.run(watch()) == ["a", "b"]
    assert asyncio.run(watch()) == ["a", "b"]


def test_airflow_is_asked_before_anything_is_settled(box: Box):
    """Outside a triggerer the question is answered too."""
    assert asyncio.run(module._airflow_answers())


def test_an_event_has_so_many_messages_at_most(box: Box):
    """The rest goes into the next one."""
    box.put(*"abcde")

    async def sizes() -> list[int]:
        async with running(trigger_for(box, max_messages=2)) as events:
            return [len((await anext(events)).payload["messages"]) for _ in range(3)]

    assert asyncio.run(sizes()) == [2, 2, 1]


def test_messages_wait_for_others_to_share_an_event():
    """A full batch goes at once; one that is not waits for `gather_seconds` since its first message."""
    batches = Batches(2, gather_seconds=1000)
    assert list(batches.ready(["a"])) == []
    assert batches.held == ["a"]
    assert list(batches.ready(["a", "b", "c"])) == [["a", "b"]]
    assert batches.held == ["c"]
    assert list(Batches(2, gather_seconds=0).ready(["a"])) == [["a"]]


def test_only_what_is_wanted_is_told(box: Box):
    """By the filters of the trigger."""
    box.put("a")
    box.put("b", DataModel="Orders")

    async def watch() -> list[str]:
        async with running(trigger_for(box, data_model=["Orders"])) as events:
            return await told(events, 1)

    assert asyncio.run(watch()) == ["b"]


def test_a_store_that_is_down_is_waited_for(box: Box, caplog: pytest.LogCaptureFixture):
    """The trigger lives on, and tells of what is there when the store is back."""
    box.put("a")
    arrivals = Path(box.root[7:]) / "arrivals"
    arrivals.rename(arrivals.with_name("away"))
    arrivals.mkdir(mode=0)
    arrivals.rmdir()
    loop = arrivals.with_name("arrivals")
    loop.symlink_to(loop)

    async def watch() -> list[str]:
        async with running(trigger_for(box)) as events:
            waiting = asyncio.ensure_future(told(events, 1))
            await asyncio.sleep(0.4)
            assert not waiting.done()
            loop.unlink()
            arrivals.with_name("away").rename(arrivals)
            return await waiting

    assert asyncio.run(watch()) == ["a"]
    assert "could not be listed (OSError)" in caplog.text


def test_the_sensors_trigger_wakes_once(box: Box):
    """It says that something is there, and what it says holds nothing of it."""

    async def watch() -> list[Any]:
        parameters = trigger_for(box).serialize()[1]
        del parameters["start"]
        async with running(InboxArrivalTrigger(**parameters)) as events:
            assert await quiet(events, 0.3)
        async with running(InboxArrivalTrigger(**parameters)) as events:
            await asyncio.to_thread(box.put, "a")
            return [event.payload async for event in events]

    assert asyncio.run(watch()) == [{"status": "arrived"}]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"max_messages": 0}, "max_messages"),
        ({"gather_seconds": -1}, "gather_seconds"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"poll_interval": True}, "poll_interval"),
        ({"lateness": float("inf")}, "lateness"),
        ({"start": "yesterday"}, "start"),
        ({"name_pattern": "("}, "name_pattern"),
        ({"inbox_path": ""}, "inbox_path"),
    ],
)
def test_what_cannot_be_is_refused_when_the_dag_is_read(arguments: dict[str, Any], named: str):
    """The error names the argument."""
    with pytest.raises(RedoxConfigError, match=f"^{named}: "):
        RedoxInboxTrigger(**{"inbox_path": "/inbox", **arguments})
