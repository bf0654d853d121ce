"""The audit of the locks: offline, strict with the locks that are ours, and honest about what it cannot know."""

from __future__ import annotations

import datetime
import re
import tomllib
from pathlib import Path

import audit
import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TABLE = ROOT / "requirements" / "advisories.toml"
DAY = datetime.date(2026, 11, 25)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the real table, for locks to be put into."""
    (tmp_path / "advisories.toml").write_text(TABLE.read_text())
    return tmp_path


def lock(folder: Path, name: str, *lines: str) -> None:
    (folder / name).write_text("\n".join(f"{line} \\\n    --hash=sha256:00" for line in lines))


def test_our_own_locks_have_no_known_hole() -> None:
    """No lock whose versions we choose has a hole of the table."""
    _, holes = audit.read_table(TABLE)
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        if audit.is_ours(path):
            assert audit.open_holes(path, holes) == [], path.name


def test_the_development_lock_has_what_the_table_speaks_of() -> None:
    """Each package of the table is in the lock: a misspelt one would never be found."""
    _, holes = audit.read_table(TABLE)
    assert {hole.package for hole in holes} <= audit.pinned(ROOT / "requirements" / "dev.txt").keys()


def test_a_hole_in_a_lock_of_ours_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A version below the mended one is named with the CVE and the version that mends it, and the status is 1."""
    lock(folder, "dev.txt", "urllib3==2.6.2", "PyJWT==2.12.0")
    assert audit.main(folder, today=DAY) == 1
    said = capsys.readouterr().out
    assert "dev.txt: urllib3 2.6.2 has CVE-2026-21441, mended in 2.6.3: UPDATE" in said
    assert "pyjwt" not in said.lower()


def test_the_oldest_of_several_pins_counts(folder: Path) -> None:
    """A lock for several platforms may pin a package more than once."""
    lock(folder, "dev.txt", 'aiohttp==3.14.3 ; python_version >= "3.12"', 'aiohttp==3.13.2 ; python_version < "3.12"')
    assert audit.main(folder, today=DAY) == 1


def test_airflows_own_pins_are_told_and_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What Airflow's constraints pin is a matter for them: it is told, and fails nothing."""
    lock(folder, "airflow-2.11.2.txt", "urllib3==2.6.3")
    assert audit.main(folder, today=DAY) == 0
    assert "kept for Airflow's constraints" in capsys.readouterr().out


def test_what_it_cannot_know_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last line says until when the table was reviewed, and warns when that is long ago."""
    assert audit.main(folder, today=DAY) == 0
    assert "reviewed 2026-11-25; of newer ones nothing is known here." in capsys.readouterr().out
    assert audit.main(folder, today=DAY + datetime.timedelta(days=91)) == 0
    assert "long ago" in capsys.readouterr().out


def test_the_oldest_versions_that_we_allow_are_tested() -> None:
    """The lock of the oldest holds the declared floors, exactly: `make test-versions` proves our guards on them."""
    oldest = audit.pinned(ROOT / "requirements" / "oldest.txt")
    for requirement in PROJECT["project"]["dependencies"]:
        name, floor = re.fullmatch(r"([A-Za-z-]+)>=([\d.]+)(?:,!=[\d.*]+)?", requirement).groups()  # type: ignore[union-attr]
        package = name.lower()
        if package != "apache-airflow":
            assert oldest[package] == Version(floor), requirement


def test_nothing_runs_when_the_package_is_installed() -> None:
    """The build is hatchling's alone, without hooks, so that a wheel is files: no setup.py, no code at install."""
    assert PROJECT["build-system"]["requires"] == ["hatchling>=1.27"]
    assert not (ROOT / "setup.py").exists()
    assert "hooks" not in PROJECT["tool"]["hatch"].get("build", {})
    assert "scripts" not in PROJECT["project"]
