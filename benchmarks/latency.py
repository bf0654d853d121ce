"""How long searches take that wait for a hospital: beside what is ideal, as the server's own time is known.

    python -m benchmarks.latency [--into benchmarks/RESULTS.md]

A cohort's searches at eight a destination; ten destinations, one of which hangs; a long search in four windows. Each is the
operator's whole path in one process, against one server whose pages take so long.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from benchmarks import processes
from benchmarks.job import ENVIRONMENT, Job, set_connections
from benchmarks.peers.ours import context
from benchmarks.sections import put

SEARCHES, SECONDS, AT_A_TIME = 400, 0.3, 8
"""A tenth of what a slow hospital takes, and a twelfth of a large roster; the ratio is the same."""

DESTINATIONS, EACH, SECONDS_EACH = 10, 40, 3.0
PAGES, PAGE_SECONDS, WINDOWS = 100, 0.03, 4

HEADING = "## Waiting for hospitals"


@dataclass(frozen=True, slots=True)
class Row:
    """One measured line.

    :param seconds: wall time.
    :param beside: the seconds that it is held against.
    """

    what: str
    seconds: float
    beside: float
    against: str

    def __str__(self) -> str:
        return (
            f"| {self.what} | {self.seconds:.2f} | {self.beside:.2f} ({self.against}) | {self.seconds / self.beside:.2f} |"
        )


class Latency:
    """The runs, against one server."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder = url, folder
        set_connections(Job(url, processes.new_key(), folder / "out"))
        self._tell(pages=1)
        self._run_of(EACH, "warm-up")

    def rows(self) -> list[Row]:
        """Measure everything."""
        return [self.cohort(), self.one_hangs(), self.windows()]

    def cohort(self) -> Row:
        """One search for each row of a roster."""
        self._tell(pages=1, delay=SECONDS)
        seconds = _timed(lambda: self._run_of(SEARCHES, "cohort"))
        what = f"{SEARCHES} searches of {SECONDS} s, {AT_A_TIME} at a time"
        return Row(what, seconds, SEARCHES * SECONDS / AT_A_TIME, "ideal")

    def one_hangs(self) -> Row:
        """A cohort at each of ten destinations at once, in threads of their own; the last one never answers."""
        self._tell(pages=1, delay=SECONDS_EACH, hangs="d0")
        slugs = [f"d{number}" for number in range(DESTINATIONS)]
        tasks = [threading.Thread(target=self._run_of, args=(EACH, f"task-{slug}", slug), daemon=True) for slug in slugs]

        def run() -> None:
            for task in tasks:
                task.start()
            for task in tasks[1:]:
                task.join()

        what = f"{EACH} searches at each of {DESTINATIONS} destinations, one of which hangs: the others"
        return Row(what, _timed(run), EACH * SECONDS_EACH / AT_A_TIME, "ideal")

    def windows(self) -> Row:
        """A long search, and the same in four windows side by side."""
        self._tell(pages=PAGES, delay=PAGE_SECONDS)
        window = ("2026-01-01", "2026-02-01")
        whole = _timed(lambda: self._execute("whole", window=window))
        self._tell(pages=PAGES // WINDOWS, delay=PAGE_SECONDS)
        parts = _timed(lambda: self._execute("parts", window=window, window_parts=WINDOWS))
        return Row(f"{PAGES} pages of {PAGE_SECONDS * 1000:.0f} ms in {WINDOWS} windows", parts, whole, "in one")

    def _run_of(self, searches: int, task_id: str, slug: str | None = None) -> None:
        roster = self._folder / f"{task_id}.ndjson"
        roster.write_text("".join(json.dumps({"n": f"name-{number}"}) + "\n" for number in range(searches)))
        self._execute(
            task_id,
            destination=slug,
            environment=ENVIRONMENT,
            cohort=str(roster),
            search_params={"family": "{n}"},
            max_concurrency=AT_A_TIME,
        )

    def _execute(self, task_id: str, **arguments: Any) -> None:
        operator = RedoxFhirSearchOperator(
            task_id=task_id,
            resource_type="Patient",
            output_path=f"file://{self._folder}/out",
            handling="lenient",  # this server says nothing of filters
            **arguments,
        )
        operator.execute(context(task_id))  # type: ignore[arg-type]

    def _tell(self, **state: Any) -> None:
        requests.put(f"{self._url}/_bench", json=state, timeout=10).raise_for_status()


def _timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure() -> str:
    """Measure, and give the section of the page."""
    with tempfile.TemporaryDirectory(prefix="redox-bench-latency-") as folder, processes.server() as url:
        rows = Latency(url, Path(folder)).rows()
    slots = SEARCHES / rows[0].seconds
    head = [
        f"{HEADING}\n",
        "The operator's whole path, against a server that takes its time; ideal is that time alone.\n",
        "| What | wall s | beside | ratio |",
        "| --- | --- | --- | --- |",
    ]
    cost = (
        f"One worker slot makes {slots:.0f} such searches a second: {1000 / slots:.0f} slot-seconds for 1,000; one search "
        f"after another would take {1000 * SECONDS:.0f}.\n"
    )
    return "\n".join([*head, *map(str, rows), "", cost])


def main() -> None:
    """Measure, and print or keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, help="a page to write the table into")
    options = parser.parse_args()
    section = measure()
    print(section)
    if options.into is not None:
        put(section, HEADING, options.into)


if __name__ == "__main__":
    main()
