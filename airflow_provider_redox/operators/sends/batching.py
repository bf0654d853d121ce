"""A file of messages, sent in segments, each at most once over kills, retries and clears.

What has to be known lies in storage and in Airflow's database: see `storage/send_batch.py`. This goes through the file once
to know it, and once to send; of each segment it reads what earlier tries left, sends what is to be sent, and writes the
lines into the result, which so is whole at the end of each try that comes to one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex
from typing import IO, TYPE_CHECKING

from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError, RedoxConfigError
from airflow_provider_redox.operators.sends.batch_account import Account
from airflow_provider_redox.operators.sends.batch_messages import Line, Maker, Ready, Survey, cut, digest_of, settled_before
from airflow_provider_redox.operators.sends.batch_report import Report
from airflow_provider_redox.operators.sends.batch_segment import Breaker, Due, Limit, SegmentRun
from airflow_provider_redox.operators.sends.posting import Poster
from airflow_provider_redox.operators.sends.sending import LONGEST, is_first_try, was_tried
from airflow_provider_redox.protocol.platform import Sought
from airflow_provider_redox.seal import keyed_hash
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.rows import numbered_lines
from airflow_provider_redox.storage.send_batch import BatchState, Intents, MessageRecord, Plan, Segment
from airflow_provider_redox.storage.send_marker import Mark, marker_of
from airflow_provider_redox.storage.send_record import OPEN, Trace

if TYPE_CHECKING:
    from typing import Any

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator

_log = logging.getLogger(__name__)

WEIGHT = 8 * 1024 * 1024
"""Bytes of a segment, at most, unless it is one message."""


class Batching:
    """The batch of one task instance."""

    def __init__(self, operator: RedoxDataModelPostOperator, context: Context) -> None:
        self._operator, self._ti = operator, context["ti"]
        self._poster = Poster(operator, self._ti)
        self._client = self._poster.client
        self._maker = Maker(self._poster, lambda place: self._there.get(place))
        layout = operator.layout(context, operator.results_path, _addressee(operator), argument="results_path")
        self._files, self._url = Files(layout.root, name=layout.argument), layout.result("DataModelPost", 0)
        self._lasting = layout.outlives_workers
        self._state = BatchState(layout, longest=LONGEST)
        self._marker = marker_of(self._ti)
        self._mark = self._marker.read()
        self._begun = self._client.env.now()
        self._there: dict[str, tuple[Sought, str]] = {}
        self._held: set[str] = set()
        self._breaker = Breaker(after=max(10, 2 * operator.max_concurrency))

    def run(self) -> dict[str, Any]:
        """Send what is to be sent, and give the summary. Raises when not all of it is well."""
        plan, survey = self._plan()
        report = Report(self._client.env.monotonic, survey.count)
        pool = ThreadPoolExecutor(self._operator.max_concurrency, "redox-send")
        try:
            with self._files.writing(self._url) as out:
                self._send(plan, survey, report, pool, out)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # nothing is under way, unless the task is being ended
        report.tell(last=True)
        cause = self._breaker.cause
        error = report.error(self._url, on_refused=self._operator.on_refused, cause=cause)
        if error is not None:  # a next try has to know what went, also where storage has lost it: the marker stays
            raise error from (cause if cause is not error else None)
        if self._lasting:
            self._marker.clear()
        return report.summary(self._url)

    # ── what is to be sent ──

    def _plan(self) -> tuple[Plan, Survey]:
        """Read the file, and agree with what earlier tries left."""
        last, mark = self._state.latest(), self._mark
        anew = self._operator.resend and is_first_try(self._ti, self._operator.retries or 0)
        if last is None or anew:
            if mark is not None and not anew:
                raise self._lost()
            moved = self._state.elsewhere() if not anew and was_tried(self._ti) else None
            if moved is not None:
                raise RedoxAmbiguousOutcomeError(
                    "An earlier try of this task sent messages under another name of the destination or the environment: "
                    f"see {moved}. Nothing was sent now. Put the connection back, or clear the task with resend=True, which "
                    "sends everything again"
                )
            return self._begin((last.generation if last else 0) + 1, anew)
        if mark is not None and mark.name not in (last.batch, last.over):
            raise self._lost()
        survey = self._survey(last.size, last.weight)
        if (self._hash(survey), survey.count) != (last.hash, last.count):
            raise RedoxConfigError(
                "payload_path: not the file, or not the key, of the earlier tries; put it back, or clear with resend=True, "
                "which sends all of it. Some of the messages may have been sent; nothing was sent now. What is new can be "
                "sent by another run"
            )
        return last, survey

    def _begin(self, generation: int, anew: bool) -> tuple[Plan, Survey]:  # noqa: FBT001
        size = self._operator.segment_size
        survey = self._survey(size, WEIGHT)
        over = self._mark.name if self._mark else ""
        plan = Plan(generation, token_hex(8), self._hash(survey), survey.count, size, WEIGHT, anew, over)
        if not self._state.start(plan):
            raise self._overtaken()
        return plan, survey

    def _survey(self, size: int, weight: int) -> Survey:
        """Read the file once. With `on_invalid="fail"` every line is looked at now, before anything is sent."""
        digests, count, checked = [], 0, self._operator.on_invalid == "fail"
        for lines in cut(self._lines(), size=size, weight=weight):
            digests.append(digest_of(lines))
            for line in lines if checked else ():
                made = self._maker.message(line, 0, self._begun)
                if made.invalid is not None:
                    raise made.invalid
            count += len(lines)
        return Survey(count, digests)

    def _lines(self) -> Iterator[Line]:
        return numbered_lines(self._operator.payload_path, where="payload_path")

    def _hash(self, survey: Survey) -> str:
        return keyed_hash(self._client.settings.key, purpose="batch", content=survey.whole)

    # ── sending ──

    def _send(self, plan: Plan, survey: Survey, report: Report, pool: ThreadPoolExecutor, out: IO[bytes]) -> None:
        index, number = 0, -1
        for number, lines in enumerate(cut(self._lines(), size=plan.size, weight=plan.weight)):
            if number >= len(survey.digests) or digest_of(lines) != survey.digests[number]:
                raise self._changed()
            for item in self._segment(plan, number, lines, index, pool):
                report.add(item)
                out.write(item.record.line)
            index += len(lines)
            report.tell()
        if number + 1 != len(survey.digests):
            raise self._changed()

    def _segment(self, plan: Plan, number: int, lines: list[Line], index: int, pool: ThreadPoolExecutor) -> list[Due]:
        found = self._state.segment(plan, number, ended=self._begun)
        begun = round(self._client.env.now(), 3)
        run = self._run_of(begun, pool)
        items = [self._item(plan, line, index + offset, found, begun, run) for offset, line in enumerate(lines)]
        self._compare(plan, number, items, found)
        due = [item for item in items if item.posting is not None]
        listed = due if found.attempts else items
        account = Account(self._client, [item for item in due if item.message.ready])
        if listed and self._breaker.cause is None:
            account.announce()
            self._intend(plan, number, found.attempts + 1, begun, listed)
            run.note = lambda told: self._state.note(plan, number, found.attempts + 1, told)
            run.later = lambda: self._state.intended(plan, number, found.attempts + 2)
            self._mark_open(plan, number, run, due)
        run.run(items)
        account.settle()
        for item in items:
            if item.message.ready is not None and item.record.outcome == "accepted":
                self._remember(item.message.ready, item.record.trace, item.record.log_ids)
        return items

    def _run_of(self, begun: float, pool: ThreadPoolExecutor) -> SegmentRun:
        operator, described = self._operator, self._client.settings.destinations.values()
        limits = {
            place.lower(): Limit(one.name, one.max_concurrency)
            for one in described
            for place in one.all_ids
            if one.max_concurrency
        }
        return SegmentRun(
            self._client,
            pool,
            operator.max_concurrency,
            limits,
            self._held,
            self._breaker,
            lambda _: None,
            operator.on_refused,
            begun,
        )

    def _item(self, plan: Plan, line: Line, index: int, found: Segment, begun: float, run: SegmentRun) -> Due:
        """Say what is to be done about a message."""
        earlier = settled_before(found.traces.get(line[0]), begun)
        message = self._maker.message(line, index, earlier.sent_at or begun, plan)
        earlier.hash = earlier.hash or message.digest
        record = MessageRecord(self._url, message.known, earlier, run.may_begin, run.is_overtaken)
        if message.invalid is not None:
            if self._operator.on_invalid == "fail":
                raise message.invalid
            record.invalid(message.invalid)
        if message.ready is None:
            return Due(message, record, None, settled=True)
        kept = found.lines.get(message.number)
        if self._is_due(message.ready, earlier):
            return Due(
                message, record, self._maker.posting(message.number, message.ready, record, plan), settled=False, kept=kept
            )
        if earlier.outcome == "accepted":
            self._remember(message.ready, earlier, earlier.log_ids)
            self._maker.given.note(message.number, earlier.log_ids)
        return Due(message, record, None, settled=earlier.outcome not in OPEN, kept=kept)

    def _is_due(self, ready: Ready, earlier: Trace) -> bool:
        if earlier.outcome in OPEN:
            return self._operator.on_ambiguous != "fail" or ready.claim is not None
        if earlier.outcome == "refused":
            return self._operator.on_refused == "fail"
        return earlier.outcome != "accepted"

    def _remember(self, ready: Ready, trace: Trace, log_ids: Sequence[str]) -> None:
        """Keep one message for each destination that is known to be there: by it a log search is believed."""
        search = ready.search
        if search is None or search.term is None:
            return
        for place, log_id in zip(ready.subject.destinations, log_ids, strict=False):
            until = max(trace.open_until, trace.open_from)
            sought = Sought(
                search.data_model, search.event_type, place, trace.open_from, until, search.term, search.category
            )
            self._there[place] = sought, log_id

    def _compare(self, plan: Plan, number: int, items: Sequence[Due], found: Segment) -> None:
        """Refuse where messages go elsewhere than they did, and where storage has lost what the marker knows."""
        for item in items:
            trace, digest = found.traces.get(item.message.number), item.message.digest
            if trace is not None and trace.hash and digest and trace.hash != digest:
                raise RedoxAmbiguousOutcomeError(
                    f"Line {item.message.number} was sent, or nearly, to other destinations by an earlier try. Nothing was "
                    "sent now. Put the destination back, or clear the task with resend=True, which sends everything again"
                )
            mark = self._mark
            begun = mark is not None and mark.batch == plan.batch and number <= mark.segment
            if begun and item.message.number not in found.seen:
                raise self._lost()

    def _intend(self, plan: Plan, number: int, attempt: int, begun: float, listed: Sequence[Due]) -> None:
        messages = [(item.message.number, item.message.digest) for item in listed]
        if not self._state.intend(plan, number, attempt, Intents(begun, messages)):
            raise self._overtaken()

    def _mark_open(self, plan: Plan, number: int, run: SegmentRun, due: Sequence[Due]) -> None:
        """Say in the database that the segment leaves. When that cannot be said nothing of it was sent."""
        if self._mark is not None and self._mark.batch == plan.batch and self._mark.segment >= number:
            return
        mark = Mark("sending", plan.hash, plan.batch, number)
        try:
            self._marker.write(mark)
        except BaseException:
            for item in due:
                item.record.left()
            run.note([item.record.line for item in due])
            raise
        self._mark = mark

    # ── complaints ──

    def _lost(self) -> RedoxAmbiguousOutcomeError:
        hash_of = self._mark.hash if self._mark else ""
        return RedoxAmbiguousOutcomeError(
            "An earlier try of this task was sending, as its marker in Airflow's database says, and storage has nothing of "
            f"it any more, in {self._url.rpartition('/type=')[0]}. Nothing was sent now. Look for its messages in the "
            f"Redox dashboard's logs (the hash of what it sent is {hash_of}); then clear the task with resend=True, which "
            "sends all"
        )

    def _overtaken(self) -> RedoxAmbiguousOutcomeError:
        error = RedoxAmbiguousOutcomeError(
            "Another worker is sending this batch: it has written down what it sends next. This one sends nothing more; a "
            "next try sees what became of it"
        )
        error.retryable = True
        return error

    def _changed(self) -> RedoxConfigError:
        return RedoxConfigError(
            "payload_path: the file has changed while it was being read. What was sent before is in the task's folder; put "
            "the file back and clear the task to go on"
        )


def _addressee(operator: RedoxDataModelPostOperator) -> str | None:
    """Name where the batch goes, for the path of its result; None for the connection's own destination."""
    return "several" if operator.destinations is not None else None
