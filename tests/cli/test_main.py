"""The command line as a whole: light, and plain about wrong use."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_redox.cli.main import _parser
from tests.cli.conftest import Run

HEAVY = {"airflow", "requests", "urllib3", "aiohttp", "jwt", "cryptography", "msgspec"}


def test_the_arguments_load_nothing_heavy() -> None:
    """Help and a typing error come at once: no command's libraries are loaded before that command is called."""
    code = "import sys, json, airflow_provider_redox.__main__; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY.isdisjoint(name.split(".")[0] for name in json.loads(done.stdout))


def test_help_names_the_commands(run: Run) -> None:
    """--help says what there is, and how the command is called."""
    done = run("--help")
    assert done.status == 0
    assert "python -m airflow_provider_redox" in done.out
    assert all(f"    {name} " in done.out for name in ("keygen", "check", "jwks", "probe"))


@pytest.mark.parametrize("arguments", [(), ("unknown",), ("check", "--conn-id", "a", "--conn-json", "b")])
def test_wrong_use(call: Run, arguments: tuple[str, ...]) -> None:
    """Wrong arguments end with 2, words on stderr and nothing on stdout."""
    done = call(*arguments)
    assert (done.status, done.out) == (2, "")
    assert "usage:" in done.err


def test_every_option_is_on_the_page() -> None:
    """The page on the commands names each command and each of its options, and no other."""
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    (commands,) = [action.choices for action in _parser()._actions if isinstance(action.choices, dict)]
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(commands)
    options = {name for one in commands.values() for action in one._actions for name in action.option_strings}
    known = {*options, "--port", "--print-connection"} - {"-h", "--help"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page)) == known
