"""Registered clients and the check of their signed assertions (RFC 7523), strict where Redox is lax.

Signatures are verified with joserfc, not with the library that the provider signs with.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey

MAX_LIFETIME = 300
MAX_AGE = 300
MAX_AHEAD = 10
MIN_RSA_BITS = 2048


class BadKeyError(ValueError):
    """A key set cannot be registered; the message says why."""


class BadAssertionError(ValueError):
    """An assertion is refused; the message names the header or claim."""


Key = RSAKey | ECKey


@dataclass(slots=True)
class Clients:
    """Every client by its ID with its public keys by ``kid``, and the ``jti`` values already used."""

    keys: dict[str, dict[str, Key]] = field(default_factory=dict)
    used: dict[tuple[str, str], float] = field(default_factory=dict)
    _at_start: dict[str, dict[str, Key]] = field(default_factory=dict)

    def start_here(self) -> None:
        """Take the clients registered so far for those of the start."""
        self._at_start = dict(self.keys)

    def reset(self) -> None:
        """Go back to the clients of the start, and forget which assertions were used."""
        self.keys = dict(self._at_start)
        self.used.clear()

    def register(self, client_id: str, jwks: object) -> None:
        """Set the keys of a client; RSA of 2048 bits and more, or P-384."""
        self.keys[client_id] = _read_jwks(jwks)

    def verify(self, assertion: str, *, audience: str, now: float) -> str:
        """Return the client ID that ``assertion`` proves, and remember its ``jti``."""
        header, claims = _unverified(assertion)
        _check_header(header)
        client_id = _client_id(claims)
        key = self._key(client_id, header["kid"])
        _check_signature(assertion, header["alg"], key)
        _check_audience(claims, audience)
        _check_times(claims, now)
        self._check_replay(client_id, claims, now)
        return client_id

    def _key(self, client_id: str, kid: str) -> Key:
        if client_id not in self.keys:
            raise BadAssertionError("iss: no such client")
        if kid not in self.keys[client_id]:
            raise BadAssertionError("kid: not registered for this client")
        return self.keys[client_id][kid]

    def _check_replay(self, client_id: str, claims: dict[str, Any], now: float) -> None:
        self.used = {jti: expiry for jti, expiry in self.used.items() if expiry > now}
        jti = claims.get("jti")
        if not isinstance(jti, str) or not jti:
            raise BadAssertionError("jti: missing")
        if (client_id, jti) in self.used:
            raise BadAssertionError("jti: used before")
        self.used[client_id, jti] = claims["exp"]


def _read_jwks(jwks: object) -> dict[str, Key]:
    if not isinstance(jwks, dict) or not jwks.get("keys"):
        raise BadKeyError("jwks must be an object with a list of keys")
    try:
        keys = KeySet.import_key_set(jwks).keys  # type: ignore[arg-type]  # any JSON: joserfc checks it
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        raise BadKeyError("jwks holds a key that cannot be read") from None
    found = {_kid(raw): _fit(key) for raw, key in zip(jwks["keys"], keys, strict=True)}
    if len(found) != len(keys):
        raise BadKeyError("a kid stands twice in jwks")
    return found


def _kid(raw: dict[str, Any]) -> str:
    if "d" in raw:
        raise BadKeyError("jwks holds a private key; register the public half")
    if not isinstance(raw.get("kid"), str):
        raise BadKeyError("every key needs a kid")
    return str(raw["kid"])


def _fit(key: object) -> Key:
    if isinstance(key, RSAKey) and key.raw_value.key_size >= MIN_RSA_BITS:
        return key
    if isinstance(key, ECKey) and key.curve_name == "P-384":
        return key
    raise BadKeyError(f"only RSA keys of {MIN_RSA_BITS} bits and more, and P-384 keys, fit RS384 and ES384")


def _unverified(assertion: str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        parts = jws.extract_compact(assertion.encode())
        claims = json.loads(parts.payload)
    except (JoseError, ValueError):
        raise BadAssertionError("client_assertion: not a signed JWT") from None
    if not isinstance(claims, dict):
        raise BadAssertionError("client_assertion: its claims are not an object")
    return dict(parts.protected), claims


def _check_header(header: dict[str, Any]) -> None:
    if header.get("alg") not in {"RS384", "ES384"}:
        raise BadAssertionError("alg: must be RS384 or ES384")
    if not isinstance(header.get("kid"), str):
        raise BadAssertionError("kid: missing")
    if header.get("typ") != "JWT":
        raise BadAssertionError("typ: must be JWT")


def _client_id(claims: dict[str, Any]) -> str:
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise BadAssertionError("iss: missing")
    if claims.get("sub") != issuer:
        raise BadAssertionError("sub: must equal iss")
    return issuer


def _check_signature(assertion: str, algorithm: str, key: Key) -> None:
    if algorithm != ("RS384" if isinstance(key, RSAKey) else "ES384"):
        raise BadAssertionError("alg: does not fit the registered key")
    try:
        jwt.decode(assertion, key, algorithms=[algorithm])
    except JoseError:
        raise BadAssertionError("signature: does not verify with the registered key") from None


def _check_audience(claims: dict[str, Any], audience: str) -> None:
    if claims.get("aud") != audience:
        raise BadAssertionError(f"aud: must be the single string {audience}")


def _check_times(claims: dict[str, Any], now: float) -> None:
    issued, expires = _time(claims, "iat"), _time(claims, "exp")
    if issued > now + MAX_AHEAD:
        raise BadAssertionError(f"iat: more than {MAX_AHEAD} seconds in the future")
    if issued < now - MAX_AGE:
        raise BadAssertionError(f"iat: more than {MAX_AGE} seconds ago")
    if expires <= now:
        raise BadAssertionError("exp: passed")
    if expires - issued > MAX_LIFETIME:
        raise BadAssertionError(f"exp: more than {MAX_LIFETIME} seconds after iat")


def _time(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise BadAssertionError(f"{name}: missing or not a number")
    return value
