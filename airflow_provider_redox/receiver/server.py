"""The server: uvicorn, and a bound on what it would hold of a request's head, and for how long."""

from __future__ import annotations

import asyncio
import logging.config
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from airflow_provider_redox.receiver.app import Receiver
from airflow_provider_redox.receiver.settings import ReceiverSettings

APPLICATION = "airflow_provider_redox.receiver.server:application"
_LONGEST_HEAD = 32 * 1024
_LONGEST_TRAILERS = 4 * 1024
_HEAD_SECONDS = 10.0
_CONNECTIONS = 1000


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's own, which takes a head of any size and waits for it for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._head = 0
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._head_deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, unless the head has become too long, or too much came in a row that was no body.

        The latter is a trailer without an end, which the parser would gather before it tells of it.
        """
        self._head += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._head > _LONGEST_HEAD:
            self.send_400_response("The head of the request is too long.")
        elif not self._in_head and self._head > _LONGEST_TRAILERS:
            self.transport.close()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body, whose size the application bounds."""
        self._head = 0
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """Stop waiting: from here on the application bounds size and time."""
        self._in_head, self._head = False, 0
        self._head_deadline.cancel()
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; of those that follow a body, the trailers, nobody wants any."""
        if self._in_head:
            super().on_header(name, value)
            return
        self._head += len(name) + len(value)
        if self._head > _LONGEST_TRAILERS and not self.transport.is_closing():
            self.transport.close()

    def on_message_begin(self) -> None:
        """Begin to wait for the next head of the same connection."""
        super().on_message_begin()
        if not self._in_head:
            self._await_head()

    def _await_head(self) -> None:
        self._in_head = True
        self._head_deadline = self.loop.call_later(_HEAD_SECONDS, self.transport.close)


def serve(host: str, port: int, *, workers: int) -> None:
    """Serve until told to stop. uvicorn's access log would show queries, so there is none: the application has its own."""
    uvicorn.run(
        APPLICATION,
        factory=True,
        host=host,
        port=port,
        workers=workers,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=30,
        server_header=False,
        proxy_headers=False,
    )


def application() -> Receiver:
    """Make the application of a process that serves nothing else, its log on stderr.

    The inbox is opened here, because Airflow, when it is asked for a connection, sets up a logging of its own.
    """
    settings = ReceiverSettings.from_environment()
    receiver = Receiver(settings)
    with ThreadPoolExecutor(1) as apart:  # some drivers start an event loop of their own, and this thread has one
        apart.submit(receiver.open).result()
    logging.config.dictConfig(_logging(settings.log_level))
    return receiver


def _logging(level: str) -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "airflow_provider_redox": {"level": level.upper()},
            "uvicorn": {"level": level.upper()},
            "uvicorn.access": {"level": "CRITICAL", "propagate": False},  # it shows queries
        },
    }
