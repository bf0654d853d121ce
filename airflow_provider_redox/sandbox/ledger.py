"""The ledger: every request that arrived, in order, and what became of it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Entry:
    """One request. ``status`` is None while it runs, and stays None if the connection was cut.

    ``committed`` says that the request was processed and accepted, whatever the client got to see.
    """

    n: int
    time: str
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    trace_id: str
    body: bytes | None = None
    status: int | None = None
    fault: str | None = None
    committed: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the entry; a body that is not UTF-8 stands in ``body_base64``."""
        shown = {name: getattr(self, name) for name in self.__slots__}
        shown["headers"] = [list(pair) for pair in self.headers]
        try:
            shown["body"] = None if self.body is None else self.body.decode()
        except UnicodeDecodeError:
            shown["body"] = None
            shown["body_base64"] = base64.b64encode(self.body or b"").decode()
        return shown


class Ledger:
    """The entries, numbered from 1."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._n = 0

    def __len__(self) -> int:
        return len(self.entries)

    def number(self) -> int:
        """Return the next number."""
        self._n += 1
        return self._n

    def clear(self) -> None:
        """Start again at 1."""
        self.entries.clear()
        self._n = 0
