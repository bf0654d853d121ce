"""The awaiting driver, over aiohttp. Belongs to one event loop; close it there."""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, BinaryIO, TypeVar

import aiohttp
from asgiref.sync import sync_to_async
from yarl import URL

from airflow_provider_redox.client import network
from airflow_provider_redox.client.bodies import (
    ACCEPTED,
    CHUNK,
    NotTakenError,
    OversizeError,
    UndecodableError,
    body_of,
    headers_of,
    opened,
)
from airflow_provider_redox.client.driver import Driver, explain
from airflow_provider_redox.client.pacing import Held, Ticket
from airflow_provider_redox.protocol.effects import (
    Bearer,
    Count,
    Disclose,
    Effect,
    Failure,
    Flow,
    Happened,
    Recall,
    RedoxResponse,
    Remember,
    Request,
    Send,
    Sign,
    Stage,
    Tell,
    Turn,
    Wait,
)
from airflow_provider_redox.protocol.sharing import obtain

T = TypeVar("T")

AT_MOST = 16
"""Requests under way to a destination that names no limit: of coroutines there may be thousands."""

_loop_locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Lock]] = weakref.WeakKeyDictionary()


class AsyncClient(Driver):
    """Drives flows to their end, awaiting. Blocking work (the shared cache, the signature, the record) is for threads."""

    at_most = AT_MOST

    def __init__(self, *args: Any, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sleep = sleep
        self._http: aiohttp.ClientSession | None = None

    async def run(self, flow: Flow[T]) -> T:
        """Do what the flow asks, and give its answer."""
        with Held() as held:
            try:
                effect = next(flow)
                while True:
                    try:
                        happened = await self.perform(effect)
                    except Exception as error:  # noqa: BLE001  (the flow may know what to do without it; else it comes back)
                        effect = flow.throw(error)
                    else:
                        held.note(effect, happened)
                        effect = flow.send(happened)
            except StopIteration as end:
                answer: T = end.value
                return answer

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def perform(self, effect: Effect) -> Any:
        """Do one thing that a flow asks for, and give what came of it."""
        match effect:
            case Send(request, attempt):
                return self.noted(request, attempt, await self._send(request))
            case Turn():
                return await self._enter(effect)
            case Wait(seconds):
                return await self._sleep(self.waiting(seconds))
            case Bearer(refused):
                return await self._bearer(refused)
            case Recall(place):
                return await sync_to_async(self.slots[place].load)()
            case Remember(place, entry):
                return await sync_to_async(self.slots[place].save)(entry)
            case Sign(message, kid):
                return await asyncio.to_thread(self.sign, message, kid)
            case Tell() | Count():
                return self.tell(effect)
            case Disclose(disclosure, done, error):
                return await sync_to_async(self.recorder)(disclosure, done=done, error=error)

    async def _enter(self, turn: Turn) -> Ticket:
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(woken.set)

        with contextlib.closing(self.address.enter(self.wanted(turn), wake)) as steps:
            try:
                while True:
                    seconds, began = next(steps), time.monotonic()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(seconds):
                            await woken.wait()
                    woken.clear()
                    self.waiting(time.monotonic() - began)
            except StopIteration as end:
                ticket: Ticket = end.value
                return ticket

    async def _bearer(self, refused: str | None) -> str:
        fresh = self.token_at_hand(refused, busy=self._loop_lock().locked())
        if fresh is None:
            async with self._loop_lock():
                fresh = await self.run(obtain(self.settings, refused, env=self.env))
        return fresh.value

    def _loop_lock(self) -> asyncio.Lock:
        """One lock for each connection and event loop: triggers that miss the token together ask for it once."""
        locks = _loop_locks.setdefault(asyncio.get_running_loop(), {})
        return locks.setdefault(self.fingerprint, asyncio.Lock())

    async def _send(self, request: Request) -> Happened:
        with opened(request) if request.file is None else await asyncio.to_thread(opened, request) as body:
            try:
                async with asyncio.timeout(network.CONNECT_TIMEOUT + self.settings.timeout * 3):
                    return await self._exchange(request, body)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                return _failure(error)

    async def _exchange(self, request: Request, body: bytes | BinaryIO | None) -> Happened:
        async with self._session().request(
            request.method,
            URL(request.url, encoded=True),
            data=_payload(body),
            headers={**self.own_headers, "accept-encoding": ACCEPTED, **request.headers},
            allow_redirects=False,
            proxy=self.proxy_for(request.url),
        ) as response:
            return await self._read(request, response)

    async def _read(self, request: Request, response: aiohttp.ClientResponse) -> Happened:
        headers = headers_of(response.headers.items())
        try:
            async with asyncio.timeout(self.settings.timeout * 2):
                body = await self._aside(request, body_of, request, response.status, headers, self.body_limit)
                async for chunk in response.content.iter_chunked(CHUNK):
                    await self._aside(request, body.feed, chunk)
            return RedoxResponse(response.status, headers, body.whole())
        except OversizeError as error:
            response.close()
            return Failure(Stage.OVERSIZE, f"more than {error.limit} bytes", response.status, headers)
        except NotTakenError:
            response.close()
            raise
        except UndecodableError as error:
            response.close()
            return Failure(Stage.CUT, f"the body cannot be read: {error}", response.status, headers)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            response.close()
            return Failure(Stage.CUT, explain(error), response.status, headers)

    async def _aside(self, request: Request, work: Callable[..., T], *args: Any) -> T:
        """Do it here, or in a thread where it writes to storage."""
        return work(*args) if request.into is None else await asyncio.to_thread(work, *args)

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=network.tls_context(self.settings.ca_file), limit=0),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=network.CONNECT_TIMEOUT, sock_read=self.settings.timeout
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=("Content-Type",),
            )
            # aiohttp sends GET, PUT and DELETE a second time by itself when a connection breaks, and has no public switch.
            self._http._retry_connection = False  # noqa: SLF001
        return self._http


def _payload(body: bytes | BinaryIO | None) -> bytes | BinaryIO | None:
    """Hand large bodies over as a stream: aiohttp writes bytes in one go, which holds the event loop up, and warns."""
    return io.BytesIO(body) if isinstance(body, bytes) and len(body) > CHUNK else body


def _failure(error: Exception) -> Failure:
    """Say how far the request got. Whatever is not known to have failed before the first byte counts as sent."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Failure(Stage.UNTRUSTED, explain(error))
    unsent = (
        aiohttp.ClientConnectorError,
        aiohttp.ConnectionTimeoutError,
        aiohttp.ClientHttpProxyError,
        aiohttp.InvalidURL,
    )
    return Failure(Stage.UNSENT if isinstance(error, unsent) else Stage.UNANSWERED, explain(error))
