"""What a client is told to do, and how it signs in."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SLUG, ENVIRONMENT = "bench", "Development"
CLIENT_ID, KID = "bench-client", "bench-key"

_TIMEOUT = 60


@dataclass(frozen=True, slots=True)
class Job:
    """One search to drain into NDJSON files.

    :param server: the server's address.
    :param key: the private key, in PEM.
    :param out: the folder for the files, one for each resource type.
    """

    server: str
    key: str
    out: Path

    @property
    def base(self) -> str:
        """The FHIR base URL."""
        return f"{self.server}/fhir/R4/{SLUG}/{ENVIRONMENT}"

    @property
    def token_url(self) -> str:
        """The token endpoint."""
        return f"{self.server}/v2/auth/token"


def sign_in(job: Job) -> str:
    """Exchange a signed assertion for a token, as Redox's documentation shows; for clients that cannot do it themselves."""
    import time
    import uuid

    import jwt
    import requests

    now = int(time.time())
    claims = {
        "iss": CLIENT_ID,
        "sub": CLIENT_ID,
        "aud": job.token_url,
        "iat": now,
        "exp": now + 300,
        "jti": uuid.uuid4().hex,
    }
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": jwt.encode(claims, job.key, algorithm="RS384", headers={"kid": KID}),
    }
    answer = requests.post(job.token_url, data=form, timeout=_TIMEOUT)
    answer.raise_for_status()
    token: str = answer.json()["access_token"]
    return token


def set_connections(job: Job) -> None:
    """Put the Airflow connections for the server into the environment."""
    extra = {
        "client_id": CLIENT_ID,
        "kid": KID,
        "destination": SLUG,
        "environment": ENVIRONMENT,
        "cache_backend": "memory",
        "requests_per_5min": 10_000,  # what is measured must not wait for its own share
    }
    redox = {"conn_type": "redox", "host": job.server, "password": job.key, "extra": extra}
    http = {"conn_type": "http", "host": job.base}
    set_connection("REDOX_DEFAULT", redox)
    set_connection("HTTP_DEFAULT", http)


def set_connection(name: str, fields: dict[str, Any]) -> None:
    """Put one connection into the environment, as JSON."""
    os.environ[f"AIRFLOW_CONN_{name}"] = json.dumps(fields)
