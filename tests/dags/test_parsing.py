"""Reading the example DAGs asks nobody for anything: no server, no Variable, no connection."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.examples import FOLDER, READABLE

READ = """
import importlib.util, json, socket, sys
from pathlib import Path
from airflow.models import Connection as Stored
from airflow.providers.common.compat.sdk import BaseHook, Connection, Variable

def refuse(*_, **__):
    raise AssertionError("asked while the DAG was read")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
BaseHook.get_connection = Variable.get = Variable.set = Connection.get = Stored.get_connection_from_secrets = refuse
told = {}
for path in map(Path, sys.argv[1:]):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        told[path.stem] = "read"
    except BaseException as error:
        told[path.stem] = f"{type(error).__name__}: {error}"
print(json.dumps(told))
"""


def read(*paths: Path) -> dict[str, str]:
    command = [sys.executable, "-W", "ignore", "-c", READ, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    told: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_reading_the_examples_asks_nobody() -> None:
    """Each is read where sockets, Variables and connections are errors."""
    told = read(*(FOLDER / f"{name}.py" for name in READABLE))
    asking = {name: how for name, how in told.items() if how != "read"}
    assert told
    assert asking == {}


def test_a_dag_that_asks_is_found(tmp_path: Path) -> None:
    """The harness sees it."""
    asking = {
        "hook": "from airflow_provider_redox.hooks.redox import RedoxHook; RedoxHook().get_access_token()",
        "variable": "from airflow.providers.common.compat.sdk import Variable; Variable.get('x', None)",
        "socket": "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')",
    }
    for name, code in asking.items():
        (tmp_path / f"{name}.py").write_text(code)
    assert set(read(*tmp_path.glob("*.py")).values()) == {"AssertionError: asked while the DAG was read"}
