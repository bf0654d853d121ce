"""What all requests of this process share on the way to a server: its quota, each destination's own limit, the retries.

The rules are in `protocol/pacing.py`; here is who waits for what. A request first waits on the lane of its destination, and
only then for a place in the share: one that waits for a hospital that hangs holds nothing that others need. Those who wait
come in the order in which they asked, threads and coroutines alike.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from airflow_provider_redox.exceptions import RedoxRateLimitError
from airflow_provider_redox.protocol.effects import Effect, Happened, Send, Turn
from airflow_provider_redox.protocol.outcomes import RetryBudget, retry_after
from airflow_provider_redox.protocol.pacing import Gate, Lane, Place, Refusal, limit_of

T = TypeVar("T")
Steps: TypeAlias = Generator[float, None, T]
"""Yields the seconds to wait, at most, until woken; ends with what was waited for."""

WINDOW = 300.0
"""Seconds of the rolling window (Redox, quotas and constraints)."""

_LOOK_AGAIN = 30.0  # seconds after which one who waits looks again, woken or not
_log = logging.getLogger("airflow_provider_redox.client")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request needs before it may go.

    :param share: the connection's requests in a window.
    :param lane: the destination, by the name under which its limit is kept; empty for Redox itself.
    :param at_most: requests under way to that destination in this process; None for no limit.
    :param for_token: whether those that hold a place wait for it.
    :param pause: seconds of rest after a 429 that names none.
    """

    share: int
    lane: str = ""
    at_most: int | None = None
    for_token: bool = False
    pause: float = 30.0


@dataclass(slots=True, eq=False)
class _Waiting:
    wake: Callable[[], None]


@dataclass(slots=True)
class _Queue:
    """Those who wait for one thing. The first is woken when it may be there."""

    waiting: deque[_Waiting] = field(default_factory=deque)

    def wake_first(self) -> None:
        while self.waiting:
            try:
                self.waiting[0].wake()
            except RuntimeError:  # its event loop was closed while it waited
                self.waiting.popleft()
            else:
                return


@dataclass(slots=True)
class _Share:
    gate: Gate
    queue: _Queue = field(default_factory=_Queue)
    tokens: _Queue = field(default_factory=_Queue)


@dataclass(slots=True)
class _Way:
    lane: Lane = field(default_factory=Lane)
    queue: _Queue = field(default_factory=_Queue)


