"""Taking a message into an inbox: durable when it is said to be, written once, in the order of arrival.

The message is written first, under its log ID, and only if there is none of that ID; then its arrival. A process that dies
between the two has not said that it took the message, so Redox sends it again, and the arrival is written then.

The one who looks for arrivals passes over none that becomes visible within two minutes of the moment in its name. So an
arrival that took longer than `LATE` to write is written again, under a later moment: better twice than never.
"""

from __future__ import annotations

import hashlib
import threading
import time
from enum import StrEnum

from airflow_provider_redox.exceptions import RedoxProtocolError
from airflow_provider_redox.protocol.arrivals import Arrival, folder_of, stamp
from airflow_provider_redox.protocol.inbound import Identity, identify
from airflow_provider_redox.storage.inbox.place import InboxFiles, message_url

LATE = 30.0
_TRIES = 3
_LOCKS = 256


class Taken(StrEnum):
    """What became of a message: it is new, it was here before, or it is none and was put aside."""

    NEW = "new"
    AGAIN = "again"
    MALFORMED = "malformed"


class Inbox:
    """One feed's inbox, as the receiver writes it. Can be used by many threads.

    :param root: its URL, without a slash at the end.
    """

    def __init__(self, files: InboxFiles, root: str) -> None:
        self._files, self._root = files, root
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._last = 0.0
        self._clock = threading.Lock()

    def take(self, body: bytes) -> Taken:
        """Put a message into the inbox; when this returns, it is there to stay. Raises what the store raises."""
        try:
            identity = identify(body)
        except RedoxProtocolError:
            digest = hashlib.sha256(body).hexdigest()
            self._files.keep_new(f"{self._root}/quarantine/{folder_of(self._stamp())[:10]}/{digest}.bin", body)
            return Taken.MALFORMED
        with self._locks[hash(identity.key) % _LOCKS]:
            if self._files.keep_new(message_url(self._root, identity.key), body):
                self._enter(identity)
                return Taken.NEW
            if not self._has_entered(identity):
                self._enter(identity)
            return Taken.AGAIN

    def _enter(self, identity: Identity) -> None:
        for _ in range(_TRIES):
            begun = time.monotonic()
            arrival = Arrival(self._stamp(), identity.data_model, identity.event_type, identity.source, identity.key)
            self._files.mark(f"{self._root}/arrivals/{arrival.folder}/{arrival.name}")
            if time.monotonic() - begun < LATE:
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

    def _stamp(self) -> str:
        """Give the moment, later than any other given by this process: names that are equal would not be in order."""
        with self._clock:
            self._last = max(time.time(), self._last + 1e-6)
            return stamp(self._last)
