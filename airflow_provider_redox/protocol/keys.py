"""The signing keys of a connection: one or several, pasted as PEM, DER, JWK or JWKS, and chosen by key ID.

PEM, DER and base64 are parsed by `key_material`, in every form that survives being pasted into a web form; JWK and JWKS
here. What cannot sign gets an error of its own: a public key, a certificate, an OpenSSH key, an encrypted key, half a key.
In a JWKS, keys for other purposes are ignored (RFC 7517 section 5). No error holds any part of what was pasted.
"""

from __future__ import annotations

import abc
import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.key_material import (
    DamagedKeyError,
    PrivateKey,
    UnusableKeyError,
    bare_key,
    cleaned,
    hidden_text,
    is_pem,
    pem_key,
)

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey

ALGORITHMS = ("RS384", "ES384")
MIN_RSA_BITS = 2048

_JWK_ALGORITHMS = {"RSA": "RS384", "EC": "ES384"}
_CURVES = ("P-256", "P-384", "P-521")  # of which the two wrong ones get a sentence of their own
_WRONG_JWK = "is a JWK of a type that Redox does not take (kty must be RSA, or EC on the curve P-384)"


class SigningKey(abc.ABC):
    """What a connection signs with: the one algorithm, the key ID when there is one, and the public half.

    A `LocalKey` holds the private key. One of a remote signer (`signers/`) asks who holds it.
    """

    __slots__ = ()

    algorithm: str
    kid: str | None

    @property
    @abc.abstractmethod
    def public(self) -> PublicKey:
        """The public half."""

    @property
    def seals(self) -> bool:
        """Whether `secret_numbers` gives a secret."""
        return True

    @property
    def remark(self) -> str:
        """What else to look at when Redox refuses the key, a sentence; mostly nothing."""
        return ""

    @abc.abstractmethod
    def sign(self, message: bytes) -> bytes:
        """Sign, in the raw form that JWS wants (RFC 7518 sections 3.3 and 3.4)."""

    @abc.abstractmethod
    def secret_numbers(self) -> bytes:
        """Give a secret that only who may sign with the key has, the same in each process: what is sealed hangs on it.

        Raises `RedoxConfigError` where there is none.
        """

    @abc.abstractmethod
    def named(self, kid: str | None) -> SigningKey:
        """Give the same key with another key ID."""

    def public_jwk(self) -> dict[str, Any]:
        """Give the public half as a JWK, ready to be given to Redox."""
        as_dict = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.public, as_dict=True)
        as_dict.pop("key_ops", None)  # `use` says it (RFC 7517 section 4.3)
        return {**as_dict, "alg": self.algorithm, "use": "sig", **({"kid": self.kid} if self.kid else {})}


