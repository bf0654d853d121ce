"""The messages of a file: cut into segments by its lines alone, and each line made ready to be sent, or found to be none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.operators.sends.batch_logs import GivenLogs
from airflow_provider_redox.operators.sends.claiming import Claim
from airflow_provider_redox.operators.sends.posting import Poster, Posting, sent
from airflow_provider_redox.operators.sends.reconciling import Known, Reconciler
from airflow_provider_redox.operators.sends.sending import Sending, Subject
from airflow_provider_redox.protocol import datamodels
from airflow_provider_redox.protocol.acceptance import Question
from airflow_provider_redox.protocol.accounted import environment_of
from airflow_provider_redox.protocol.effects import Request
from airflow_provider_redox.protocol.jsonsource import Source, parse_object
from airflow_provider_redox.protocol.patients import Patient, patients_of_content
from airflow_provider_redox.protocol.pointers import find
from airflow_provider_redox.storage.send_batch import MessageRecord, Plan
from airflow_provider_redox.storage.send_record import Trace

Line = tuple[int, bytes]


def cut(lines: Iterable[Line], *, size: int, weight: int) -> Iterator[list[Line]]:
    """Cut numbered lines into segments of so many messages, or so many bytes, at most."""
    segment: list[Line] = []
    weighed = 0
    for number, text in lines:
        if segment and (len(segment) == size or weighed + len(text) > weight):
            yield segment
            segment, weighed = [], 0
        segment.append((number, text))
        weighed += len(text)
    if segment:
        yield segment


def digest_of(segment: Iterable[Line]) -> bytes:
    """Give a hash of a segment's lines and of where they stand."""
    digest = hashlib.sha256()
    for number, text in segment:
        digest.update(b"%d %d " % (number, len(text)))
        digest.update(text)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class Survey:
    """What the first reading of the file found: its messages, and a hash of each segment."""

    count: int
    digests: list[bytes] = field(repr=False)

    @property
    def whole(self) -> bytes:
        """Give what tells this file from another."""
        return b"".join(self.digests)


@dataclass(frozen=True, slots=True)
class Ready:
    """What it takes to send a message."""

    request: Request = field(repr=False)
    question: Question
    subject: Subject
    search: Reconciler | None
    claim: Claim | None
    patients: tuple[Patient, ...] = field(default=(), repr=False)
    environment: str = ""


@dataclass(slots=True, eq=False)
class Message:
    """One line of the file.

    :param index: from 0, in the file's order.
    :param known: what its result line says whatever becomes of it.
    :param ready: None when it cannot be sent, and then `invalid` says why.
    :param order: its ordering key.
    :param keys: messages that have one of these in common go one after the other.
    """

    number: int
    index: int
    known: dict[str, Any]
    ready: Ready | None = None
    order: str | None = field(default=None, repr=False)
    keys: tuple[str, ...] = field(default=(), repr=False)
    invalid: RedoxConfigError | None = None

    @property
    def places(self) -> tuple[str, ...]:
        """Where it goes."""
        return self.ready.subject.destinations if self.ready else ()

    @property
    def digest(self) -> str:
        """The keyed hash of its line and of where it goes; empty when it cannot be sent."""
        return self.ready.subject.digest if self.ready else ""


class Maker:
    """Makes messages of lines."""

    def __init__(self, poster: Poster, known: Known) -> None:
        self._poster = poster
        self._known = known
        self.given = GivenLogs()

    def message(self, line: Line, index: int, begun: float, plan: Plan | None = None) -> Message:
        """Make a message that carries the time at which it was begun; what is wrong with it stands in `invalid`."""
        number, text = line
        made = Message(number, index, {"index": index, "line": number})
        try:
            self._fill(made, text, begun, plan)
        except RedoxConfigError as error:
            told = str(error).removeprefix("payload: ")
            made.invalid = RedoxConfigError(f"payload_path: line {number}: {told}")
        return made

    def _fill(self, made: Message, text: bytes, begun: float, plan: Plan | None) -> None:
        poster, operator = self._poster, self._poster.operator
        source = _parsed(text)
        payload = source.value
        message = poster.completed(payload, begun)
        datamodels.check(message, operator.validate)
        meta, subject = message["Meta"], poster.subject(message, text)
        made.known |= {"data_model": meta["DataModel"], "event_type": meta["EventType"]}
        if operator.ordering_key is not None:
            made.order = find(payload, operator.ordering_key, where="ordering_key")
        claim = poster.claim(payload, message, subject, within=plan.batch if plan else "none", number=made.number)
        keys = (f"order {made.order}" if made.order is not None else None, claim.url if claim else None)
        made.keys = tuple(key for key in keys if key)
        request = poster.client.calls.prepared_message(message, operator.headers, source=source)
        people = tuple(patients_of_content(payload)) if poster.client.recorder.collects else ()
        made.ready = Ready(
            request,
            Question.of(message),
            subject,
            poster.search(payload, meta, subject, self._known),
            claim,
            people,
            environment_of(message),
        )

    def posting(self, number: int, ready: Ready, record: MessageRecord, plan: Plan) -> Posting:
        """Build the poster that sends the message of a line."""
        poster, request, search = self._poster, ready.request, ready.search
        calls, again = poster.client.calls, bool(poster.again)
        sending = Sending(
            poster.client,
            ready.subject,
            record,
            lambda _begun: self.given.of(number, sent(calls.post(request, ready.question, repeatable=again))),
            poster.operator.on_ambiguous,
            search=search and (lambda since, until: self.given.apart(number, search(since, until))),
        )
        return Posting(sending, ready.claim, plan.resend)


def settled_before(trace: Trace | None, begun: float) -> Trace:
    """Give what earlier tries left of a message as its record wants it: a new one was not sent, and has a time.

    What another task may have sent, and this one has not, has no time at which it was open.
    """
    if trace is None:
        return Trace("unsent", sent_at=begun)
    if trace.outcome == "ambiguous" and not trace.open_from:
        return Trace("unsent", trace.hash, sent_at=trace.sent_at)
    return trace


def _parsed(text: bytes) -> Source:
    try:
        return parse_object(text)
    except ValueError as error:
        raise RedoxConfigError(str(error)) from None
