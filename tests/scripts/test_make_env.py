"""`make env`: secrets of one's own for docker-compose.yaml."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest
from make_env import environment, write

from airflow_provider_redox.protocol.keys import parse_keys

COMPOSE = (Path(__file__).parents[2] / "docker-compose.yaml").read_text()


def test_every_secret_that_compose_asks_for_is_drawn() -> None:
    """docker-compose.yaml asks for what `.env` holds and nothing else, without a default for any."""
    asked = re.findall(r"(?<!\$)\$\{(\w+)([^}]*)\}", COMPOSE)
    assert {name for name, _ in asked} == set(environment())
    assert all(rest.startswith(":?") for _, rest in asked)


def test_no_two_are_alike() -> None:
    """Each secret is drawn for itself, and anew each time."""
    one, other = environment(), environment()
    assert len({*one.values(), *other.values()}) == 2 * len(one)


def test_the_file_is_its_owners_and_never_overwritten(tmp_path: Path) -> None:
    """The file is written for its owner only, and one that is there stays."""
    path = tmp_path / ".env"
    write(path)
    written = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write(path)
    assert path.read_text() == written


def test_no_value_ends_its_quotes(tmp_path: Path) -> None:
    """Each value stands on a line of its own in single quotes, which it does not hold."""
    write(tmp_path / ".env")
    lines = (tmp_path / ".env").read_text().splitlines()[1:]
    assert all(re.fullmatch(r"[A-Z_0-9]+='[^'\n]*'", line) for line in lines)


def test_the_sandbox_gets_the_public_half_only() -> None:
    """What the sandbox is given is the public half of the connection's key, under the connection's client ID."""
    drawn = environment()
    redox, client = json.loads(drawn["AIRFLOW_CONN_REDOX_DEFAULT"]), json.loads(drawn["REDOX_SANDBOX_CLIENT"])
    (key,) = parse_keys(redox["password"])
    (public,) = client["jwks"]["keys"]
    assert client["client_id"] == redox["extra"]["client_id"]
    assert public["n"] == key.public_jwk()["n"]
    assert not {"d", "p", "q", "dp", "dq", "qi"} & set(public)
