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
    :param written: resources that it brought first.
    :param dropped: those that another had brought, less those that it brought itself before it began anew.
    """

    position: Position = Position()
    ids: list[str] = []
    written: int = 0
    dropped: int = 0

    def anew(self) -> UnderWay:
        """Give what it is when it begins at its first page again: what it brought comes again, and is no duplicate."""
        return UnderWay(dropped=-self.written)


class Progress(msgspec.Struct):
    """How far the searches are.

    :param done: the indexes of those that are over, as spans with both ends within.
    :param under_way: those that have begun, by index.
    :param failed: those that failed, each to be made again by a next try, with the resources that they had brought.
    :param latest: the latest `meta.lastUpdated` seen, an instant in UTC.
    :param date: the server's clock at the first answer.
    :param missing: matches that the servers counted and did not send, where that is only a warning.
    :param ids: of the matches of a question that is the only one.
    :param incomplete: answers that say of themselves that they are not whole, where that is only a warning.
    :param repeats: resources that an earlier run of the same search had given too.
    """

    done: list[tuple[int, int]] = []
    under_way: dict[int, UnderWay] = {}
    failed: dict[int, int] = {}
    pages: int = 0
    requests: int = 0
    duplicates: int = 0
    resources: int = 0
    latest: str = ""
    date: str | None = None
    missing: int = 0
    ids: list[str] = []
    repeats: int = 0
    incomplete: int = 0

    def left(self, count: int) -> Iterator[int]:
        """Give the indexes of the searches that are not over, those that failed among them."""
        next_one = 0
        for first, last in self.done:
            yield from range(next_one, first)
            next_one = last + 1
        yield from range(next_one, count)

    def finish(self, index: int) -> None:
        """Count a search as over."""
        over = self._leave(index)
        self.duplicates += over.position.duplicates + max(over.dropped, 0)
        self.missing += over.position.missing
        self.done = _with(self.done, index)

    def fail(self, index: int) -> None:
        """Count a search as failed."""
        self.failed[index] = self._leave(index).written

    def begun(self, index: int) -> UnderWay:
        """Give a search under way, which begins now if it has not."""
        if index not in self.under_way:
            self.under_way[index] = UnderWay(dropped=-self.failed.pop(index, 0))
        return self.under_way[index]

    def _leave(self, index: int) -> UnderWay:
        over = self.under_way.pop(index, None) or UnderWay()
        self.requests += over.position.requests
        return over


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
