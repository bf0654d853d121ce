"""The request quota for each client address, over a rolling window, as Redox documents it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """What came from one address."""

    accepted: int = 0
    refused: int = 0
    most: int = 0
    most_asked: int = 0
    counted: deque[float] = field(default_factory=deque)
    asked: deque[float] = field(default_factory=deque)

    def as_json(self) -> dict[str, int]:
        """Return the numbers."""
        names = ("accepted", "refused", "most", "most_asked")
        return {name: getattr(self, name) for name in names}


class Quota:
    """Counts requests. ``most`` were accepted in any window, ``most_asked`` came in any, the refused ones too."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}

    def allows(self, peer: str, now: float, *, limit: int, window: float, counts_refused: bool = False) -> bool:
        """Count one request of ``peer`` and say whether it is within the limit."""
        tally = self._tallies.setdefault(peer, Tally())
        for times in (tally.counted, tally.asked):
            while times and times[0] <= now - window:
                times.popleft()
        allowed = len(tally.counted) < limit
        tally.asked.append(now)
        if allowed or counts_refused:
            tally.counted.append(now)
        if allowed:
            tally.accepted += 1
            tally.most = max(tally.most, len(tally.counted))
        else:
            tally.refused += 1
        tally.most_asked = max(tally.most_asked, len(tally.asked))
        return allowed

    def as_json(self) -> dict[str, dict[str, int]]:
        """Return what came from each address."""
        return {peer: tally.as_json() for peer, tally in self._tallies.items()}

    def clear(self) -> None:
        """Forget all requests."""
        self._tallies.clear()
