"""The seals on what workers share, bound to the connection's fingerprint. The times lie inside."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.keys import SigningKey
from airflow_provider_redox.protocol.token import Claim, Token
from airflow_provider_redox.seal import Seal

T = TypeVar("T", Token, Claim)

_LONGEST = 16 * 1024
_PURPOSES: dict[type, tuple[str, str]] = {Token: ("token cache", ""), Claim: ("token claim", "__claim")}


class EntrySeal(Generic[T]):
    """Closes and opens the tokens or the claims of one connection, and names their place.

    :param kind: `Token`, which lies at `redox_cache__<fingerprint>`, or `Claim`, at the same with `__claim`.
    """

    def __init__(self, key: SigningKey, fingerprint: str, kind: type[T]) -> None:
        purpose, suffix = _PURPOSES[kind]
        self.name = f"redox_cache__{fingerprint}{suffix}"
        self._kind: type[T] = kind
        self._seal = Seal(key, purpose=purpose, bound_to=fingerprint)

    def close(self, entry: T) -> str:
        """Seal an entry to a text of some hundred characters, different each time."""
        return self._seal.close(msgspec.json.encode(entry))

    def open(self, text: object) -> T | None:
        """Open what `close` made; None for anything else."""
        clear = self._seal.open(text) if isinstance(text, str) and len(text) <= _LONGEST else None
        return jsontext.stored(clear, self._kind)
