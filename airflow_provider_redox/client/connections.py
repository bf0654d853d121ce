"""urllib3's connections, made to keep what the driver promises.

They note when the first byte of a request has left; wait for the read timeout while they send, too; give an answer, head
and body, one deadline that no dripping byte moves; take no cut-off head and no interim answer for an answer; and log no
address.
"""

from __future__ import annotations

import contextlib
import contextvars
import http.client
import io
import logging
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from airflow_provider_redox.client import network

CONNECTIONS = 16
"""Connections that one client keeps open."""

_sending: contextvars.ContextVar[bool] = contextvars.ContextVar("redox_sending", default=False)
_bytes_left: contextvars.ContextVar[bool] = contextvars.ContextVar("redox_bytes_left", default=False)


@contextlib.contextmanager
def sending() -> Iterator[None]:
    """Mark a request as under way in this thread: nothing of it is logged, and `bytes_left` tells how far it got."""
    _bytes_left.set(False)
    _sending.set(True)
    try:
        yield
    finally:
        _sending.set(False)


def bytes_left() -> bool:
    """Say whether the first byte of this thread's request has left."""
    return _bytes_left.get()


def new_pool(proxy: str | None, ca_file: str | None, timeout: float) -> urllib3.PoolManager:
    """Make a pool of connections, by way of a proxy if one is named. Timeouts in seconds."""
    options: dict[str, Any] = {
        "maxsize": CONNECTIONS,
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

    def filter(self, _record: logging.LogRecord) -> bool:
        """Let through what is said while no request of ours is under way."""
        return not _sending.get()


for _name in ("connectionpool", "connection", "response", "poolmanager"):
    logging.getLogger(f"urllib3.{_name}").addFilter(_NoAddresses())
