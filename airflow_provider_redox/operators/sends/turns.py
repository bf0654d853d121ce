"""Whose turn it is: items that share a key go one after the other, and no place gets more at once than it takes."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


@dataclass(slots=True)
class Turns(Generic[T]):
    """Items in the order in which they were added.

    :param limits: how many may go to a place at once; to one that is not named, as many as want to.
    """

    limits: Mapping[str, int] = field(default_factory=dict)
    _waiting: dict[T, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    _going: dict[T, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    _queues: defaultdict[str, deque[T]] = field(default_factory=lambda: defaultdict(deque))
    _busy: Counter[str] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, item: T, *, keys: tuple[str, ...] = (), places: tuple[str, ...] = ()) -> None:
        """Add an item. All its keys have to be free, and all its places, before it goes."""
        self._waiting[item] = keys, places
        for key in keys:
            self._queues[key].append(item)

    def next(self) -> T | None:
        """Give the first item that may go, None when none may."""
        for item, (keys, places) in self._waiting.items():
            if all(self._queues[key][0] == item for key in keys) and not any(self._is_full(place) for place in places):
                self._going[item] = self._waiting.pop(item)
                self._busy.update(places)
                return item
        return None

    def done(self, item: T) -> None:
        """Say that an item has gone, so that what waited for it may."""
        keys, places = self._going.pop(item)
        self._busy.subtract(places)
        for key in keys:
            self._queues[key].popleft()
            if not self._queues[key]:
                del self._queues[key]

    def _is_full(self, place: str) -> bool:
        return self._busy[place] >= self.limits.get(place, self._busy[place] + 1)
