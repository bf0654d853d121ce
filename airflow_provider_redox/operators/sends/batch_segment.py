"""One segment of a batch on its way: side by side, in order where one is asked for, its results written as they come."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.exceptions import (
    RedoxAuthError,
    RedoxConfigError,
    RedoxError,
    RedoxSecurityError,
    RedoxSupersededError,
    RedoxTransportError,
)
from airflow_provider_redox.operators.sends.batch_messages import Message
from airflow_provider_redox.operators.sends.claiming import KeyConflictError
from airflow_provider_redox.operators.sends.posting import Posting
from airflow_provider_redox.operators.sends.turns import Turns
from airflow_provider_redox.protocol.effects import Wait
from airflow_provider_redox.storage.send_batch import MessageRecord

_log = logging.getLogger(__name__)

FLUSH = 10.0
"""Seconds after which results are written while a segment is on its way."""

GRACE = 10.0
"""Seconds that what is under way gets when the task is ended from outside."""

LAST_START = 2400.0
"""Seconds after a segment's intents at which nothing of it is begun any more: what is sent is sent within the hour."""

LOOK_AGAIN = 5.0
"""Seconds after which a try checks again whether a later try took over. The clock also counts the time of a freeze."""

PAUSES = (1.0, 5.0)
"""Seconds between the tries to write results that a store did not take."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How many messages a destination takes at once; its UUIDs have it in common."""

    name: str
    most: int


@dataclass(slots=True)
class Breaker:
    """Ends a batch where going on would only leave more messages unsent or unknown.

    :param after: so many failures in a row end it; a refused key does at once.
    :param cause: why it was ended.
    """

    after: int
    cause: Exception | None = None
    _row: int = 0

    def seen(self, record: MessageRecord, error: Exception | None) -> None:
        """Look at what became of a message that was begun in this try."""
        if record.begun:
            self._row = self._row + 1 if record.outcome in ("unsent", "ambiguous") else 0
        hopeless = isinstance(error, RedoxAuthError | RedoxConfigError | RedoxSecurityError | RedoxSupersededError)
        if error is not None and (hopeless or not isinstance(error, RedoxError) or self._row >= self.after):
            self.cause = self.cause or error


@dataclass(slots=True, eq=False)
class Due:
    """A message of the segment, and what it needs.

    :param posting: what sends it; None when it is not to be sent.
    :param settled: whether messages after it may go: it is accepted, refused for good, or cannot be sent.
    :param kept: an earlier try's line, which stays when nothing is done about it now.
    """

    message: Message
    record: MessageRecord
    posting: Posting | None
    settled: bool
    kept: bytes | None = None


