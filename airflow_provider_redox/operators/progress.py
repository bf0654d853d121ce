"""How far the searches of a task are: what a checkpoint keeps of them, small however many they are."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from airflow_provider_redox.protocol.paging import Position

IDS = 100
"""IDs that are kept of what one search found; how many there were is always told."""


class UnderWay(msgspec.Struct):
    """A search that has begun.

    :param position: where it is.
    :param ids: of its matches, up to a hundred.
    """

    position: Position = Position()
    ids: list[str] = []


class Progress(msgspec.Struct):
    """How far the searches are.

    :param done: the indexes of those that are over, as spans with both ends within.
    :param under_way: those that have begun, by index.
    :param failed: those that failed, each to be made again by a next try.
    :param latest: the latest `meta.lastUpdated` seen, an instant in UTC.
    :param date: the server's clock at the first answer.
    :param missing: matches that the servers counted and did not send, where that is only a warning.
    :param ids: of the matches of a question that is the only one.
    :param repeats: resources that an earlier run of the same search had given too.
    """

    done: list[tuple[int, int]] = []
    under_way: dict[int, UnderWay] = {}
    failed: list[int] = []
    pages: int = 0
    requests: int = 0
    duplicates: int = 0
    resources: int = 0
    latest: str = ""
    date: str | None = None
    missing: int = 0
    ids: list[str] = []
    repeats: int = 0

    def left(self, count: int) -> Iterator[int]:
        """Give the indexes of the searches that are not over, those that failed among them."""
        next_one = 0
        for first, last in self.done:
            yield from range(next_one, first)
            next_one = last + 1
        yield from range(next_one, count)

    def finish(self, index: int) -> None:
        """Count a search as over."""
        self._leave(index)
        self.done = _with(self.done, index)

    def fail(self, index: int) -> None:
        """Count a search as failed."""
        self._leave(index)
        self.failed.append(index)

    def _leave(self, index: int) -> None:
        over = self.under_way.pop(index, None)
        if index in self.failed:
            self.failed.remove(index)
        if over is not None:
            self.requests += over.position.requests
            self.duplicates += over.position.duplicates
            self.missing += over.position.missing


def _with(spans: list[tuple[int, int]], index: int) -> list[tuple[int, int]]:
    """Add an index to spans, joined with what it touches."""
    first, last, others = index, index, []
    for span in spans:
        if span[1] == index - 1:
            first = span[0]
        elif span[0] == index + 1:
            last = span[1]
        else:
            others.append(span)
    return sorted([*others, (first, last)])
