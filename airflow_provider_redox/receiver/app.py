"""The receiver as an ASGI application: who may say something, what is taken, and what is answered.

In the order of what it costs: the path and the token in the headers are looked at before a byte of a body is read. Nobody
without a token gets more than 4 KB read, which is what a challenge needs. An answer never says what was wrong with a token.
The log has the feed, the status, a size and a duration: no path, no query, no header, no body.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_redox.protocol import inbound
from airflow_provider_redox.receiver.metrics import Metrics
from airflow_provider_redox.receiver.settings import ReceiverSettings
from airflow_provider_redox.receiver.store import Store
from airflow_provider_redox.storage.inbox.arriving import Taken

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_log = logging.getLogger(__name__)
_FEED = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_OWN = ("health", "metrics")
_STRANGER_SECONDS = 5.0
_LEAST = 4096  # bytes that a request counts for, however small it is


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered, and how it is counted. `ends` closes the connection: what follows on it is not read."""

    status: int
    outcome: str
    text: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    ends: bool = False


REFUSED = Answer(401, "unauthorised", headers=((b"www-authenticate", b"Bearer"),), ends=True)
NOT_FOUND = Answer(404, "unknown_path", ends=True)
TOO_LARGE = Answer(413, "too_large", ends=True)
TOO_SLOW = Answer(408, "too_slow", ends=True)
BUSY = Answer(503, "busy", headers=((b"retry-after", b"5"),), ends=True)
HEALTHY = Answer(200, "healthy", "ok", ends=True)  # a stranger keeps no connection
UNHEALTHY = Answer(503, "unhealthy", "the inbox cannot be written", ends=True)
UNAVAILABLE = Answer(503, "storage", headers=((b"retry-after", b"10"),))


class _EndError(Exception):
    """The request is answered with this, or, with None, the client has left."""

    def __init__(self, answer: Answer | None) -> None:
        super().__init__()
        self.answer = answer


