"""The seal on a cached token: who reads the metadata database and has not the private key reads nothing.

The sealing key is derived by HKDF-SHA256 from the secret numbers of the connection's own private key: the two RSA
primes, the smaller first, or the EC scalar, each at fixed length, and never from PEM or DER bytes, of which the
same key has several. Version and fingerprint are HKDF's info; the fingerprint is also the associated data of AES-256-GCM, so
an entry copied from another connection does not open. The expiry lies inside the seal.
"""

from __future__ import annotations

import base64
import binascii
import os

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from airflow_provider_redox.protocol.keys import SigningKey
from airflow_provider_redox.protocol.token import Token

VERSION = "v1"
_NONCE = 12
_LONGEST = 16 * 1024


class Seal:
    """Closes and opens the tokens of one connection."""

    def __init__(self, key: SigningKey, fingerprint: str) -> None:
        self.name = f"redox_cache__{fingerprint}"
        self._bound_to = fingerprint.encode()
        info = b"airflow-provider-redox token cache " + VERSION.encode() + b" " + self._bound_to
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(key.secret_numbers())
        self._cipher = AESGCM(derived)

    def close(self, token: Token) -> str:
        """Seal a token to a text of some hundred characters, different each time."""
        nonce = os.urandom(_NONCE)
        clear = msgspec.json.encode(token)
        return f"{VERSION}.{base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, clear, self._bound_to)).decode()}"

    def open(self, text: object) -> Token | None:
        """Open what `close` made; None for anything else."""
        if not isinstance(text, str) or not text.startswith(f"{VERSION}.") or len(text) > _LONGEST:
            return None
        try:
            sealed = base64.urlsafe_b64decode(text.removeprefix(f"{VERSION}."))
            clear = self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], self._bound_to)
            return msgspec.json.decode(clear, type=Token)
        except (binascii.Error, ValueError, InvalidTag, msgspec.MsgspecError):
            return None
