"""What one question of a task is to who drains them: pieces, one after another, each with where it can be taken up.

A FHIR search gives its pages; a Data Model query its one answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

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
from airflow_provider_redox.protocol.acceptance import is_incomplete
from airflow_provider_redox.protocol.data_model import PATH, log_ids_of
from airflow_provider_redox.protocol.effects import Flow, RedoxResponse
from airflow_provider_redox.protocol.gathered import is_match
from airflow_provider_redox.protocol.pages import Page, Resource
from airflow_provider_redox.protocol.paging import Position, Walk

_log = logging.getLogger(__name__)


class Piece(msgspec.Struct, frozen=True):
    """What came, and where the question is after it.

    :param ids: IDs of the matches: logical IDs of resources, log IDs of an answer.
    :param incomplete: whether the answer is marked as incomplete.
    """

    resources: list[Resource]
    outcomes: list[Resource]
    position: Position
    ids: list[str]
    trace_id: str | None = None
    incomplete: bool = False


class Anew:
    """What follows does not go on with what came before, but begins at the first page again."""


class Ask(Protocol):
    """One question. `astray`, after an error: not a request failed, but the way that the pages lead."""

    astray: bool

    @property
    def request(self) -> str:
        """The URL that is asked, without parameters."""

    def pieces(self, position: Position, seen: set[int]) -> Iterator[Piece | Anew]:
        """Ask from a position on, and give what comes. `seen` holds what came before it; it is added to."""
        ...


@dataclass(slots=True)
class FhirAsk:
    """A FHIR search.

    :param start: begins it, with the set of identities that were seen.
    """

    client: SyncClient
    start: Callable[[set[int]], Walk]
    astray: bool = False

    @property
    def request(self) -> str:
        """The URL that is asked, without parameters."""
        walk = self.start(set())
        return f"{walk.endpoint.url}/{walk.resource_type}/_search"

    def pieces(self, position: Position, seen: set[int]) -> Iterator[Piece | Anew]:
        """Give the pages. A search that was taken up and does not go on from there begins anew."""
        walk = self.start(seen)
        walk.take_up(position)
        try:
            yield from self._pages(walk)
        except RedoxError as error:
            self.astray = walk.astray
            if not is_for_a_fresh_start(walk, error):
                raise
            _log.warning("What follows page %d does not fit it; beginning anew. %s", walk.position.pages, error)
        else:
            return
        yield Anew()
        walk = self.start(set())
        try:
            yield from self._pages(walk)
        finally:
            self.astray = walk.astray

    def _pages(self, walk: Walk) -> Iterator[Piece]:
        while (page := self.client.run(walk.next_page())) is not None:
            yield Piece(page.resources, page.outcomes, walk.position, _matches(page, walk.resource_type), page.trace_id)


@dataclass(slots=True)
class QueryAsk:
    """A Data Model query.

    :param flow: makes the flow that asks.
    :param data_model: of the answer.
    """

    client: SyncClient
    flow: Callable[[], Flow[RedoxResponse]]
    data_model: str
    astray: bool = False

    @property
    def request(self) -> str:
        """The URL that is asked."""
        return f"{self.client.settings.base_url}{PATH}"

    def pieces(self, position: Position, seen: set[int]) -> Iterator[Piece | Anew]:  # noqa: ARG002  (nothing goes before)
        """Give the answer, digit for digit."""
        response = self.client.run(self.flow())
        line = msgspec.json.format(response.body.removeprefix(b"\xef\xbb\xbf").strip(), indent=-1)
        answer: dict[str, Any] = response.json()
        date = response.headers.get("date")
        over = Position(pages=1, requests=1, matches=1, date=date)
        answered = [Resource(self.data_model, None, None, None, line)]
        yield Piece(answered, [], over, list(log_ids_of(answer)), response.trace_id, is_incomplete(answer))


def is_for_a_fresh_start(walk: Walk, error: RedoxError) -> bool:
    """Say whether a search that was taken up should begin anew: its next link is dead, or its pages do not fit together."""
    return (walk.taken_up and walk.astray) or (walk.is_stuck and _is_about_the_link(error))


def _is_about_the_link(error: RedoxError) -> bool:
    """Say whether an error is about the link of the next page, and not about the server's day."""
    if isinstance(error, RedoxResponseError):
        return not isinstance(error, RedoxAuthError | RedoxRateLimitError | RedoxServerError)
    return isinstance(error, RedoxProtocolError)


def _matches(page: Page, resource_type: str) -> list[str]:
    return [one.id for one in page.resources if one.id is not None and is_match(one, resource_type)]
