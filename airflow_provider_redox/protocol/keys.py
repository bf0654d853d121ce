"""What a connection signs with, and private keys in every form that survives being pasted into a web form.

PEM (PKCS#8, PKCS#1, SEC1) with its newlines, with CRLF, with a literal backslash-n, with spaces or nothing where
the newlines were; base64 of the PEM or of the bare DER; a JWK or a JWKS; quotes and a byte-order mark around any
of them. What cannot sign gets its own sentence: a public key, a certificate, an OpenSSH key, an encrypted key, half
a key. No error holds any part of what was pasted.
"""

from __future__ import annotations

import abc
import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from airflow_provider_redox.exceptions import RedoxConfigError

PrivateKey: TypeAlias = RSAPrivateKey | EllipticCurvePrivateKey
PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey

ALGORITHMS = ("RS384", "ES384")
MIN_RSA_BITS = 2048

_PEM_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+?)-----(.*?)-----END \1-----", re.DOTALL)
_PRIVATE_LABELS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")
_WRONG_LABELS = {
    "PUBLIC KEY": "is a public key; paste the private key of the pair",
    "RSA PUBLIC KEY": "is a public key; paste the private key of the pair",
    "CERTIFICATE": "is a certificate; paste the private key that belongs to it",
    "CERTIFICATE REQUEST": "is a certificate request; paste the private key that belongs to it",
    "OPENSSH PRIVATE KEY": "is in OpenSSH's own format; convert it with `ssh-keygen -p -m PEM -f FILE`",
    "ENCRYPTED PRIVATE KEY": "is encrypted with a passphrase; decrypt it with `openssl pkey -in FILE`",
}
_JWK_ALGORITHMS = {"RSA": "RS384", "EC": "ES384"}
_WRONG_JWK = "is a JWK of a type that Redox does not take (kty must be RSA or EC)"


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


