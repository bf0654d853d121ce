"""Work that waits for servers, done side by side in threads; its pieces come to one consumer, as they are ready.

The consumer alone writes and remembers, so nothing of that needs a lock. A thread is at most a piece ahead of it, which
keeps memory flat, and the pieces of one item come in their order.
"""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

I = TypeVar("I")  # noqa: E741
P = TypeVar("P")

_PATIENCE = 0.2
"""Seconds after which a thread looks up whether it is still wanted."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The work on an item is over, well or by an error."""

    error: BaseException | None = None


Work: TypeAlias = Callable[[I], Iterator[P]]


def side_by_side(work: Work[I, P], items: Iterable[I], *, threads: int) -> Iterator[tuple[I, P | Ended]]:
    """Do the work on each item, and give each piece with its item, and an `Ended` at the item's end.

    With one thread it is done in turn, in the caller's own. When the consumer leaves, a thread that is waiting for a server
    is left to its timeout.
    """
    if threads == 1:
        return _in_turn(work, items)
    return _Crew(work, iter(items), threads).pieces()


def _in_turn(work: Work[I, P], items: Iterable[I]) -> Iterator[tuple[I, P | Ended]]:
    for item in items:
        pieces: Iterator[P] | None = None
        while True:
            try:
                pieces = work(item) if pieces is None else pieces
                piece = next(pieces)
            except StopIteration:
                yield item, Ended()
                break
            except Exception as error:  # noqa: BLE001  (the consumer judges it)
                yield item, Ended(error)
                break
            yield item, piece


@dataclass(frozen=True, slots=True)
class _Gone:
    """A thread has nothing more to do, or the items themselves have failed."""

    error: BaseException | None = None


class _Crew(Generic[I, P]):
    """The threads, and what they hand over."""

    def __init__(self, work: Work[I, P], items: Iterator[I], threads: int) -> None:
        self._work, self._items, self._size = work, items, threads
        self._taking = threading.Lock()
        self._ready: queue.Queue[tuple[I, P | Ended] | _Gone] = queue.Queue(maxsize=threads)
        self._unwanted = threading.Event()

    def pieces(self) -> Iterator[tuple[I, P | Ended]]:
        """Give the pieces as they are ready."""
        running = self._size
        for number in range(running):
            context = contextvars.copy_context()  # what Airflow keeps for the task holds in the threads too
            name = f"redox-side-by-side-{number}"
            threading.Thread(target=context.run, args=(self._take_turns,), name=name, daemon=True).start()
        try:
            while running:
                got = self._ready.get()
                if not isinstance(got, _Gone):
                    yield got
                elif got.error is None:
                    running -= 1
                else:
                    raise got.error
        finally:
            self._unwanted.set()

    def _take_turns(self) -> None:
        gone = _Gone()
        try:
            self._do_items()
        except BaseException as error:  # noqa: BLE001  (it is raised where the pieces are taken, who else waits for ever)
            gone = _Gone(error)
        self._hand_over(gone)

    def _do_items(self) -> None:
        while not self._unwanted.is_set():
            with self._taking:
                try:
                    item = next(self._items)
                except StopIteration:
                    return
            for piece in _in_turn(self._work, (item,)):
                if not self._hand_over(piece):
                    return

    def _hand_over(self, piece: tuple[I, P | Ended] | _Gone) -> bool:
        """Wait until it is taken. Says whether it was."""
        while not self._unwanted.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put(piece, timeout=_PATIENCE)
                return True
        return False
