"""jwks: the public half of the keys, and nothing of the private one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow_provider_redox.cli.keygen import new_key
from airflow_provider_redox.protocol.keys import SigningKey
from tests.cli.conftest import Run
from tests.support.sandbox import Sandbox

PUBLIC = {"RSA": {"kty", "n", "e", "alg", "use", "kid"}, "EC": {"kty", "crv", "x", "y", "alg", "use", "kid"}}


def private_jwk(key: SigningKey) -> dict[str, Any]:
    import jwt

    whole = jwt.get_algorithm_by_name(key.algorithm).to_jwk(key.private, as_dict=True)
    return {**whole, "kid": key.kid}


def test_every_key_and_no_private_number(run: Run, sandbox: Sandbox) -> None:
    """Each private key of a connection's JWKS gives its public half, by RFC 7518's names, and none of the private values."""
    keys = [private_jwk(new_key("RS384", bits=2048)), private_jwk(new_key("ES384"))]
    connection = {**sandbox.connection, "password": json.dumps({"keys": keys})}
    done = run("jwks", "--conn-json", "-", stdin=json.dumps(connection))
    assert done.status == 0
    assert [set(key) for key in done.json["keys"]] == [PUBLIC["RSA"], PUBLIC["EC"]]
    private = [key[name] for key in keys for name in ("d", "p", "q", "dp", "dq", "qi") if name in key]
    assert len(private) == 7
    assert not any(value in done.out + done.err for value in private)


def test_it_is_what_the_server_holds(run: Run, connection_file: Path, sandbox: Sandbox) -> None:
    """The JWKS of a connection carries the connection's key ID, and a server that is given it takes the key."""
    jwks = run("jwks", "--conn-json", connection_file).json
    assert [key["kid"] for key in jwks["keys"]] == [sandbox.connection["extra"]["kid"]]
    sandbox.control("POST", "clients", {"client_id": "another", "jwks": jwks})
    other = json.dumps(sandbox.with_extra(client_id="another"))
    assert run("check", "--conn-json", "-", stdin=other).status == 0


def test_one_of_several(call: Run, tmp_path: Path) -> None:
    """--kid picks a key of a JWKS; one that is not there is refused."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [private_jwk(new_key("ES384", kid=kid)) for kid in ("a", "b")]}))
    assert [key["kid"] for key in call("jwks", "--key-file", path, "--kid", "b").json["keys"]] == ["b"]
    done = call("jwks", "--key-file", path, "--kid", "c")
    assert (done.status, done.out, done.err) == (2, "", "--kid: no key has this ID\n")


def test_a_key_without_an_id(run: Run) -> None:
    """A PEM has no key ID, without which Redox could not find it: one is asked for."""
    done = run("jwks", "--key-file", "-", stdin=new_key("ES384").pem())
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("--kid: the key has no ID")


def test_a_file_that_is_no_key(call: Run, tmp_path: Path) -> None:
    """What is no private key, or no file, is named by its option; nothing of it is shown."""
    (tmp_path / "notes.txt").write_text("meet Keva on Tuesday")
    done = call("jwks", "--key-file", tmp_path / "notes.txt")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("--key-file: the private key is not in a form that is known")
    assert "Keva" not in done.err
    assert call("jwks", "--key-file", tmp_path / "absent").err == "--key-file: cannot be read as a text file\n"
