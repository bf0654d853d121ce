"""Everything together under load and faults: what Redox pushes is read once, and in the order of its feed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_redox.downstream import read_messages
from airflow_provider_redox.triggers import inbox as module
from airflow_provider_redox.triggers.inbox import RedoxInboxTrigger
from tests.support.receiver import TOKEN, ReceiverProcess, free_port, messages_in
from tests.support.sandbox import Sandbox
from tests.support.waiting import until

pytest.importorskip("uvicorn", reason="this Airflow brings no ASGI server")
FEEDS = [f"feed-{number}" for number in range(4)]
MEGABYTE = 1024 * 1024


class Site:
    """A receiver that can be killed and started again at its address, and a sandbox that pushes to it."""

    def __init__(self, inbox: Path, sandbox: Sandbox) -> None:
        self.inbox, self.sandbox, self.port = inbox, sandbox, free_port()
        self.receiver = ReceiverProcess.start(inbox, port=self.port, LOG_LEVEL="warning")
        self.peak = 0

    def restart(self, number: int) -> None:
        self.receiver.stop(number)
        self.receiver = ReceiverProcess.start(self.inbox, port=self.port, LOG_LEVEL="warning")

    def connect(self, **more: Any) -> None:
        for feed in FEEDS:
            url = f"{self.receiver.url}/{feed}"
            self.sandbox.control("POST", "feeds", {"name": feed, "url": url, "token": TOKEN, "backoff": 0.05, **more})
        until(lambda: all(feed["verified"] for feed in self.feeds()), "every feed is verified", 60)

    def push(self, count: int) -> None:
        for feed in FEEDS:
            self.sandbox.control("POST", "push", {"feed": feed, "count": count})

    def feeds(self) -> list[dict[str, Any]]:
        self.peak = max(self.peak, self.receiver.memory())
        found: list[dict[str, Any]] = self.sandbox.control("GET", "feeds")
        return found

    def delivered(self) -> int:
        return sum(feed["delivered"] for feed in self.feeds())

    def sent(self, feed: str) -> list[str]:
        """The log IDs that a feed has delivered, in their order, each once."""
        return list(dict.fromkeys(self.sandbox.control("GET", f"feeds?delivered={feed}")))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(module, "_SETTLE_SECONDS", 0.3)
    sandbox = Sandbox.start("--population", "5")
    site = Site(tmp_path / "inbox", sandbox)
    yield site
    sandbox.stop()
    site.receiver.stop(signal.SIGKILL)


async def consume(site: Site, feed: str, read: list[str], expected: int) -> None:
    """Be a triggerer that is restarted again and again, and the DAG that its events start."""
    stops = [expected // 5, expected // 2, expected]
    while len(read) < expected:
        trigger = RedoxInboxTrigger(f"{site.inbox}/{feed}", poll_interval=0.2, max_messages=50)
        events = trigger.run()
        async for event in events:
            read += await asyncio.to_thread(ids, event.payload)
            if len(read) >= stops[0]:
                stops.pop(0)
                break
        await events.aclose()


def ids(payload: dict[str, Any]) -> list[str]:
    return [one.log_id for one in read_messages({"extra": {"payload": payload}}, consumer="load")]


@pytest.mark.parametrize("count", [250, pytest.param(25_000, marks=pytest.mark.slow)])
def test_every_message_is_read_once_and_in_order(site: Site, count: int):
    """Through a receiver that is killed and restarted, redeliveries and a triggerer that is restarted."""
    site.connect()
    site.push(count)
    until(lambda: site.delivered() > count, "more has been delivered", 60)
    site.restart(signal.SIGKILL)
    until(lambda: site.delivered() > 2 * count, "still more has been delivered", 60)
    site.restart(signal.SIGTERM)
    read: dict[str, list[str]] = {feed: [] for feed in FEEDS}

    async def all_feeds() -> None:
        await asyncio.gather(*(consume(site, feed, read[feed], count) for feed in FEEDS))

    asyncio.run(all_feeds())
    until(lambda: all(feed["queued"] == 0 for feed in site.feeds()), "no feed has any left", 60)
    for feed in FEEDS:
        site.sandbox.control("POST", "redeliver", {"feed": feed, "last": 10})
    until(lambda: site.delivered() == 4 * count + 40, "all has been delivered", 60)
    for feed in FEEDS:
        assert read[feed] == site.sent(feed)
        assert len(set(read[feed])) == count == len(messages_in(site.inbox, feed))
    assert site.peak < 150 * MEGABYTE


def test_storage_that_is_down_pauses_the_feed_and_loses_nothing(site: Site):
    """Redox is answered 503, alerts after the third failure, and goes on with the same message."""
    site.connect()
    site.push(3)
    until(lambda: site.delivered() == 12, "twelve have been delivered", 60)
    away = site.inbox.with_name("away")
    site.inbox.rename(away)
    site.inbox.write_text("a file where a folder should be")
    site.push(2)
    until(lambda: all(feed["failures"] >= 3 for feed in site.feeds()), "every feed has failed", 60)
    assert [(len(feed["alerts"]), feed["last_status"], feed["paused"]) for feed in site.feeds()] == [(1, 503, True)] * 4
    site.inbox.unlink()
    away.rename(site.inbox)
    until(lambda: site.delivered() == 20, "twenty have been delivered", 60)
    assert [len(messages_in(site.inbox, feed)) for feed in FEEDS] == [5] * 4
