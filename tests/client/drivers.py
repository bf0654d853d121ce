"""Both drivers behind one small face, so that a rule is stated once and holds for both."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from airflow_provider_redox.client.asynchronous import AsyncClient
from airflow_provider_redox.client.driver import real_environment
from airflow_provider_redox.client.slots import MemorySlot
from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.protocol.effects import Bearer, Flow
from airflow_provider_redox.protocol.keys import parse_keys
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from airflow_provider_redox.protocol.settings import Settings
from airflow_provider_redox.protocol.token import Held, Token
from tests.support.wire import TOKEN

PATIENT = "Featherstonehaugh"
QUICK = RetryPolicy(attempts=3, base=0.01, cap=0.02, rate_limit_floor=0.01)
MESSAGE = {
    "Meta": {
        "DataModel": "PatientAdmin",
        "EventType": "NewPatient",
        "Destinations": [{"ID": "0f4bd1d1-451d-4351-8cfd-b767d1b488d6"}],
    },
    "Patient": {"Demographics": {"LastName": PATIENT}},
}
ACCEPTED = b'{"Meta": {"Logs": [{"ID": "log-1"}], "Errors": []}}'


class Blocking:
    """The blocking driver."""

    kind = "blocking"

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.client: Any = SyncClient(settings, **options)

    def run(self, flow: Flow[Any]) -> Any:
        """Drive a flow to its end."""
        return self.client.run(flow)

    def token(self) -> str:
        """Give a fresh token."""
        return str(self.client.perform(Bearer()))

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


class Awaiting:
    """The awaiting driver, in an event loop of its own."""

    kind = "awaiting"

    def __init__(self, settings: Settings, **options: Any) -> None:
        self.runner = asyncio.Runner()
        self.client: Any = AsyncClient(settings, **options)

    def run(self, flow: Flow[Any]) -> Any:
        """Drive a flow to its end."""
        return self.runner.run(self.client.run(flow))

    def token(self) -> str:
        """Give a fresh token."""
        return str(self.runner.run(self.client.perform(Bearer())))

    def close(self) -> None:
        """Close the connections."""
        self.runner.run(self.client.close())
        self.runner.close()


class Drive:
    """A driver, and the calls that tests make. `run` takes any flow; the rest are short words for it."""

    def __init__(self, face: type[Blocking | Awaiting], connection: dict[str, Any], **options: Any) -> None:
        policy = options.pop("retry", QUICK)
        self.settings = replace(settings_of(connection), **options.pop("change", {}))
        self.face = face(self.settings, env=real_environment(policy), **options)
        self.kind, self.client, self.run, self.token = face.kind, self.face.client, self.face.run, self.face.token

    @property
    def calls(self) -> Any:
        """The calls of the connection."""
        return self.client.calls

    def search(self, resource_type: str = "Patient", **params: Any) -> list[dict[str, Any]]:
        """Search, and give all that was found."""
        return list(self.pages(resource_type, **params))

    def pages(self, resource_type: str = "Patient", **params: Any) -> Iterator[dict[str, Any]]:
        """Search, page by page."""
        walk = self.calls.search(resource_type, params)
        while (page := self.run(walk.next_page())) is not None:
            yield from (resource.as_dict() for resource in page.resources)

    def read(self) -> Any:
        """Something that may be repeated."""
        return self.run(self.calls.read("Patient", "1")).json()

    def post(self) -> Any:
        """Something that may not."""
        return self.run(self.calls.post_message(self.calls.complete_message(MESSAGE)))


def settings_of(connection: dict[str, Any]) -> Settings:
    return Settings.from_fields(
        keys=_keys(connection["password"]),
        host=connection["host"],
        port=connection.get("port"),
        extra=connection["extra"],
    )


_keys = functools.lru_cache(parse_keys)


@functools.cache
def pem() -> str:
    """Make a P-384 key, as PEM, the same at each call."""
    key = ec.generate_private_key(ec.SECP384R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def connection_to(url: str, **extra: Any) -> dict[str, Any]:
    """Make a connection to a server of the test's own."""
    known = {"client_id": "client-1", "kid": "kid-1", "destination": "general-hospital", "environment": "Development"}
    return {"conn_type": "redox", "host": url, "password": pem(), "extra": known | extra}


def with_token(connection: dict[str, Any], value: str = TOKEN) -> dict[str, Any]:
    """Put a token into this process's memory, so that the first request that a server sees is the one under test."""
    now = real_environment().now()
    MemorySlot(settings_of(connection).fingerprint).save(Held(Token(value, now, now + 300)))
    return connection
