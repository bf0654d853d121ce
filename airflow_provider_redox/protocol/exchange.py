"""One request as a flow: a bearer token, one renewal on 401, waiting, trying again, and the right error at the end.

Pure: the clocks, the jitter and the `jti` come with the `Environment`; what must be done is yielded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

from airflow_provider_redox.exceptions import (
    RedoxAmbiguousOutcomeError,
    RedoxAuthError,
    RedoxDestinationError,
    RedoxError,
    RedoxProtocolError,
)
from airflow_provider_redox.protocol import assertion, failures
from airflow_provider_redox.protocol.effects import (
    Bearer,
    Count,
    Flow,
    Happened,
    Metric,
    RedoxResponse,
    Request,
    Send,
    Sign,
    Tell,
    Turn,
    Wait,
)
from airflow_provider_redox.protocol.keys import SigningKey
from airflow_provider_redox.protocol.outcomes import UNREADABLE, RetryBudget, RetryPolicy, Step, decide
from airflow_provider_redox.protocol.settings import Settings
from airflow_provider_redox.protocol.token import Token, parse_token, token_form

TOKEN_LABEL = "POST (token endpoint)"  # noqa: S105  (a label)
"""What a log says of a token request."""

T = TypeVar("T")
Reader = Callable[[RedoxResponse], T]


@dataclass(frozen=True, slots=True)
class Environment:
    """Clock and chance, handed in.

    :param now: seconds since the epoch.
    :param monotonic: seconds of a clock that never jumps.
    :param jitter: a number in [0, 1).
    :param new_jti: a fresh random string of at least 128 bits.
    :param retry: how patient one request is.
    :param budget: how many retries all requests to one destination may make together.
    :param place: of this process among those that may renew a token, in [0, 1); the lowest thinks of it first.
    """

    now: Callable[[], float]
    monotonic: Callable[[], float]
    jitter: Callable[[], float]
    new_jti: Callable[[], str]
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    budget: RetryBudget = field(default_factory=RetryBudget)
    place: float = 0.0


def exchange(
    request: Request,
    read: Reader[T],
    *,
    repeatable: bool,
    env: Environment,
    refused: Reader[T] = failures.raise_refusal,
) -> Flow[T]:
    """Send a request with a bearer token and give what `read` makes of the answer.

    `read` may raise `RedoxProtocolError` for a body that is not what was promised; a repeatable request is then
    tried again, an unsafe one is ambiguous. `refused` decides what a final error status becomes, by default the
    error that fits it.
    """
    token = ""

    def authorized(renew: bool) -> Flow[Request]:  # noqa: FBT001
        nonlocal token
        token = yield Bearer(refused=token if renew else None)
        return request.with_headers(authorization=f"Bearer {token}")

    turn = Turn(request.destination)
    return (yield from _persist(authorized, read, turn=turn, repeatable=repeatable, env=env, refused=refused))


def ask(
    request: Request,
    read: Reader[T],
    *,
    env: Environment,
    refused: Reader[T] = failures.raise_refusal,
    statuses: Container[int] = (200,),
) -> Flow[T]:
    """Send a request that only reads, and return what `read` makes of its whole answer.

    Any 2xx status but 200 is retried, like an answer that cannot be read: 206 is a part of an answer, 202 comes before there
    is one, 203 was changed on its way, and 204 and 205 have no content (RFC 9110 section 15.3).
    """

    def whole(response: RedoxResponse) -> T:
        return read(checked_whole(response, statuses))

    return exchange(request, whole, repeatable=True, env=env, refused=refused)


_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.IGNORECASE)


def checked_whole(response: RedoxResponse, statuses: Container[int] = (200,)) -> RedoxResponse:
    """Return an answer that is whole by its status and headers. Raises `RedoxProtocolError` for any other."""
    if response.status not in statuses:
        _not_whole(response)
    stated = response.headers.get("content-range")
    found = _RANGE.fullmatch(stated.strip()) if stated is not None else None
    if stated is not None and (found is None or int(found[1]) != 0 or int(found[2]) + 1 != int(found[3])):
        raise RedoxProtocolError(
            "HTTP 200 with a Content-Range is a part of an answer; check the proxies between this worker and the server"
        )
    return response


def _not_whole(response: RedoxResponse) -> NoReturn:
    raise RedoxProtocolError(
        f"HTTP {response.status} is not a whole answer, which has status 200 (206 is a part of one, 203 was changed "
        "on its way); check the proxies between this worker and the server"
    )


def mint(settings: Settings, *, env: Environment) -> Flow[Token]:
    """Exchange a newly signed assertion for a new token. Asks no cache and tells none.

    With several keys, one that is refused gives way to the next, so that a key can be rotated while nothing stands still.
    """
    *others, last = settings.keys
    for key in others:
        try:
            return (yield from _mint(settings, key, env))
        except RedoxAuthError as error:
            yield Tell(f"Redox refused the key {key.kid}, the next one of the connection is tried: {error}")
    try:
        return (yield from _mint(settings, last, env))
    except RedoxAuthError as error:
        if last.remark:
            error.add_note(last.remark)
        if others:
            error.add_note(f"All keys of the connection were refused: {', '.join(str(key.kid) for key in settings.keys)}.")
        raise


def _mint(settings: Settings, key: SigningKey, env: Environment) -> Flow[Token]:
    def asserted(_renew: bool) -> Flow[Request]:  # noqa: FBT001
        signed = assertion.signing_input(
            client_id=settings.client_id,
            audience=settings.audience,
            kid=key.kid or "",
            algorithm=key.algorithm,
            now=env.now(),
            jti=env.new_jti(),
        )
        signature: bytes = yield Sign(signed, key.kid)
        body = token_form(assertion=assertion.assemble(signed, signature), scope=settings.scope)
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        return Request("POST", settings.auth_url, TOKEN_LABEL, headers, body)

    def read(response: RedoxResponse) -> Token:
        return parse_token(response.json(), now=env.now())

    def refused(response: RedoxResponse) -> Token:
        raise failures.token_refusal(response, now=env.now())

    turn = Turn(for_token=True)
    return (yield from _persist(asserted, read, turn=turn, repeatable=True, env=env, refused=refused, renewable=False))


def _persist(
    prepare: Callable[[bool], Flow[Request]],
    read: Reader[T],
    *,
    turn: Turn,
    repeatable: bool,
    env: Environment,
    refused: Reader[T],
    renewable: bool = True,
) -> Flow[T]:
    """Try until the outcome table says that it is over. `prepare` makes the request anew for each try."""
    started: float | None = None
    attempt, renewed, renew = 1, not renewable, False
    while True:
        yield turn
        started = env.monotonic() if started is None else started
        request = yield from prepare(renew)
        happened = _said((yield Send(request, attempt)))
        step = decide(happened, repeatable=repeatable)
        unreadable: RedoxError | None = None
        if isinstance(happened, RedoxResponse) and 200 <= happened.status < 300:
            judged = _judged(read if step is Step.DONE else _not_whole, happened, repeatable=repeatable)
            if not isinstance(judged, _Unreadable):
                env.budget.earn(turn.destination)
                return judged
            unreadable, step = judged.error, judged.step
        renew = step is Step.RENEW and not renewed
        if renew:
            renewed = True
            continue
        if step is Step.RETRY:
            elapsed = env.monotonic() - started
            pause = env.retry.pause(happened, attempt=attempt, elapsed=elapsed, now=env.now(), jitter=env.jitter())
            # A 429 costs no retry: it is the pace that keeps it from becoming a storm.
            if pause is not None and (happened.status == 429 or env.budget.spend(turn.destination)):
                yield Wait(pause)
                attempt += 1
                continue
        if step is Step.AMBIGUOUS:
            yield Count(Metric.AMBIGUOUS)
            raise failures.ambiguous(happened, request.label, unreadable)
        if unreadable is not None:
            raise unreadable
        if isinstance(happened, RedoxResponse):
            return refused(happened)
        raise failures.no_answer(happened, request.label, attempt)


def _said(happened: Happened) -> Happened:
    """Return the refusal of an error status, even if its body could not be received."""
    if isinstance(happened, RedoxResponse) or happened.status < 300:
        return happened
    return RedoxResponse(happened.status, happened.headers)


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """A success status whose body was not what was promised, and what follows."""

    error: RedoxError
    step: Step


def _judged(read: Reader[T], response: RedoxResponse, *, repeatable: bool) -> T | _Unreadable:
    """Give what `read` makes of a success; a failure of the destination that may pass is for another try, where allowed."""
    try:
        return read(response)
    except RedoxAmbiguousOutcomeError as error:  # taken in part: again would be twice, whoever lets it be repeated
        return _Unreadable(error, Step.AMBIGUOUS)
    except RedoxProtocolError as error:
        again = UNREADABLE.repeatable if error.retryable else Step.FAIL
        return _Unreadable(error, again if repeatable else UNREADABLE.unsafe)
    except RedoxDestinationError as error:
        if not (repeatable and error.retryable):
            raise
        return _Unreadable(error, Step.RETRY)
