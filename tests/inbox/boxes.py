"""An inbox in tests: filled as the receiver fills it, or as somebody else would."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_redox.storage.inbox.arriving import Inbox
from airflow_provider_redox.storage.inbox.place import InboxFiles
from airflow_provider_redox.storage.inbox.watching import Wanted, Watch
from tests.support.receiver import message


@dataclass
class Box:
    """One feed's inbox at a URL."""

    root: str
    files: InboxFiles = field(init=False)

    def __post_init__(self) -> None:
        self.files = InboxFiles(self.root)
        self.inbox = Inbox(self.files, self.root)

    def put(self, *log_ids: str, **meta: Any) -> None:
        for log_id in log_ids:
            self.inbox.take(json.dumps(message(log_id, **meta)).encode())

    def watch(self, **wanted: Any) -> Watch:
        return Wanted(self.root, **wanted).open()

    def event(self, *names: str, watch: Watch | None = None, **wanted: Any) -> dict[str, Any]:
        """What a trigger tells of these, by default of all that there is."""
        one = watch or self.watch(**wanted)
        return Wanted(self.root, **wanted).event(one, names or one.look(LATER))


LATER = 4_000_000_000.0
"""A moment after everything, as the clock of one who looks."""


def keys(names: list[str]) -> list[str]:
    """The log IDs in names of arrivals."""
    return [name.split("_")[4] for name in names]
