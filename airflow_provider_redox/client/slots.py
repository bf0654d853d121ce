"""Where a token may lie, seen from the client: something that can be loaded and saved. Best effort, never an error."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol, TypeVar

from airflow_provider_redox.protocol.token import Claim, Held, Token

T = TypeVar("T")


class Slot(Protocol[T]):
    """A place for one thing of one connection. Broken, foreign or tampered content is None; saving may do nothing."""

    def load(self) -> T | None:
        """Give what lies here, or None."""
        ...

    def save(self, entry: T) -> bool:
        """Put this here, and say whether that could be done."""
        ...


@dataclass(frozen=True, slots=True)
class Shared:
    """What the workers share: the token, and the claim of the one who renews it."""

    token: Slot[Token]
    claim: Slot[Claim]


class MemorySlot:
    """This process's memory, shared by all clients with the same fingerprint."""

    _tokens: dict[str, Held] = {}  # noqa: RUF012  (shared on purpose)
    _guard = threading.Lock()

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint

    def load(self) -> Held | None:
        """Give the token that lies here, or None."""
        return self._tokens.get(self._fingerprint)

    def save(self, entry: Held) -> bool:
        """Put the token here."""
        with self._guard:
            self._tokens[self._fingerprint] = entry
        return True

    @classmethod
    def forget_all(cls) -> None:
        """Drop every token of this process."""
        with cls._guard:
            cls._tokens.clear()


class NoSlot:
    """Nowhere: nothing is kept."""

    def load(self) -> None:
        """Give None."""

    def save(self, entry: object) -> bool:  # noqa: ARG002
        """Keep nothing."""
        return False


ALONE = Shared(NoSlot(), NoSlot())
"""Nobody else to share with."""
