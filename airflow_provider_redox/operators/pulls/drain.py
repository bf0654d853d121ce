"""The questions of one task, drained into one result; a next try goes on where this one stopped.

One of them is drained in turn; several side by side, their pages written as they come, so that a slow one holds up no other.
Of several, one that fails does not lose the rest: it is noted, and the task fails at the end, or is content. A next try asks
again only for what failed and what is left.

Where the state lives: parts and checkpoint beside the results, in object storage, the checkpoint sealed with a key of the
connection. Nothing is kept on a worker's own disk.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from airflow_provider_redox.client.side_by_side import Ended, side_by_side
from airflow_provider_redox.exceptions import (
    RedoxAuthError,
    RedoxConfigError,
    RedoxError,
    RedoxIncompleteError,
    RedoxServerError,
    RedoxTransportError,
    words_of,
)
from airflow_provider_redox.operators.pulls.asks import Anew, Ask, Piece
from airflow_provider_redox.operators.pulls.progress import IDS, Progress, UnderWay
from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.disclosure import Disclosure
from airflow_provider_redox.protocol.gathered import key_of, print_of
from airflow_provider_redox.protocol.outcomes import http_date
from airflow_provider_redox.protocol.pages import Resource
from airflow_provider_redox.protocol.paging import Position
from airflow_provider_redox.protocol.patients import patients_of_body
from airflow_provider_redox.protocol.settings import Settings
from airflow_provider_redox.protocol.validation import VALIDATION_OUTCOMES, Report
from airflow_provider_redox.protocol.windows import instant, instant_of
from airflow_provider_redox.seal import Seal
from airflow_provider_redox.storage.checkpoint import Checkpoint
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.layout import Layout
from airflow_provider_redox.storage.results import OUTCOMES, SEARCHES, Limits, Results
from airflow_provider_redox.storage.shapes import Shape
from airflow_provider_redox.storage.tries import Tries
from airflow_provider_redox.storage.watermark import Increment

PAGES_OF_A_PART = 50
PAGES_OF_A_PART_OF_MANY = 500
"""Pages after which parts are ended, of one search and of many: what a kill costs at most on an object store."""

BYTES_OF_A_PART = 64 * 1024 * 1024

FAILURES_IN_A_ROW = 25
"""Failures of the server's after which the others are not asked: it is down, and each would wait for it."""

