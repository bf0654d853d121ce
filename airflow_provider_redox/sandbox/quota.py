"""The request quota for each client address, over a rolling window, as Redox documents it."""

from __future__ import annotations

from collections import deque


class Quota:
    """Counts accepted requests; a refused one does not count."""

    def __init__(self) -> None:
        self._times: dict[str, deque[float]] = {}

    def allows(self, peer: str, now: float, *, limit: int, window: float) -> bool:
        """Count one request of ``peer`` and say whether it is within the limit."""
        times = self._times.setdefault(peer, deque())
        while times and times[0] <= now - window:
            times.popleft()
        if len(times) >= limit:
            return False
        times.append(now)
        return True

    def clear(self) -> None:
        """Forget all requests."""
        self._times.clear()
