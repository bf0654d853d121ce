"""The command: its one line on stdout, its sentences on stderr, its end."""

from __future__ import annotations

import ast
import json
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from joserfc.jwk import RSAKey

import airflow_provider_redox.sandbox
from airflow_provider_redox.sandbox import cli

from .conftest import COMMAND, Running


def test_the_connection_is_one_line_and_works(start: Callable[..., Running]) -> None:
    """--print-connection prints one line of JSON once it listens; the key in it gets a token."""
    running = start("--population", "3", "--token-lifetime", "60")
    connection = running.client.connection
    assert (connection["conn_type"], connection["host"]) == ("redox", "http://127.0.0.1")
    assert connection["password"].startswith("-----BEGIN PRIVATE KEY-----\n")
    assert uuid.UUID(connection["extra"]["client_id"])
    assert connection["extra"]["destinations"]["general"]["slug"] == "general-hospital"
    assert "login" not in connection
    assert "\n" not in json.dumps(connection)
    assert running.client.ask_token().json()["expires_in"] == 60
    process = running.process
    process.terminate()
    out, errors = process.communicate(timeout=10)
    assert out == ""
    assert "listening on http://127.0.0.1:" in errors
    assert "resources loaded" in errors


def test_two_runs_have_two_keys(start: Callable[..., Running]) -> None:
    """Every run makes a key, a kid and a client of its own, and the options of the command hold."""
    source = "7ce6f387-c33c-417d-8682-81e83628cbd9"
    one = start("--population", "1", "--page-size", "7", "--quota", "9", "--quota-window", "5").client
    two = start("--population", "1", "--source-id", source).client
    assert one.connection["password"] != two.connection["password"]
    assert one.extra["client_id"] != two.extra["client_id"]
    assert two.extra["source_id"] == source
    settings = one.control("GET", "settings").json()
    assert (settings["page_size"], settings["quota"], settings["quota_window"]) == (7, 9, 5)


def test_a_signal_ends_it_at_once(start: Callable[..., Running]) -> None:
    """SIGTERM ends the process with code 0 within a second or two, even while a request waits."""
    running = start("--population", "1")
    running.client.fault("delay", seconds=30)
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{running.client.url}/x", timeout=0.2)
    code, errors, seconds = running.stop()
    assert code == 0
    assert seconds < 3
    assert "Traceback" not in errors


def test_a_taken_port_is_a_sentence() -> None:
    """A port that is in use ends the command with code 2 and one line on stderr."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [*COMMAND, "--port", str(taken.getsockname()[1])]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("redox sandbox: cannot listen on port")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_only_this_machine_is_served(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An address that is not a loopback one is refused with code 2 and a sentence."""
    assert cli.main(["--host", host, "--port", "0", "--data", "no-such-folder"]) == 2
    assert capsys.readouterr().err.startswith(f"redox sandbox: --host {host} is not")


@pytest.mark.parametrize(
    "arguments",
    [["--port", "x"], ["--port", "70000"], ["--population", "0"], ["--source-id", "x"], ["--token-lifetime", "-1"]],
)
def test_a_wrong_argument_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments that do not fit end the command with code 2 and name themselves."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize("package", ["joserfc", "faker"])
def test_a_missing_package_is_named_with_its_remedy(package: str) -> None:
    """Without the extra's packages the command says what to install."""
    code = f"import sys, runpy; sys.modules[{package!r}] = None; "
    code += "runpy.run_module('airflow_provider_redox.sandbox', run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert "pip install 'airflow-provider-redox[sandbox]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_it_starts_with_patients(start: Callable[..., Running]) -> None:
    """Two hundred patients are there when it says where it is."""
    running = start()
    assert running.client.control("GET", "stats").json()["resources_by_type"]["Patient"] == 200


FILES = sorted(Path(airflow_provider_redox.sandbox.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_shares_nothing_with_what_it_judges(file: Path) -> None:
    """No module of the sandbox imports Airflow, the signing library, or the rest of the package."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1
            names = [node.module or ""] if node.level == 0 else []
        else:
            continue
        assert not {name.partition(".")[0] for name in names} & {"airflow", "airflow_provider_redox", "jwt"}


def test_with_a_url_it_serves_others_by_that_name(start: Callable[..., Running]) -> None:
    """--url allows to listen anywhere, as in a container, and is the address that assertions have to name."""
    running = start("--population", "1", "--host", "0.0.0.0", "--url", "http://redox:8089")
    connection = running.client.connection
    assert (connection["host"], connection["port"]) == ("http://redox", 8089)


@pytest.mark.parametrize("url", ["redox:8089", "http://", "http://redox/path", "ftp://redox"])
def test_a_url_that_is_none(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no base URL ends the command with code 2."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--url", url])
    assert ended.value.code == 2
    assert "argument --url" in capsys.readouterr().err


def test_a_client_of_the_environment(start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that the environment names is registered at the start, so that a connection outlives the process."""
    client = {"client_id": "known", "jwks": {"keys": [RSAKey.generate_key(2048, {"kid": "k"}).as_dict(private=False)]}}
    monkeypatch.setenv("REDOX_SANDBOX_CLIENT", json.dumps(client))
    assert start("--population", "1").client.control("GET", "clients").json()["known"] == ["k"]


@pytest.mark.parametrize("client", ["{", "[]", "{}", '{"client_id": "c", "jwks": 5}'])
def test_a_client_of_the_environment_that_is_none(
    client: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no client with public keys ends the command with code 2 and a sentence that does not show it."""
    monkeypatch.setenv("REDOX_SANDBOX_CLIENT", client)
    assert cli.main(["--port", "0", "--population", "1"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "REDOX_SANDBOX_CLIENT is no client_id with a jwks" in said