_PROGRESS_EVERY = 15.0

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Drain:
    """The questions of one task on their way into a result.

    :param count: how many they are.
    :param ask: makes one, by its index.
    :param key: names one, by its index.
    :param results: where the result goes.
    :param shape: how its lines are written.
    :param many: whether each has a line in the list of searches, and one that fails does not fail the others.
    :param threads: how many are asked at a time.
    :param on_error: `fail` or `record`, of several.
    :param tell: logs how far they are.
    :param report: checks each resource.
    :param increment: what an earlier run of the same search gave.
    :param things: what they are called in words for people.
    :param of_resources: whether what comes are resources, which can come twice; answers cannot.
    :param disclosure: what is to be put on record of them.
    :param look: whether the patients on record are looked for in what comes; else they are known beforehand, or not wanted.
    """

    count: int
    ask: Callable[[int], Ask]
    key: Callable[[int], str]
    results: Results
    shape: Shape
    many: bool = False
    threads: int = 1
    on_error: str = "fail"
    tell: Callable[..., None] = _log.info
    report: Report | None = None
    increment: Increment | None = None
    things: str = "searches"
    of_resources: bool = True
    disclosure: Disclosure | None = None
    look: bool = False
    progress: Progress = field(default_factory=Progress)
    _seen: set[int] = field(default_factory=set)
    _in_a_row: int = 0
    _told: float = field(default_factory=time.monotonic)
    _began: float = field(default_factory=time.monotonic)
    _before: int = 0
    _astray: bool = False
    _may_heal: bool = False

    def run(self) -> Progress:
        """Drain every question. What an earlier try left is taken up."""
        self._take_up()
        left = list(self.progress.left(self.count))
        for index, got in side_by_side(self._pieces, left, threads=min(self.threads, max(len(left), 1))):
            if isinstance(got, Piece):
                self._take(index, got)
            elif isinstance(got, Anew):
                self._begin_anew(index)
            elif got.error is not None:
                self._fail(index, got)
        if self.progress.failed and self.on_error == "fail":
            raise self._incomplete()
        return self.progress

    def _take_up(self) -> None:
        saved = self.results.restore(self._recall, self._account_left)
        if saved is None:
            self._seen.clear()
            return
        progress = jsontext.stored(saved, Progress)
        if progress is None:  # another version of this package left it
            self.results.begin_anew()
            self._seen.clear()
            return
        self.progress = progress
        self._before = self.progress.resources
        self.tell("An earlier try left %d pages, %d resources; going on.", self.progress.pages, self.progress.resources)

    def _recall(self, kind: str, line: bytes) -> None:
        if kind in (OUTCOMES, VALIDATION_OUTCOMES, SEARCHES):
            return
        if self.of_resources:
            resource = self.shape.resource(line)
            self._know(resource, key_of(resource))
        else:
            resource = Resource(kind, None, None, None, self.shape.content(line))
        self._account([resource])

    def _account_left(self, line: bytes) -> None:
        """Record the patients of a line that an earlier try received and that this try may not receive again."""
        if self.disclosure is not None and self.look:
            self.disclosure.saw(patients_of_body(line))

    def _pieces(self, index: int) -> Any:
        """Ask one question, from where an earlier try left it. Runs in a thread of its own where there are several."""
        begun = self.progress.under_way.get(index)
        if not self.many:
            return self._watched(self.ask(index), begun, self._seen)
        return self._watched(self.ask(index), begun, set(self._seen) if begun else set())

    def _watched(self, ask: Ask, begun: UnderWay | None, seen: set[int]) -> Any:
        try:
            yield from ask.pieces(begun.position if begun else Position(), seen)
        finally:
            self._astray = ask.astray

    def _take(self, index: int, piece: Piece) -> None:
        """Write what came."""
        progress = self.progress
        fresh = self._fresh(piece.resources)
        self._account(piece.resources)
        if self.disclosure is not None:
            self.disclosure.answered(trace_id=piece.trace_id, log_ids=() if self.of_resources else piece.ids)
        page = self._page(index, fresh, piece)
        begun = progress.begun(index)
        begun.written += len(fresh)
        begun.dropped += len(piece.resources) - len(fresh)
        begun.position = piece.position
        begun.ids += piece.ids[: IDS - len(begun.ids)] if self.many else ()
        progress.pages += 1
        progress.resources += len(fresh)
        progress.latest = max(progress.latest, latest_of(fresh))
        if piece.incomplete:
            progress.incomplete += 1
            _log.warning(
                "The answer to number %d of %d %s is marked as incomplete (Meta.IsIncomplete).",
                index,
                self.count,
                self.things,
            )
        if piece.position.ended:
            self._finish(index, begun, page, **({"incomplete": True} if piece.incomplete else {}))
            progress.ids = [] if self.many else piece.ids[:IDS]
        self.results.write_page(page, msgspec.json.encode(progress))
        self._tell()

    def _fresh(self, resources: list[Resource]) -> list[Resource]:
        """Leave out what another of the questions has brought already."""
        if not self.many and self.increment is None:
            return resources
        fresh = []
        for resource in resources:
            key = key_of(resource)
            if not self.many or key is None or print_of(key, resource) not in self._seen:
                self._know(resource, key)
                fresh.append(resource)
        return fresh

    def _account(self, resources: Iterable[Resource]) -> None:
        """Take down whom they are about, for the record."""
        if self.disclosure is not None and self.look:
            for resource in resources:
                self.disclosure.saw(patients_of_body(resource.line))

    def _know(self, resource: Resource, key: int | None) -> None:
        if key is not None:
            self._seen.add(key)
            self._seen.add(print_of(key, resource))
            if self.increment is not None:
                self.increment.note(key, resource.last_updated)

    def _page(self, index: int, fresh: list[Resource], piece: Piece) -> dict[str, list[bytes]]:
        progress = self.progress
        progress.date = progress.date or piece.position.date
        repeats = self.increment.repeats(fresh) if self.increment is not None else set()
        progress.repeats += len(repeats)
        lines = self.shape.lines(fresh, search=self.key(index), pulled_at=lambda: self.transaction_time, repeats=repeats)
        page: dict[str, list[bytes]] = {}
        for resource, line in zip(fresh, lines, strict=True):
            page.setdefault(resource.type, []).append(line)
        for outcome in piece.outcomes:
            page.setdefault(outcome.type, []).append(outcome.line)
        if self.report is not None:
            page[VALIDATION_OUTCOMES] = self.report.lines(resource.line for resource in fresh)
        return page

    def _finish(self, index: int, begun: UnderWay, page: dict[str, list[bytes]], **facts: Any) -> None:
        self._in_a_row = 0
        self.progress.finish(index)
        if self.many:
            found = begun.position.matches
            status = ("none", "one")[found] if found < 2 else "many"
            page[SEARCHES] = [self._line(index, status=status, count=found, ids=begun.ids, **facts)]

    def _fail(self, index: int, ended: Ended) -> None:
        """Note that one failed, and go on; or stop, if it was the only one, or the others would fail likewise."""
        error = ended.error
        if not isinstance(error, RedoxError):
            raise error or AssertionError
        if not self.many:
            if self._astray or not error.retryable:
                self.results.discard()
            raise error
        self._in_a_row += isinstance(error, RedoxServerError | RedoxTransportError)
        if isinstance(error, RedoxAuthError | RedoxConfigError) or self._in_a_row >= FAILURES_IN_A_ROW:
            error.add_note(f"{self._so_far}; a next try goes on from there.")
            self.results.pause()
            raise error
        _log.warning("Of %d %s number %d failed: %s", self.count, self.things, index, words_of(error))
        self._may_heal = self._may_heal or error.retryable
        begun = self.progress.under_way.get(index, UnderWay())
        self.progress.fail(index)
        what = {"count": begun.position.matches, "ids": begun.ids, "error": type(error).__name__, "said": words_of(error)}
        self.results.write_page({SEARCHES: [self._line(index, status="error", **what)]}, msgspec.json.encode(self.progress))

    def _line(self, index: int, **facts: Any) -> bytes:
        return msgspec.json.encode({"index": index, "key": self.key(index), **facts})

    def _incomplete(self) -> RedoxIncompleteError:
        failed = len(self.progress.failed)
        url = self.results.pause()
        error = RedoxIncompleteError(
            f"{failed} of {self.count} {self.things} failed; a next try asks for these alone, on_error='record' takes the "
            f"rest as the result. No result is visible; why each failed is in {url}",
            failed=failed,
            total=self.count,
            url=url,
        )
        error.retryable = self._may_heal
        return error

    @property
    def _so_far(self) -> str:
        over = self.count - sum(1 for _ in self.progress.left(self.count))
        return f"{over} of {self.count} {self.things} were over, {len(self.progress.failed)} had failed"

    def _begin_anew(self, index: int) -> None:
        if not self.many:
            self.results.begin_anew()
            self.progress, self._before, self._seen = Progress(), 0, set()
        elif index in self.progress.under_way:
            self.progress.under_way[index] = self.progress.under_way[index].anew()

    def _tell(self) -> None:
        """Say, at most every 15 seconds, how far they are."""
        now = time.monotonic()
        if now - self._told >= _PROGRESS_EVERY:
            self._told = now
            rate = (self.progress.resources - self._before) / (now - self._began)
            over = f" {self._so_far}." if self.many else ""
            self.tell(
                "Page %d, %d resources so far, %.0f a second.%s", self.progress.pages, self.progress.resources, rate, over
            )

    @property
    def transaction_time(self) -> str:
        """The server's clock at the first answer, as an instant in UTC; this machine's when the server told none."""
        try:
            return instant(datetime.fromtimestamp(http_date(self.progress.date or ""), UTC))
        except (ValueError, TypeError, OverflowError):
            return instant(datetime.now(UTC))

    @property
    def extension(self) -> dict[str, Any]:
        """The manifest's extension. The watermark is the latest lastUpdated seen, but not after the search began."""
        progress = self.progress
        told = {
            "pages": progress.pages,
            "requests": progress.requests,
            "duplicates": progress.duplicates,
            "watermark": min(progress.latest, self.transaction_time) if progress.latest else None,
            "total_mismatch": progress.missing,
            "failed": len(progress.failed),
            "repeats": progress.repeats,
            "line_format": self.shape.told,
        }
        always = ("pages", "requests", "duplicates", "watermark")
        return {name: value for name, value in told.items() if value or name in always}


