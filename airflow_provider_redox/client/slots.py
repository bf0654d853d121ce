"""Where a token may lie, seen from the client: something that can be loaded and saved. Best effort, never an error."""

from __future__ import annotations

import threading
from typing import Protocol

from airflow_provider_redox.protocol.token import Token


class TokenSlot(Protocol):
    """A place for one connection's token. Broken, foreign, tampered or expired content is None; saving may do nothing."""

    def load(self) -> Token | None:
        """Give the token that lies here, or None."""
        ...

    def save(self, token: Token) -> None:
        """Put the token here."""
        ...


class MemorySlot:
    """This process's memory, shared by all clients with the same fingerprint."""

    _tokens: dict[str, Token] = {}  # noqa: RUF012  (shared on purpose)
    _guard = threading.Lock()

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint

    def load(self) -> Token | None:
        """Give the token that lies here, or None."""
        return self._tokens.get(self._fingerprint)

    def save(self, token: Token) -> None:
        """Put the token here."""
        with self._guard:
            self._tokens[self._fingerprint] = token

    @classmethod
    def forget_all(cls) -> None:
        """Drop every token of this process."""
        with cls._guard:
            cls._tokens.clear()


class NoSlot:
    """Nowhere: nothing is kept."""

    def load(self) -> Token | None:
        """Give None."""
        return None

    def save(self, token: Token) -> None:
        """Keep nothing."""
