"""Signers of a user's own, good and bad, as a connection would name them."""

from __future__ import annotations

import functools
import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.signers.key import SEALED_BY

SECRET = "a-secret-that-no-error-may-hold"
made: list[str] = []
"""The names with which something was called here."""


@functools.cache
def private(kind: str) -> Any:
    """A key that is in the process only because the test plays the signer too."""
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    curves: dict[str, ec.EllipticCurve] = {"p384": ec.SECP384R1(), "p256": ec.SECP256R1()}
    return ec.generate_private_key(curves[kind]) if kind in curves else rsa.generate_private_key(65537, int(kind))


class Own:
    """Signs properly. Its key's name is its kind: a size of RSA, or a curve."""

    encoding, shape = Encoding.PEM, "der"

    def __init__(self, key: str) -> None:
        made.append(key)
        self.kind = key

    def public_key(self) -> bytes | str:
        return private(self.kind).public_key().public_bytes(self.encoding, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, message: bytes) -> bytes:
        key = private(self.kind)
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(message, padding.PKCS1v15(), SHA384())
        signature: bytes = key.sign(message, ec.ECDSA(SHA384()))
        if self.shape == "der":
            return signature
        return b"".join(number.to_bytes(48, "big") for number in decode_dss_signature(signature))


class Raw(Own):
    """Gives its public key as DER, and an ECDSA signature as JWS wants it."""

    encoding, shape = Encoding.DER, "raw"


class Text(Own):
    """Gives its public key as a text."""

    def public_key(self) -> str:
        return private(self.kind).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class Slow(Own):
    """Takes a while to be made."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        time.sleep(0.1)


class Late(Own):
    """Signs for the seal, and then is gone."""

    def sign(self, message: bytes) -> bytes:
        if message != SEALED_BY:
            raise TimeoutError(SECRET)
        return super().sign(message)


class Rubbish(Own):
    """Signs with rubbish: its key's name is `how/kind`."""

    def __init__(self, key: str) -> None:
        self.how, _, kind = key.partition("/")
        super().__init__(kind)

    def sign(self, message: bytes) -> Any:
        def broken() -> bytes:
            raise ValueError(SECRET)

        def gone() -> bytes:
            raise ConnectionResetError(SECRET)

        def known() -> bytes:
            raise RedoxConfigError("extra.signer_key: our HSM wants its PIN")

        answers = {
            "nothing": lambda: None,
            "text": lambda: "signed",
            "empty": lambda: b"",
            "noise": lambda: b"\x30" * 96,
            "der": lambda: b"0\x06\x02\x01\x00\x02\x01\x00",
            "other": lambda: super(Rubbish, self).sign(message + b"!"),
            "broken": broken,
            "gone": gone,
            "known": known,
        }
        return answers[self.how]()


class NoKey(Own):
    """Gives something else for a public key."""

    def public_key(self) -> bytes:
        return b"-----BEGIN PUBLIC KEY-----\nbm90aGluZw==\n-----END PUBLIC KEY-----\n"


class Broken:
    """Cannot be made."""

    def __init__(self, key: str) -> None:
        raise ValueError(SECRET)

    public_key = sign = __init__


def function(key: str) -> None:
    """No class, and not to be called."""
    made.append(key)


class Shapeless:
    """A class that is no signer, and not to be made."""

    def __init__(self, key: str) -> None:
        made.append(key)
