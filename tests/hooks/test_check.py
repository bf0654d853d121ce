"""The Test button: one token request, no clinical call, no cache, and words that lead to what is wrong."""

from __future__ import annotations

import json
import re
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from airflow_provider_redox.client.slots import MemorySlot
from airflow_provider_redox.hooks.check import connection as connection_report
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.protocol.keys import LocalKey, parse_keys
from tests.client.drivers import connection_to, pem
from tests.hooks.conftest import Connect
from tests.support.sandbox import Sandbox
from tests.support.wire import TOKEN, Wire, answers, breaks_after, http


@pytest.fixture(scope="module")
def other_key() -> str:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def checked(sandbox: Sandbox, connect: Connect, connection: dict[str, Any]) -> str:
    """Press the button on a connection that does not work, and give the message, which holds no secret."""
    connect(connection)
    fine, message = RedoxHook().test_connection()
    assert not fine
    assert [entry["path"] for entry in sandbox.ledger()] == ["/v2/auth/token"]
    (assertion,) = re.findall(r"client_assertion=([\w.-]+)", sandbox.ledger()[0]["body"])
    for secret in [*assertion.split("."), *connection["password"].splitlines()[1:-1]]:
        assert secret not in message
    return message


def test_it_works(sandbox: Sandbox, connect: Connect) -> None:
    """A working connection costs one token request and nothing else, and the message names key and client."""
    connect(sandbox.connection)
    fine, message = RedoxHook().test_connection()
    assert fine
    assert [entry["path"] for entry in sandbox.ledger()] == ["/v2/auth/token"]
    assert sandbox.connection["extra"]["kid"] in message
    assert sandbox.connection["extra"]["client_id"] in message


def test_the_algorithm_is_that_of_the_key_that_was_accepted(sandbox: Sandbox, connect: Connect) -> None:
    """Of several keys the one that Redox took is named, with what it signs, in the message and in the report."""
    rsa_key = LocalKey(rsa.generate_private_key(65537, 2048), "RS384", "unknown")
    ec_key = LocalKey(ec.generate_private_key(ec.SECP384R1()), "ES384", "known")
    client_id = sandbox.connection["extra"]["client_id"]
    private = [
        {**jwt.get_algorithm_by_name(key.algorithm).to_jwk(key.private, as_dict=True), "kid": key.kid}
        for key in (rsa_key, ec_key)
    ]
    registered = {"client_id": client_id, "jwks": {"keys": [ec_key.public_jwk(), *public_of(sandbox)]}}
    sandbox.control("POST", "clients", registered)
    connect({**sandbox.with_extra(kid=None), "password": json.dumps({"keys": private})})
    report = connection_report(RedoxHook())
    assert report.ok
    assert f"accepts the key known of client {client_id} (ES384)" in report.message
    assert (report.algorithm, report.key_ids) == ("ES384", ("unknown", "known"))
    sandbox.control("POST", "clients", {"client_id": client_id, "jwks": {"keys": public_of(sandbox)}})


def public_of(sandbox: Sandbox) -> list[dict[str, Any]]:
    """Give the public half of the sandbox's own connection."""
    return [parse_keys(sandbox.connection["password"])[0].named(sandbox.connection["extra"]["kid"]).public_jwk()]


def test_no_cache_is_read(sandbox: Sandbox, connect: Connect) -> None:
    """A token at hand does not make a broken connection look well: each press asks anew."""
    connect(sandbox.connection)
    hook = RedoxHook()
    hook.get_access_token()
    assert hook.test_connection()[0]
    assert hook.test_connection()[0]
    hook.client.close()
    assert len(sandbox.ledger("/v2/auth/token")) == 3


def test_no_cache_is_written(sandbox: Sandbox, connect: Connect) -> None:
    """What the check obtained is thrown away."""
    connect(sandbox.connection)
    assert RedoxHook().test_connection()[0]
    assert not MemorySlot._tokens


def test_another_key(sandbox: Sandbox, connect: Connect, other_key: str) -> None:
    """A key that does not belong to the registered one: the endpoint's words, and to check key and kid."""
    message = checked(sandbox, connect, {**sandbox.connection, "password": other_key})
    assert "invalid_client: signature: does not verify" in message
    assert "extra.kid and the private key belong to the public key" in message


def test_another_kid(sandbox: Sandbox, connect: Connect) -> None:
    """A key ID that Redox does not know leads to extra.kid."""
    message = checked(sandbox, connect, sandbox.with_extra(kid="another"))
    assert "kid: not registered" in message
    assert "extra.kid" in message


