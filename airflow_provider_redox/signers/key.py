"""A key on a remote signer: what it signs is held against its public key, and what is sealed hangs on a signature of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxError, RedoxProtocolError, RedoxTransportError
from airflow_provider_redox.protocol.key_material import UnusableKeyError
from airflow_provider_redox.protocol.keys import PublicKey, SigningKey, algorithm_of, kid_of
from airflow_provider_redox.signers.base import Signer

T = TypeVar("T")

SEALED_BY = b"airflow-provider-redox v1: the signature of this text is the secret of the seal. It is no assertion."
"""What a remote key signs for the seal. Nothing that is sent anywhere can be of this text: a JWS holds no space."""

_HALF = 48
"""Bytes of each of the two numbers of an ES384 signature."""


class Remote:
    """A signer and its public key, as long as nothing is wrong with them: after an error both are asked for anew.

    :param name: what `extra.signer` says, for errors.
    :param make: makes the signer.
    """

    def __init__(self, name: str, make: Callable[[], Signer]) -> None:
        self._name = name
        self._signer = self._asked(make)
        self.public, self.algorithm = _checked(name, self._asked(self._signer.public_key))
        self.is_stale = False
        self._lock = threading.Lock()
        self._secret: bytes | None = None

    def sign(self, message: bytes) -> bytes:
        """Have a message signed, and see that the public key fits the signature."""
        try:
            signature = _jws_form(self._asked(lambda: self._signer.sign(message)), self.public)
        except RedoxError:
            self.is_stale = True
            raise
        if not jwt.get_algorithm_by_name(self.algorithm).verify(message, self.public, signature):
            self.is_stale = True
            raise RedoxProtocolError(
                f"extra.signer: what {self._name} signs does not fit the public key that it gave; Redox was sent nothing. "
                "Was extra.signer_key, an alias or a version, moved to another key meanwhile? The next try asks for the "
                "public key anew"
            )
        return signature

    def secret(self) -> bytes:
        """Give the signature that the seal hangs on, made once in a process. Deterministic, as RSASSA-PKCS1-v1_5 is."""
        with self._lock:
            if self._secret is None:
                self._secret = self.sign(SEALED_BY)
            return self._secret

    def _asked(self, ask: Callable[[], T]) -> T:
        """Ask the signer. Of an error that is not ours nothing but its class is told."""
        passing = False
        try:
            return ask()
        except RedoxError:
            raise
        except OSError as error:  # TimeoutError is one
            kind, passing = type(error).__name__, True
        except Exception as error:  # noqa: BLE001  (a class of the user's own may raise anything)
            kind = type(error).__name__
        if passing:
            raise RedoxTransportError(f"extra.signer: {self._name} could not be reached ({kind}); nothing was sent to Redox")
        raise RedoxProtocolError(f"extra.signer: {self._name} failed ({kind}); nothing was sent to Redox")


@dataclass(frozen=True, slots=True)
class RemoteKey(SigningKey):
    """A key that never leaves its signer."""

    remote: Remote = field(repr=False)
    algorithm: str
    kid: str | None = None

    @classmethod
    def of(cls, remote: Remote) -> RemoteKey:
        """Make the key, its ID the beginning of its thumbprint."""
        key = cls(remote, remote.algorithm)
        return key.named(kid_of(key))

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return self.remote.public

    @property
    def seals(self) -> bool:
        """Whether `secret_numbers` gives a secret: an ECDSA signature is another one each time."""
        return self.algorithm == "RS384"

    @property
    def remark(self) -> str:
        """What the signer's key is, to be held against what Redox holds."""
        return (
            f"The signer's key is now the one whose thumbprint gives the key ID {kid_of(self)}: if it was replaced, or its "
            "alias moved, give Redox its public key, which `python -m airflow_provider_redox jwks` prints."
        )

    def sign(self, message: bytes) -> bytes:
        """Have it signed. Raises `RedoxConfigError`, `RedoxTransportError` or `RedoxProtocolError`."""
        return self.remote.sign(message)

    def secret_numbers(self) -> bytes:
        """Give the signature of a fixed text, which only the signer can make. Raises as `sign` does."""
        if not self.seals:
            raise RedoxConfigError(
                "extra.signer_key: an ES384 key on a remote signer never signs the same twice, so nothing can be sealed "
                "with it or recognised by another process: no sends, no since='last_success', no deferrable waits. Use an "
                "RSA key (RS384) on the signer, or a private key of the connection's own"
            )
        return self.remote.secret()

    def named(self, kid: str | None) -> RemoteKey:
        """Give the same key with another key ID."""
        return replace(self, kid=kid)


def _checked(name: str, given: object) -> tuple[PublicKey, str]:
    """Read a public key, and say what it signs. Raises `RedoxProtocolError` for none, `RedoxConfigError` for a wrong one."""
    public: Any = None
    encoded = given.encode() if isinstance(given, str) else given
    if isinstance(encoded, bytes):
        with contextlib.suppress(ValueError, UnsupportedAlgorithm):
            public = load_pem_public_key(encoded) if b"-----BEGIN" in encoded else load_der_public_key(encoded)
    if public is None:
        raise RedoxProtocolError(
            f"extra.signer: {name} gave no public key that can be read: a SubjectPublicKeyInfo is wanted, as PEM or DER"
        )
    try:
        return public, algorithm_of(public)
    except UnusableKeyError as unusable:
        why = str(unusable)
    raise RedoxConfigError(f"extra.signer_key: the key {why}")


def _jws_form(signature: object, public: PublicKey) -> bytes:
    """Give a signature in the form that JWS wants; what is none comes back as nothing, which fits no key."""
    if not isinstance(signature, bytes):
        return b""
    if not isinstance(public, EllipticCurvePublicKey) or len(signature) == 2 * _HALF:
        return signature
    try:
        return b"".join(number.to_bytes(_HALF, "big") for number in decode_dss_signature(signature))
    except (ValueError, OverflowError):
        return b""
