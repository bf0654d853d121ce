"""The tables of a run, and what it ran on."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import airflow_provider_redox
from benchmarks import posts
from benchmarks.measure import Result
from benchmarks.pages import SIZE
from benchmarks.peers import BASE, PEERS

Drains = dict[str, list[Result | None]]
Growth = dict[str, Result | None]
Faults = dict[str, dict[str, Result | None]]

_OURS = "airflow-provider-redox"


def render(
    drains: Drains,
    growth: Growth,
    faults: Faults,
    *,
    pages: int,
    more_pages: int,
    fault_pages: int,
    posted: dict[str, list[posts.Cost]],
    files: dict[str, posts.Cost],
) -> str:
    """Give the page with all tables."""
    return f"""# Results of the last run

Made by `make bench`; this file is written by it.

{_facts(drains)}

## Draining {pages} pages

{pages * SIZE:,} resources to NDJSON files. CPU and wall time are medians of the rounds, with the fastest and the slowest;
memory is by how much the process grew at its peak.

{drain_table(drains, expected=pages * SIZE)}

## Memory, from {pages} to {more_pages:,} pages

One drain of {more_pages * SIZE:,} resources.

{growth_table(drains, growth, expected=more_pages * SIZE)}

## One fault on page 7 of {fault_pages}

The server fails once and is well again. {fault_pages * SIZE:,}: every resource is there. raised: the user is told.
SILENT: resources are missing, and nothing says so.

{fault_table(faults, expected=fault_pages * SIZE)}

## Posting, one message after the other

{posts.POSTS:,} messages of a kilobyte. Posts a second are medians of the rounds, with the slowest and the fastest.

{post_table(posted)}

## Files of messages

{file_table(files)}
"""


def drain_table(drains: Drains, *, expected: int) -> str:
    """Give the table of costs, cheapest first."""
    base = _median(drains[BASE], "cpu") if BASE in drains else None
    heads = ["Client", "CPU s", "x base", "wall s", "memory MB", "connections", "resources", "rounds"]
    ordered = sorted(drains, key=lambda name: _median(drains[name], "cpu") or float("inf"))
    return _table(heads, [_drain_row(name, drains[name], base, expected) for name in ordered])


def _drain_row(name: str, results: Sequence[Result | None], base: float | None, expected: int) -> list[str]:
    done = [result for result in results if result]
    cpu = _median(results, "cpu")
    if cpu is None:
        return [PEERS[name].title, "not in time", *["-"] * 6]
    verdicts = sorted({result.verdict(expected) for result in done})
    return [
        PEERS[name].title,
        _spread([result.cpu for result in done]),
        f"{cpu / base:.2f}" if base else "-",
        _spread([result.wall for result in done]),
        _megabytes(statistics.median(result.memory for result in done)),
        f"{statistics.median(result.connections for result in done):.0f}",
        ", ".join(verdicts),
        str(len(done)),
    ]


def growth_table(drains: Drains, growth: Growth, *, expected: int) -> str:
    """Give the table of growth."""
    heads = ["Client", "memory MB, short", "memory MB, long", "resources"]
    return _table(heads, [_growth_row(name, drains.get(name, []), result, expected) for name, result in growth.items()])


def _growth_row(name: str, short: Sequence[Result | None], result: Result | None, expected: int) -> list[str]:
    memory = _median(short, "memory")
    first = [PEERS[name].title, _megabytes(memory) if memory is not None else "-"]
    if result is None:
        return [*first, "-", "not in time"]
    verdict = f"raised {result.error}" if result.error else result.verdict(expected)
    return [*first, _megabytes(result.memory), verdict]


def fault_table(faults: Faults, *, expected: int) -> str:
    """Give the table of faults: what is in the files after each."""
    kinds = list(dict.fromkeys(kind for found in faults.values() for kind in found))
    rows = [[PEERS[name].title, *(_verdict(found.get(kind), expected) for kind in kinds)] for name, found in faults.items()]
    return _table(["Client", *kinds], rows)


def post_table(posted: dict[str, list[posts.Cost]]) -> str:
    """Give the table of posts, fastest first."""
    return _table(["Client", "posts a second", "CPU ms a post", "connections", "arrived"], posts.table(posted))


def file_table(files: dict[str, posts.Cost]) -> str:
    """Give the table of files: what going side by side brings, and that memory does not grow."""
    one = files["slow, 1"]
    titles = {
        "slow, 1": f"{posts.DELAY * 1000:.0f} ms a message, one at a time",
        "slow, 8": f"{posts.DELAY * 1000:.0f} ms a message, {posts.WIDTH} at a time",
        "short": f"no delay, {posts.WIDTH} at a time",
        "long": f"no delay, {posts.WIDTH} at a time",
    }
    rows = [
        [
            titles[name],
            f"{cost.posts:,}",
            f"{cost.wall:.1f}",
            f"{one.wall / cost.wall:.1f}" if name.startswith("slow") else "-",
            _megabytes(cost.memory),
        ]
        for name, cost in files.items()
    ]
    return _table(["Server", "messages", "wall s", "x one at a time", "memory MB"], rows)


def _verdict(result: Result | None, expected: int) -> str:
    return result.verdict(expected) if result else "hung"


def _median(results: Iterable[Result | None], field: str) -> float | None:
    values: list[float] = [getattr(result, field) for result in results if result]
    return statistics.median(values) if values else None


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.0f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _facts(names: Iterable[str]) -> str:
    packages = dict.fromkeys(package for name in names for package in PEERS[name].packages)
    versions = ", ".join(f"{package} {_version(package)}" for package in [*packages, "apache-airflow"])
    facts: Mapping[str, str] = {
        "Day": datetime.now(UTC).date().isoformat(),
        "Processor": f"{_processor()}, {os.cpu_count()} cores",
        "System": f"{platform.system()}, Python {platform.python_version()}",
        "Versions": versions,
    }
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())


def _version(package: str) -> str:
    return airflow_provider_redox.__version__ if package == _OURS else metadata.version(package)


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found.group(1) if found else platform.machine()
