"""The house stands as it is drawn: everything imports downwards only, and importing operators loads next to nothing."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_redox.get_provider_info import get_provider_info

PACKAGE = Path(__file__).parents[1] / "airflow_provider_redox"
FLOORS = {
    "exceptions": 0,
    "checks": 0,
    "types": 0,
    "protocol": 0,
    "client": 1,
    "seal": 1,
    "signers": 1,
    "storage": 2,
    "token_cache": 2,
    "get_provider_info": 2,
    "hooks": 3,
    "downstream": 3,
    "receiver": 3,
    "destinations": 4,
    "links": 3,
    "operators": 4,
    "sensors": 4,
    "triggers": 4,
    "cli": 4,
    "__main__": 5,
    "testing": 5,
    "pytest_plugin": 5,
}
"""Which floor each part of the package stands on. The sandbox stands in the garden; `testing` starts it as a process."""

HEAVY = ("requests", "urllib3", "aiohttp", "jwt", "cryptography", "msgspec", "fsspec", "upath", "boto3", "hvac")


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


def own_imports(path: Path) -> Iterator[str]:
    """The first part below our package of each of our modules that a module imports, wherever it imports it."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE.name:
            names = [f"{PACKAGE.name}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith(f"{PACKAGE.name}."))


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_everything_imports_downwards_only(path: Path):
    """A module imports from its own floor or a lower one; nothing imports the sandbox, and the sandbox imports nothing."""
    if part(path) == "__init__":
        assert list(own_imports(path)) == []
        return
    for imported in own_imports(path):
        if "sandbox" in (part(path), imported):
            assert part(path) == imported == "sandbox"
        elif imported != "__init__":
            assert FLOORS[imported] <= FLOORS[part(path)], f"{path.name} reaches up to {imported}"


def test_no_module_is_missing_from_the_drawing():
    """Every part of the package has its floor."""
    assert {part(path) for path in modules()} == {*FLOORS, "__init__", "sandbox"}


@pytest.mark.parametrize("room", ["protocol", "storage"])
def test_every_module_of_a_large_room_is_in_its_index(room: str):
    """The docstring of a room with many modules groups them by subject, each once."""
    index = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())) or ""
    rows = re.findall(r"^ +[\w ]+?  +([a-z_]+(?:, [a-z_]+)*)$", index, re.MULTILINE)
    named = [name for row in rows for name in row.split(", ")]
    assert sorted(named) == sorted(path.stem for path in (PACKAGE / room).glob("*.py") if path.stem != "__init__")


def test_nothing_that_runs_in_a_task_can_start_a_process():
    """Only the fixture for tests imports what starts the sandbox."""
    importing = [path.name for path in modules() if "testing" in own_imports(path)]
    assert set(importing) == {"pytest_plugin.py"}


def test_the_ground_floor_needs_no_airflow():
    """Importing every module of protocol/ loads neither Airflow nor an HTTP client."""
    names = [
        ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts))
        for path in (PACKAGE / "protocol").glob("*.py")
    ]
    loaded = loaded_by("; ".join(f"import {name.removesuffix('.__init__')}" for name in names))
    assert not [name for name in loaded if name.split(".")[0] in ("airflow", "requests", "urllib3", "aiohttp", "fsspec")]


INFO = get_provider_info()
DAG_MODULES = [
    *(name for kind in ("operators", "sensors", "triggers") for one in INFO[kind] for name in one["python-modules"]),
    *(f"{PACKAGE.name}.{name}" for name in ("downstream", "destinations", "types")),
]
"""What a DAG file may import. The metadata names every operator, sensor and trigger, which a test of it holds."""


@pytest.fixture(scope="module")
def loaded_with() -> dict[str, list[str]]:
    """What is loaded after each module alone, and, by the empty name, before: Airflow is imported once, and then forked."""
    names = ["", *DAG_MODULES]
    code = f"""
import importlib, json, os, sys
from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator, XComArg
for name in {names}:
    if os.fork() == 0:
        if name:
            importlib.import_module(name)
        print(json.dumps([name, list(sys.modules)]), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, name
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return dict(told)


@pytest.mark.parametrize("module", DAG_MODULES)
def test_importing_operators_loads_no_client(module: str, loaded_with: dict[str, list[str]]):
    """What a DAG file imports adds, to what Airflow's own operators load, no HTTP client, cryptography or storage driver."""
    after = loaded_with[module]
    assert module in after
    added = {name.split(".")[0] for name in set(after) - set(loaded_with[""])}
    assert added.isdisjoint(HEAVY)
    assert not [name for name in after if name.startswith((f"{PACKAGE.name}.client", f"{PACKAGE.name}.protocol"))]


@pytest.mark.parametrize("module", DAG_MODULES)
def test_none_of_them_counts_on_airflow_to_have_loaded_it(module: str, loaded_with: dict[str, list[str]]):
    """Nor do our own modules, as far as they are loaded then, name one: Airflow may load less one day."""
    ours = [name for name in loaded_with[module] if name.split(".")[0] == PACKAGE.name]
    named = {(name, heavy) for name in ours for heavy in imported_at_once(source_of(name)) if heavy in HEAVY}
    assert named == set()


def source_of(module: str) -> Path:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imported_at_once(path: Path) -> Iterator[str]:
    """The packages that a module imports when it is imported: not for its types, not in its functions."""
    left: list[ast.AST] = [ast.parse(path.read_text())]
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            left += node.orelse if typing_only else list(ast.iter_child_nodes(node))


def test_the_provider_info_loads_nothing():
    """What Airflow imports at every start imports nothing but the standard library's typing."""
    loaded = loaded_by(f"import {PACKAGE.name}.get_provider_info")
    assert [name for name in loaded if name.startswith(PACKAGE.name)] == [PACKAGE.name, f"{PACKAGE.name}.get_provider_info"]
    assert not [name for name in loaded if name.split(".")[0] in ("airflow", *HEAVY)]


def loaded_by(statement: str) -> list[str]:
    code = f"import sys, json; {statement}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
