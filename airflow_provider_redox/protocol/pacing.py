"""How many requests may go, and when: the share of a rolling window, and what a 429 makes of it.

Redox allows 10,000 requests in a rolling five minutes for an IP address, which is often shared with a live product, and
answers 429 with `X-RateLimit-Limit` above that (Redox, quotas and constraints, August 2025).

A request holds a place from the moment that it may go until a window has passed since its answer. The server counted it
somewhere in between, so it never counts more than there are places, however long the network took. Half of the share may
go at once; what is left is spread until the first place is free again. One place is kept for the request of a token, as
those that hold a place may wait for it.

A 429 means that all that share the address together are above its limit. Each process then has what is below the limit if
it takes a part of what it has just had, and no process needs to know of another. From there the share grows as CUBIC does
(RFC 9438): soon near to where it was cut, for long just below it, then faster.

Pure: the clock is an argument, in seconds, and never goes back.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

DOCUMENTED = 10_000
"""Requests in a window for one address, while no server has said another number."""

AT_ONCE = 0.5
"""The part of the share that may go without a pause."""

SLACK = 1.01
"""Windows for which a place is held: clocks differ, and a server may count in coarse steps."""

CUT, PLATEAU, GROWTH = 0.75, 0.9, 0.0003
"""Of what was had at a 429: what is taken after it, and where growth rests. GROWTH is of the address's limit, for a
window after the rest, by the cube."""

FAIR = 0.05
"""Of the address's limit: what a process is taken to have had that came too late to have had any."""

PROBE = 0.1
"""Windows for which one request alone is waited for, after a pause."""

LONGEST_PAUSE = 12
"""Windows. A server that names a longer time is not believed."""


@dataclass(slots=True, eq=False)
class Place:
    """A request's place, since when it may go."""

    granted: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a 429 says.

    :param limit: requests in a window for the address, from `X-RateLimit-Limit`; None when it says none.
    :param pause: seconds before anything is worth trying.
    :param stated: whether the server said so.
    """

    limit: int | None
    pause: float
    stated: bool = True


@dataclass(frozen=True, slots=True)
class _Cut:
    """When the share was cut, from what, and to what."""

    at: float
    level: float
    low: float
    address: float


@dataclass(slots=True)
class Gate:
    """The share of one process: says who may go when.

    :param share: requests in any window, 2 at least: one place is kept for a token.
    :param window: its seconds.
    """

    share: int
    window: float
    under_way: int = 0
    _left: deque[float] = field(default_factory=deque)
    _last: float = -math.inf
    _shut: float = -math.inf
    _cut: _Cut | None = None
    _strikes: int = 0
    _probe: Place | None = None

    def ask(self, now: float) -> float:
        """Give 0 when a request may go, else the seconds after which it is worth asking again (sooner when one is left)."""
        self._pass(now)
        if now < self._shut:
            return self._shut - now
        if self._strikes and self._probe is not None:
            return max(self._probe.granted + self.window * PROBE - now, 0.0)
        limit = self.limit(now)
        used, room = self.under_way + len(self._left), max(limit - 1, 1)
        frees = self._left[0] + self.window * SLACK if self._left else now + self.window * SLACK
        if used >= room:
            return frees - now if self._left else math.inf
        if used < limit * AT_ONCE:
            return 0.0
        return max(self._last + (frees - self._last) / (room - used + 1) - now, 0.0)

    def ask_for_token(self, now: float) -> float:
        """Give 0 when a token may be asked for: whenever the server takes anything at all."""
        return max(self._shut - now, 0.0)

    def take(self, now: float) -> Place:
        """Take a place."""
        self._pass(now)
        place = Place(now)
        self.under_way += 1
        self._last = now
        if self._strikes:
            self._probe = place
        return place

    def give_back(self, place: Place) -> None:
        """Give back a place of a request that was never sent."""
        self.under_way -= 1
        self._forget_probe(place)

    def leave(self, place: Place, now: float, *, answered: bool) -> None:
        """Leave a place: the server has counted the request by now. `answered` says that it took it."""
        self.under_way -= 1
        self._left.append(now)
        self._forget_probe(place)
        if answered and (self._cut is None or place.granted > self._cut.at):
            self._strikes = 0

    def refuse(self, place: Place | None, now: float, refusal: Refusal) -> bool:
        """Take note of a 429, and say whether it was news: one that was under way when the share was cut last is none.

        The place has been left; it is None when the request went through another gate to the same address.
        """
        self._pass(now)
        if place is not None and self._cut is not None and place.granted <= self._cut.at:
            if refusal.stated:
                self._shut = max(self._shut, now + self._pause(refusal))
            return False
        had = len(self._left)
        told = refusal.limit if refusal.limit is not None and refusal.limit >= had else DOCUMENTED
        level = min(self.limit(now), max(had, told * FAIR), told)
        self._cut = _Cut(now, level, max(level * CUT, 2.0), max(told, self.share / 10))
        self._strikes += 1
        self._shut = max(self._shut, now + self._pause(refusal))
        return True

    def limit(self, now: float) -> int:
        """Give the requests that may be in a window now."""
        cut = self._cut
        if cut is None:
            return self.share
        rest, pace = max(cut.level * PLATEAU, cut.low), cut.address * GROWTH
        windows = (now - cut.at) / self.window
        grown = rest + pace * (windows - math.cbrt((rest - cut.low) / pace)) ** 3
        if grown >= self.share:
            self._cut = None
            return self.share
        return max(round(grown), 2)

    def shut_for(self, now: float) -> float:
        """Give the seconds for which nothing may go, 0 when the gate is open."""
        return max(self._shut - now, 0.0)

    def _pause(self, refusal: Refusal) -> float:
        if refusal.stated:
            return min(refusal.pause, self.window * LONGEST_PAUSE)
        return min(refusal.pause * 2.0 ** min(self._strikes - 1, 10), self.window)

    def _forget_probe(self, place: Place) -> None:
        if self._probe is place:
            self._probe = None

    def _pass(self, now: float) -> None:
        while self._left and self._left[0] + self.window * SLACK <= now:
            self._left.popleft()


@dataclass(slots=True)
class Lane:
    """The way to one destination: how many are on it, and until when it is shut."""

    under_way: int = 0
    _shut: float = -math.inf

    def ask(self, now: float, at_most: int | None) -> float:
        """Give 0 when a request may enter, else the seconds after which it is worth asking again."""
        if now < self._shut:
            return self._shut - now
        return 0.0 if at_most is None or self.under_way < at_most else math.inf

    def enter(self, _now: float) -> None:
        """Enter."""
        self.under_way += 1

    def leave(self) -> None:
        """Leave."""
        self.under_way -= 1

    def shut_until(self, moment: float) -> None:
        """Let nobody in before this moment."""
        self._shut = max(self._shut, moment)


def limit_of(headers: Mapping[str, str]) -> int | None:
    """Read `X-RateLimit-Limit`. None when it is absent, or no number that a limit can be."""
    found = re.match(r"[0-9]{1,9}(?![0-9.])", headers.get("x-ratelimit-limit", "").strip())
    return int(found.group()) or None if found else None
