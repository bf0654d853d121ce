"""Redox's other side: it verifies a destination and pushes messages to it, one after the other for each feed.

An answer of 200 lets the next message go. Anything else pauses the feed: the same message is sent again after a pause that
doubles, and after the third failure somebody is alerted. A message that is a test is not sent again.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from .call import MalformedError
from .pushed import result

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_PAUSE = 60.0
ALERT_AFTER = 3
KEPT = 1000
TIMEOUT = aiohttp.ClientTimeout(total=60)


@dataclass(slots=True)
class Batch:
    """Messages to be pushed, made when they are due; ``rate`` is how many a second, 0 is as fast as they are taken."""

    messages: Iterator[dict[str, Any]]
    left: int
    rate: float


@dataclass(slots=True)
class Feed:
    """One subscription of a destination: where it goes, what waits, and what became of it. The token is not shown."""

    name: str
    url: str
    token: str
    backoff: float
    method: str
    verified: bool = False
    trouble: str = ""
    delivered: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    attempts: int = 0
    failures: int = 0
    last_status: int | None = None
    batches: deque[Batch] = field(default_factory=deque)
    sent: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT))
    more: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what can be told of it; ``paused`` is between a failure and the next success."""
        return {
            "name": self.name,
            "url": self.url,
            "verified": self.verified,
            "trouble": self.trouble,
            "queued": sum(batch.left for batch in self.batches),
            "delivered": len(self.delivered),
            "dropped": len(self.dropped),
            "attempts": self.attempts,
            "paused": self.failures > 0,
            "failures": self.failures,
            "last_status": self.last_status,
            "alerts": self.alerts,
        }

    def add(self, batch: Batch) -> None:
        """Let a batch wait for its turn."""
        self.batches.append(batch)
        self.more.set()

    async def run(self) -> None:
        """Verify the destination, then push until told to stop."""
        async with aiohttp.ClientSession(timeout=TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()) as session:
            if not await self._verify(session):
                return
            while True:
                await self.more.wait()
                while self.batches:
                    await self._push(session, self.batches[0])
                self.more.clear()

    async def _verify(self, session: aiohttp.ClientSession) -> bool:
        asked = {"verification-token": self.token, "challenge": str(uuid.uuid4())}
        carried: dict[str, Any] = {"params": asked} if self.method == "GET" else {"json": asked}
        try:
            async with session.request(self.method, self.url, allow_redirects=False, **carried) as answer:
                echoed = asked["challenge"] in await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.trouble = f"the destination could not be reached ({type(error).__name__})"
            return False
        self.last_status, self.verified = answer.status, answer.status == 200 and echoed
        self.trouble = "" if self.verified else f"the challenge was answered with {answer.status}, or not at all"
        return self.verified

    async def _push(self, session: aiohttp.ClientSession, batch: Batch) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number, message in enumerate(batch.messages):
            if batch.rate:
                await asyncio.sleep(max(0.0, begun + number / batch.rate - loop.time()))
            await self._deliver(session, message)
            batch.left -= 1
        self.batches.popleft()

    async def _deliver(self, session: aiohttp.ClientSession, message: dict[str, Any]) -> None:
        log_id = message["Meta"]["Logs"][0]["ID"]
        while not await self._attempt(session, message):
            self.failures += 1
            if self.failures == ALERT_AFTER:
                self.alerts.append({"log_id": log_id, "status": self.last_status, "failures": self.failures})
            if message["Meta"].get("Test"):
                self.dropped.append(log_id)
                return
            await asyncio.sleep(min(LONGEST_PAUSE, self.backoff * 2 ** min(self.failures - 1, 16)))
        self.failures = 0
        self.delivered.append(log_id)
        self.sent.append(message)

    async def _attempt(self, session: aiohttp.ClientSession, message: dict[str, Any]) -> bool:
        self.attempts += 1
        message["Meta"]["Logs"][0]["AttemptID"] = str(uuid.uuid4())
        headers = {"verification-token": self.token, "Authorization": f"Bearer {self.token}"}
        try:
            async with session.post(self.url, json=message, headers=headers, allow_redirects=False) as answer:
                await answer.read()
                self.last_status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            self.last_status = None
        return self.last_status == 200


class Feeds:
    """All feeds, by name."""

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}

    def add(self, wanted: Any) -> Feed:
        """Make a feed and begin to verify its destination; one of the same name goes."""
        texts = [wanted.get(name) if isinstance(wanted, dict) else None for name in ("name", "url", "token")]
        name, url, token = (text if isinstance(text, str) else "" for text in texts)
        if not name or not url.startswith(("http://", "https://")) or not token:
            raise MalformedError("name, url and token are required")
        method = wanted.get("method", "POST")
        if method not in {"GET", "POST"}:
            raise MalformedError("method is GET or POST")
        self.drop(name)
        feed = Feed(name, url, token, _number(wanted, "backoff", 1.0), method)
        feed.task = asyncio.get_running_loop().create_task(feed.run())
        self._feeds[name] = feed
        return feed

    def push(self, wanted: Any) -> Feed:
        """Let messages wait in a feed: those that are given, or ``count`` invented ones."""
        feed = self._named(wanted)
        rate = _number(wanted, "rate", 0.0)
        given = wanted.get("messages")
        if isinstance(given, list) and all(_has_log(one) for one in given):
            feed.add(Batch(iter(given), len(given), rate))
        elif given is None and isinstance(wanted.get("count"), int):
            event = str(wanted.get("event_type", "New"))
            model = str(wanted.get("data_model", "Results"))
            test = wanted.get("test") is True
            count = max(0, wanted["count"])
            feed.add(Batch((result(number, model, event, test=test) for number in range(count)), count, rate))
        else:
            raise MalformedError("messages, each with a log ID in Meta.Logs, or a count are required")
        return feed

    def redeliver(self, wanted: Any) -> Feed:
        """Send again what was delivered: the messages of these ``log_ids``, or the ``last`` so many."""
        feed = self._named(wanted)
        ids, last = wanted.get("log_ids"), wanted.get("last")
        sent = list(feed.sent)
        if isinstance(ids, list):
            sent = [one for one in sent if one["Meta"]["Logs"][0]["ID"] in ids]
        elif isinstance(last, int) and last > 0:
            sent = sent[-last:]
        feed.add(Batch(iter(sent), len(sent), 0.0))
        return feed

    def as_json(self) -> list[dict[str, Any]]:
        """Return all feeds."""
        return [feed.as_json() for feed in self._feeds.values()]

    def delivered(self, name: str) -> list[str]:
        """Return the log IDs that a feed has delivered, in their order."""
        return self._named({"feed": name}).delivered

    def drop(self, name: str) -> None:
        """Let a feed go."""
        feed = self._feeds.pop(name, None)
        if feed is not None and feed.task is not None:
            feed.task.cancel()

    def clear(self) -> None:
        """Let all feeds go."""
        for name in list(self._feeds):
            self.drop(name)

    def _named(self, wanted: Any) -> Feed:
        feed = self._feeds.get(str(wanted.get("feed"))) if isinstance(wanted, dict) else None
        if feed is None:
            raise MalformedError("feed names no feed")
        return feed


def _has_log(message: Any) -> bool:
    try:
        return isinstance(message["Meta"]["Logs"][0]["ID"], str)
    except (KeyError, TypeError, IndexError):
        return False


def _number(wanted: dict[str, Any], name: str, default: float) -> float:
    value = wanted.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise MalformedError(f"{name} must be a number, 0 or more")
    return float(value)
