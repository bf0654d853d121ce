"""The ground floor stands on its own: no Airflow, no network, no clock."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_redox import protocol

MODULES = sorted(f"{protocol.__name__}.{module.name}" for module in pkgutil.iter_modules(protocol.__path__))
SOURCES = sorted(Path(protocol.__path__[0]).glob("*.py"))

FOREIGN = ("airflow", "requests", "urllib3", "aiohttp", "httpx", "asyncio", "socket", "http.client", "ssl")


def test_no_module_of_the_protocol_is_forgotten() -> None:
    """The modules that are looked at here are the ones that are there."""
    assert {path.stem for path in SOURCES} - {"__init__"} == {name.rpartition(".")[2] for name in MODULES}
    assert f"{protocol.__name__}.exchange" in MODULES


def test_the_protocol_imports_no_airflow_and_no_http_client() -> None:
    """A fresh interpreter that imports the whole protocol has loaded neither Airflow nor any HTTP client."""
    code = f"import sys, importlib\nfor name in {MODULES!r}: importlib.import_module(name)\nprint(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout
    loaded = set(printed.split())
    assert set(MODULES) <= loaded
    for name in ("airflow", "requests", "urllib3", "aiohttp", "httpx"):
        assert not [module for module in loaded if module == name or module.startswith(f"{name}.")]


def imported(source: Path) -> set[str]:
    """Name what a file imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_module_of_the_protocol_imports_downwards_only(source: Path) -> None:
    """A module of the ground floor imports its own floor, the exceptions, the checks and pure libraries, lazily neither."""
    own = {name for name in imported(source) if name.startswith("airflow_provider_redox")}
    assert not [
        name
        for name in own
        if not name.startswith(
            ("airflow_provider_redox.protocol", "airflow_provider_redox.exceptions", "airflow_provider_redox.checks")
        )
    ]
    for foreign in FOREIGN:
        assert not [name for name in imported(source) if name == foreign or name.startswith(f"{foreign}.")]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_module_of_the_protocol_has_no_clock_and_no_chance(source: Path) -> None:
    """Time, randomness, files and processes are handed in, never fetched."""
    assert not imported(source) & {"time", "random", "secrets", "uuid", "os", "pathlib", "subprocess", "tempfile", "io"}
    calls = {node.attr for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Attribute)}
    assert not calls & {"utcnow", "today"}
    assert "datetime.now" not in source.read_text()
