"""This process's share of Redox's quota: never more requests in a rolling window than the connection allows.

Redox allows 10,000 requests in a rolling five minutes for an IP address, which is often shared with a live product.
A pace says how long to wait before the next request; it is shared by all clients of a connection in one process. So is
the budget of retries.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from airflow_provider_redox.protocol.outcomes import RetryBudget

WINDOW = 300.0
"""Seconds of the rolling window (Redox, quotas and constraints)."""


class Pace:
    """Grants `limit` requests in any `window` seconds. Safe for threads."""

    def __init__(self, limit: int, *, window: float = WINDOW, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._window = window
        self._clock = clock
        self._grants: deque[float] = deque(maxlen=limit)
        self._lock = threading.Lock()

    def reserve(self) -> float:
        """Take the next place and give the seconds to wait until it comes."""
        with self._lock:
            now = self._clock()
            full = len(self._grants) == self._limit
            due = max(now, self._grants[0] + self._window) if full else now
            self._grants.append(due)
            return due - now


_paces: dict[tuple[str, int], Pace] = {}
_budgets: dict[str, RetryBudget] = {}
_lock = threading.Lock()


def budget_for(origin: str) -> RetryBudget:
    """Give the retry budget that all clients of this process share for a server."""
    with _lock:
        return _budgets.setdefault(origin, RetryBudget())


def forget_budgets() -> None:
    """Begin with full budgets again."""
    with _lock:
        _budgets.clear()


def pace_for(origin: str, limit: int) -> Pace:
    """Give the pace that all clients of this process share for a server."""
    with _lock:
        return _paces.setdefault((origin, limit), Pace(limit))
