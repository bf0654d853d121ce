"""The receiver's way to the inbox: storage in threads, none of it waited for longer than Redox would wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from airflow_provider_redox.receiver.settings import ReceiverSettings
from airflow_provider_redox.storage.inbox.arriving import Inbox, Taken
from airflow_provider_redox.storage.inbox.place import InboxFiles

_log = logging.getLogger(__name__)
_THREADS = 16
_BETWEEN_PROBES = 5.0
_PROBE = b"Written by the receiver to see whether it can.\n" * 100  # an empty file fits on a full disk
_T = TypeVar("_T")


class Store:
    """The inboxes of all feeds.

    `healthy` is whether the last write succeeded.
    """

    def __init__(self, settings: ReceiverSettings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="redox-inbox")
        self._free = asyncio.Semaphore(_THREADS)
        self._files: InboxFiles | None = None
        self._inboxes: dict[str, Inbox] = {}
        self._probed = 0.0
        self.healthy = False

    async def take(self, feed: str, body: bytes) -> Taken | None:
        """Put a message into a feed's inbox; None when the storage does not take it in time."""
        return await self._do(lambda: self._inbox(feed).take(body))

    async def check(self) -> bool:
        """Return whether the inbox can be written, by writing a small file at most every few seconds."""
        now = time.monotonic()
        if not self._probed or now - self._probed >= _BETWEEN_PROBES:
            self._probed = now
            await self._do(self._probe)
        return self.healthy

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _do(self, work: Callable[[], _T]) -> _T | None:
        try:
            async with asyncio.timeout(self._settings.storage_seconds):
                result = await self._in_thread(work)
        except Exception as error:  # noqa: BLE001  (each store has errors of its own; Redox keeps what is not taken)
            self.healthy = False
            code = getattr(error, "errno", None)
            _log.error("The inbox could not be written (%s%s).", type(error).__name__, f", errno {code}" if code else "")
            return None
        self.healthy = True
        return result

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        """Do it in a thread that is free. Nothing waits in the threads' own queue, where it would outlive its request."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        done = self._threads.submit(work)
        done.add_done_callback(lambda _: self._freed(loop))
        return await asyncio.wrap_future(done)

    def _freed(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the server has stopped
            loop.call_soon_threadsafe(self._free.release)

    def _probe(self) -> None:
        self.open().write(f"{self._settings.inbox}/_health", _PROBE)

    def _inbox(self, feed: str) -> Inbox:
        inbox = self._inboxes.get(feed)
        if inbox is None:
            inbox = self._inboxes.setdefault(feed, Inbox(self.open(), f"{self._settings.inbox}/{feed}"))
        return inbox

    def open(self) -> InboxFiles:
        """Give the files of the inbox, with the credentials of the connection that it names."""
        if self._files is None:
            self._files = InboxFiles(self._settings.inbox, self._settings.storage_options)
        return self._files
