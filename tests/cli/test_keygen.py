"""keygen: a pair that works, a private key for its owner's eyes only, and nothing overwritten."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
from pathlib import Path

import pytest

from airflow_provider_redox.cli.keygen import new_key
from airflow_provider_redox.protocol.keys import thumbprint
from tests.cli.conftest import Run, key_lines
from tests.support.sandbox import Sandbox

CLIENT = "5d0ffb1c-7b0a-4f0c-9d7e-0f4f2b6b8f11"


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
def test_what_it_makes_works(run: Run, sandbox: Sandbox, tmp_path: Path, algorithm: str) -> None:
    """The JWKS given to the server and the connection given to Airflow fit: `check` gets a token."""
    folder = tmp_path / "new" / "keys"
    made = run("keygen", "--algorithm", algorithm, "--client-id", CLIENT, "--folder", folder)
    assert (made.status, made.out) == (0, "")
    sandbox.control("POST", "clients", {"client_id": CLIENT, "jwks": json.loads((folder / "public-jwks.json").read_text())})
    connection = {**json.loads((folder / "connection.json").read_text()), "host": sandbox.url, "port": None}
    done = run("check", "--conn-json", "-", stdin=json.dumps(connection))
    assert done.status == 0
    assert done.err.startswith("Redox accepts the key airflow-")
    assert f"algorithm: {algorithm}" in done.out


def test_the_folder(run: Run, tmp_path: Path) -> None:
    """The folder and what holds the private key are its owner's only; the screen shows the next steps, and no key."""
    folder = tmp_path / "keys"
    done = run("keygen", "--folder", folder)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    assert modes["keys"] == 0o700
    assert modes["private-key.pem"] == modes["connection.json"] == 0o600
    pem = (folder / "private-key.pem").read_text()
    assert not any(line in done.out + done.err for line in key_lines(pem))
    assert all(
        word in done.err for word in ("public-jwks.json to Redox", "PUT-THE-CLIENT-ID-HERE", "airflow connections add")
    )
    assert len(done.err.splitlines()) == 3


def test_the_connection(call: Run, tmp_path: Path) -> None:
    """connection.json has the key in the password, the port that Airflow's Test button needs, and nothing made up."""
    call("keygen", "--algorithm", "ES384", "--folder", tmp_path, "--kid", "my-key")
    connection = json.loads((tmp_path / "connection.json").read_text())
    assert connection == {
        "conn_type": "redox",
        "host": "https://api.redoxengine.com",
        "port": 443,
        "password": (tmp_path / "private-key.pem").read_text(),
        "extra": {"client_id": "PUT-THE-CLIENT-ID-HERE", "kid": "my-key"},
    }


def test_the_placeholder_is_recognized(call: Run, tmp_path: Path) -> None:
    """A connection whose client ID was not put in yet is not tried: the field is named, and nothing is sent."""
    assert call("keygen", "--algorithm", "ES384", "--folder", tmp_path).status == 0
    done = call("check", "--conn-json", tmp_path / "connection.json")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("extra.client_id: still the placeholder")


@pytest.mark.parametrize("name", ["private-key.pem", "public-jwks.json", "connection.json"])
def test_nothing_is_overwritten(call: Run, tmp_path: Path, name: str) -> None:
    """Where one of the files is there already, none is written."""
    (tmp_path / name).write_text("mine")
    done = call("keygen", "--folder", tmp_path)
    assert (done.status, done.out) == (2, "")
    assert f"{name} is there already and is not overwritten" in done.err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_without_a_folder(run: Run) -> None:
    """Without a folder only the JWKS is printed, with no private number in it, and what that means is said."""
    done = run("keygen", "--algorithm", "ES384")
    (key,) = done.json["keys"]
    assert done.status == 0
    assert sorted(key) == ["alg", "crv", "kid", "kty", "use", "x", "y"]
    assert "not shown and not kept" in done.err


def test_the_private_key_on_request(run: Run) -> None:
    """--print-private-key prints it, as JSON beside the JWKS, and `jwks` makes the same JWKS of it."""
    made = run("keygen", "--print-private-key", "--kid", "k-1").json
    derived = run("jwks", "--key-file", "-", "--kid", "k-1", stdin=made["private_key"]).json
    assert derived == made["jwks"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--algorithm", "ES384", "--bits", "3072"), "--bits: an ES384 key"),
        (("--folder", "x", "--print-private-key"), "--print-private-key: is for use without --folder"),
        (("--bits", "1024"), "invalid choice"),
        (("--folder", "/dev/null/x"), "--folder: cannot be written to"),
    ],
)
def test_wrong_use(call: Run, arguments: tuple[str, ...], word: str) -> None:
    """What does not go together is refused with 2 and the name of the option."""
    done = call("keygen", *arguments)
    assert (done.status, done.out) == (2, "")
    assert word in done.err


def test_the_size() -> None:
    """An RSA key has 3072 bits unless another size is asked for."""
    assert new_key("RS384").private.key_size == 3072
    assert new_key("RS384", bits=2048).private.key_size == 2048


def test_the_key_id_is_the_thumbprint() -> None:
    """The key ID follows from the key: the first 16 characters of its thumbprint, so that no two keys share one."""
    key = new_key("ES384")
    assert key.kid == f"airflow-{thumbprint(key.public_jwk())[:16]}"


def test_the_thumbprint() -> None:
    """The thumbprint is RFC 7638's: its own example of section 3.1."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3okn"
        "jhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6q"
        "MQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awap"
        "JzKnqDKgw"
    )
    jwk = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    text = f'{{"e":"AQAB","kty":"RSA","n":"{modulus}"}}'
    assert thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    assert thumbprint(jwk) == base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