@dataclass(slots=True)
class Call:
    """One request as it comes. `trusted` says that it has shown a token."""

    scope: Scope
    receive: Receive
    feed: str
    size: int = 0
    trusted: bool = False
    begun: float = field(default_factory=time.monotonic)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names in lower case, with values, in their order."""
        return list(self.scope["headers"])

    def header(self, name: bytes) -> bytes:
        """Give the one header of a name; it ends the request if it stands twice."""
        found = [value for key, value in self.headers if key == name]
        if len(found) > 1:
            raise _EndError(Answer(400, "malformed_request", ends=True))
        return found[0] if found else b""

    @property
    def names_a_token(self) -> bool:
        """Whether a header claims to hold a token."""
        return any(name in (b"authorization", b"verification-token") for name, _ in self.headers)


class Receiver:
    """The application. It can be mounted anywhere below another one."""

    def __init__(self, settings: ReceiverSettings) -> None:
        self._settings = settings
        self._store = Store(settings)
        self._metrics = Metrics()
        self._pending = 0
        self._allowance = _Allowance(settings.per_second)

    def open(self) -> None:
        """Open the inbox now rather than with the first message. Raises `RedoxConfigError` when its driver is missing."""
        self._store.open()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the beginning and end of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._store.check()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._store.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"]).removeprefix(scope.get("root_path") or "").strip("/") or "default"
        call = Call(scope, receive, path if _FEED.fullmatch(path) else "-")
        try:
            answer = await self._answer(call)
        except _EndError as end:
            if end.answer is None:
                self._metrics.requests[_counted_as(call), "gone"] += 1
                return
            answer = end.answer
        self._tell(call, answer)
        await _send(answer, send, head=scope["method"] == "HEAD")

    async def _answer(self, call: Call) -> Answer:
        method = call.scope["method"]
        if call.feed in _OWN and method in ("GET", "HEAD"):
            return await self._own(call)
        if call.feed == "-" or call.feed in _OWN:
            return NOT_FOUND
        if method == "GET":
            return self._challenged(call, inbound.challenge_of_query(call.scope["query_string"]))
        if method != "POST":
            return Answer(405, "method", headers=((b"allow", b"GET, POST"),), ends=True)
        if call.scope["query_string"]:
            return Answer(400, "query", "Nothing may stand in the query.", ends=True)
        return await self._posted(call)

    async def _own(self, call: Call) -> Answer:
        if call.feed == "health":
            healthy = await self._store.check()
            return HEALTHY if healthy else UNHEALTHY
        allowed = self._settings.metrics_token
        if allowed is None or not allowed.authorise(call.headers):
            return NOT_FOUND if allowed is None else REFUSED
        return Answer(200, "metrics", self._metrics.text(pending_bytes=self._pending, healthy=self._store.healthy))

    def _challenged(self, call: Call, asked: inbound.Challenge | None) -> Answer:
        if asked is None or not self._settings.tokens.take(asked.token):
            return REFUSED
        call.trusted = True
        return Answer(200, "challenge", asked.challenge)

    async def _posted(self, call: Call) -> Answer:
        length = call.header(b"content-length") or b"0"
        if not length.isdigit() or call.header(b"content-encoding").lower() not in (b"", b"identity"):
            return Answer(415, "encoding", "A body must be sent as it is, not compressed.", ends=True)
        if not call.names_a_token:
            return await self._from_stranger(call, int(length[:20]))
        if not self._settings.tokens.authorise(call.headers):
            return REFUSED
        call.trusted = True
        if int(length[:20]) > self._settings.max_bytes:
            return TOO_LARGE
        if not self._allowance.take():
            return Answer(429, "too_many", headers=((b"retry-after", b"1"),), ends=True)
        return await self._from_redox(call)

    async def _from_stranger(self, call: Call, length: int) -> Answer:
        """Without a token in its headers, a request can only be a challenge, which has it in its body."""
        if length > inbound.LONGEST_CHALLENGE_BODY:
            return REFUSED
        try:
            body = await self._body(call, inbound.LONGEST_CHALLENGE_BODY, _STRANGER_SECONDS)
        except _EndError as end:
            raise _EndError(end.answer and REFUSED) from None
        return self._challenged(call, inbound.challenge_of_body(body))

    async def _from_redox(self, call: Call) -> Answer:
        self._pending += _LEAST
        try:
            body = await self._body(call, self._settings.max_bytes, self._settings.body_seconds)
            asked = inbound.challenge_of_body(body)
            return self._challenged(call, asked) if asked else await self._store_it(call, body)
        finally:
            self._pending -= _LEAST + call.size

    async def _store_it(self, call: Call, body: bytes) -> Answer:
        begun = time.monotonic()
        taken = await self._store.take(call.feed, body)
        if taken is None:
            return UNAVAILABLE
        self._metrics.stored(time.monotonic() - begun, len(body))
        if taken is Taken.MALFORMED and self._settings.refuse_malformed:
            return Answer(400, "malformed", "Neither a Data Model message nor a FHIR Bundle.")
        return Answer(200, taken.value)

    async def _body(self, call: Call, limit: int, seconds: float) -> bytes:
        """Read a body, of so many bytes and within so many seconds at most."""
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(seconds):
                while True:
                    event = await call.receive()
                    if event["type"] == "http.disconnect":
                        raise _EndError(None)
                    chunks.append(event.get("body", b""))
                    self._count(call, len(chunks[-1]), limit)
                    if not event.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError:
            raise _EndError(TOO_SLOW) from None

    def _count(self, call: Call, size: int, limit: int) -> None:
        call.size += size
        if call.trusted:  # whoever gives it back gives back all of call.size
            self._pending += size
        if call.size > limit:
            raise _EndError(TOO_LARGE)
        if call.trusted and self._pending > self._settings.max_pending_bytes:
            raise _EndError(BUSY)

    def _tell(self, call: Call, answer: Answer) -> None:
        self._metrics.requests[_counted_as(call), answer.outcome] += 1
        level = logging.DEBUG if call.feed in _OWN else logging.INFO
        taken = (time.monotonic() - call.begun) * 1000
        _log.log(
            level,
            "feed=%s status=%d outcome=%s bytes=%d ms=%.1f",
            call.feed,
            answer.status,
            answer.outcome,
            call.size,
            taken,
        )


def _counted_as(call: Call) -> str:
    """Name the feed under which a request is counted: one that a stranger made up would be counted, and kept, for ever."""
    return call.feed if call.trusted and call.feed not in _OWN else "-"


class _Allowance:
    """So many a second, and as many at once."""

    def __init__(self, per_second: float) -> None:
        self._rate = self._left = per_second
        self._at = time.monotonic()

    def take(self) -> bool:
        if not self._rate:
            return True
        now = time.monotonic()
        self._left = min(max(self._rate, 1), self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


async def _send(answer: Answer, send: Send, *, head: bool) -> None:
    body = answer.text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        *answer.headers,
    ]
    if answer.ends:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})


def from_environment() -> Receiver:
    """Make the application of this process's environment, as a server's factory."""
    return Receiver(ReceiverSettings.from_environment())
