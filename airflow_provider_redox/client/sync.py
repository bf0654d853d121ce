"""The blocking driver, over urllib3."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import urllib3

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
from airflow_provider_redox.client.connections import bytes_left, new_pool, sending
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


class SyncClient(Driver):
    """Drives flows to their end, blocking. One pool of connections, shared by the threads that use the client."""

    def __init__(self, *args: Any, sleep: Callable[[float], None] = time.sleep, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sleep = sleep
        self._pools: dict[str | None, urllib3.PoolManager] = {}

    def run(self, flow: Flow[T]) -> T:
        """Do what the flow asks, and give its answer."""
        with Held() as held:
            try:
                effect = next(flow)
                while True:
                    try:
                        happened = self.perform(effect)
                    except Exception as error:  # noqa: BLE001  (the flow may know what to do without it; else it comes back)
                        effect = flow.throw(error)
                    else:
                        held.note(effect, happened)
                        effect = flow.send(happened)
            except StopIteration as end:
                answer: T = end.value
                return answer

    def close(self) -> None:
        """Close the connections."""
        for pool in self._pools.values():
            pool.clear()
        self._pools.clear()

    def perform(self, effect: Effect) -> Any:
        """Do one thing that a flow asks for, and give what came of it."""
        match effect:
            case Send(request, attempt):
                return self.noted(request, attempt, self._send(request))
            case Turn():
                return self._enter(effect)
            case Wait(seconds):
                return self._sleep(self.waiting(seconds))
            case Bearer(refused):
                return self._bearer(refused)
            case Recall(place):
                return self.slots[place].load()
            case Remember(place, entry):
                return self.slots[place].save(entry)
            case Sign(message, kid):
                return self.sign(message, kid)
            case Tell() | Count():
                return self.tell(effect)
            case Disclose(disclosure, done, error):
                return self.recorder(disclosure, done=done, error=error)

    def _enter(self, turn: Turn) -> Ticket:
        woken = threading.Event()
        with contextlib.closing(self.address.enter(self.wanted(turn), woken.set)) as steps:
            try:
                while True:
                    seconds, began = next(steps), time.monotonic()
                    woken.wait(seconds)
                    woken.clear()
                    self.waiting(time.monotonic() - began)
            except StopIteration as end:
                ticket: Ticket = end.value
                return ticket

    def _bearer(self, refused: str | None) -> str:
        fresh = self.token_at_hand(refused, busy=self.lock.locked())
        if fresh is None:
            with self.lock:
                fresh = self.run(obtain(self.settings, refused, env=self.env))
        return fresh.value

    def _send(self, request: Request) -> Happened:
        response: urllib3.BaseHTTPResponse | None = None
        with sending(), opened(request) as body:
            try:
                response = self._pool(request.url).urlopen(
                    request.method,
                    request.url,
                    body=body,
                    headers={**self.own_headers, "accept-encoding": ACCEPTED, **request.headers},
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                )
                return self._read(request, response)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                return _failure(error, response)

    def _read(self, request: Request, response: urllib3.BaseHTTPResponse) -> Happened:
        headers = headers_of(response.headers.items())
        try:
            body = body_of(request, response.status, headers, self.body_limit)
            for chunk in response.stream(CHUNK, decode_content=False):
                body.feed(chunk)
            answer = RedoxResponse(response.status, headers, body.whole())
        except OversizeError as error:
            response.close()
            return Failure(Stage.OVERSIZE, f"more than {error.limit} bytes", response.status, headers)
        except NotTakenError:
            response.close()
            raise
        except UndecodableError as error:
            response.close()
            return Failure(Stage.CUT, f"the body cannot be read: {error}", response.status, headers)
        response.release_conn()
        return answer

    def _pool(self, url: str) -> urllib3.PoolManager:
        proxy = self.proxy_for(url)
        if proxy not in self._pools:
            self._pools[proxy] = new_pool(proxy, self.settings.ca_file, self.settings.timeout)
        return self._pools[proxy]


def _failure(error: Exception, response: urllib3.BaseHTTPResponse | None) -> Failure:
    """Say how far the request got."""
    if response is not None:
        headers = headers_of(response.headers.items())
        return Failure(Stage.CUT, explain(error), response.status, headers)
    if bytes_left():
        return Failure(Stage.UNANSWERED, explain(error))
    return Failure(Stage.UNTRUSTED if "CERTIFICATE_VERIFY_FAILED" in str(error) else Stage.UNSENT, explain(error))
