"""Assertions that are odd in one way each, to see whether the token endpoint minds."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from airflow_provider_redox.cli.watched import WatchedClient
from airflow_provider_redox.protocol import assertion
from airflow_provider_redox.protocol.effects import Request, Sign
from airflow_provider_redox.protocol.token import token_form


@dataclass(frozen=True, slots=True)
class Signer:
    """Makes assertions as the provider makes them, on a clock that can be set."""

    client: WatchedClient
    offset: float = 0.0

    def proper(self) -> str:
        """Make an assertion as every task does."""
        return self._signed(self._unsigned())

    def without_exp(self) -> str:
        """Make one that never expires."""
        return self._signed(_altered(self._unsigned(), exp=None))

    def ahead(self, seconds: int) -> str:
        """Make one of the future, which lives no longer than the others."""
        now = int(self.client.env.now() + self.offset)
        return self._signed(_altered(self._unsigned(), iat=now + seconds, exp=now + seconds + assertion.LIFETIME))

    def unsigned(self) -> str:
        """Make one whose signature is another one's."""
        other = self.client.perform(Sign(b"another text"))
        return assertion.assemble(self._unsigned(), other)

    def request(self, assertion_: str) -> Request:
        """Make the token request."""
        settings = self.client.settings
        body = token_form(assertion=assertion_, scope=settings.scope)
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        return Request("POST", settings.auth_url, "POST (token endpoint)", headers, body)

    def _unsigned(self) -> bytes:
        settings, env = self.client.settings, self.client.env
        return assertion.signing_input(
            client_id=settings.client_id,
            audience=settings.audience,
            kid=settings.kid,
            algorithm=settings.algorithm,
            now=env.now() + self.offset,
            jti=env.new_jti(),
        )

    def _signed(self, message: bytes) -> str:
        return assertion.assemble(message, self.client.perform(Sign(message)))


def _altered(message: bytes, **changes: Any) -> bytes:
    """Change claims of an assertion that is not signed yet; None takes one away."""
    header, _, claims = message.partition(b".")
    padded = claims + b"=" * (-len(claims) % 4)
    altered = {**json.loads(base64.urlsafe_b64decode(padded)), **changes}
    kept = {name: value for name, value in altered.items() if value is not None}
    return header + b"." + base64.urlsafe_b64encode(json.dumps(kept).encode()).rstrip(b"=")
