"""The access token: the form that asks for it, the answer that brings it, and how long it is fresh."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from airflow_provider_redox.exceptions import RedoxProtocolError

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

UNSTATED_LIFETIME = 60.0
"""Seconds for a token whose answer says nothing of `expires_in`. Redox documents five minutes; this is the careful end."""

LONGEST_LIFETIME = 3600.0
"""Seconds. Redox's tokens live for five minutes; a larger figure is not believed beyond an hour."""

LONGEST = 16 * 1024
"""Characters of a token. Redox's have some hundred; no server takes a header line of more."""

_B64TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


@dataclass(frozen=True, slots=True)
class Token:
    """An access token. Times are seconds since the epoch, so that other machines can read them."""

    value: str = field(repr=False)
    issued_at: float
    expires_at: float

    def is_fresh(self, now: float) -> bool:
        """Say whether it may still be used: until min(30 s, 10 % of its life) before its end."""
        return self.issued_at - LONGEST_LIFETIME <= now < self.expires_at - self._tenth

    def serves(self, now: float, refused: str | None) -> bool:
        """Say whether it may be used, and is not the one that was refused (its value)."""
        return self.value != refused and self.is_fresh(now)

    def renewal(self, place: float) -> float:
        """Give when a worker thinks of renewing it: in the last such stretch of its use, by the worker's place in [0, 1)."""
        return self.expires_at - (2 - place) * self._tenth

    @property
    def _tenth(self) -> float:
        return min(30.0, 0.1 * (self.expires_at - self.issued_at))


@dataclass(frozen=True, slots=True)
class Held:
    """A token in a process's memory, and when that process is to look for a younger one (seconds since the epoch)."""

    token: Token
    due: float = math.inf

    def is_due(self, now: float) -> bool:
        """Say whether it is time to look for a younger one."""
        return now >= self.due


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker writes where others read it, before it asks for a new token.

    :param nonce: tells it from any other claim.
    :param term: names the token that is to be replaced.
    :param at: when it was made, by its worker's clock, in seconds since the epoch.
    """

    nonce: str
    term: str
    at: float


def token_form(*, assertion: str, scope: str | None) -> bytes:
    """Make the form body of the token request (RFC 7523 section 2.2)."""
    fields = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion,
    }
    if scope:
        fields["scope"] = scope
    return urlencode(fields).encode("ascii")


def parse_token(answer: Any, *, now: float) -> Token:
    """Read the token endpoint's JSON answer. Raises `RedoxProtocolError` that says what is odd about it."""
    if not isinstance(answer, dict):
        raise RedoxProtocolError("the token endpoint answered 200 with JSON that is not an object")
    value = answer.get("access_token")
    if not isinstance(value, str) or not value:
        raise RedoxProtocolError("the token endpoint answered 200 without an access_token")
    if not is_sendable(value):
        raise RedoxProtocolError(
            f"the token endpoint sent an access_token with characters no token may have (RFC 6750), or of {LONGEST} or more"
        )
    kind = answer.get("token_type", "Bearer")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise RedoxProtocolError("the token endpoint sent a token whose token_type is not Bearer")
    return Token(value, now, now + _lifetime(answer.get("expires_in")))


def is_sendable(value: str) -> bool:
    """Say whether a token can stand in a header: it cannot begin another one, and is not endless."""
    return len(value) < LONGEST and _B64TOKEN.fullmatch(value) is not None


def _lifetime(stated: Any) -> float:
    if stated is None:
        return UNSTATED_LIFETIME
    try:
        seconds = float(stated) if not isinstance(stated, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not (seconds > 0 and math.isfinite(seconds)):
        raise RedoxProtocolError(f"the token endpoint sent an odd expires_in ({_shown(stated)}), not a number of seconds")
    return min(seconds, LONGEST_LIFETIME)


def _shown(value: Any) -> str:
    return str(value)[:20] if isinstance(value, int | float) else f"a {type(value).__name__}"
