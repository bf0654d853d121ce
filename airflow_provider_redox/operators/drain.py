"""The searches of one task, drained into one result; a next try goes on where this one stopped.

Where the state lives: parts and checkpoint beside the results, in object storage, the checkpoint sealed with a key of the
connection. Nothing is kept on a worker's own disk.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.exceptions import (
    RedoxAuthError,
    RedoxError,
    RedoxProtocolError,
    RedoxRateLimitError,
    RedoxResponseError,
    RedoxServerError,
)
from airflow_provider_redox.protocol.gathered import key_of
from airflow_provider_redox.protocol.outcomes import http_date
from airflow_provider_redox.protocol.pages import Page, Resource, read_line
from airflow_provider_redox.protocol.paging import Position, Walk
from airflow_provider_redox.protocol.settings import Settings
from airflow_provider_redox.protocol.validation import VALIDATION_OUTCOMES, Report
from airflow_provider_redox.seal import Seal
from airflow_provider_redox.storage.checkpoint import Checkpoint
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.layout import Layout
from airflow_provider_redox.storage.results import OUTCOMES, Limits, Results

_PROGRESS_EVERY = 15.0

_log = logging.getLogger(__name__)


class Progress(msgspec.Struct):
    """How far the searches of a task are.

    :param search: the index of the search under way.
    :param position: where it is.
    :param latest: the latest `meta.lastUpdated` seen.
    :param date: the server's clock at the first answer.
    :param missing: matches that the servers counted and did not send, where that is only a warning.
    """

    search: int = 0
    position: Position = Position()
    pages: int = 0
    requests: int = 0
    duplicates: int = 0
    resources: int = 0
    latest: str = ""
    date: str | None = None
    missing: int = 0


Start = Callable[[set[int]], Sequence[Walk]]
"""Begins the searches, which share the set of identities that were seen."""


@dataclass(slots=True)
class Drain:
    """The searches of one task on their way into a result.

    :param start: begins the searches.
    :param tell: logs how far they are.
    :param report: checks each resource.
    """

    client: SyncClient
    start: Start
    results: Results
    tell: Callable[..., None] = _log.info
    report: Report | None = None
    progress: Progress = field(default_factory=Progress)
    _walks: Sequence[Walk] = ()
    _told: float = field(default_factory=time.monotonic)
    _began: float = field(default_factory=time.monotonic)
    _before: int = 0

    def run(self) -> Progress:
        """Drain every search. What an earlier try left is taken up."""
        self._take_up()
        while self.progress.search < len(self._walks):
            walk = self._walks[self.progress.search]
            try:
                self._drain(walk)
            except RedoxError as error:
                if not is_for_a_fresh_start(walk, error):
                    if walk.astray or not error.retryable:
                        self.results.discard()
                    raise
                _log.warning("What follows page %d does not fit it; beginning anew. %s", self.progress.pages, error)
                self._begin_anew()
        return self.progress

    def _take_up(self) -> None:
        seen: set[int] = set()
        saved = self.results.restore(lambda kind, line: _note(seen, kind, line))
        if saved is None:
            self._walks = self.start(set())
            return
        self.progress = msgspec.json.decode(saved, type=Progress)
        self._walks = self.start(seen)
        self._walks[self.progress.search].take_up(self.progress.position)
        self._before = self.progress.resources
        self.tell("An earlier try left %d pages, %d resources; going on.", self.progress.pages, self.progress.resources)

    def _begin_anew(self) -> None:
        self.results.begin_anew()
        self.progress, self._before = Progress(), 0
        self._walks = self.start(set())

    def _drain(self, walk: Walk) -> None:
        while (page := self.client.run(walk.next_page())) is not None:
            for kind, lines in _by_type(page).items():
                self.results.write(kind, lines)
            if self.report is not None:
                self.results.write(VALIDATION_OUTCOMES, self.report.lines(resource.line for resource in page.resources))
            self._note(page, walk)
            self.results.end_page(msgspec.json.encode(self.progress))
            self._tell()
        done = self.progress
        done.requests += walk.position.requests
        done.duplicates += walk.position.duplicates
        done.missing += walk.position.missing
        done.search, done.position = done.search + 1, Position()

    def _note(self, page: Page, walk: Walk) -> None:
        progress = self.progress
        progress.position = walk.position
        progress.pages += 1
        progress.resources += len(page.resources)
        progress.date = progress.date or walk.position.date
        progress.latest = max(progress.latest, _latest(page.resources))

    def _tell(self) -> None:
        """Say, at most every 15 seconds, how far the search is."""
        now = time.monotonic()
        if now - self._told >= _PROGRESS_EVERY:
            self._told = now
            rate = (self.progress.resources - self._before) / (now - self._began)
            self.tell("Page %d, %d resources so far, %.0f a second.", self.progress.pages, self.progress.resources, rate)

    @property
    def request(self) -> str:
        """The URL that was asked, without parameters."""
        first = self._walks[0]
        return f"{first.endpoint.url}/{first.resource_type}/_search"

    @property
    def transaction_time(self) -> str:
        """The server's clock at the first answer, as an instant in UTC; this machine's when the server told none."""
        try:
            return _iso(datetime.fromtimestamp(http_date(self.progress.date or ""), UTC))
        except (ValueError, TypeError, OverflowError):
            return _iso(datetime.now(UTC))

    @property
    def extension(self) -> dict[str, Any]:
        """The manifest's extension. The watermark is the latest lastUpdated seen, but not after the search began."""
        progress = self.progress
        told = {
            "pages": progress.pages,
            "requests": progress.requests,
            "duplicates": progress.duplicates,
            "watermark": min(progress.latest, self.transaction_time) if progress.latest else None,
        }
        return {**told, "total_mismatch": progress.missing} if progress.missing else told