@dataclass(slots=True)
class SegmentRun:
    """The sending of one segment.

    :param limits: of destinations that have one, by UUID.
    :param held: ordering keys of messages that are not settled; shared by all segments.
    :param note: writes the lines that are given.
    :param on_refused: `fail` or `record`; see the operator.
    :param later: returns whether a later try has stored its intent to send this segment.
    """

    client: SyncClient
    pool: ThreadPoolExecutor
    width: int
    limits: Mapping[str, Limit]
    held: set[str]
    breaker: Breaker
    note: Callable[[Iterable[bytes]], None]
    on_refused: str
    begun: float
    later: Callable[[], bool] = lambda: False
    ending: threading.Event = field(default_factory=threading.Event)
    _running: dict[Future[Exception | None], Due] = field(default_factory=dict)
    _noted: float = 0.0
    _looked: float = 0.0
    _overtaken: bool = False

    def may_begin(self) -> bool:
        """Say whether a message may still leave."""
        return not self.ending.is_set() and self.breaker.cause is None

    def is_overtaken(self) -> bool:
        """Return whether a later try sends this segment now; storage is read again only after some seconds."""
        now = self.client.env.now()
        if not self._overtaken and abs(now - max(self._looked, self.begun)) >= LOOK_AGAIN:
            self._overtaken = self.later()
            self._looked = now
        return self._overtaken

    def run(self, items: Sequence[Due]) -> None:
        """Send what is to be sent. Every item has its line then, unless this raises."""
        turns: Turns[Due] = Turns({limit.name: limit.most for limit in self.limits.values()})
        for item in items:
            turns.add(item, keys=item.message.keys, places=self._places(item))
        self._noted = self.client.env.monotonic()
        try:
            while turns or self._running:
                self._start(turns)
                self._collect(turns, items)
        except BaseException:
            self._end(items)
            raise
        self._write(items)

    def _places(self, item: Due) -> tuple[str, ...]:
        places = (place.lower() for place in item.message.places)
        limited = {self.limits[place].name for place in places if place in self.limits}
        return tuple(limited) if item.posting is not None else ()

    def _start(self, turns: Turns[Due]) -> None:
        while len(self._running) < self.width and (item := turns.next()) is not None:
            if item.posting is not None and self._goes(item):
                self._running[self.pool.submit(_post, item.posting, item.record)] = item
                continue
            if item.kept is not None:
                item.record.kept(item.kept)
            elif not item.record.line:
                item.record.left(_held(item) if item.message.order in self.held else None)
            self._settle(item)
            turns.done(item)

    def _goes(self, item: Due) -> bool:
        late = self.client.env.now() - self.begun > LAST_START
        return self.may_begin() and not late and item.message.order not in self.held

    def _collect(self, turns: Turns[Due], items: Sequence[Due]) -> None:
        done, _ = wait(self._running, timeout=FLUSH, return_when=FIRST_COMPLETED)
        for future in done:
            item = self._running.pop(future)
            error = future.result()  # raises what ends a process
            item.settled = item.record.outcome == "accepted" or (
                item.record.outcome == "refused" and self.on_refused == "record"
            )
            self.breaker.seen(item.record, error)
            self._settle(item)
            turns.done(item)
        if self.client.env.monotonic() - self._noted >= FLUSH:
            self._noted = self.client.env.monotonic()
            self._flush(items)

    def _settle(self, item: Due) -> None:
        if not item.settled and item.message.order is not None:
            self.held.add(item.message.order)

    def _flush(self, items: Sequence[Due]) -> None:
        """Write what is known so far. A store that fails now is asked again when the segment has ended."""
        try:
            self.note(_lines(items))
        except Exception:  # noqa: BLE001  (each store has errors of its own)
            _log.warning("The results so far could not be written; trying again later.", exc_info=True)

    def _write(self, items: Sequence[Due]) -> None:
        for pause in (*PAUSES, None):
            try:
                self.note(_lines(items))
            except Exception:
                if pause is None:
                    accepted = [one for item in items if item.posting for one in item.record.log_ids]
                    _log.exception("The results could not be written. Redox has accepted: %s.", ", ".join(accepted))
                    raise
                self.client.perform(Wait(pause))
            else:
                return

    def _end(self, items: Sequence[Due]) -> None:
        """The task is being ended: begin nothing more, and write what is known. What is under way stays without a line."""
        self.ending.set()
        wait(self._running, timeout=GRACE)
        going = set(self._running.values())
        for item in items:
            if item.posting is not None and not item.record.line and item not in going:
                item.record.left()
        self._flush(items)


def _post(posting: Posting, record: MessageRecord) -> Exception | None:
    """Send one message, in a thread of its own. Gives the error; what became of it is in its record."""
    try:
        outcome = posting.run()
    except KeyConflictError as error:
        record.invalid(error)
        return None
    except Exception as error:  # noqa: BLE001  (a store or a ledger may raise anything)
        if not record.line:
            record.left(error)
        return error
    if not record.line:  # somebody else had sent it
        record.accepted(log_ids=outcome.log_ids, trace_id=outcome.trace_id, facts={"already_sent": True})
    return None


def _held(item: Due) -> RedoxTransportError:
    return RedoxTransportError(
        f"line {item.message.number}: held back, as an earlier message of its ordering key is not settled"
    )


def _lines(items: Iterable[Due]) -> list[bytes]:
    return [item.record.line for item in items if item.posting is not None and item.record.line]
