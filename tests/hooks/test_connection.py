"""The forms that a connection may have, and what is said of one that is wrong, before anything is sent."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from airflow.providers.common.compat.sdk import Connection, redact
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from joserfc.jwk import ECKey

from airflow_provider_redox.cli.keygen import new_key
from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.hooks.connection import settings_from
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.protocol.settings import Settings
from tests.client.drivers import connection_to, pem
from tests.hooks.conftest import QUICK, Connect
from tests.support.sandbox import Sandbox
from tests.support.wire import Wire


def works(sandbox: Sandbox) -> bool:
    """Say whether the connection in the environment gets a token from the sandbox."""
    hook = RedoxHook(retry=QUICK)
    hook.get_access_token()
    hook.client.close()
    return bool(sandbox.stats()["tokens"] == 1)


def settings_of(**fields: Any) -> Settings:
    return settings_from(Connection(conn_id="redox_default", conn_type="redox", **fields))


EXTRA = {"client_id": "client-1", "kid": "kid-1"}


def test_as_json(sandbox: Sandbox, connect: Connect) -> None:
    """A connection written as JSON works."""
    connect(sandbox.connection)
    assert works(sandbox)


def test_as_a_uri(sandbox: Sandbox, connect: Connect) -> None:
    """A connection survives Airflow's own way to a URI and back, which is how the Test button passes it on."""
    connection = Connection(conn_id="x", **{**sandbox.connection, "extra": json.dumps(sandbox.connection["extra"])})
    connect(connection.get_uri())
    assert works(sandbox)


def test_as_a_uri_with_a_scheme_of_its_own(sandbox: Sandbox, connect: Connect) -> None:
    """A URI whose host has no scheme may name it as the schema."""
    host, port = "127.0.0.1", sandbox.connection["port"]
    extra = json.dumps(sandbox.connection["extra"])
    connection = Connection(
        conn_id="x",
        conn_type="redox",
        host=host,
        port=port,
        schema="http",
        password=sandbox.connection["password"],
        extra=extra,
    )
    connect(connection.get_uri())
    assert works(sandbox)


@pytest.mark.parametrize("form", ["utf-8", "utf-8-sig", "utf-16", "DER"])
def test_a_key_file(sandbox: Sandbox, connect: Connect, tmp_path: Path, form: str) -> None:
    """The key may lie in a file on the worker, in what encoding or as DER."""
    pem = sandbox.connection["password"]
    der = load_pem_private_key(pem.encode(), None).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(der if form == "DER" else pem.encode(form))
    connect({**sandbox.with_extra(key_file=str(tmp_path / "key.pem")), "password": None})
    assert works(sandbox)


@pytest.mark.parametrize(
    "paste",
    [
        lambda key: key.replace("\n", "\\n"),
        lambda key: key.replace("\n", "\r\n"),
        lambda key: key.replace("\n", " "),
        lambda key: f'"{key}"',
        lambda key: base64.b64encode(key.encode()).decode(),
    ],
    ids=["escaped", "CRLF", "spaces", "quotes", "base64"],
)
def test_a_pasted_key(sandbox: Sandbox, connect: Connect, paste: Any) -> None:
    """The key works in each form that a web form makes of it."""
    connect({**sandbox.connection, "password": paste(sandbox.connection["password"])})
    assert works(sandbox)


def test_host_and_port(sandbox: Sandbox, connect: Connect) -> None:
    """The port may stand in the host, and a port of 0 is none."""
    connect({**sandbox.connection, "host": sandbox.url, "port": 0})
    assert works(sandbox)


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, "https://api.redoxengine.com"),
        ({"host": ""}, "https://api.redoxengine.com"),
        ({"host": "api.redoxengine.com"}, "https://api.redoxengine.com"),
        ({"host": "https://api.redoxengine.com/"}, "https://api.redoxengine.com"),
        ({"host": "https://api.redoxengine.com", "port": 443}, "https://api.redoxengine.com"),
        ({"host": "api.redoxengine.com", "schema": "https"}, "https://api.redoxengine.com"),
        ({"host": "https://gateway.example.com/redox/", "port": 8443}, "https://gateway.example.com:8443/redox"),
        ({"host": "http://localhost", "port": 8089}, "http://localhost:8089"),
        ({"host": "http://[::1]", "port": 8089}, "http://[::1]:8089"),
    ],
)
def test_the_base_url(fields: dict[str, Any], url: str) -> None:
    """Host and port make the base URL; https is meant where nothing is said."""
    assert settings_of(password=pem(), extra=json.dumps(EXTRA), **fields).base_url == url


