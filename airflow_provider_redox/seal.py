"""The seal on what lies at rest: who reads the database or the bucket and has not the private key reads nothing.

The sealing key is derived by HKDF-SHA256 from the secret numbers of the connection's own private key: the two RSA
primes, the smaller first, or the EC scalar, each at fixed length, and never from PEM or DER bytes, of which the same
key has several. The purpose, the version and what the entry is bound to are HKDF's info; the latter is also the
associated data of AES-256-GCM, so an entry copied from elsewhere does not open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from airflow_provider_redox.protocol.keys import SigningKey

VERSION = "v1"
_NONCE = 12


class Seal:
    """Closes and opens texts of one purpose.

    :param purpose: what is sealed, such as `token cache`; keys of different purposes differ.
    :param bound_to: where it belongs; an entry bound to another place does not open.
    """

    def __init__(self, key: SigningKey, *, purpose: str, bound_to: str) -> None:
        self._bound_to = bound_to.encode()
        info = f"airflow-provider-redox {purpose} {VERSION} ".encode() + self._bound_to
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(key.secret_numbers())
        self._cipher = AESGCM(derived)

    def close(self, clear: bytes) -> str:
        """Seal bytes to an ASCII text, different each time."""
        nonce = os.urandom(_NONCE)
        return f"{VERSION}.{base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, clear, self._bound_to)).decode()}"

    def open(self, text: object) -> bytes | None:
        """Open what `close` made; None for anything else."""
        if not isinstance(text, str) or not text.startswith(f"{VERSION}."):
            return None
        try:
            sealed = base64.urlsafe_b64decode(text.removeprefix(f"{VERSION}."))
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], self._bound_to)
        except (binascii.Error, ValueError, InvalidTag):
            return None


def keyed_hash(key: SigningKey, *, purpose: str, content: bytes) -> str:
    """Give a hash of 128 bits that only who has the private key can make again, so that no guess can be tried out."""
    info = f"airflow-provider-redox {purpose} {VERSION}".encode()
    secret = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(key.secret_numbers())
    return hmac.new(secret, content, hashlib.sha256).hexdigest()[:32]