@dataclass(frozen=True, slots=True)
class LocalKey(SigningKey):
    """A parsed private key, the one algorithm it signs with, and its key ID when it came with one."""

    private: PrivateKey = field(repr=False)
    algorithm: str
    kid: str | None = None

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return self.private.public_key()

    def sign(self, message: bytes) -> bytes:
        """Sign, in the raw form that JWS wants (RFC 7518 sections 3.3 and 3.4)."""
        signature: bytes = jwt.get_algorithm_by_name(self.algorithm).sign(message, self.private)
        return signature

    def secret_numbers(self) -> bytes:
        """Give the key's secret as bytes of fixed length, the same for every encoding of the same key."""
        if isinstance(self.private, RSAPrivateKey):
            numbers = self.private.private_numbers()
            width = (self.private.key_size + 7) // 8
            return b"".join(prime.to_bytes(width, "big") for prime in sorted((numbers.p, numbers.q)))
        return self.private.private_numbers().private_value.to_bytes((self.private.key_size + 7) // 8, "big")

    def named(self, kid: str | None) -> LocalKey:
        """Give the same key with another key ID."""
        return replace(self, kid=kid)

    def pem(self) -> str:
        """Give the private key as PKCS#8 PEM."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def parse_keys(text: str, *, field_name: str = "password", kid: str | None = None) -> tuple[LocalKey, ...]:
    """Parse pasted key material into its signing keys: one, or for a JWKS one for each private key in it that signs.

    :param kid: the key ID of the connection, if any: in a JWKS that has it, only that key is read.

    Raises `RedoxConfigError` that names the field and the cure.
    """
    pasted = cleaned(text)
    if not pasted:
        raise RedoxConfigError(f"{field_name}: the private key is empty; paste it as PEM or JWK")
    try:
        return _parse(pasted, kid)
    except UnusableKeyError as unusable:
        why = str(unusable)
    raise RedoxConfigError(f"{field_name}: the private key {why}")  # out here, so that its chain is empty


def choose_keys(keys: tuple[SigningKey, ...], *, kid: str | None, algorithm: str | None) -> tuple[SigningKey, ...]:
    """Pick the keys to sign with, by key ID and algorithm, in the order of the JWKS; each comes back with its key ID.

    Raises `RedoxConfigError` when none fits, or when a key has no key ID.
    """
    if algorithm is not None and algorithm not in ALGORITHMS:
        raise RedoxConfigError(f"extra.algorithm: must be one of {', '.join(ALGORITHMS)}")
    named = [key for key in keys if kid is None or key.kid in (None, kid)]
    if not named:
        known = ", ".join(str(key.kid)[:64] for key in keys)
        raise RedoxConfigError(f"extra.kid: no key in the JWKS has this key ID; correct it or add the key. It has {known}")
    fitting = [key for key in named if algorithm in (None, key.algorithm)]
    if not fitting:
        raise RedoxConfigError(
            f"extra.algorithm: {algorithm} does not fit the key, which signs {named[0].algorithm}; "
            "leave the field empty to let the algorithm follow from the key"
        )
    if not all(kid or key.kid for key in fitting):
        raise RedoxConfigError("extra.kid: missing; give the key ID that Redox shows beside the public key")
    return _distinct(tuple(key.named(kid or key.kid) for key in fitting))


def _distinct(keys: tuple[SigningKey, ...]) -> tuple[SigningKey, ...]:
    """Return each key once. Raises `RedoxConfigError` for two keys with one key ID: it would not say which of them signs."""
    by_kid: dict[str | None, SigningKey] = {}
    for key in keys:
        if by_kid.setdefault(key.kid, key).public_jwk() != key.public_jwk():
            raise RedoxConfigError("extra.kid: two private keys of the JWKS have one key ID; take one of them out")
    return tuple(by_kid.values())


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Give the thumbprint of a public JWK (RFC 7638): SHA-256 over the members that are required, in order."""
    names = ("e", "kty", "n") if jwk["kty"] == "RSA" else ("crv", "kty", "x", "y")
    text = json.dumps({name: jwk[name] for name in names}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def kid_of(key: SigningKey) -> str:
    """Give a key ID to a key that has none: the beginning of its thumbprint. Two keys never share it."""
    return f"airflow-{thumbprint(key.public_jwk())[:16]}"


def algorithm_of(public: object) -> str:
    """Give the algorithm that a key signs with, by its public half. Raises `UnusableKeyError`."""
    if isinstance(public, RSAPublicKey):
        if public.key_size < MIN_RSA_BITS:
            raise UnusableKeyError(f"has {public.key_size} bits; RSA needs {MIN_RSA_BITS} or more")
        return "RS384"
    if not isinstance(public, EllipticCurvePublicKey):
        raise UnusableKeyError("is of a type that Redox does not take; make an RSA key of 2048 bits or more")
    if public.curve.name != "secp384r1":
        raise UnusableKeyError(f"is on the curve {public.curve.name}; ES384 needs P-384")
    return "ES384"


def _parse(text: str, kid: str | None) -> tuple[LocalKey, ...]:
    if text.startswith(("{", "[")):
        return _from_json(text, kid)
    if is_pem(text):
        return (_checked(pem_key(text)),)
    hidden = hidden_text(text)
    return (_checked(bare_key(text)),) if hidden is None else _parse(cleaned(hidden), kid)


def _from_json(text: str, kid: str | None) -> tuple[LocalKey, ...]:
    document = _loaded(text)
    if document is None and '\\"' in text:
        unescaped = _loaded(f'"{text}"')
        document = _loaded(unescaped) if isinstance(unescaped, str) else None
    if document is None:
        raise UnusableKeyError("looks like a JWK but is not valid JSON; paste it again, whole")
    listed = document.get("keys", [document]) if isinstance(document, dict) else document
    entries = [_without_nulls(one) for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    if not entries:
        raise UnusableKeyError("looks like a JWKS, but its `keys` is not a list of JWKs")
    named = [one for one in entries if kid is not None and one.get("kid") == kid]
    return _from_jwks(named or entries, is_chosen=bool(named) or kid is None)


def _from_jwks(entries: list[dict[str, Any]], *, is_chosen: bool) -> tuple[LocalKey, ...]:
    """Parse the signing keys of a JWKS. Keys for other purposes are ignored if another key signs (RFC 7517 section 5).

    :param is_chosen: whether one of these keys is to sign, so that a damaged one is an error. False if the connection has a
        key ID that none of them has.
    """
    keys: list[LocalKey] = []
    others: list[UnusableKeyError] = []
    for one in entries:
        try:
            keys.append(_from_jwk(one))
        except DamagedKeyError as damaged:
            if is_chosen:
                raise
            others.append(damaged)
        except UnusableKeyError as other:
            others.append(other)
    if not keys:
        private = [one for one, jwk in zip(others, entries, strict=True) if "d" in jwk]
        raise (private or others)[0]
    return tuple(keys)


def _without_nulls(jwk: dict[str, Any]) -> dict[str, Any]:
    """Return the members that are not null: some tools write every member that they know, with null for the unused ones."""
    return {name: value for name, value in jwk.items() if value is not None}


def _loaded(text: str) -> Any:
    """Parse JSON, None for what is none: an error of the parser would carry the whole key in its chain."""
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _from_jwk(jwk: Mapping[str, Any]) -> LocalKey:
    algorithm = _JWK_ALGORITHMS.get(str(jwk.get("kty")))
    if algorithm is None or (algorithm == "ES384" and jwk.get("crv") not in _CURVES):
        raise UnusableKeyError(_WRONG_JWK)
    if "d" not in jwk:
        raise UnusableKeyError("is a public JWK (it has no `d`); paste the private one")
    operations = jwk.get("key_ops")
    if jwk.get("use", "sig") != "sig" or (isinstance(operations, list) and "sign" not in operations):
        raise UnusableKeyError("is a JWK that is not for signing, as its `use` or `key_ops` says; paste the one that signs")
    try:
        key = jwt.get_algorithm_by_name(algorithm).from_jwk(dict(jwk))
    except (jwt.InvalidKeyError, ValueError, TypeError, KeyError, binascii.Error, UnsupportedAlgorithm):
        raise DamagedKeyError("is a JWK that cannot be read: a number is missing or damaged") from None
    kid = jwk.get("kid")
    checked = _checked(key, kid=kid if isinstance(kid, str) and kid else None)
    if jwk.get("alg", checked.algorithm) != checked.algorithm:
        raise UnusableKeyError(f"is a JWK whose `alg` does not fit: this key signs {checked.algorithm}")
    return checked


def _checked(key: PrivateKey, *, kid: str | None = None) -> LocalKey:
    return LocalKey(key, algorithm_of(key.public_key()), kid)