def resumable_results(
    layout: Layout,
    settings: Settings,
    walks: Sequence[Walk],
    *,
    compression: str | None = None,
    validate: str = "off",
    limits: Limits | None = None,
) -> Results:
    """Make the place of these searches' results, with a checkpoint that only the same searches take up."""
    asked = [(walk.endpoint.url, walk.resource_type, walk.form, sorted(walk.headers.items())) for walk in walks]
    rules = limits or Limits()
    files = Files(layout.root)
    checkpoint = Checkpoint(
        files,
        layout.checkpoint,
        seal=Seal(settings.key, purpose="checkpoint", bound_to=layout.workspace),
        search=digest_of(asked, compression, validate, rules),
    )
    return Results(layout, files=files, compression=compression, checkpoint=checkpoint, limits=rules)


def is_for_a_fresh_start(walk: Walk, error: RedoxError) -> bool:
    """Say whether a search that was taken up should begin anew: its next link is dead, or its pages do not fit together."""
    return (walk.taken_up and walk.astray) or (walk.is_stuck and is_about_the_link(error))


def is_about_the_link(error: RedoxError) -> bool:
    """Say whether an error is about the link of the next page, and not about the server's day."""
    if isinstance(error, RedoxResponseError):
        return not isinstance(error, RedoxAuthError | RedoxRateLimitError | RedoxServerError)
    return isinstance(error, RedoxProtocolError)


def digest_of(*what: object) -> str:
    """Make the digest that tells one search from another."""
    return hashlib.sha256(msgspec.json.encode([str(one) for one in what])).hexdigest()


def _note(seen: set[int], kind: str, line: bytes) -> None:
    if kind not in (OUTCOMES, VALIDATION_OUTCOMES):
        key = key_of(read_line(line))
        if key is not None:
            seen.add(key)


def _by_type(page: Page) -> dict[str, list[bytes]]:
    grouped: dict[str, list[bytes]] = {}
    for resource in page.resources:
        grouped.setdefault(resource.type, []).append(resource.line)
    for outcome in page.outcomes:
        grouped.setdefault(outcome.type, []).append(outcome.line)
    return grouped


def _latest(resources: Sequence[Resource]) -> str:
    """Give the latest lastUpdated as an instant in UTC. Texts of one form are compared as text."""
    latest: dict[tuple[int, str], str] = {}
    for resource in resources:
        text = resource.last_updated
        if text:
            form = len(text), "Z" if text.endswith("Z") else text[-6:]
            if text > latest.get(form, ""):
                latest[form] = text
    return max(map(_instant, latest.values()), default="")


def _instant(text: str) -> str:
    """Give an instant in UTC in one form, so that instants compare as text; one that cannot be read is the earliest."""
    try:
        return _iso(datetime.fromisoformat(text).astimezone(UTC))
    except (ValueError, OverflowError):
        return ""


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
