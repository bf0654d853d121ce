"""Hold the locks against the holes that are known, offline: `python scripts/audit.py`.

`requirements/advisories.toml` is the table. A lock that we choose ourselves must have none of them; the locks that hold
Airflow's own constraints, or the oldest versions that we allow, may: there our own guards hold, and the tests run on them.
What has been published since the table was reviewed is not known here, and the last line says so.
"""

from __future__ import annotations

import datetime
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

REQUIREMENTS = Path(__file__).parents[1] / "requirements"
STALE = datetime.timedelta(days=90)
"""Age of the review after which the last line is a warning."""


@dataclass(frozen=True)
class Hole:
    """One entry of the table."""

    package: str
    fixed: Version
    ids: tuple[str, ...]
    what: str
    here: str


def read_table(path: Path) -> tuple[datetime.date, list[Hole]]:
    """Give the day of the review, and the holes."""
    table = tomllib.loads(path.read_text())
    holes = [Hole(**{**one, "fixed": Version(one["fixed"]), "ids": tuple(one["ids"])}) for one in table["hole"]]
    return table["reviewed"], holes


def pinned(lock: Path) -> dict[str, Version]:
    """Give what a lock pins. With several versions for several platforms, the oldest counts."""
    found: dict[str, Version] = {}
    for name, stated in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", lock.read_text(), re.MULTILINE):
        version, package = Version(stated), re.sub(r"[-_.]+", "-", name).lower()
        found[package] = min(version, found.get(package, version))
    return found


def open_holes(lock: Path, holes: list[Hole]) -> list[tuple[Hole, Version]]:
    """Give the holes that a lock has, with the version that has them."""
    versions = pinned(lock)
    return [(hole, versions[hole.package]) for hole in holes if versions.get(hole.package, hole.fixed) < hole.fixed]


def is_ours(lock: Path) -> bool:
    """Say whether we choose the versions of a lock ourselves."""
    return not lock.name.startswith(("airflow-", "oldest"))


def main(folder: Path = REQUIREMENTS, *, today: datetime.date | None = None) -> int:
    """Print what was found; 1 when a lock of ours has a hole."""
    reviewed, holes = read_table(folder / "advisories.toml")
    failed = 0
    for lock in sorted(folder.glob("*.txt")):
        found = open_holes(lock, holes)
        failed += is_ours(lock) and bool(found)
        for hole, version in found:
            verdict = "UPDATE" if is_ours(lock) else "kept for Airflow's constraints"
            print(f"{lock.name}: {hole.package} {version} has {', '.join(hole.ids)}, mended in {hole.fixed}: {verdict}")
    age = (today or datetime.datetime.now(datetime.UTC).date()) - reviewed
    stale = "; that is long ago, look for newer ones" if age > STALE else ""
    print(f"Audited offline: {len(holes)} known holes, reviewed {reviewed}; of newer ones nothing is known here{stale}.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
