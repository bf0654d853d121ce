"""Waiting for something that happens in another process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(condition: Callable[[], Any], what: str, timeout: float = 240, *, every: float = 0.5) -> Any:
    """Give what the condition gives as soon as that is something; a test that waits in vain fails, and says for what."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(every)
    return found
