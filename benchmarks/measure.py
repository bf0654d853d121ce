"""The process of one client: told jobs on its standard input, one JSON object a line, it tells what each cost and brought.

Every drain is preceded by one of a single page, which is not counted: what a client imports late is loaded then. It uses
another key, so that a client that keeps parsed keys parses the real one where it is counted, as a task's process would.
"""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import os
import resource
import shutil
import sys
import tempfile
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.job import Job

Drain = Callable[[Job], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What a drain cost, and what lies in its files.

    :param cpu: seconds of this process and its children, user and system.
    :param wall: seconds.
    :param memory: bytes by which the process grew at its peak.
    :param connections: TCP connections that the server counted.
    :param lines: resources in the files; `distinct` counts IDs.
    :param error: the class of the exception, or nothing.
    """

    cpu: float
    wall: float
    memory: int
    connections: int
    requests: int
    lines: int
    distinct: int
    error: str = ""

    def verdict(self, expected: int) -> str:
        """Say what a user has: everything, an exception, or, worst, less or more without a word."""
        if self.error:
            return "raised"
        if self.lines == self.distinct == expected:
            return f"{expected:,}"
        return f"{self.lines:,} SILENT"


def measure(drain: Drain, *, server: str, key: str, other_key: str, pages: int, fault: str = "") -> Result:
    """Drain once and count."""
    with tempfile.TemporaryDirectory(prefix="redox-bench-") as folder:
        _warm_up(drain, server, other_key, Path(folder, "warm"))
        control(server, pages=pages, fault=fault)
        job = Job(server, key, _made(Path(folder, "out")))
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, used, wall = status("VmRSS"), cpu(), time.perf_counter()
        error = _attempt(drain, job)
        used, wall = cpu() - used, time.perf_counter() - wall
        memory = max(status("VmHWM") - before, 0)
        counted = control(server)
        lines, distinct = contents(job.out)
    return Result(used, wall, memory, counted["connections"], counted["requests"], lines, distinct, error)


def control(server: str, **told: Any) -> dict[str, Any]:
    """Put the server to its start with these settings, or without any ask what it counted."""
    body = json.dumps(told).encode() if told else None
    request = urllib.request.Request(f"{server}/_bench", data=body, method="PUT" if told else "GET")  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        counted: dict[str, Any] = json.load(answer)
        return counted


def contents(folder: Path) -> tuple[int, int]:
    """Count the patients in a folder's NDJSON files: lines, and different IDs."""
    found = [one["id"] for one in patients(folder)]
    return len(found), len(set(found))


def patients(folder: Path) -> Iterator[dict[str, Any]]:
    """Give the patients in a folder's NDJSON files, in the order of the files."""
    for path in sorted(folder.rglob("*.ndjson")):
        with path.open("rb") as file:
            parsed = (json.loads(line) for line in file)
            yield from (one for one in parsed if one["resourceType"] == "Patient")


def _warm_up(drain: Drain, server: str, key: str, folder: Path) -> None:
    control(server, pages=1, fault="")
    drain(Job(server, key, _made(folder)))
    shutil.rmtree(folder)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _attempt(drain: Drain, job: Job) -> str:
    try:
        drain(job)
    except Exception as error:  # noqa: BLE001  (whatever a client raises is what is told)
        return type(error).__name__
    return ""


def cpu() -> float:
    """Give the seconds of CPU that this process and its children used, user and system."""
    whose = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in whose)


def status(field: str) -> int:
    """Give a size in bytes that the kernel tells of this process, such as VmRSS."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def main() -> None:
    """Answer each line of the standard input with a line. What clients print goes to the standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    drain = import_module(sys.argv[1]).drain
    for line in sys.stdin:
        print(json.dumps(asdict(measure(drain, **json.loads(line)))), file=answers, flush=True)


if __name__ == "__main__":
    main()
