"""A client of its own for this run: a fresh key, and the Airflow connection that uses it."""

from __future__ import annotations

import json
import os
import secrets
import uuid
from typing import TYPE_CHECKING, Any

from joserfc.jwk import RSAKey

from .names import DESTINATIONS, ENVIRONMENT_ID, ORGANIZATION_ID

if TYPE_CHECKING:
    from .state import Sandbox


CLIENT_VARIABLE = "REDOX_SANDBOX_CLIENT"


class BadClientError(ValueError):
    """The client of the environment cannot be registered."""


def connection_line(sandbox: Sandbox) -> str:
    """Make an RSA key, register its public half, and return the Airflow connection as one line of JSON."""
    client_id, kid = str(uuid.uuid4()), f"sandbox-{secrets.token_hex(4)}"
    key = RSAKey.generate_key(2048, {"kid": kid, "use": "sig", "alg": "RS384"})
    sandbox.clients.register(client_id, {"keys": [key.as_dict(private=False)]})
    sandbox.clients.start_here()
    host, _, port = sandbox.base_url.rpartition(":")
    connection = {
        "conn_type": "redox",
        "host": host,
        "port": int(port),
        "password": key.as_pem(private=True).decode(),
        "extra": _extra(sandbox, client_id, kid),
    }
    return json.dumps(connection)


def register_from_environment(sandbox: Sandbox) -> None:
    """Register the client of ``REDOX_SANDBOX_CLIENT``, if there is one, so that its connection outlives this process.

    It is ``{"client_id": ..., "jwks": {"keys": [...]}}`` with public keys.
    """
    text = os.environ.get(CLIENT_VARIABLE)
    if not text:
        return
    try:
        client = json.loads(text)
        sandbox.clients.register(client["client_id"], client["jwks"])
    except (ValueError, KeyError, TypeError):
        raise BadClientError(f"{CLIENT_VARIABLE} is no client_id with a jwks of public keys.") from None
    sandbox.clients.start_here()


def _extra(sandbox: Sandbox, client_id: str, kid: str) -> dict[str, Any]:
    extra = {
        "client_id": client_id,
        "kid": kid,
        "destination": "general",
        "environment": "Development",
        "destinations": DESTINATIONS,
        "organization_id": ORGANIZATION_ID,
        "environment_id": ENVIRONMENT_ID,
    }
    source = sandbox.settings.source_id
    return extra | ({"source_id": source} if source else {})
