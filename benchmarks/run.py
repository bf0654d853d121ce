"""Measure every client in one run, and write the tables and the picture.

It takes six to twenty minutes. The drains are interleaved, so that what else the machine does falls on all clients
alike. The faults are not timed, and run beside each other.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import picture, posts, processes, report
from benchmarks.measure import Result
from benchmarks.peers import PEERS
from benchmarks.report import Drains, Faults, Growth
from benchmarks.server import FAULTS

PAGES, MORE_PAGES, FAULT_PAGES = 200, 1200, 20
ROUNDS, QUICK_ROUNDS = 3, 5
LIMIT, LONG_LIMIT, FAULT_LIMIT = 60.0, 90.0, 200.0
LANES = 12

ROOT = processes.ROOT


class Bench:
    """One run.

    :param names: the clients that take part.
    :param folder: where their own words are kept.
    """

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        self._names = names
        self._folder = folder
        self._keys = {"key": processes.new_key(), "other_key": processes.new_key()}

    @property
    def key(self) -> str:
        """The private key of all clients."""
        return self._keys["key"]

    def drains(self) -> Drains:
        """Drain 200 pages in interleaved rounds; the quick clients take part in more of them."""
        results: Drains = {name: [] for name in self._names}
        with processes.server() as url:
            for number in range(QUICK_ROUNDS):
                print(f"round {number + 1} of {QUICK_ROUNDS}", flush=True)
                for name in self._names:
                    if number < ROUNDS or PEERS[name].quick:
                        results[name] += self._run(name, url, LIMIT, PAGES)
        return results

    def growth(self) -> Growth:
        """Drain 1,200 pages once."""
        with processes.server() as url:
            return {name: self._long(name, url) for name in self._names if PEERS[name].grows}

    def _long(self, name: str, url: str) -> Result | None:
        print(f"{MORE_PAGES} pages: {PEERS[name].title}", flush=True)
        (result,) = self._run(name, url, LONG_LIMIT, MORE_PAGES)
        return result

    def faults(self) -> Faults:
        """Meet each fault once, on page 7 of 20."""
        print("faults", flush=True)
        lanes = [(name, chunk) for name in self._names for chunk in _chunks(name)]
        lanes.sort(key=lambda lane: not PEERS[lane[0]].patient)  # who waits longest begins first
        with ThreadPoolExecutor(LANES) as threads:
            told = list(threads.map(lambda lane: self._lane(*lane), lanes))
        results: Faults = {name: {} for name in self._names}
        for (name, chunk), found in zip(lanes, told, strict=True):
            results[name].update(zip(chunk, found, strict=True))
        return results

    def _lane(self, name: str, faults: Sequence[str]) -> list[Result | None]:
        with processes.server() as url:
            jobs = [self._job(url, FAULT_PAGES) | {"fault": fault} for fault in faults]
            return processes.run(_module(name), jobs, limit=FAULT_LIMIT, log=self._folder / f"{name}.log")

    def _run(self, name: str, url: str, limit: float, pages: int) -> list[Result | None]:
        return processes.run(_module(name), [self._job(url, pages)], limit=limit, log=self._folder / f"{name}.log")

    def _job(self, url: str, pages: int) -> dict[str, Any]:
        return {"server": url, "pages": pages, **self._keys}


def _module(name: str) -> str:
    return f"benchmarks.peers.{name}"


def _chunks(name: str) -> list[list[str]]:
    """Give the faults that one process meets after each other: all, or one where the client waits for minutes."""
    return [[fault] for fault in FAULTS] if PEERS[name].patient else [list(FAULTS)]


def main() -> None:
    """Run, and write benchmarks/RESULTS.md and the picture."""
    parser = argparse.ArgumentParser(description="Measure this provider's search beside its peers.")
    parser.add_argument(
        "clients", nargs="*", metavar="CLIENT", help=f"one of {', '.join(PEERS)}; all by default, and only then kept"
    )
    names = parser.parse_args().clients or list(PEERS)
    with tempfile.TemporaryDirectory(prefix="redox-bench-words-") as folder:
        bench = Bench(names, Path(folder))
        drains, growth, faults = bench.drains(), bench.growth(), bench.faults()
        posted, files = posts.one_by_one(ROUNDS, bench.key), posts.files(bench.key)
    text = report.render(
        drains,
        growth,
        faults,
        pages=PAGES,
        more_pages=MORE_PAGES,
        fault_pages=FAULT_PAGES,
        posted=posted,
        files=files,
    )
    print(text)
    if len(names) == len(PEERS):
        (ROOT / "benchmarks" / "RESULTS.md").write_text(text)
        picture.draw(drains, ROOT / "docs" / "images" / "benchmark-drain.svg")


if __name__ == "__main__":
    main()
