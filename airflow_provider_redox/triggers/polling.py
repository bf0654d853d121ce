"""One poller for all waits of a connection in a triggerer: a thousand waits cost what one costs, and a little.

A poller begins with the first wait and ends with the last. It lives in the event loop of the triggers, keeps nothing that
a wait's own row could not bring back, and promises its waits nothing: each keeps its own deadline, sees it when the poller
is gone, and then begins another. The requests of a connection, retries included, stay within `REQUESTS` a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import time
import weakref
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_redox.client.asynchronous import AsyncClient
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxError, RedoxProtocolError
from airflow_provider_redox.hooks.redox import RedoxAsyncHook
from airflow_provider_redox.protocol.delivery import Verdict, Watch
from airflow_provider_redox.protocol.keys import SigningKey
from airflow_provider_redox.protocol.looking import Knowledge, Pace, Platform, find_in_window, look, slowed
from airflow_provider_redox.protocol.outcomes import RetryPolicy

_log = logging.getLogger(__name__)

REQUESTS = 60
"""Requests of all waits of one connection in a minute, at most."""

GATHERING = 1.0
"""Seconds that a new poller lets pass: waits that begin together are asked for together."""

SHORTEST = 0.2
"""Seconds between two looks, at least."""

RESTART = 5.0
"""Seconds after which a wait begins the polling anew that has ended under it."""

BY_ID = 30
"""Requests for single logs in one look, at least, where so many are needed; more where the looks are further apart."""

CLIENT_AGE = 300.0
"""Seconds after which the connection is read anew: its key may have been changed."""

_REFUSALS = 2
_SURPRISES = 10
_RETRY = RetryPolicy(attempts=3, cap=10.0, deadline=60.0)  # the next look is the better retry

_pollers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Poller]] = weakref.WeakKeyDictionary()
_paces: dict[str, Pace] = {}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a wait ended, and the key of the connection that says so."""

    verdict: Verdict
    key: SigningKey


@dataclass(eq=False, slots=True)
class Wait:
    """One wait, as it takes part in the polling.

    :param interval: seconds between two looks that it asks for.
    """

    watch: Watch
    interval: float
    data_mode: str | None = None
    ended: asyncio.Future[Ended] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def judge(self, now: float, key: SigningKey) -> None:
        """End it if it is over."""
        verdict = self.watch.verdict(now)
        if verdict.status in ("delivered", "failed") and not self.ended.done():
            self.ended.set_result(Ended(verdict, key))

    def fail(self, error: Exception) -> None:
        """End it with an error."""
        if not self.ended.done():
            self.ended.set_exception(error)
            self.ended.exception()  # whoever waits may have gone


async def wait_with_others(conn_id: str, wait: Wait) -> Ended | None:
    """Wait until the wait ends; None when its patience ran out. Raises what keeps the connection from being used."""
    while (left := wait.watch.deadline - time.time()) > 0:
        with _poller(conn_id).joined(wait) as poller:
            either: set[asyncio.Future[Any]] = {wait.ended, poller.task}
            await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if wait.ended.done():
            return wait.ended.result()
        if poller.task.done():
            _log.warning("The polling by the connection %s had ended; it is begun again.", conn_id)
            await asyncio.sleep(RESTART)
    return None


def _poller(conn_id: str) -> Poller:
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    if conn_id not in pollers or pollers[conn_id].task.done():
        pollers[conn_id] = Poller(conn_id)
    return pollers[conn_id]


