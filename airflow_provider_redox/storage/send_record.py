"""Record the outcome of a message: a line in storage and, while the outcome is open, a marker in Airflow's database.

Before the message leaves, its attempt is created, which only one of two tries can do; then the line and the marker are
written, and again when the outcome is known. A later try (a retry, a clear, another worker) reads all three. They hold
codes, IDs and a keyed hash, no content.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_redox.exceptions import (
    RedoxAuditError,
    RedoxError,
    RedoxProtocolError,
    RedoxSecurityError,
    RedoxSupersededError,
    RedoxTransportError,
)
from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.instants import utc
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.moved import elsewhere
from airflow_provider_redox.storage.send_attempts import Attempts, superseded
from airflow_provider_redox.storage.send_marker import Mark, Marker, NoMarker

if TYPE_CHECKING:
    from airflow_provider_redox.storage.layout import Layout

_log = logging.getLogger(__name__)

OPEN = ("sending", "ambiguous")
"""Outcomes of which nobody knows whether the message arrived."""


class Trace(msgspec.Struct):
    """What an earlier try left.

    :param outcome: `sending`, `accepted`, `refused`, `unsent` or `ambiguous`.
    :param hash: the keyed hash of what it sent; empty if it was not stored.
    :param sent_at: the time that the message carries, in seconds since the epoch; 0 if it was not stored. It is when the
        first try of this message began, even if a later one sent it.
    :param open_from: the earliest time at which an open message may have left; 0 if it was not stored.
    :param open_until: the latest time at which it may have left; while it is being sent, the latest possible time.
    :param attempt: the number of the attempt, for a single message.
    """

    outcome: str
    hash: str = ""
    sent_at: float = 0.0
    open_from: float = 0.0
    open_until: float = 0.0
    log_ids: list[str] = []
    trace_id: str | None = None
    facts: dict[str, Any] = {}
    attempt: int = 0


class SendRecord:
    """One message's line, and its marker.

    :param url: where the line is, such as `layout.result("DataModelPost", 0)`.
    :param known: fields of the line that do not depend on the outcome.
    :param again: whether there was a try before this one.
    :param number: identifies one of several sends of a task.
    """

    def __init__(
        self,
        layout: Layout,
        url: str,
        *,
        known: Mapping[str, Any],
        marker: Marker | None = None,
        again: bool = False,
        number: int = 0,
    ) -> None:
        self._files, self._layout, self._again = Files(layout.root, name=layout.argument), layout, again
        self.url = url
        self._known = {"index": 0, **known}
        self._marker: Marker = marker or NoMarker()
        self._mark: Mark | None = None
        self._attempts = Attempts(self._files, layout, number)
        self._begun = False
        self._trace = Trace("sending")

    def earlier(self) -> Trace | None:
        """Return what an earlier try left; a line or a marker that cannot be read means that something may have been sent.

        Whichever of line, marker and attempt file has the latest attempt counts; an attempt without an outcome may have
        sent. Within one attempt the line counts, because it is always written before the marker; but a marker with another
        status than `sending` was written because the line could not be written, or might be lost.
        """
        line, self._mark = self._line(), self._marker.read()
        mark, attempt = self._mark, line.attempt if line else 0
        if mark is not None and (
            line is None or mark.attempt > attempt or (mark.attempt == attempt and line.outcome == "sending" != mark.status)
        ):
            line = Trace(mark.status, mark.hash, line.sent_at if line else 0.0, attempt=mark.attempt)
        left = self._attempts.look(line.attempt if line else 0)
        if left is not None:
            line = jsontext.stored(left, Trace) or Trace("sending")
            line.attempt = self._attempts.latest
        self._trace = line or self._trace  # a try that settles what another one sent says so of the same message
        return line

    def _line(self) -> Trace | None:
        line = self._read(self.url)
        for place in elsewhere(self._files, self._layout, self.url) if line is None and self._again else ():
            line = self._read(place)
            if line is not None and line.outcome not in ("unsent", "refused"):
                self.url = place
                return line
        return line

    def _read(self, url: str) -> Trace | None:
        text = self._files.read(url)
        return None if text is None else jsontext.stored(text, Trace) or Trace("sending")

    def begin(self, trace: Trace) -> None:
        """Create the next attempt, and record that a message is being sent. If this raises, the message must not be sent.

        Raises `RedoxSupersededError` if another try has created the attempt first.
        """
        trace.attempt = self._attempts.latest + 1
        if self._marker.read() != self._mark:
            raise superseded()
        self._attempts.begin(msgspec.json.encode(trace))
        self._trace, self._begun = trace, True
        self._note("sending")
        self._say("sending")

    def leaves(self) -> None:
        """Check once more, directly before the bytes leave. Raises `RedoxSupersededError` if another try took over."""
        if self._attempts.is_overtaken:
            raise superseded()

    @property
    def is_overtaken(self) -> bool:
        """Return whether another try has begun to send since this one checked."""
        return self._attempts.is_overtaken

    def accepted(
        self, *, log_ids: tuple[str, ...], trace_id: str | None, facts: Mapping[str, Any] | None = None
    ) -> str | None:
        """Say that Redox took it. Gives the URL of the line, or None when storage failed: taken it is all the same."""
        more = {"facts": facts} if facts else {}
        try:
            if self.is_overtaken:  # the line is the later try's
                _log.warning("The message was accepted, log IDs %s, but another try of this task took over.", log_ids)
                return None
            self._note("accepted", log_ids=list(log_ids), trace_id=trace_id, **more)
        except Exception:  # noqa: BLE001  (each store has errors of its own)
            _log.exception("The message was accepted, log IDs %s, but the result could not be stored.", log_ids)
            self._say_if_possible("accepted")
            return None
        if self._layout.outlives_workers:
            self._clear()
        else:
            self._say_if_possible("accepted")
        return self.url

    def failed(self, error: RedoxError, outcome: str, until: float) -> None:
        """Say that Redox refused it, that it was not sent, or that nobody can tell. Never hides the error.

        :param until: now, in seconds since the epoch: it cannot leave any later.
        """
        if not self._begun:
            return  # nothing has changed
        self._trace.open_until = until
        try:
            if self.is_overtaken:
                return
            self._note(outcome, **facts_of(error))
        except Exception:  # noqa: BLE001  (each store has errors of its own)
            _log.exception("The result could not be stored.")
            if outcome not in OPEN:
                self._say_if_possible(outcome)
            return
        if outcome not in OPEN:
            self._clear()

    def _say(self, outcome: str) -> None:
        mark = Mark(outcome, self._trace.hash, attempt=self._trace.attempt)
        self._marker.write(mark)
        self._mark = mark

    def _say_if_possible(self, outcome: str) -> None:
        """Write the outcome to the marker, if the line could not be written or may be lost; ignore errors."""
        with contextlib.suppress(RedoxError):
            self._say(outcome)

    def _clear(self) -> None:
        self._marker.clear()
        self._mark = None

    def _note(self, outcome: str, **facts: Any) -> None:
        self._files.write(self.url, line_of(self._known, self._trace, outcome, facts))


def line_of(known: Mapping[str, Any], trace: Trace, outcome: str, facts: Mapping[str, Any]) -> bytes:
    """Make the line that says what became of a message."""
    left: dict[str, Any] = {
        "hash": trace.hash,
        "sent_at": trace.sent_at,
        "open_from": trace.open_from,
        "open_until": trace.open_until,
    }
    left |= {"attempt": trace.attempt} if trace.attempt else {}
    return msgspec.json.encode({**known, "outcome": outcome, "at": _now(), **left, **facts}) + b"\n"


def facts_of(error: Exception) -> dict[str, Any]:
    """Give what a line says of an error: codes and IDs."""
    return {
        "error": type(error).__name__,
        "issues": getattr(error, "issues", ()),
        "log_ids": getattr(error, "log_ids", ()),
        "trace_id": getattr(error, "trace_id", None),
    }


def outcome_of(error: RedoxError) -> str:
    """Return what an error means for the message: `unsent`, `refused` or `ambiguous`.

    The outcome table decides what an error status means; see `protocol/outcomes.py`. A refusal with log IDs was accepted for
    one of several destinations, and is ambiguous.
    """
    if getattr(error, "log_ids", None) or error.may_have_arrived:
        return "ambiguous"
    if isinstance(error, RedoxAuditError | RedoxSupersededError):
        return "unsent"
    if isinstance(error, RedoxTransportError):
        return "ambiguous" if error.sent else "unsent"
    unreadable = isinstance(error, RedoxProtocolError) and not isinstance(error, RedoxSecurityError)
    return "ambiguous" if unreadable else "refused"


def _now() -> str:
    return utc(datetime.now(UTC))
