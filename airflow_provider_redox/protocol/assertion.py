"""The signed assertion with which the client proves who it is (RFC 7523, SMART Backend Services).

Byte for byte predictable: the clock and the `jti` are arguments. The signature is made elsewhere, by the
connection's key or by a remote signer; here is only what is signed, and how the parts are put together.
"""

from __future__ import annotations

import base64
import json

LIFETIME = 240
"""Seconds from now to `exp`."""

BACKDATED = 10
"""Seconds by which `iat` lies in the past. Redox takes an `iat` of the past five minutes and tolerates ten seconds
of skew (its token endpoint's error page), so a clock that runs a little ahead stays welcome. `exp - iat` is 250 s, below
the 300 s that SMART allows."""


def signing_input(*, client_id: str, audience: str, kid: str, algorithm: str, now: float, jti: str) -> bytes:
    """Make the bytes to sign: base64url(header) "." base64url(claims)."""
    header: dict[str, str | int] = {"alg": algorithm, "typ": "JWT", "kid": kid}
    issued = int(now)
    claims: dict[str, str | int] = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "iat": issued - BACKDATED,
        "exp": issued + LIFETIME,
        "jti": jti,
    }
    return b".".join((_segment(header), _segment(claims)))


def assemble(signed: bytes, signature: bytes) -> str:
    """Join what was signed and its signature to the compact JWS."""
    return (signed + b"." + _base64url(signature)).decode("ascii")


def _segment(part: dict[str, str | int]) -> bytes:
    return _base64url(json.dumps(part, separators=(",", ":")).encode())


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
