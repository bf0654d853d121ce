"""The seal on a cached token, bound to the connection's fingerprint. The expiry lies inside it."""

from __future__ import annotations

import msgspec

from airflow_provider_redox.protocol.keys import SigningKey
from airflow_provider_redox.protocol.token import Token
from airflow_provider_redox.seal import Seal

_LONGEST = 16 * 1024


class TokenSeal:
    """Closes and opens the tokens of one connection, and names their place: `redox_cache__<fingerprint>`."""

    def __init__(self, key: SigningKey, fingerprint: str) -> None:
        self.name = f"redox_cache__{fingerprint}"
        self._seal = Seal(key, purpose="token cache", bound_to=fingerprint)

    def close(self, token: Token) -> str:
        """Seal a token to a text of some hundred characters, different each time."""
        return self._seal.close(msgspec.json.encode(token))

    def open(self, text: object) -> Token | None:
        """Open what `close` made; None for anything else."""
        clear = self._seal.open(text) if isinstance(text, str) and len(text) <= _LONGEST else None
        try:
            return None if clear is None else msgspec.json.decode(clear, type=Token)
        except msgspec.MsgspecError:
            return None
