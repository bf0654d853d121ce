"""Everything a sandbox holds, in one place; ``reset`` takes it back to its start."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .clients import Clients
from .delivery import Logs
from .faults import Faults
from .feeds import Feeds
from .ledger import Ledger
from .pages import Cursors
from .quota import Quota
from .store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .settings import Settings
    from .store import Resource


@dataclass(slots=True)
class Sandbox:
    """The state of one process. ``base_url`` is what assertions have to name as their audience."""

    base_url: str
    start_settings: Settings
    store: Store
    settings: Settings
    clients: Clients = field(default_factory=Clients)
    tokens: dict[str, tuple[str, float]] = field(default_factory=dict)
    issued: int = 0
    cursors: Cursors = field(default_factory=Cursors)
    ledger: Ledger = field(default_factory=Ledger)
    faults: Faults = field(default_factory=Faults)
    logs: Logs = field(default_factory=Logs)
    messages: list[dict[str, Any]] = field(default_factory=list)
    blobs: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    quota: Quota = field(default_factory=Quota)
    feeds: Feeds = field(default_factory=Feeds)

    @classmethod
    def start(cls, base_url: str, settings: Settings, resources: Iterable[Resource]) -> Sandbox:
        """Make a sandbox that holds ``resources``."""
        return cls(base_url, settings, Store(resources), settings)

    def now(self) -> float:
        """Tell the server's time: the clock plus the setting ``clock_offset``."""
        return time.time() + self.settings.clock_offset

    def reset(self) -> None:
        """Go back to the start; the client whose connection was printed stays."""
        self.settings = self.start_settings
        self.store.reset()
        self.tokens.clear()
        self.issued = 0
        for part in (self.cursors, self.ledger, self.faults, self.logs, self.messages, self.blobs, self.quota, self.feeds):
            part.clear()
        self.clients.reset()

    def stats(self) -> dict[str, Any]:
        """Count what is there; ``tokens`` are those ever issued, ``live_tokens`` those that still work.

        ``addresses`` says how many requests came from each, and how many of them at most in any window of the quota.
        """
        live = sum(expiry > self.now() for _, expiry in self.tokens.values())
        return {
            "tokens": self.issued,
            "live_tokens": live,
            "requests": len(self.ledger),
            "messages": len(self.messages),
            "logs": len(self.logs),
            "uploads": len(self.blobs),
            "clients": len(self.clients.keys),
            "resources": len(self.store),
            "resources_by_type": self.store.counts(),
            "addresses": self.quota.as_json(),
        }
