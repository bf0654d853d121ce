"""What surrounds the code: what runs before a commit and on a forge, what a release is, which versions are supported."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import code_words, rows

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
TOOLS = Path(sys.executable).parent


def test_what_runs_before_a_commit_is_what_make_check_runs():
    """The hooks are local, and each runs a tool of .venv that `make check` runs, so that they cannot disagree."""
    (only,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert only["repo"] == "local"
    assert {hook["language"] for hook in only["hooks"]} == {"system"}
    entries = [hook["entry"].removesuffix(" --force-exclude") for hook in only["hooks"]]
    assert entries == [".venv/bin/ruff format --check", ".venv/bin/ruff check", ".venv/bin/mypy"]
    for entry in entries:
        assert f"@$(BIN)/{entry.removeprefix('.venv/bin/')}" in MAKEFILE


def test_the_forge_runs_what_ci_runs():
    """The workflow runs `.ci/run` and targets of the Makefile, may only read, and is told no secret."""
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    workflow: dict[Any, Any] = yaml.safe_load(text)
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands[0] == ".ci/run"
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    for command in commands[1:]:
        assert re.search(rf"^{command.removeprefix('make ')}:", MAKEFILE, re.MULTILINE), command
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets" not in text
    assert "://" not in text


def test_the_supported_versions_are_those_that_are_declared_and_tested():
    """The page on versions names the Pythons of the package's metadata, and the Airflows of the locks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    shown = {row[0]: code_words(row[1]) for row in rows("versioning", "What")}
    pythons = [one.rpartition(" ")[2] for one in project["classifiers"] if re.search(r"Python :: \d\.\d+$", one)]
    assert shown["Python"] == pythons
    locked = [path.stem.removeprefix("airflow-") for path in sorted((ROOT / "requirements").glob("airflow-*.txt"))]
    found = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE)
    assert found
    assert shown["Airflow"][2:] == [*locked, found.group(1)]
    assert f"apache-airflow>={shown['Airflow'][0]}.0,!=3.0.*" in project["dependencies"]


def test_every_command_is_told_of():
    """The page on development has every target of the Makefile, and no other."""
    targets = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)) - {"help"}
    told = {word.removeprefix("make ") for row in rows("development", "Command") for word in code_words(row[0])}
    assert told == targets


def test_the_warning_of_what_will_go_is_airflows():
    """The class that the page on versions names is there, and is a DeprecationWarning."""
    from airflow.exceptions import AirflowProviderDeprecationWarning

    assert issubclass(AirflowProviderDeprecationWarning, DeprecationWarning)


needs_tools = pytest.mark.skipif(
    not (TOOLS / "uv").exists() or shutil.which("git") is None or not (ROOT / ".git").exists(),
    reason="wants a checkout, git, and the tools that `make` installs",
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The last commit, elsewhere."""
    subprocess.run(["git", "clone", "--quiet", "--no-local", ROOT, tmp_path / "clone"], check=True, capture_output=True)
    return tmp_path / "clone"


def release(folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["sh", "scripts/release.sh", str(TOOLS.parent)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)


@needs_tools
def test_a_release_is_made_of_a_commit(clone: Path):
    """With a change that is not committed nothing is built, and the reason is told."""
    (clone / "README.md").write_text("changed")
    done = release(clone)
    assert done.returncode == 1
    assert "not committed" in done.stderr
    assert not (clone / "dist").exists()


@needs_tools
@pytest.mark.slow
def test_a_release_is_the_same_wherever_it_is_built(clone: Path):
    """Both archives come out twice as the same bytes, pass the checks, install, and are summed up."""
    done = release(clone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "built twice, and the same" in done.stdout
    names = [line.split()[1] for line in (clone / "dist" / "SHA256SUMS").read_text().splitlines()]
    assert [name.rpartition(".")[2] for name in names] == ["gz", "whl", "txt", "json"]
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=clone / "dist", check=True)