def test_the_key_is_parsed_once(connect: Connect) -> None:
    """Two connections with one key share the parsed key, as parsing and masking are slow."""
    first = settings_of(password=pem(), extra=json.dumps(EXTRA))
    second = settings_of(password=pem(), extra=json.dumps({**EXTRA, "destination": "x"}))
    assert first.key.private is second.key.private


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no key": ({"password": None}, "password: paste the private key"),
    "an empty key": ({"password": "  "}, "password: the private key is empty"),
    "a password": ({"password": "hunter2-hunter2"}, "password: the private key"),
    "half a key": ({"password": pem()[:120]}, "password: the private key is cut off"),
    "two keys": ({"key_file": "/run/key.pem"}, "extra.key_file: a private key stands in password too"),
    "no such file": ({"password": None, "key_file": "/nowhere/s3cret"}, "extra.key_file: cannot be read"),
    "a folder": ({"password": None, "key_file": "/"}, "extra.key_file: cannot be read"),
    "no client": ({"client_id": None}, "extra.client_id: missing"),
    "no key ID": ({"kid": None}, "extra.kid: missing"),
    "a login": ({"login": "client-1"}, "login: must be empty"),
    "plain http": ({"host": "http://redox.example.com"}, "host: must begin with https://"),
    "no URL": ({"host": "https://exa mple"}, "host: not a plain URL"),
    "a query": ({"host": "https://example.com/?s3cret"}, "host: not a plain URL"),
    "a user": ({"host": "https://u:s3cret@example.com"}, "host: not a plain URL"),
    "two ports": ({"host": "https://example.com:1", "port": 2}, "port: differs"),
    "a token URL elsewhere": ({"auth_url": "https://s3cret.example.com/token"}, "extra.auth_url: must be on the same"),
    "another algorithm": ({"algorithm": "HS256"}, "extra.algorithm: must be one of"),
    "the other algorithm": ({"algorithm": "RS384"}, "extra.algorithm: RS384 does not fit"),
    "an unknown environment": ({"environment": "s3cret"}, "extra.environment: must be one of"),
    "a typo": ({"client_idd": "s3cret"}, "extra.client_idd: no such field; did you mean client_id"),
    "a header that is ours": ({"headers": {"Authorization": "s3cret"}}, "extra.headers: Authorization is set by"),
    "a header of two lines": ({"headers": {"x": "a\r\ns3cret: 1"}}, "extra.headers: the value of x"),
    "destinations that are none": ({"destinations": "s3cret"}, "extra.destinations: not valid JSON"),
    "a timeout of none": ({"timeout": 0}, "extra.timeout: must be a number from 1"),
    "too large a share": ({"requests_per_5min": 10_001}, "extra.requests_per_5min: must be a number"),
    "an unknown cache": ({"cache_backend": "s3cret"}, "extra.cache_backend: must be one of"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field(connect: Connect, case: str) -> None:
    """A wrong or missing field is named with its cure and without its value, before anything is sent."""
    changes, message = WRONG[case]
    with Wire() as wire:
        connection = connection_to(wire.url)
        outer = {name: value for name, value in changes.items() if name in ("password", "login", "host", "port")}
        inner = {name: value for name, value in changes.items() if name not in outer}
        extra = {name: value for name, value in {**connection["extra"], **inner}.items() if value is not None}
        connect({**connection, **outer, "extra": extra})
        with pytest.raises(RedoxConfigError) as caught:
            RedoxHook(retry=QUICK).get_access_token()
        assert not wire.connections
    said = f"{caught.value} {caught.value.__cause__!r}"
    assert message in said
    assert "s3cret" not in said
    assert "hunter2" not in said
    assert pem().splitlines()[1][:20] not in said


@pytest.mark.parametrize("extra", ["{", "[]", '"text"', "NaN"])
def test_an_extra_that_is_no_object(extra: str) -> None:
    """An extra that is no JSON object is named as such."""
    connection = Connection(conn_id="x", conn_type="redox", password=pem())
    connection.extra = extra
    with pytest.raises(RedoxConfigError, match="extra: "):
        settings_from(connection)


def test_a_key_never_shows_in_a_log(connect: Connect) -> None:
    """Airflow's masker hides the key whole, escaped, as a repr and line by line, whatever form was pasted."""
    settings_of(password=pem().replace("\n", "\\n"), extra=json.dumps(EXTRA))
    body = pem().splitlines()[1:-1]
    for form in (pem(), pem().strip(), repr(pem()), json.dumps(pem()), pem().replace("\n", "\\n"), *body):
        shown = redact(f"before {form} after")
        assert not any(line in str(shown) for line in body), form[:40]


def test_a_key_never_shows_in_a_url() -> None:
    """A connection's URI, in which Airflow percent-encodes the key, is hidden where it is logged."""
    key = new_key("ES384").pem()  # of which no test has pasted a half
    connection = Connection(conn_id="redox_default", conn_type="redox", password=key, extra=json.dumps(EXTRA))
    settings_from(connection)
    shown = unquote(str(redact(f"it is {connection.get_uri()}")))
    assert not any(line in shown for line in key.splitlines()[1:-1])


@pytest.mark.parametrize("indent", [None, 2])
def test_a_jwk_never_shows_in_a_log(indent: int | None) -> None:
    """Each private number of a JWK is hidden, wherever it stands; what is public is not."""
    key: dict[str, Any] = {**ECKey.generate_key("P-384").as_dict(private=True), "kid": "the-key-of-this-hospital"}
    settings_of(password=json.dumps(key, indent=indent), extra=json.dumps({"client_id": "client-1"}))
    shown = str(redact(f"d is {key['d']}, kid is {key['kid']}, x is {key['x']}"))
    assert key["d"] not in shown
    assert key["kid"] in shown
    assert key["x"] in shown