class Poller:
    """Asks for all waits of one connection."""

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._waits: set[Wait] = set()
        self._hook: RedoxAsyncHook | None = None
        self._made_at = 0.0
        self._pace = _paces.setdefault(conn_id, Pace(REQUESTS))
        self._knowledge: defaultdict[str | None, Knowledge] = defaultdict(Knowledge)
        self._refusals = self._surprises = 0
        # In a context of its own: what it logs belongs to no trigger, and outlives the one that began it.
        self.task = asyncio.create_task(self._run(), context=contextvars.Context())

    @contextlib.contextmanager
    def joined(self, wait: Wait) -> Iterator[Poller]:
        """Take part, for as long as a `with` block. Who leaves last ends the polling."""
        self._waits.add(wait)
        try:
            yield self
        finally:
            self._waits.discard(wait)
            if not self._waits:
                self.task.cancel()

    async def _run(self) -> None:
        try:
            await asyncio.sleep(GATHERING)
            while True:
                began = time.monotonic()
                await self._look_or_tell()
                await asyncio.sleep(max(began + self._interval - time.monotonic(), SHORTEST))
        finally:
            await self._drop_client()

    @property
    def _interval(self) -> float:
        """Give the seconds between two looks: what the least patient wait asks for."""
        return min((wait.interval for wait in self._waits), default=0.0)

    async def _look_or_tell(self) -> None:
        """Look once. What passes is tried again with the next look; what stays ends all waits."""
        try:
            await self._look()
            self._refusals = self._surprises = 0
        except RedoxError as error:
            await self._drop_client()
            self._refusals = 0 if error.retryable else self._refusals + 1
            _log.warning("The connection %s could not be asked for logs: %s", self._conn_id, error)
            if self._refusals >= _REFUSALS:
                self._end_all(error)
        except Exception as error:  # noqa: BLE001  (the waits must not hang on a mistake of ours or a bad day of Airflow's)
            await self._drop_client()
            self._surprises += 1
            _log.exception("The polling by the connection %s failed; it goes on.", self._conn_id)
            if self._surprises >= _SURPRISES:
                self._end_all(RedoxProtocolError(f"the polling failed {_SURPRISES} times ({type(error).__name__})"))

    async def _look(self) -> None:
        client = await self._client()
        for wait in list(self._waits):
            await self._find(client, wait)
            wait.judge(time.time(), client.settings.key)
        for data_mode in {wait.data_mode for wait in self._waits}:
            await self._look_up(client, data_mode)

    async def _find(self, client: AsyncClient, wait: Wait) -> None:
        """Find the logs of a wait that knows only where its messages went, and when."""
        window = wait.watch.due(time.time())
        if window is None:
            return
        platform = Platform(client.settings, client.env, wait.data_mode)
        try:
            logs = await client.run(slowed(find_in_window(platform, window), self._pace, client.env))
        except RedoxConfigError as error:
            wait.fail(error)
            return
        wait.watch.found(logs, time.time())

    async def _look_up(self, client: AsyncClient, data_mode: str | None) -> None:
        wanted: dict[str, float] = {}
        waiting: defaultdict[str, list[Wait]] = defaultdict(list)
        for wait in self._waits:
            for log_id, since in wait.watch.open().items() if wait.data_mode == data_mode else ():
                wanted[log_id] = min(since, wanted.get(log_id, since))
                waiting[log_id].append(wait)

        def told(statuses: Mapping[str, str]) -> None:
            now = time.time()
            for wait in {wait for log_id in statuses for wait in waiting[log_id]}:
                wait.watch.tell(statuses, now)
                wait.judge(now, client.settings.key)

        knowledge = self._knowledge[data_mode]
        knowledge.forget_but(wanted)
        if wanted:
            platform = Platform(client.settings, client.env, data_mode)
            by_id = max(BY_ID, int(REQUESTS * self._interval / 60.0))
            flow = look(platform, wanted, knowledge, told, by_id=by_id)
            await client.run(slowed(flow, self._pace, client.env))

    async def _client(self) -> AsyncClient:
        if self._hook is None or time.monotonic() - self._made_at > CLIENT_AGE:
            await self._drop_client()
            self._hook, self._made_at = RedoxAsyncHook(self._conn_id, retry=_RETRY), time.monotonic()
        return await self._hook.client()

    async def _drop_client(self) -> None:
        hook, self._hook = self._hook, None
        if hook is not None:
            with contextlib.suppress(Exception):
                await hook.close()

    def _end_all(self, error: Exception) -> None:
        for wait in list(self._waits):
            wait.fail(error)
