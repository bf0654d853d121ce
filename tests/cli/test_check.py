"""check: one token request, facts on stdout, words on stderr, and never a secret."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from airflow_provider_redox.cli.keygen import new_key
from tests.cli.conftest import Done, Run, key_lines
from tests.support.sandbox import Sandbox
from tests.support.wire import Wire


def facts(done: Done) -> dict[str, str]:
    return dict(re.split(r":\s+", line, maxsplit=1) for line in done.out.splitlines())


def holds_no_secret(done: Done, sandbox: Sandbox, pem: str = "") -> bool:
    shown, key = done.out + done.err, pem or sandbox.connection["password"]
    bodies = " ".join(entry["body"] for entry in sandbox.ledger("/v2/auth/token"))
    sent = re.findall(r"client_assertion=([\w.-]+)", bodies)
    return bool(sent) and not any(part in shown for part in [*sent[0].split("."), *key_lines(key)])


def test_it_works(run: Run, connection_file: Path, sandbox: Sandbox) -> None:
    """A working connection costs one request; address, client, key, algorithm, clock and the token's end are told."""
    done = run("check", "--conn-json", connection_file)
    told, extra = facts(done), sandbox.connection["extra"]
    assert (done.status, done.err) == (0, f"Redox accepts the key {extra['kid']} (RS384).\n")
    assert (told["address"], told["client ID"], told["key ID"]) == (sandbox.url, extra["client_id"], extra["kid"])
    assert (told["algorithm"], told["clock"]) == ("RS384", "as the server's")
    assert re.fullmatch(r"holds until \d\d:\d\d:\d\d UTC \(300 s\)", told["token"])
    assert [entry["path"] for entry in sandbox.ledger()] == ["/v2/auth/token"]
    assert holds_no_secret(done, sandbox)


def test_airflows_own_connection(run: Run, call: Run, sandbox: Sandbox, tmp_path: Path) -> None:
    """Without a file the connection is Airflow's, and Airflow reads what keygen writes; its own words stay off stdout."""
    call("keygen", "--algorithm", "ES384", "--client-id", "made-here", "--folder", tmp_path)
    jwks = json.loads((tmp_path / "public-jwks.json").read_text())
    sandbox.control("POST", "clients", {"client_id": "made-here", "jwks": jwks})
    connection = {**json.loads((tmp_path / "connection.json").read_text()), "host": sandbox.url, "port": None}
    done = run("check", AIRFLOW_CONN_REDOX_DEFAULT=json.dumps(connection))
    assert done.status == 0
    assert done.err.endswith(f"Redox accepts the key {jwks['keys'][0]['kid']} (ES384).\n")
    assert (facts(done)["client ID"], facts(done)["algorithm"]) == ("made-here", "ES384")
    assert holds_no_secret(done, sandbox, connection["password"])


def test_a_connection_that_airflow_does_not_know(run: Run, tmp_path: Path) -> None:
    """An unknown connection is named, with the places to look at."""
    done = run("check", "--conn-id", "redox_elsewhere", AIRFLOW_HOME=str(tmp_path))
    assert (done.status, done.out) == (1, "")
    assert "does not know the connection redox_elsewhere" in done.err
    assert "AIRFLOW_CONN_REDOX_ELSEWHERE" in done.err


@pytest.mark.parametrize(
    ("offset", "words"), [(3600, "s behind the server's (set it)"), (-3600, "s ahead of the server's (set it)")]
)
def test_a_clock_that_is_off(call: Run, connection_file: Path, sandbox: Sandbox, offset: int, words: str) -> None:
    """A clock that is an hour off is told even though no token came, and the reason goes to stderr."""
    sandbox.settings(clock_offset=offset)
    done = call("check", "--conn-json", connection_file)
    assert done.status == 1
    assert words in facts(done)["clock"]
    assert "the token endpoint answered HTTP 401" in done.err
    assert holds_no_secret(done, sandbox)


def test_a_clock_a_little_off(call: Run, connection_file: Path, sandbox: Sandbox) -> None:
    """Some seconds are told, and are fine."""
    sandbox.settings(clock_offset=5)
    done = call("check", "--conn-json", connection_file)
    assert done.status == 0
    assert re.fullmatch(r"[456] s behind the server's \(fine, up to 10 s are\)", facts(done)["clock"])


