"""Drivers by hand: what a flow asks for is answered from lists, on a clock that only moves when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from airflow_provider_redox.exceptions import RedoxError
from airflow_provider_redox.protocol.effects import (
    Bearer,
    Effect,
    Failure,
    Flow,
    Happened,
    Place,
    Recall,
    RedoxResponse,
    Remember,
    Request,
    Send,
    Sign,
    Stage,
    Wait,
)
from airflow_provider_redox.protocol.exchange import Environment
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from airflow_provider_redox.protocol.token import Claim, Held, Token

NOW = 1_767_225_600.0
"""The first second of 2026, UTC."""

Reply = Happened | Callable[[Request], Happened]


class World:
    """What happens to a flow: its requests are answered in order from a list, its waits move the clock.

    :param happened: what each request meets, or a function of the request.
    :param sign: makes the signature of an assertion.
    """

    def __init__(self, *happened: Reply, sign: Callable[[bytes], bytes] = lambda _: b"signature") -> None:
        self.happened: Iterator[Reply] = iter(happened)
        self.sign = sign
        self.clock = NOW
        self.asked: list[Effect] = []
        self.places: dict[Place, Held | Token | Claim | None] = dict.fromkeys(Place)
        self.jtis = [f"jti-{number}" for number in range(100)]
        self._bearers = count(1)
        self._jti = iter(self.jtis)

    def env(self, *, jitter: float = 0.5, retry: RetryPolicy | None = None) -> Environment:
        """Give the clock and chance of this world."""
        return Environment(
            now=lambda: self.clock,
            monotonic=lambda: self.clock - NOW,
            jitter=lambda: jitter,
            new_jti=lambda: next(self._jti),
            retry=retry or RetryPolicy(),
        )

    def run(self, flow: Flow[Any]) -> Any:
        """Answer a flow until it returns or raises; what cannot be done is raised in it, as the drivers do."""
        try:
            effect = next(flow)
            while True:
                self.asked.append(effect)
                try:
                    reply = self.answer(effect)
                except RedoxError as error:
                    effect = flow.throw(error)
                else:
                    effect = flow.send(reply)
        except StopIteration as stop:
            return stop.value

    def answer(self, effect: Effect) -> Any:
        """Do what one effect asks for."""
        match effect:
            case Send(request):
                met = next(self.happened, None)
                assert met is not None, f"one request more than the test foresaw: {request.label}"
                return met(request) if callable(met) else met
            case Wait(seconds):
                self.clock += seconds
            case Sign(message):
                return self.sign(message)
            case Bearer():
                return f"token-{next(self._bearers)}"
            case Recall(place):
                return self.places[place]
            case Remember(place, entry):
                self.places[place] = entry
                return True
        return None

    @property
    def sent(self) -> list[Request]:
        """The requests that were sent, in order."""
        return [effect.request for effect in self.asked if isinstance(effect, Send)]

    @property
    def waits(self) -> list[float]:
        """The pauses that were taken, in order."""
        return [effect.seconds for effect in self.asked if isinstance(effect, Wait)]


def answer(status: int = 200, body: bytes | str = b"{}", **headers: str) -> RedoxResponse:
    """Make an answer; a header's underscores stand for hyphens."""
    raw = body.encode() if isinstance(body, str) else body
    return RedoxResponse(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def failure(stage: Stage, status: int = 0, **headers: str) -> Failure:
    """Make a request that got no whole answer."""
    return Failure(stage, "the reason", status, {name.replace("_", "-"): value for name, value in headers.items()})


def said_by(error: BaseException) -> str:
    """Collect all that an error carries: text, repr, arguments, notes and attributes, down its whole chain."""
    heard: list[str] = []
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        own = [getattr(one, name, None) for name in ("doc", "object", "__notes__", "__dict__")]
        heard += [str(one), repr(one), repr(one.args), *map(repr, own), *map(str, own)]
        todo += [one.__cause__, one.__context__]
    return "\n".join(heard)


def complaint(make: Callable[[], object]) -> str:
    """Give all that the error carries with which this fails, or nothing where it does not fail."""
    try:
        make()
    except RedoxError as error:
        return said_by(error)
    return ""