def resumable_results(
    layout: Layout,
    settings: Settings,
    *what: object,
    many: bool,
    compression: str | None,
    size: int | None = None,
    tries: Tries | None = None,
) -> Results:
    """Build the results of a task, with a checkpoint that only the same questions resume; without a seal there is none.

    :param what: everything that identifies these questions and the form of their lines.
    :param tries: the tries of this result, where this one has begun before.
    """
    rules = Limits(PAGES_OF_A_PART_OF_MANY if many else PAGES_OF_A_PART, size or BYTES_OF_A_PART)
    files = Files(layout.root, name=layout.argument)
    checkpoint = None
    if settings.key.seals:
        checkpoint = Checkpoint(
            files,
            seal=Seal(settings.key, purpose="checkpoint", bound_to=layout.workspace),
            search=digest_of(*what, many, compression, rules),
        )
    return Results(layout, files=files, compression=compression, checkpoint=checkpoint, limits=rules, tries=tries)


def digest_of(*what: object) -> str:
    """Make the digest that tells one search from another."""
    return hashlib.sha256(msgspec.json.encode([str(one) for one in what])).hexdigest()


def latest_of(resources: Iterable[Resource]) -> str:
    """Give the latest lastUpdated as an instant in UTC. Texts of one form are compared as text."""
    latest: dict[tuple[int, str], str] = {}
    for text in {resource.last_updated for resource in resources}:
        if text:
            form = len(text), "Z" if text.endswith("Z") else text[-6:]
            if text > latest.get(form, ""):
                latest[form] = text
    return max(map(instant_of, latest.values()), default="")
