"""The blocking driver, over urllib3."""

from __future__ import annotations

import contextvars
import http.client
import io
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import unquote

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
            for chunk in response.stream(CHUNK, decode_content=False):
                body.feed(chunk)
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
        login = urllib3.make_headers(proxy_basic_auth=unquote(auth)) if auth else None
        pool = urllib3.ProxyManager(proxy, proxy_headers=login, **options)
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


class _Deadlined(io.RawIOBase):
    """What comes off a socket until a deadline. A socket's own timeout starts anew with every byte that drips in."""

    def __init__(self, raw: Any, deadline: float) -> None:
        self._raw, self._deadline = raw, deadline
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > self._deadline:
            raise TimeoutError("timed out")
        count: int | None = self._raw.readinto(buffer)
        self.ended = count == 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer that has to be there, head and body, within twice the read timeout, and whose head has to be whole."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        deadline = time.monotonic() + 2 * (sock.gettimeout() or network.CONNECT_TIMEOUT)
        self._wire = _Deadlined(self.fp.detach(), deadline)
        self.fp: Any = io.BufferedReader(self._wire)

    def begin(self) -> None:
        super().begin()
        if self._wire.ended:  # http.client takes the end of the stream for the end of the headers
            raise http.client.RemoteDisconnected("the connection ended without response headers")

    def _read_status(self) -> tuple[str, int, str]:
        """Skip interim answers (RFC 9110 section 15.2); http.client skips 100 only and takes a 103 for the answer."""
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 101 < status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)


class _Watched:
    """A connection that notes when the first byte of a request has left, so that what was never sent may be repeated.

    The bytes of a CONNECT to a proxy, sent while the connection is being opened, do not count.
    """

    response_class: Any = _Answer
    sock: Any = None
    patience: float | None = None
    _opening = False

    def connect(self) -> None:
        self._opening = True
        try:
            super().connect()  # type: ignore[misc]
        finally:
            self._opening = False

    def send(self, data: Any) -> None:
        if self.sock is None and not self._opening:
            self.connect()
        if not self._opening:
            _bytes_left.set(True)
            self.sock.settimeout(self.patience)  # until now it was the one for connecting, too short for a large body
        super().send(data)  # type: ignore[misc]


class _Connection(_Watched, HTTPConnection):
    pass


class _TlsConnection(_Watched, HTTPSConnection):
    pass


class _Patient:
    """A pool whose connections wait for the read timeout while they send, too."""

    def _new_conn(self) -> Any:
        connection = super()._new_conn()  # type: ignore[misc]
        connection.patience = self.timeout.read_timeout  # type: ignore[attr-defined]
        return connection


class _Pool(_Patient, HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(_Patient, HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _NoAddresses(logging.Filter):
    """Keeps urllib3 from logging our URLs and what servers send: both may hold a patient's name."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _sending.get()


for _name in ("connectionpool", "connection", "response", "poolmanager"):
    logging.getLogger(f"urllib3.{_name}").addFilter(_NoAddresses())