def test_no_clock(call: Run, connection_file: Path) -> None:
    """--no-clock leaves the clock out and nothing else."""
    assert list(facts(call("check", "--no-clock", "--conn-json", connection_file))) == [
        *("address", "token URL", "client ID", "key ID", "algorithm", "token")
    ]


def test_a_short_life(call: Run, connection_file: Path, sandbox: Sandbox) -> None:
    """How long the token holds is what the server says."""
    sandbox.settings(token_lifetime=77)
    assert "(77 s)" in facts(call("check", "--conn-json", connection_file))["token"]


def test_nobody_there(run: Run, sandbox: Sandbox) -> None:
    """A server that does not answer is a sentence and 1; of a clock that nobody told there is no line that guesses."""
    with Wire() as gone:
        pass
    connection = {**sandbox.connection, "host": gone.url, "port": None}
    done = run("check", "--conn-json", "-", stdin=json.dumps(connection))
    assert (done.status, done.err) == (1, "POST (token endpoint): nothing was sent: the connection was refused\n")
    assert facts(done)["clock"] == "unknown, the server names no date"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Keva", "not a JSON object"),
        ('["Keva"]', "not a JSON object"),
        ('{"conn_type": "http", "password": "Keva"}', "of type redox"),
        ('{"conn_type": "redox", "pasword": "Keva"}', "no other fields than"),
        ('{"conn_type": "redox", "password": ["Keva"]}', "password must be text"),
        ('{"conn_type": "redox", "port": "Keva"}', "port must be a number"),
        ('{"conn_type": "redox", "password": "Keva", "extra": {"client_id": "x"}}', "password: the private key is not"),
        ('{"conn_type": "redox", "extra": "Keva"}', "extra: must be a JSON object"),
        ('{"conn_type": "redox"}', "password: paste the private key"),
    ],
)
def test_a_file_that_is_no_connection(call: Run, tmp_path: Path, text: str, word: str) -> None:
    """What is wrong with a file is named by option and field, never by value; nothing is sent."""
    (tmp_path / "connection.json").write_text(text)
    done = call("check", "--conn-json", tmp_path / "connection.json")
    assert (done.status, done.out) == (1, "")
    assert word in done.err
    assert "Keva" not in done.err
    assert len(done.err.splitlines()) == 1


def test_a_key_that_is_being_rotated(call: Run, sandbox: Sandbox, tmp_path: Path) -> None:
    """Of two keys the first is refused and the second taken: both are told, and which of them it was."""
    import jwt

    keys = [new_key("ES384", kid=kid) for kid in ("coming", "going")]
    sandbox.control("POST", "clients", {"client_id": "rotating", "jwks": {"keys": [keys[1].public_jwk()]}})
    whole = [{**jwt.get_algorithm_by_name("ES384").to_jwk(key.private, as_dict=True), "kid": key.kid} for key in keys]
    connection = {**sandbox.with_extra(client_id="rotating", kid=None), "password": json.dumps({"keys": whole})}
    (tmp_path / "connection.json").write_text(json.dumps(connection))
    done = call("check", "--conn-json", tmp_path / "connection.json")
    assert (done.status, facts(done)["key ID"]) == (0, "coming, going")
    assert "refused the key coming" in done.err
    assert done.err.endswith("Redox accepts the key going (ES384).\n")


@pytest.mark.parametrize("form", ["json", "uri"])
def test_a_connection_of_a_secrets_backend(run: Run, sandbox: Sandbox, tmp_path: Path, form: str) -> None:
    """A connection that a secrets backend keeps, as JSON or as a URI, is found as tasks find it."""
    from airflow.providers.common.compat.sdk import Connection

    kept = {**sandbox.connection, "extra": json.dumps(sandbox.connection["extra"])}
    value = kept if form == "json" else Connection(conn_id="from_backend", **kept).get_uri()
    (tmp_path / "connections.json").write_text(json.dumps({"from_backend": value}))
    backend = {
        "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(tmp_path / "connections.json")}),
        "AIRFLOW_HOME": str(tmp_path),
    }
    done = run("check", "--conn-id", "from_backend", **backend)
    assert done.status == 0, done.err
    assert facts(done)["client ID"] == sandbox.connection["extra"]["client_id"]
