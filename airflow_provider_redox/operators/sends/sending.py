"""Sending at most once: what a try does about what earlier tries of the same task instance left.

    earlier try        this try
    nothing, unsent    sends
    refused            sends: what was refused was not processed
    accepted           does not send; returns the earlier outcome if the message is the same, else fails
    open               fails, sends again, or asks the Platform API, as `on_ambiguous` says; a message that one of
                       several destinations accepted, and another did not, is open
    any, cleared       with `resend=True` the first try after a clear sends

Two tries can be alive at once, because Airflow considers a frozen one dead. So a try creates an attempt before it sends,
which only one of them can, and checks it again directly before the bytes leave: a try that was overtaken sends and records
nothing.

What was open stays so until Redox has accepted it or its logs were asked: that a repetition was refused, or could not
leave, says nothing about the message before it.

Where the state lives: a line in storage and a marker in Airflow's database; see `storage/send_record.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError, RedoxError, RedoxSupersededError
from airflow_provider_redox.protocol import instants
from airflow_provider_redox.protocol.disclosure import Disclosure
from airflow_provider_redox.protocol.effects import Flow, Happened, Send
from airflow_provider_redox.protocol.outcomes import may_have_arrived
from airflow_provider_redox.protocol.platform import SETTLED_AFTER, Found
from airflow_provider_redox.storage.send_record import OPEN, Trace, outcome_of

_log = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST = 3600.0
"""Seconds after its beginning at which a try that was killed cannot have sent any more: all its patience together."""

Search = Callable[[float, float], Sequence[list[Found]]]
"""Asks the Platform API for the logs that fit, of each destination, from a time to a time in seconds since the epoch."""


class UndecidedError(Exception):
    """The logs do not tell; the text says why."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What Redox answered when it took something.

    :param facts: what else a later try is to know of it, as JSON: no content.
    """

    log_ids: tuple[str, ...] = ()
    trace_id: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What Redox has.

    :param results_url: where its line is; None when it could not be stored.
    :param by_this_try: whether this try sent it.
    """

    log_ids: tuple[str, ...]
    trace_id: str | None
    results_url: str | None
    by_this_try: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is sent, as far as an error may say it.

    :param what: such as `PatientAdmin NewPatient`.
    :param destinations: the IDs of where it goes, as far as they are known.
    :param digest: the keyed hash of what the author wants sent, and of where it goes.
    :param noun: what an error calls it.
    """

    what: str
    destinations: tuple[str, ...]
    digest: str
    noun: str = "message"


class Record(Protocol):
    """Where it is written down what becomes of something; see `storage/send_record.py`."""

    url: str

    def earlier(self) -> Trace | None:
        """Give what an earlier try left."""

    def begin(self, trace: Trace) -> None:
        """Say that it leaves. Raises when it must not."""

    def leaves(self) -> None:
        """Check once more, directly before the bytes leave. Raises if they must not leave."""

    @property
    def is_overtaken(self) -> bool:
        """Return whether another try has begun to send since this one checked."""
        ...

    def accepted(
        self, *, log_ids: tuple[str, ...], trace_id: str | None, facts: Mapping[str, Any] | None = None
    ) -> str | None:
        """Say that Redox took it, and give where that is written; None where it could not be."""

    def failed(self, error: RedoxError, outcome: str, until: float) -> None:
        """Say that Redox refused it, that it was not sent, or that nobody can tell."""


@dataclass(slots=True)
class Sending:
    """One unsafe request of one task instance.

    :param send: uploads the message's files and makes the flow that sends it; told when it was begun first, so that its
        bytes are the same again.
    :param on_ambiguous: `fail`, `resend` or `reconcile`.
    :param resend: whether to send whatever earlier tries did.
    :param search: needed to reconcile.
    :param disclosure: what is put on record of it, before it leaves and when its outcome is known.
    :param doubt: whether Redox may have the message all the same, when `run` has failed.
    :param aside: whether something else is being done just now than to send it.
    """

    client: SyncClient
    subject: Subject
    record: Record
    send: Callable[[float], Flow[Sent]]
    on_ambiguous: str = "fail"
    resend: bool = False
    search: Search | None = None
    disclosure: Disclosure | None = None
    doubt: bool = True
    aside: bool = False

    def run(self) -> Outcome:
        """Send, or do not, and give what Redox has. Raises `RedoxAmbiguousOutcomeError` when nobody can tell."""
        earlier = self.record.earlier()
        over = earlier is None or earlier.outcome in ("unsent", "refused")
        self.doubt = not over
        if earlier is None or over or self.resend:
            return self._first(self._next(earlier))
        if earlier.outcome == "accepted":
            return self._again(earlier)
        return self._open(earlier)

    def _next(self, earlier: Trace | None) -> Trace:
        """Give what this try is to leave: the same message carries the time of its first try, and what is open stays so."""
        now = round(self.client.env.now(), 3)
        trace = Trace("sending", self.subject.digest, sent_at=now, open_from=now, open_until=now + LONGEST)
        if earlier is not None and earlier.hash == self.subject.digest:
            trace.sent_at = earlier.sent_at or now
            trace.open_from = earlier.open_from if earlier.outcome in OPEN and earlier.open_from else now
        return trace

    def _first(self, trace: Trace) -> Outcome:
        try:
            return self._send(trace)
        except RedoxAmbiguousOutcomeError as error:
            if self.on_ambiguous != "reconcile" or error.log_ids:
                error.add_note(self._where_to_look(trace))
                raise
            _log.warning("Nobody knows what became of the message (%s); asking the Platform API.", error)
            return self._reconcile(trace)

    def _send(self, trace: Trace) -> Outcome:
        if self.disclosure is not None:
            self.client.recorder(self.disclosure, done=False)
        try:
            sent = self._tried(trace)
        except Exception as error:
            self._recorded(error)
            raise
        accepted = self._accepted(sent)
        self._recorded(None, trace_id=sent.trace_id, log_ids=sent.log_ids)
        return accepted

    def _tried(self, trace: Trace) -> Sent:
        flow = self.send(trace.sent_at)
        try:
            self.record.begin(trace)
            return self.client.run(self._watched(flow))
        except RedoxSupersededError:
            self.doubt = True  # what the other try knows, this one does not
            raise
        except RedoxError as error:
            outcome = self._outcome_of(error)
            self.doubt = outcome == "ambiguous"
            self.record.failed(error, outcome, self.client.env.now())
            error.add_note(f"The {self.subject.noun}'s line is in {self.record.url}.")
            raise

    def _recorded(self, error: Exception | None, *, trace_id: str | None = None, log_ids: Sequence[str] = ()) -> None:
        """Put on record what became of it."""
        if self.disclosure is not None:
            self.disclosure.answered(trace_id=trace_id or getattr(error, "trace_id", None), log_ids=log_ids)
            self.client.recorder(self.disclosure, error=error)

    def _accepted(self, sent: Sent) -> Outcome:
        url = self.record.accepted(log_ids=sent.log_ids, trace_id=sent.trace_id, facts=sent.facts)
        return Outcome(sent.log_ids, sent.trace_id, url, facts=sent.facts)

    def _outcome_of(self, error: RedoxError) -> str:
        """Say what became of the message; an error on the way, such as no token to be had, is not an answer to it."""
        told = outcome_of(error)
        if self.doubt:
            return "ambiguous"
        return "unsent" if self.aside and told == "ambiguous" else told

    def _watched(self, flow: Flow[T]) -> Flow[T]:
        """Pass a flow on, and see what its last error does not tell: that it repeats what may have arrived, or waits."""
        happened: Any = None
        last: Happened | None = None
        try:
            while True:
                effect = flow.send(happened)
                sends = isinstance(effect, Send)
                if sends:
                    self.record.leaves()
                before = self.doubt or _may_have_arrived(last)
                self.doubt, self.aside = before or sends, not sends  # whatever happens now, until it is told
                happened = yield effect
                self.doubt, self.aside = before, False
                last = happened if sends else last
        except StopIteration as end:
            answer: T = end.value
            return answer

    def _again(self, earlier: Trace) -> Outcome:
        """An earlier try was accepted: the same message is not sent again, another one neither."""
        noun = self.subject.noun
        if earlier.hash != self.subject.digest:
            raise RedoxAmbiguousOutcomeError(
                f"An earlier try of this task sent another {noun}, and Redox accepted it: see {self.record.url}. Nothing "
                f"was sent now. To send this {noun} too, clear the task with resend=True"
            )
        _log.warning("An earlier try of this task sent this %s, and Redox accepted it; it is not sent again.", noun)
        return Outcome(tuple(earlier.log_ids), earlier.trace_id, self.record.url, by_this_try=False, facts=earlier.facts)

    def _open(self, earlier: Trace) -> Outcome:
        same = earlier.outcome in OPEN and earlier.hash == self.subject.digest
        settleable = same and not earlier.log_ids  # what one destination refused may have a log there all the same
        if self.on_ambiguous == "reconcile" and settleable:
            return self._reconcile(earlier)
        if self.on_ambiguous == "resend":
            return self._send(self._next(earlier))
        raise RedoxAmbiguousOutcomeError(
            f"An earlier try of this task may have sent {self.subject.what}, and nobody knows whether it arrived: see "
            f"{self.record.url}. Nothing was sent now. {self._where_to_look(earlier)}"
        )

    def _reconcile(self, trace: Trace) -> Outcome:
        """Ask what arrived: all of it is accepted, nothing of it is sent again, once, and what is unclear stays so."""
        found = self._found(trace)
        if found and all(len(logs) == 1 for logs in found):
            log_ids = tuple(logs[0].id for logs in found)
            _log.info("The message arrived, by its logs: %s.", ", ".join(log_ids))
            accepted = self._accepted(Sent(log_ids))
            self._recorded(None, log_ids=log_ids)
            return accepted
        if not found or any(found):
            several = ", ".join(log.id for logs in found for log in logs[:10]) or "none could be asked for"
            raise self._unsettled(trace, f"the logs do not tell it from others ({several})")
        _log.warning("The message did not arrive, by the logs of its time and destination; it is sent again.")
        self.doubt = False
        again = self._next(Trace("unsent", trace.hash, trace.sent_at))
        try:
            return self._send(again)
        except RedoxAmbiguousOutcomeError as error:
            error.add_note(self._where_to_look(again))
            raise

    def _found(self, trace: Trace) -> Sequence[list[Found]]:
        """Give the logs that fit, for each destination; nothing when it cannot be asked for."""
        if self.search is None or not trace.open_from:
            return []
        try:
            return self.search(trace.open_from, self._settled_at(trace))
        except UndecidedError as reason:
            raise self._unsettled(trace, str(reason)) from None
        except RedoxError as error:
            unsettled = self._unsettled(trace, f"the Platform API could not be asked ({type(error).__name__}: {error})")
            unsettled.retryable = error.retryable  # a next try asks first, and sends nothing by itself
            raise unsettled from error

    def _settled_at(self, trace: Trace) -> float:
        """Give the time when all that left has a log. Whoever was sending is dead, or is this try and has stopped."""
        return min(trace.open_until, self.client.env.now()) + SETTLED_AFTER

    def _unsettled(self, trace: Trace, why: str) -> RedoxAmbiguousOutcomeError:
        return RedoxAmbiguousOutcomeError(
            f"It is unknown whether {self.subject.what} arrived: {why}. It was not sent again. {self._where_to_look(trace)}"
        )

    def _where_to_look(self, trace: Trace) -> str:
        """Say what to look for in Redox, and what to do then."""
        subject = self.subject
        when = "around the time of that try"
        if trace.open_from:
            when = f"from {utc(trace.open_from)} to {utc(self._settled_at(trace))}"
        to = f" to {', '.join(subject.destinations)}" if subject.destinations else ""
        return (
            f"Look in the Redox dashboard's logs for {subject.what}{to}, {when}; the hash "
            f"of the payload is {subject.digest}. If it is there, mark the task as success; if not, clear the task with "
            "resend=True"
        )


def _may_have_arrived(last: Happened | None) -> bool:
    """Say whether what happened leaves it open; a success that was followed by another try could not be read."""
    return last is not None and may_have_arrived(last)


def is_first_try(ti: Any, retries: int) -> bool:
    """Say whether the author began this try, by a run or by a clear, and not Airflow.

    A clear sets max_tries to the tries before it plus `retries`. Airflow begins tries by itself as `retries` allow it, and,
    whatever they say, for a task whose scheduler is gone.
    """
    tried, most = getattr(ti, "try_number", 1) or 1, getattr(ti, "max_tries", None)
    return tried == 1 or (most is not None and most - retries == tried - 1)


def was_tried(ti: Any) -> bool:
    """Say whether there was a try of this task instance before this one."""
    return (getattr(ti, "try_number", 1) or 1) > 1


def utc(moment: float) -> str:
    """Write an instant to the second, as Redox's dashboard shows it."""
    return instants.utc(moment, timespec="seconds")
