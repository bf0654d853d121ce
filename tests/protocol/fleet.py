"""Many workers on simulated time: what they share lies behind calls that take their time, and their clocks differ."""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from airflow_provider_redox.exceptions import RedoxError
from airflow_provider_redox.protocol.effects import Effect, Flow, Place, Recall, RedoxResponse, Remember, Send, Wait
from airflow_provider_redox.protocol.exchange import Environment
from airflow_provider_redox.protocol.sharing import obtain
from airflow_provider_redox.protocol.token import Held, Token

from .flows import NOW
from .material import settings

Step = Generator[tuple[float, Callable[[], Any]], Any, None]


@dataclass
class Fleet:
    """Workers, the store that they share, the token endpoint, and one true clock that starts at zero.

    :param round_trip: seconds that a call to the store takes, about.
    :param tail: how far calls are from taking the same time each.
    :param stalled: the share of calls that take up to three seconds more.
    :param writable: whether the store takes anything.
    """

    seed: int
    lifetime: float = 300.0
    round_trip: float = 0.05
    stalled: float = 0.0
    tail: float = 0.5
    writable: bool = True
    down: bool = False
    time: float = 0.0
    store: dict[Place, Any] = field(default_factory=dict)
    exchanges: list[float] = field(default_factory=list)
    trips: int = 0
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Have this done at a time."""
        heapq.heappush(self._events, (when, next(self._order), do))

    def worker(self, *, start: float, skew: float = 0.0, memory: Held | None = None) -> Worker:
        """Make a worker whose clock differs by `skew` and who needs a token at `start`."""
        made = Worker(self, skew, memory)
        self.workers.append(made)
        self.at(start, made.need)
        return made

    def run(self, *, until: float = float("inf")) -> None:
        """Let the time pass until nothing is left to do."""
        while self._events and self._events[0][0] <= until:
            self.time, _, do = heapq.heappop(self._events)
            do()

    def delay(self) -> float:
        """Draw what a call to the store takes."""
        self.trips += 1
        stall = self.random.uniform(0, 3) if self.random.random() < self.stalled else 0
        return self.round_trip * self.random.lognormvariate(0, self.tail) + stall

    def token_answer(self) -> RedoxResponse:
        """Answer a token request."""
        self.exchanges.append(self.time)
        if self.down:
            return RedoxResponse(401, {}, b'{"error": "invalid_client"}')
        body = {"access_token": f"token-{len(self.exchanges)}", "token_type": "Bearer", "expires_in": self.lifetime}
        return RedoxResponse(200, {}, json.dumps(body).encode())

    def generations(self) -> list[int]:
        """Count the exchanges of each lifetime: those that came within half a life of the first belong to it."""
        found: list[list[float]] = []
        for when in sorted(self.exchanges):
            if found and when - found[-1][0] < self.lifetime / 2:
                found[-1].append(when)
            else:
                found.append([when])
        return [len(one) for one in found]


@dataclass
class Worker:
    """One process. `got` are its tokens, each with the seconds that it waited; `failed` the errors."""

    fleet: Fleet
    skew: float
    memory: Held | None = None
    dead: bool = False
    refused: str | None = None
    again: float = 0.0
    got: list[tuple[Token, float]] = field(default_factory=list)
    failed: list[RedoxError] = field(default_factory=list)
    doing: Effect | None = None

    def __post_init__(self) -> None:
        fleet = self.fleet
        self.env = Environment(
            now=lambda: NOW + fleet.time + self.skew,
            monotonic=lambda: fleet.time,
            jitter=fleet.random.random,
            new_jti=lambda: f"{fleet.random.getrandbits(128):x}",
            place=fleet.random.random(),
        )

    def need(self) -> None:
        """Ask for a token; every `again` seconds, where that is set."""
        if self.dead:
            return
        flow, began = obtain(settings(), self.refused, env=self.env), self.fleet.time
        self._go_on(flow, None, began)

    def kill(self) -> None:
        """Do nothing ever again."""
        self.dead = True

    def _go_on(self, flow: Flow[Token], reply: Any, began: float) -> None:
        if self.dead:
            return
        try:
            self.doing = flow.send(reply)
        except (StopIteration, RedoxError) as end:
            self._note(end, began)
            return
        self._do(self.doing, lambda happened: self._go_on(flow, happened, began))

    def _note(self, end: StopIteration | RedoxError, began: float) -> None:
        if isinstance(end, StopIteration):
            self.got.append((end.value, self.fleet.time - began))
        else:
            self.failed.append(end)
        if self.again:
            self.fleet.at(self.fleet.time + self.again, self.need)

    def _do(self, effect: Effect, then: Callable[[Any], None]) -> None:
        fleet, after = self.fleet, 0.0
        do: Callable[[], Any] = lambda: None  # noqa: E731
        match effect:
            case Wait(seconds):
                after = seconds
            case Send():
                after, do = fleet.random.uniform(0.1, 0.4), fleet.token_answer
            case Recall(Place.MEMORY):
                do = lambda: self.memory  # noqa: E731
            case Remember(Place.MEMORY, entry):
                self.memory = entry if isinstance(entry, Held) else None
            case Recall(place):
                after, do = fleet.delay(), lambda: fleet.store.get(place)
            case Remember(place, entry):
                after, do = fleet.delay(), lambda: fleet.writable and fleet.store.update({place: entry}) is None
            case _:
                do = lambda: b"signature"  # noqa: E731
        # The store acts at some moment while the call is under way, and the worker hears of it at the call's end.
        moment, end = fleet.time + after * fleet.random.random(), fleet.time + after
        fleet.at(moment, lambda: self._hear(do(), end, then))

    def _hear(self, happened: Any, end: float, then: Callable[[Any], None]) -> None:
        self.fleet.at(end, lambda: then(happened))
