"""Write messages into an inbox: durably, once, and in the order of arrival.

The message is written first, under its log ID, unless there is already one with that ID; then its arrival. A process that
dies between the two has not acknowledged the message, so Redox sends it again, and the arrival is written then.

A reader passes over no arrival that becomes visible within `lateness` (two minutes) of the newest one. Two things hold that:
arrivals are named by `ArrivalClock`, which no clock that steps back and no restart on another machine turns back; and an
arrival that took longer than `LATE` to write is written again, under a later moment. Better twice than never.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import threading
import time
from collections.abc import Callable
from enum import StrEnum

from airflow_provider_redox.exceptions import RedoxProtocolError
from airflow_provider_redox.protocol.arrivals import Arrival, folder_of, stamp
from airflow_provider_redox.protocol.inbound import Identity, identify, is_redelivery, key_of_content
from airflow_provider_redox.storage.inbox.listing import OwnListing
from airflow_provider_redox.storage.inbox.place import InboxFiles, message_url

LATE = 30.0
ASKED_AGAIN_AFTER = 20.0
"""Seconds after which the newest arrival is looked up again: with `LATE`, well below a reader's `lateness`."""

_AHEAD = 60.0
_TRIES = 3
_LOCKS = 256

_log = logging.getLogger(__name__)


class Taken(StrEnum):
    """What became of a message.

    It is new; it was here before; a message with other content has its log ID, and both are kept; or it is not a message and
    was put into quarantine.
    """

    NEW = "new"
    AGAIN = "again"
    DIFFERS = "differs"
    MALFORMED = "malformed"


class ArrivalClock:
    """The moments of one feed's arrivals, which never go back: a hybrid logical clock.

    A moment is that of this machine's clock, or later than the newest arrival in the inbox where that clock is behind it: it
    was set back, or the receiver was restarted on a machine whose clock is behind, or another receiver's is ahead. Readers
    begin at the newest arrival that they know, so one with an earlier moment would never be read.

    :param newest: lists the inbox, and returns the moment of the newest arrival, 0 where there is none.
    """

    def __init__(self, newest: Callable[[], float]) -> None:
        self._newest = newest
        self._last = 0.0
        self._asked = float("-inf")
        self._lock = threading.Lock()

    def next(self) -> float:
        """Return a moment in seconds since 1970, later than any before. Raises what the store raises."""
        with self._lock:
            asked = time.monotonic()
            if asked - self._asked >= ASKED_AGAIN_AFTER:
                self._last = max(self._last, self._newest())
                self._asked = asked
                self._warn()
            self._last = max(time.time(), self._last + 1e-6)
            return self._last

    def _warn(self) -> None:
        ahead = self._last - time.time()
        if ahead > _AHEAD:
            _log.warning(
                "The newest arrival is %.0f s ahead of this machine's clock; set the clocks of all receivers. "
                "Nothing is lost meanwhile, and messages keep their order.",
                ahead,
            )


class Inbox:
    """One feed's inbox, as the receiver writes it. Can be used by many threads.

    :param root: its URL, without a slash at the end.
    """

    def __init__(self, files: InboxFiles, root: str) -> None:
        self._files, self._root = files, root
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._clock = ArrivalClock(OwnListing(files, root).newest)

    def take(self, body: bytes) -> Taken:
        """Write a message into the inbox durably. Raises the store's errors."""
        try:
            identity = identify(body)
        except RedoxProtocolError:
            digest = hashlib.sha256(body).hexdigest()
            self._files.keep_new(f"{self._root}/quarantine/{folder_of(stamp(time.time()))[:10]}/{digest}.bin", body)
            return Taken.MALFORMED
        with self._locks[hash(identity.key) % _LOCKS]:
            return self._keep(identity, body)

    def _keep(self, identity: Identity, body: bytes) -> Taken:
        if self._keep_as(identity, body):
            return Taken.NEW
        if is_redelivery(self._files.read(message_url(self._root, identity.key)) or b"", body):
            return Taken.AGAIN
        _log.warning("Log ID %s: another message is here under this ID; both are kept.", identity.key)
        other = dataclasses.replace(identity, key=key_of_content(identity.key, body))
        return Taken.DIFFERS if self._keep_as(other, body) else Taken.AGAIN

    def _keep_as(self, identity: Identity, body: bytes) -> bool:
        """Write a message under its key, and its arrival; return whether it is new."""
        if self._files.keep_new(message_url(self._root, identity.key), body):
            self._enter(identity)
            return True
        if not self._has_entered(identity):
            self._enter(identity)
        return False

    def _enter(self, identity: Identity) -> None:
        for _ in range(_TRIES):
            moment = self._clock.next()
            begun, wall = time.monotonic(), time.time()
            arrival = Arrival(stamp(moment), identity.data_model, identity.event_type, identity.source, identity.key)
            self._files.mark(f"{self._root}/arrivals/{arrival.folder}/{arrival.name}")
            # A machine that was suspended meanwhile may show it by one of its two clocks only.
            if max(time.monotonic() - begun, time.time() - wall) < LATE:
                return
        raise TimeoutError

    def _has_entered(self, identity: Identity) -> bool:
        """Look for the arrival of a message that is here, around the time that it was written."""
        written = self._files.changed(message_url(self._root, identity.key))
        if written is None:
            return False
        minutes = dict.fromkeys(folder_of(stamp(written + offset)) for offset in (0, LATE, 2 * LATE, -2 * LATE))
        ending = f"_{identity.data_model}_{identity.event_type}_{identity.source}_{identity.key}"
        return any(
            name.endswith(ending) for minute in minutes for name in self._files.names(f"{self._root}/arrivals/{minute}")
        )
