"""What became of the messages of a batch: a plan, and for each segment the intents before it leaves and the results after.

    _redox/…/task/batch/0001/plan.json
    _redox/…/task/batch/0001/000000.01.intents.json
    _redox/…/task/batch/0001/000000.01.results.ndjson

Plan and intents are written once, by who comes first: a worker that was thought to be dead finds them taken. Results are
written again and again by the worker whose intents they belong to. They hold numbers, codes, IDs and keyed hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from airflow_provider_redox.exceptions import (
    RedoxAmbiguousOutcomeError,
    RedoxAuthError,
    RedoxError,
    RedoxTransportError,
)
from airflow_provider_redox.protocol.jsontext import stored
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.moved import elsewhere
from airflow_provider_redox.storage.send_attempts import superseded
from airflow_provider_redox.storage.send_record import OPEN, Trace, facts_of, line_of

if TYPE_CHECKING:
    from airflow_provider_redox.storage.layout import Layout

T = TypeVar("T")


class Plan(msgspec.Struct, frozen=True):
    """What a generation of tries sends.

    :param batch: its name, drawn at random.
    :param hash: the keyed hash of the whole file.
    :param count: its messages.
    :param size: messages of a segment at most, and `weight` their bytes.
    :param resend: whether the author wanted all of it sent, whatever was sent before.
    :param over: the name of what was open then, and is nobody's matter any more.
    """

    generation: int
    batch: str
    hash: str
    count: int
    size: int
    weight: int
    resend: bool = False
    over: str = ""


class Intents(msgspec.Struct, frozen=True):
    """The messages of a segment that may leave from now on.

    :param at: the time that they carry if they were not begun before, in seconds since the epoch.
    :param messages: line numbers and keyed hashes; a line that cannot be sent has none.
    """

    at: float
    messages: list[tuple[int, str]]


class _Line(Trace):
    line: int = 0


@dataclass(slots=True)
class Segment:
    """What is known of a segment.

    :param attempts: how often its messages, or some of them, were about to leave.
    :param traces: what earlier tries left, by line number.
    :param lines: the result lines, by line number; a message that has a trace and no line was being sent.
    :param seen: the line numbers of all its messages, when it was ever on its way.
    """

    attempts: int = 0
    traces: dict[int, Trace] = field(default_factory=dict)
    lines: dict[int, bytes] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)


class BatchState:
    """The state of one task instance's batch.

    :param longest: seconds after its intents at which an attempt cannot send any more.
    """

    def __init__(self, layout: Layout, *, longest: float) -> None:
        self._files, self._layout = Files(layout.root, name=layout.argument), layout
        self._folder = f"{layout.workspace}/batch"
        self._longest = longest

    def latest(self) -> Plan | None:
        """Give the plan of the last generation."""
        plan, generation = None, 1
        while (text := self._files.read(self._place(generation, "plan.json"))) is not None:
            plan = self._read(text, Plan, self._place(generation, "plan.json"))
            generation += 1
        return plan

    def elsewhere(self) -> str | None:
        """Give where the plan of an earlier try lies, if it is below another destination or environment."""
        places = elsewhere(self._files, self._layout, self._place(1, "plan.json"))
        return next((place for place in places if self._files.read(place) is not None), None)

    def start(self, plan: Plan) -> bool:
        """Write a plan down, and say whether this was the first to do so."""
        return self._files.write_new(self._place(plan.generation, "plan.json"), msgspec.json.encode(plan))

    def intend(self, plan: Plan, number: int, attempt: int, intents: Intents) -> bool:
        """Write down what is about to leave, and say whether this was the first to do so."""
        place = self._place(plan.generation, f"{number:06d}.{attempt:02d}.intents.json")
        return self._files.write_new(place, msgspec.json.encode(intents))

    def intended(self, plan: Plan, number: int, attempt: int) -> bool:
        """Return whether any try has stored its intent for this attempt, or begun a later batch."""
        attempted = self._place(plan.generation, f"{number:06d}.{attempt:02d}.intents.json")
        return self._files.exists(attempted) or self._files.exists(self._place(plan.generation + 1, "plan.json"))

    def note(self, plan: Plan, number: int, attempt: int, lines: Iterable[bytes]) -> None:
        """Write the results so far."""
        place = self._place(plan.generation, f"{number:06d}.{attempt:02d}.results.ndjson")
        self._files.write(place, b"".join(lines))

    def segment(self, plan: Plan, number: int, *, ended: float) -> Segment:
        """Read what earlier tries did with a segment. All of them had ended at `ended`."""
        found = Segment()
        while True:
            stem = f"{number:06d}.{found.attempts + 1:02d}"
            place = self._place(plan.generation, f"{stem}.intents.json")
            text = self._files.read(place)
            if text is None:
                return found
            intents = self._read(text, Intents, place)
            results = self._files.read(self._place(plan.generation, f"{stem}.results.ndjson")) or b""
            found.attempts += 1
            self._fold(found, intents, results, min(intents.at + self._longest, ended))

    def _fold(self, found: Segment, intents: Intents, results: bytes, until: float) -> None:
        """Lay an attempt over what was known: what it says counts, and what it says nothing of may have been sent."""
        told = dict(_lines(results))
        for number, digest in intents.messages:
            found.seen.add(number)
            if not digest:
                continue
            before = found.traces.get(number)
            if number in told:
                found.traces[number], found.lines[number] = told[number]
                continue
            found.lines.pop(number, None)
            found.traces[number] = Trace(
                "sending",
                digest,
                sent_at=before.sent_at if before else intents.at,
                open_from=(before.open_from if before and before.outcome in OPEN else 0) or intents.at,
                open_until=until,
            )

    def _read(self, text: bytes, kind: type[T], place: str) -> T:
        found = stored(text, kind)
        if found is None:
            raise RedoxAmbiguousOutcomeError(
                f"{place} cannot be read, so that nobody knows what of this batch was sent. Nothing was sent now. Restore "
                "the file, or clear the task with resend=True, which sends everything again"
            )
        return found

    def _place(self, generation: int, name: str) -> str:
        return f"{self._folder}/{generation:04d}/{name}"


def _lines(results: bytes) -> Iterator[tuple[int, tuple[Trace, bytes]]]:
    """Read results; a line that cannot be read says nothing."""
    for text in results.splitlines():
        line = stored(text, _Line)
        if line is not None:
            yield line.line, (line, text + b"\n")


class MessageRecord:
    """What becomes of one message of a segment: as a `SendRecord`, but written by who writes the segment.

    :param url: where its line will be read.
    :param known: what the line says of the message whatever becomes of it.
    :param earlier: what earlier tries left; a message that is new was not sent, and carries the time of its segment.
    """

    def __init__(
        self,
        url: str,
        known: Mapping[str, Any],
        earlier: Trace,
        may_begin: Callable[[], bool],
        overtaken: Callable[[], bool] = lambda: False,
    ) -> None:
        self.url = url
        self.outcome = ""
        self.line = b""
        self.log_ids: tuple[str, ...] = ()
        self.trace = earlier
        self._known, self._earlier, self._may_begin, self._overtaken = known, earlier, may_begin, overtaken
        self.begun = False

    def earlier(self) -> Trace:
        """Give what earlier tries left."""
        return self._earlier

    def begin(self, trace: Trace) -> None:
        """Say that the message leaves, which the intents of its segment have said already. Raises when none may any more."""
        if not self._may_begin():
            raise RedoxTransportError("not sent: the batch is being ended")
        self.trace, self.begun = trace, True

    def leaves(self) -> None:
        """Check once more, directly before the bytes leave. Raises `RedoxSupersededError` if a later try took over."""
        if self.is_overtaken:
            raise superseded()

    @property
    def is_overtaken(self) -> bool:
        """Return whether a later try sends this message now."""
        return self._overtaken()

    def accepted(self, *, log_ids: tuple[str, ...], trace_id: str | None, facts: Mapping[str, Any] | None = None) -> str:
        """Say that Redox took it."""
        self.log_ids = log_ids
        self._tell("accepted", {"log_ids": list(log_ids), "trace_id": trace_id, **(facts or {})})
        return self.url

    def failed(self, error: RedoxError, outcome: str, until: float) -> None:
        """Say that Redox refused it, that it was not sent, or that nobody can tell."""
        if outcome == "refused" and (error.retryable or isinstance(error, RedoxAuthError)):
            outcome = "unsent"  # the key was refused, or Redox was busy: no word of the message
        if self.begun:
            self.trace.open_until = until
        self._tell(outcome, facts_of(error))

    def left(self, error: Exception | None = None) -> None:
        """Say that it was left as it was, or that something else than Redox stopped it."""
        facts = facts_of(error) if error else {}
        if self.begun or self._earlier.outcome in OPEN:
            self._tell("ambiguous", facts)
        elif isinstance(error, RedoxAmbiguousOutcomeError):  # somebody else may have sent its key; this task has not
            self._tell("unsent", {**facts, "issues": [str(error)]})
        else:
            self._tell("unsent", facts)

    def invalid(self, error: RedoxError) -> None:
        """Say that it cannot be sent."""
        self._tell("refused", {"error": type(error).__name__, "issues": [str(error)]})

    def kept(self, line: bytes) -> None:
        """Keep an earlier try's line."""
        self.outcome, self.line, self.log_ids = self._earlier.outcome, line, tuple(self._earlier.log_ids)

    def _tell(self, outcome: str, facts: Mapping[str, Any]) -> None:
        self.outcome, self.line = outcome, line_of(self._known, self.trace, outcome, facts)
