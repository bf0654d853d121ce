"""Work side by side: every piece comes once, in its item's order, and a consumer that leaves is not waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import ContextVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_redox.client.side_by_side import Ended, side_by_side


def count_to(number: int) -> Iterator[int]:
    yield from range(number)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 8))
def test_every_piece_comes_once_and_in_order(items: list[int], threads: int) -> None:
    """Each item's pieces, then its end; whatever the number of threads."""
    got: dict[int, list[object]] = {}
    for (place, _), piece in side_by_side(lambda item: count_to(item[1]), enumerate(items), threads=threads):
        got.setdefault(place, []).append(piece)
    assert got == {place: [*range(number), Ended()] for place, number in enumerate(items)}


def test_so_many_are_under_way_at_a_time_and_no_more() -> None:
    """Four threads that meet each other are four; a fifth item waits."""
    meeting, most, now = threading.Barrier(4), [0], [0]
    guard = threading.Lock()

    def work(_: int) -> Iterator[int]:
        with guard:
            now[0] += 1
            most[0] = max(most[0], now[0])
        meeting.wait(timeout=20)
        with guard:
            now[0] -= 1
        yield 1

    assert len(list(side_by_side(work, range(12), threads=4))) == 24
    assert most[0] == 4


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_ends_its_item_alone(threads: int) -> None:
    """The others come to their ends."""

    def work(item: int) -> Iterator[int]:
        yield item
        if item == 1:
            raise ValueError

    ends = {item: got.error for item, got in side_by_side(work, range(4), threads=threads) if isinstance(got, Ended)}
    assert [type(ends[item]) for item in range(4)] == [type(None), ValueError, type(None), type(None)]


def test_a_consumer_that_leaves_is_not_waited_for() -> None:
    """Threads that wait to hand something over see it, and end; one that waits for a server is let be."""
    never, began = threading.Event(), threading.Event()

    def work(item: int) -> Iterator[int]:
        if item == 0:
            yield 0
        began.set()
        never.wait(timeout=60)
        yield item

    pieces = side_by_side(work, range(100), threads=2)
    assert next(pieces) == (0, 0)
    assert began.wait(timeout=20)
    pieces.close()  # type: ignore[attr-defined]
    never.set()
    for thread in threading.enumerate():
        if thread.name.startswith("redox-side-by-side"):
            thread.join(timeout=20)
            assert not thread.is_alive()


def test_items_that_fail_fail_the_consumer() -> None:
    """An iterator of items that raises is no end."""

    def items() -> Iterator[int]:
        yield 1
        raise LookupError

    with pytest.raises(LookupError):
        list(side_by_side(count_to, items(), threads=2))


def test_what_the_task_keeps_in_its_context_holds_in_the_threads() -> None:
    """As Airflow keeps connections there."""
    kept: ContextVar[str] = ContextVar("kept")
    kept.set("by the task")

    def work(_: int) -> Iterator[str]:
        yield kept.get()

    pieces = [piece for _, piece in side_by_side(work, range(3), threads=3) if not isinstance(piece, Ended)]
    assert pieces == ["by the task"] * 3


@pytest.mark.parametrize("threads", [1, 3])
def test_work_that_cannot_begin_ends_its_item_alone(threads: int) -> None:
    """An error before the first piece is one of its item, too."""

    def work(item: int) -> Iterator[int]:
        if item == 1:
            raise ValueError
        return iter([item])

    ends = {item: got.error for item, got in side_by_side(work, range(4), threads=threads) if isinstance(got, Ended)}
    assert [type(ends[item]) for item in range(4)] == [type(None), ValueError, type(None), type(None)]


def test_a_thread_that_is_ended_from_outside_ends_the_consumer() -> None:
    """Else it would wait for ever."""

    def work(item: int) -> Iterator[int]:
        yield item
        raise SystemExit

    with pytest.raises(SystemExit):
        list(side_by_side(work, range(4), threads=2))