class Address:
    """The way to one server. Safe for threads and event loops.

    :param window: seconds of the rolling window in which the server counts.
    :param clock: seconds, never going back.
    """

    def __init__(self, *, window: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.window = WINDOW if window is None else window
        self._clock = clock
        self._lock = threading.Lock()
        self._shares: dict[int, _Share] = {}
        self._ways: dict[str, _Way] = {}

    def enter(self, wanted: Wanted, wake: Callable[[], None]) -> Steps[Ticket]:
        """Wait for a place. `wake` is called, from any thread, when it is worth looking again.

        Raises `RedoxRateLimitError` when the server has named a time that is longer than the window.
        """
        with self._lock:
            share = self._shares.get(wanted.share) or _Share(Gate(wanted.share, self.window))
            self._shares[wanted.share] = share
            way = None if wanted.for_token else self._ways.setdefault(wanted.lane, _Way())
        if way is not None:
            yield from self._wait(way.queue, wake, lambda now: way.lane.ask(now, wanted.at_most), way.lane.enter)
        queue, ask = (share.tokens, share.gate.ask_for_token) if wanted.for_token else (share.queue, share.gate.ask)
        try:
            place = yield from self._wait(queue, wake, ask, share.gate.take)
        except BaseException:
            self._leave_way(way)
            raise
        return Ticket(self, wanted, share, way, place)

    def _wait(
        self, queue: _Queue, wake: Callable[[], None], ask: Callable[[float], float], take: Callable[[float], T]
    ) -> Steps[T]:
        mine = _Waiting(wake)
        with self._lock:
            queue.waiting.append(mine)
        try:
            while True:
                with self._lock:
                    now = self._clock()
                    seconds = ask(now) if queue.waiting[0] is mine else math.inf
                    if seconds <= 0:
                        return take(now)
                if self.window * 1.1 < seconds < math.inf:
                    raise RedoxRateLimitError(
                        f"HTTP 429: Redox asks to wait {seconds:.0f} s, which is longer than a task waits",
                        retry_after=seconds,
                    )
                yield min(seconds, _LOOK_AGAIN)
        finally:
            with self._lock:
                if mine in queue.waiting:
                    queue.waiting.remove(mine)
                queue.wake_first()

    def leave(self, ticket: Ticket, happened: Happened | None) -> None:
        """Leave a place, with what became of its request; None when it was never sent."""
        share = ticket.share
        with self._lock:
            now = self._clock()
            if happened is None:
                share.gate.give_back(ticket.place)
            else:
                refused = happened.status == 429
                share.gate.leave(ticket.place, now, answered=happened.status != 0 and not refused)
                if refused:
                    self._slow_down(ticket, happened, now)
            share.queue.wake_first()
        self._leave_way(ticket.way)

    def _slow_down(self, ticket: Ticket, happened: Happened, now: float) -> None:
        """Heed a 429: Redox's own is for all that this process sends, one without the limit is the destination's."""
        stated = retry_after(happened.headers, now=time.time())
        pause = ticket.wanted.pause if stated is None else stated
        refusal = Refusal(limit_of(happened.headers), pause, stated is not None)
        if refusal.limit is None and ticket.way is not None and ticket.wanted.lane:
            ticket.way.lane.shut_until(now + min(pause, self.window * 12))
            return
        gate = ticket.share.gate
        if gate.refuse(ticket.place, now, refusal):
            for other in self._shares.values():
                if other.gate is not gate:
                    other.gate.refuse(None, now, refusal)
            _log.warning(
                "HTTP 429: the address has used up its quota, perhaps by others. This process sends nothing for %.0f s, "
                "then %d requests in %.0f s at first.",
                gate.shut_for(now),
                gate.limit(now),
                self.window,
            )

    def _leave_way(self, way: _Way | None) -> None:
        if way is not None:
            with self._lock:
                way.lane.leave()
                way.queue.wake_first()


@dataclass(slots=True, eq=False)
class Ticket:
    """A place that was waited for. Leave it once the request has ended; leaving twice does nothing."""

    address: Address
    wanted: Wanted
    share: _Share
    way: _Way | None
    place: Place
    _left: bool = False

    def leave(self, happened: Happened | None = None) -> None:
        """Leave the place, with what became of the request; None when it was never sent."""
        if not self._left:
            self._left = True
            self.address.leave(self, happened)


class Held:
    """The place that a flow holds: left when its request has ended, and at the latest with the block."""

    def __init__(self) -> None:
        self._ticket: Ticket | None = None

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ticket is not None:
            self._ticket.leave()

    def note(self, effect: Effect, happened: Any) -> None:
        """Take note of what a flow asked for and got."""
        if isinstance(effect, Turn):
            self._ticket = happened
        elif isinstance(effect, Send) and self._ticket is not None:
            self._ticket.leave(happened)


_addresses: dict[str, Address] = {}
_budgets: dict[str, RetryBudget] = {}
_lock = threading.Lock()


def address_of(origin: str) -> Address:
    """Give the way to a server that all clients of this process share."""
    with _lock:
        return _addresses.setdefault(origin, Address())


def budget_for(origin: str) -> RetryBudget:
    """Give the retry budget that all clients of this process share for a server."""
    with _lock:
        return _budgets.setdefault(origin, RetryBudget())


def forget() -> None:
    """Begin as a new process does: nothing was sent, and no retry was used up."""
    global _lock
    _lock = threading.Lock()  # in a child process, the parent's may be held by a thread that is not here
    _addresses.clear()
    _budgets.clear()


os.register_at_fork(after_in_child=forget)