def parse_keys(text: str, *, field_name: str = "password") -> tuple[LocalKey, ...]:
    """Parse pasted key material into its signing keys: one, or for a JWKS one for each private key in it.

    Raises `RedoxConfigError` that names the field and the cure.
    """
    cleaned = _unquoted(text)
    if not cleaned:
        raise RedoxConfigError(f"{field_name}: the private key is empty; paste it as PEM or JWK")
    try:
        return _parse(cleaned)
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
        raise RedoxConfigError("extra.kid: no key in the JWKS has this key ID; correct it or add the key")
    fitting = [key for key in named if algorithm in (None, key.algorithm)]
    if not fitting:
        raise RedoxConfigError(
            f"extra.algorithm: {algorithm} does not fit the key, which signs {named[0].algorithm}; "
            "leave the field empty to let the algorithm follow from the key"
        )
    if not all(kid or key.kid for key in fitting):
        raise RedoxConfigError("extra.kid: missing; give the key ID that Redox shows beside the public key")
    return tuple(key.named(kid or key.kid) for key in fitting)


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Give the thumbprint of a public JWK (RFC 7638): SHA-256 over the members that are required, in order."""
    names = ("e", "kty", "n") if jwk["kty"] == "RSA" else ("crv", "kty", "x", "y")
    text = json.dumps({name: jwk[name] for name in names}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def kid_of(key: SigningKey) -> str:
    """Give a key ID to a key that has none: the beginning of its thumbprint. Two keys never share it."""
    return f"airflow-{thumbprint(key.public_jwk())[:16]}"


class UnusableKeyError(Exception):
    """Why a key cannot sign: the end of a sentence that begins with "the key" or "the private key"."""


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


def _unquoted(text: str) -> str:
    stripped = text.strip("\ufeff \t\r\n")
    while len(stripped) > 1 and stripped[0] == stripped[-1] and stripped[0] in "\"'`":
        stripped = stripped[1:-1].strip()
    return stripped


def _parse(text: str) -> tuple[LocalKey, ...]:
    if text.startswith(("{", "[")):
        return _from_json(text)
    if "-----BEGIN" in text:
        return (_checked(_from_pem(text)),)
    return _from_base64(text)


def _from_base64(text: str) -> tuple[LocalKey, ...]:
    decoded = _base64_bytes(re.sub(r"\\+[rn]|\s", "", text))
    if decoded is None or len(decoded) < 32:
        raise UnusableKeyError("is not in a form that is known; paste it as PEM (-----BEGIN PRIVATE KEY-----) or as JWK")
    if decoded.lstrip(b"\xef\xbb\xbf \r\n").startswith((b"-----BEGIN", b"{")):
        return _parse(_unquoted(decoded.decode("utf-8", "replace")))
    return (_checked(_from_der(decoded)),)


def _from_pem(text: str) -> PrivateKey:
    unescaped = re.sub(r"\\+r\\+n|\\+[rn]", "\n", text)
    blocks = dict(_PEM_BLOCK.findall(unescaped))
    for label in _PRIVATE_LABELS:
        if label in blocks:
            return _from_pem_body(blocks[label])
    for label, sentence in _WRONG_LABELS.items():
        if label in blocks:
            raise UnusableKeyError(sentence)
    if blocks:
        raise UnusableKeyError("is a PEM of another kind; paste the block that begins with -----BEGIN PRIVATE KEY-----")
    raise UnusableKeyError("is cut off: its -----END line is missing or does not fit; paste it whole")


def _from_pem_body(body: str) -> PrivateKey:
    if "ENCRYPTED" in body:
        raise UnusableKeyError(_WRONG_LABELS["ENCRYPTED PRIVATE KEY"])
    der = _base64_bytes(re.sub(r"\s", "", body))
    if der is None:
        raise UnusableKeyError("is damaged: its body is not base64; paste it again, whole")
    return _from_der(der)


def _from_der(der: bytes) -> PrivateKey:
    try:
        key = load_der_private_key(der, None)
    except TypeError:
        raise UnusableKeyError(_WRONG_LABELS["ENCRYPTED PRIVATE KEY"]) from None
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKeyError("is damaged or cut off; paste it again, whole") from None
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey):
        raise UnusableKeyError("is of a type that Redox does not take; make an RSA key of 2048 bits or more")
    return key


def _base64_bytes(text: str) -> bytes | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _from_json(text: str) -> tuple[LocalKey, ...]:
    document = _loaded(text)
    if document is None and '\\"' in text:
        unescaped = _loaded(f'"{text}"')
        document = _loaded(unescaped) if isinstance(unescaped, str) else None
    if document is None:
        raise UnusableKeyError("looks like a JWK but is not valid JSON; paste it again, whole")
    entries = document.get("keys", [document]) if isinstance(document, dict) else document
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UnusableKeyError("looks like a JWKS, but its `keys` is not a list of JWKs")
    private = [entry for entry in entries if "d" in entry and entry.get("use", "sig") == "sig"]
    if not private:
        if any(str(entry.get("kty")) not in _JWK_ALGORITHMS for entry in entries):
            raise UnusableKeyError(_WRONG_JWK)
        raise UnusableKeyError("is a public JWK (it has no `d`); paste the private one")
    return tuple(_from_jwk(entry) for entry in private)


def _loaded(text: str) -> Any:
    """Parse JSON, None for what is none: an error of the parser would carry the whole key in its chain."""
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _from_jwk(jwk: Mapping[str, Any]) -> LocalKey:
    algorithm = _JWK_ALGORITHMS.get(str(jwk.get("kty")))
    if algorithm is None:
        raise UnusableKeyError(_WRONG_JWK)
    try:
        key = jwt.get_algorithm_by_name(algorithm).from_jwk(dict(jwk))
    except (jwt.InvalidKeyError, ValueError, TypeError, KeyError, binascii.Error, UnsupportedAlgorithm):
        raise UnusableKeyError("is a JWK that cannot be read: a number is missing or damaged") from None
    kid = jwk.get("kid")
    checked = _checked(key, kid=kid if isinstance(kid, str) and kid else None)
    if jwk.get("alg", checked.algorithm) != checked.algorithm:
        raise UnusableKeyError(f"is a JWK whose `alg` does not fit: this key signs {checked.algorithm}")
    return checked


def _checked(key: PrivateKey, *, kid: str | None = None) -> LocalKey:
    return LocalKey(key, algorithm_of(key.public_key()), kid)
