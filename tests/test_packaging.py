"""The package as users get it: a wheel that installs into a clean environment, and that Airflow takes for a provider."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.samples import TEST_DATA

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
UV = Path(sys.executable).with_name("uv")
CONSTRAINTS = TEST_DATA / "airflow-constraints"

needs_uv = pytest.mark.skipif(not UV.exists(), reason="uv is not in this environment; `make test` puts it there")


def run(*command: object, **environment: str) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    run(UV, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder, ".")
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A new environment with the lock's Airflow and the wheel: its bin folder, and the variables to run things there."""
    folder = tmp_path_factory.mktemp("clean")
    python = folder / "venv" / "bin" / "python"
    run(UV, "venv", "--quiet", "--python", sys.executable, folder / "venv")
    run(
        UV,
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        "-c",
        ROOT / "requirements" / "dev.txt",
        "apache-airflow==3.3.2",
        wheel,
    )
    environment = {"AIRFLOW_HOME": str(folder / "home"), "PATH": f"{python.parent}:{os.environ['PATH']}", "PYTHONPATH": ""}
    return python.parent, environment


@needs_uv
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path):
    """The wheel has our package, typed, with its licence and entry point; no tests, no DAGs."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"airflow_provider_redox", next(top for top in tops if top.endswith(".dist-info"))}
    assert "airflow_provider_redox/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("entry_points.txt") for name in names)


@needs_uv
def test_airflow_lists_the_provider(clean: tuple[Path, dict[str, str]]):
    """`airflow providers list`, `hooks` and `get` show the installed provider."""
    folder, environment = clean
    listed = json.loads(run(folder / "airflow", "providers", "list", "-o", "json", **environment))
    (found,) = [entry for entry in listed if entry["package_name"] == "airflow-provider-redox"]
    version = re.search(r'__version__ = "(.+)"', (ROOT / "airflow_provider_redox" / "__init__.py").read_text())
    assert version
    assert found["version"] == version.group(1)
    hooks = json.loads(run(folder / "airflow", "providers", "hooks", "-o", "json", **environment))
    ours = [entry["class"] for entry in hooks if entry["connection_type"] == "redox"]
    assert ours == ["airflow_provider_redox.hooks.redox.RedoxHook"]


@needs_uv
def test_the_installed_package_works_without_its_extra(clean: tuple[Path, dict[str, str]]):
    """Everything but the sandbox imports without the extra; the sandbox says in a sentence how to get it."""
    folder, environment = clean
    modules = "hooks.redox, airflow_provider_redox.operators.fhir, airflow_provider_redox.client.asynchronous"
    run(folder / "python", "-c", f"import airflow_provider_redox.{modules}", **environment)
    command = [str(folder / "python"), "-m", "airflow_provider_redox.sandbox", "--port", "0"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "airflow-provider-redox[sandbox]" in done.stderr
    assert "Traceback" not in done.stderr


@needs_uv
@pytest.mark.parametrize("version", ["2.11.2", "3.2.1", "3.3.1"])
def test_it_installs_under_airflows_own_constraints(version: str, tmp_path: Path):
    """What we depend on, with every driver and signer's library, can be had under a managed Airflow's own constraints."""
    constraints = CONSTRAINTS / f"{version}.txt"
    if not constraints.exists():
        pytest.skip("no constraint files in TEST_DATA")
    wanted = tmp_path / "wanted.in"
    extras = PROJECT["project"]["optional-dependencies"]
    optional = ("s3", "gcs", "azure", "aws-kms", "vault", "google-kms", "azure-key-vault")
    drivers = [one for extra in optional for one in extras[extra]]
    wanted.write_text("\n".join([f"apache-airflow=={version}", *PROJECT["project"]["dependencies"], *drivers]))
    command = [
        UV,
        "pip",
        "compile",
        "--quiet",
        "--python-version",
        "3.12",
        "-c",
        constraints,
        wanted,
        "-o",
        tmp_path / "out.txt",
    ]
    run(*command)
    assert f"apache-airflow=={version}" in (tmp_path / "out.txt").read_text()


def test_every_entry_point_can_be_imported():
    """The entry point that Airflow reads names a function that gives this distribution's canonical name."""
    from importlib import import_module

    module, _, function = PROJECT["project"]["entry-points"]["apache_airflow_provider"]["provider_info"].partition(":")
    info = getattr(import_module(module), function)()
    assert info["package-name"] == PROJECT["project"]["name"]


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_locks_pin_and_hash_and_name_no_address(lock: Path):
    """Each requirement of a lock has one version and hashes, and no address to download it from."""
    text = lock.read_text()
    requirements = [line for line in text.splitlines() if line and line[0].isalnum()]
    assert requirements
    assert all("==" in line for line in requirements)
    assert len(re.findall(r"^\S+==", text, re.MULTILINE)) == len(requirements)
    assert "--hash=sha256:" in text
    assert "://" not in text


def test_the_lock_has_what_the_package_declares():
    """Every dependency that pyproject.toml declares, those of the extras that tests need too, is in the development lock."""
    project = PROJECT["project"]
    # Of gcs and azure a hundred packages more, and no such store runs on this machine; the others are in signers.txt.
    untested = ("gcs", "azure", "google-kms", "azure-key-vault")
    extras = [one for extra, all_ in project["optional-dependencies"].items() if extra not in untested for one in all_]
    declared = [*project["dependencies"], *extras]
    locked = (ROOT / "requirements" / "dev.txt").read_text().lower()
    for requirement in declared:
        name = re.split(r"[<>=\[]", requirement)[0].lower().replace(".", "-")
        assert re.search(rf"^{re.escape(name)}==", locked, re.MULTILINE), name
