"""The blocking driver, over urllib3."""

from __future__ import annotations

import contextvars
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from airflow_provider_redox.client import network
from airflow_provider_redox.client.bodies import ACCEPTED, CHUNK, Body, Oversize, Undecodable
from airflow_provider_redox.client.driver import Driver, explain
from airflow_provider_redox.protocol.effects import (
    Bearer,
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
    Wait,
)
from airflow_provider_redox.protocol.exchange import obtain

T = TypeVar("T")

_bytes_left: contextvars.ContextVar[bool] = contextvars.ContextVar("redox_bytes_left", default=False)
_sending: contextvars.ContextVar[bool] = contextvars.ContextVar("redox_sending", default=False)


class SyncClient(Driver):
    """Drives flows to their end, blocking. One pool of connections, shared by the threads that use the client."""

    def __init__(self, *args: Any, sleep: Callable[[float], None] = time.sleep, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sleep = sleep
        self._pools: dict[str | None, urllib3.PoolManager] = {}

    def run(self, flow: Flow[T]) -> T:
        """Do what the flow asks, and give its answer."""
        happened: Any = None
        try:
            while True:
                happened = self.perform(flow.send(happened))
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
                self._sleep(self.pace.reserve())
                return self.noted(request, attempt, self._send(request))
            case Wait(seconds):
                return self._sleep(seconds)
            case Bearer(refused):
                return self._bearer(refused)
            case Recall(place):
                return self.tokens[place].load()
            case Remember(place, token):
                return self.tokens[place].save(token)
            case Sign(message):
                return self.sign(message)

    def _bearer(self, refused: str | None) -> str:
        fresh = self.token_at_hand(refused)
        if fresh is None:
            with self.lock:
                fresh = self.run(obtain(self.settings, refused, env=self.env))
        return fresh.value

    def _send(self, request: Request) -> Happened:
        _sending.set(True)
        _bytes_left.set(False)
        response: urllib3.BaseHTTPResponse | None = None
        try:
            response = self._pool(request.url).urlopen(
                request.method,
                request.url,
                body=request.body,
                headers={**self.own_headers, "accept-encoding": ACCEPTED, **request.headers},
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
            return self._read(response)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return _failure(error, response)
        finally:
            _sending.set(False)

    def _read(self, response: urllib3.BaseHTTPResponse) -> Happened:
        headers = {name.lower(): value for name, value in response.headers.items()}
        try:
            body = Body(headers.get("content-encoding"), limit=self.body_limit)
            deadline = self.env.monotonic() + self.settings.timeout * 2
            for chunk in response.stream(CHUNK, decode_content=False):
                body.feed(chunk)
                if self.env.monotonic() > deadline:
                    response.close()
                    return Failure(Stage.CUT, "the body came too slowly", response.status, headers)
            answer = RedoxResponse(response.status, headers, body.whole())
        except Oversize:
            response.close()
            return Failure(Stage.OVERSIZE, f"more than {self.body_limit} bytes", response.status, headers)
        except Undecodable as error:
            response.close()
            return Failure(Stage.CUT, f"the body cannot be read: {error}", response.status, headers)
        response.release_conn()
        return answer

    def _pool(self, url: str) -> urllib3.PoolManager:
        proxy = network.proxy_for(url)
        if proxy not in self._pools:
            self._pools[proxy] = _new_pool(proxy, self.settings.ca_file, self.settings.timeout)
        return self._pools[proxy]


def _new_pool(proxy: str | None, ca_file: str | None, timeout: float) -> urllib3.PoolManager:
    options: dict[str, Any] = {
        "maxsize": 16,
        "ssl_context": network.tls_context(ca_file),
        "timeout": urllib3.Timeout(connect=network.CONNECT_TIMEOUT, read=timeout),
    }
    if proxy is None:
        pool = urllib3.PoolManager(**options)
    else:
        auth = urllib3.util.parse_url(proxy).auth
        pool = urllib3.ProxyManager(
            proxy, proxy_headers=urllib3.make_headers(proxy_basic_auth=auth) if auth else None, **options
        )
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return pool


def _failure(error: Exception, response: urllib3.BaseHTTPResponse | None) -> Failure:
    """Say how far the request got."""
    if response is not None:
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Failure(Stage.CUT, explain(error), response.status, headers)
    if _bytes_left.get():
        return Failure(Stage.UNANSWERED, explain(error))
    return Failure(Stage.UNTRUSTED if "CERTIFICATE_VERIFY_FAILED" in str(error) else Stage.UNSENT, explain(error))


class _Watched:
    """A connection that notes when the first byte of a request has left, so that what was never sent may be repeated.

    The bytes of a CONNECT to a proxy, sent while the connection is being opened, do not count.
    """

    _opening = False

    def connect(self) -> None:
        self._opening = True
        try:
            super().connect()  # type: ignore[misc]
        finally:
            self._opening = False

    def send(self, data: Any) -> None:
        if getattr(self, "sock", None) is None and not self._opening:
            self.connect()
        if not self._opening:
            _bytes_left.set(True)
        super().send(data)  # type: ignore[misc]


class _Connection(_Watched, HTTPConnection):
    pass


class _TlsConnection(_Watched, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _NoAddresses(logging.Filter):
    """Keeps urllib3 from logging our URLs: a `next` link made by a server may hold a patient's name."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _sending.get()


logging.getLogger("urllib3.connectionpool").addFilter(_NoAddresses())