def test_another_client(sandbox: Sandbox, connect: Connect) -> None:
    """A client ID that Redox does not know leads to extra.client_id."""
    message = checked(sandbox, connect, sandbox.with_extra(client_id="another"))
    assert "no such client" in message
    assert "extra.client_id" in message


def test_another_audience(sandbox: Sandbox, connect: Connect) -> None:
    """A wrong audience leads to extra.audience."""
    message = checked(sandbox, connect, sandbox.with_extra(audience="https://api.redoxengine.com/v2/auth/token"))
    assert "aud: must be" in message
    assert "extra.audience" in message


@pytest.mark.parametrize(("offset", "word"), [(3600, "behind"), (-3600, "ahead of")])
def test_the_clock(sandbox: Sandbox, connect: Connect, offset: int, word: str) -> None:
    """A clock that is an hour off is named with its direction, first of all."""
    sandbox.settings(clock_offset=offset)
    message = checked(sandbox, connect, sandbox.connection)
    assert re.search(rf"this machine's clock is 3(600|599|601) s {word} Redox's: set it", message)


@pytest.mark.parametrize("offset", [-9, 9])
def test_a_clock_a_little_off(sandbox: Sandbox, connect: Connect, offset: int) -> None:
    """A clock that is nine seconds off, either way, is no obstacle."""
    sandbox.settings(clock_offset=offset)
    connect(sandbox.connection)
    assert RedoxHook().test_connection()[0]


def test_no_route(connect: Connect) -> None:
    """Nobody at the port: that the connection was refused."""
    with Wire() as gone:
        pass
    connect(connection_to(gone.url))
    assert RedoxHook().test_connection() == (
        False,
        f"The connection does not work: {gone.url}/v2/auth/token: nothing was sent: the connection was refused",
    )


def test_no_name(connect: Connect) -> None:
    """A host name that nobody knows: that it cannot be resolved."""
    connect(connection_to("https://redox.invalid"))
    fine, message = RedoxHook().test_connection()
    assert not fine
    assert "the host name cannot be resolved" in message


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (http(b"Welcome to nginx!", kind="text/plain"), "not JSON"),
        (http(b"{}"), "without an access_token"),
        (http(b"<html>", status="403 Forbidden", kind="text/html"), "HTTP 403"),
        (http(b"", status="302 Found", Location="/login"), "redirect"),
        (http(b"busy", status="503 Service Unavailable"), "HTTP 503"),
        (http(b"", status="429 Too Many Requests"), "rate limit"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "no answer came"),
    ],
)
def test_something_else_answers(connect: Connect, answer: bytes, word: str) -> None:
    """What is not Redox is told in words too, after one request and without a wait."""
    with Wire(breaks_after(answer)) as wire:
        connect(connection_to(wire.url))
        fine, message = RedoxHook().test_connection()
        assert not fine
        assert word in message
        assert len(wire.requests) == 1


def test_an_echo_of_the_assertion(connect: Connect) -> None:
    """An endpoint that sends the assertion or a key back finds it left out of the message."""

    def echo(line: Any) -> None:
        sent = line.request().partition(b"client_assertion=")[2].split(b"&")[0]
        line.send(http(b'{"error": "invalid_client", "error_description": "bad %s"}' % sent, status="401 Unauthorized"))

    with Wire(echo) as wire:
        connect(connection_to(wire.url))
        fine, message = RedoxHook().test_connection()
        (assertion,) = re.findall(rb"client_assertion=([\w.-]+)", wire.received)
    assert not fine
    assert "invalid_client: bad" in message
    assert not any(part in message for part in assertion.decode().split("."))


def test_a_wrong_field(connect: Connect) -> None:
    """A wrong field is told, not raised, and nothing is sent."""
    with Wire(answers()) as wire:
        connect(connection_to(wire.url, environment="Testing"))
        assert RedoxHook().test_connection() == (
            False,
            "The connection does not work: extra.environment: must be one of Development, Staging, Production; "
            "did you mean Staging?",
        )
        assert not wire.connections


def test_no_secret_in_a_success(connect: Connect) -> None:
    """The message of a success holds neither the token nor the key."""
    with Wire() as wire:
        connect(connection_to(wire.url))
        fine, message = RedoxHook().test_connection()
    assert fine
    assert TOKEN not in message
    assert not any(line in message for line in pem().splitlines()[1:-1])
