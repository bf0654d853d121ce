"""Posts: one after the other beside the loops that an expert would write, and files of messages, side by side.

    python -m benchmarks.posts CLIENT '{"server": "...", "key": "...", "count": 1000}'

does one job in a process of its own and prints what it cost. The server answers each message with a log ID, after a delay if
it is told one, and counts them.
"""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.job import Job, set_connections, sign_in
from benchmarks.measure import control, cpu, status

POSTS, MORE_POSTS = 1000, 5000
DELAY = 0.03
WIDTH = 8
LIMIT = 300.0

_DESTINATION = "0f4bd1d1-451d-4351-8cfd-b767d1b488d6"
_META = {"DataModel": "PatientAdmin", "EventType": "NewPatient", "Test": True, "EventDateTime": "2026-01-05T08:00:00Z"}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job cost.

    :param wall: seconds, and `cpu` seconds of this process.
    :param memory: bytes by which the process grew at its peak.
    :param posts: messages that the server counted.
    """

    wall: float
    cpu: float
    memory: int
    posts: int
    connections: int


def message(number: int) -> dict[str, Any]:
    """Give a message of about a kilobyte."""
    patient = {"Identifiers": [{"ID": f"{number:010d}", "IDType": "MR"}], "Demographics": {"LastName": f"Name{number}"}}
    visit = {"VisitNumber": str(number), "Instructions": ["x" * 80] * 8}
    return {"Meta": {**_META, "Destinations": [{"ID": _DESTINATION}]}, "Patient": patient, "Visit": visit}


def by_hook(_job: Job, count: int, _width: int) -> None:
    """Post each with the hook, which checks answers and knows what may be repeated."""
    from airflow_provider_redox.hooks.redox import RedoxHook

    hook = RedoxHook()
    for number in range(count):
        hook.post_data_model(message(number))


def by_requests(job: Job, count: int, _width: int) -> None:
    """One requests Session, statuses checked, log IDs read."""
    import requests

    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {sign_in(job)}"
        for number in range(count):
            response = session.post(f"{job.server}/endpoint", json=message(number), timeout=60)
            response.raise_for_status()
            response.json()["Meta"]["Logs"]


def by_urllib3(job: Job, count: int, _width: int) -> None:
    """One urllib3 pool with orjson, statuses checked, log IDs read."""
    import orjson
    import urllib3

    headers = {"authorization": f"Bearer {sign_in(job)}", "content-type": "application/json"}
    with urllib3.PoolManager(headers=headers, timeout=60, retries=False) as pool:
        for number in range(count):
            response = pool.request("POST", f"{job.server}/endpoint", body=orjson.dumps(message(number)))
            if response.status != 200:
                raise RuntimeError(f"HTTP {response.status}")
            orjson.loads(response.data)["Meta"]["Logs"]


def by_file(job: Job, count: int, width: int) -> None:
    """Send a file of messages with the operator, from the connection to the result lines."""
    from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
    from benchmarks.peers.ours import context

    path = job.out / f"messages-{count}.ndjson"
    if not path.exists():
        with path.open("w") as file:
            file.writelines(f"{json.dumps(message(number))}\n" for number in range(count))
    operator = RedoxDataModelPostOperator(
        task_id="post", payload_path=f"file://{path}", results_path=f"file://{job.out}/{count}", max_concurrency=width
    )
    operator.execute(context("post"))  # type: ignore[arg-type]


POSTERS: dict[str, tuple[str, Callable[[Job, int, int], None]]] = {
    "hook": ("RedoxHook.post_data_model", by_hook),
    "requests": ("requests.Session by hand", by_requests),
    "urllib3": ("urllib3 + orjson by hand", by_urllib3),
    "file": ("RedoxDataModelPostOperator, a file", by_file),
}
"""All clients, by name: the title in the tables, and how a job is done."""


def measure(poster: Callable[[Job, int, int], None], server: str, key: str, count: int, width: int, delay: float) -> Cost:
    """Do a job and count. A post that is not counted comes first: what is imported late is loaded then."""
    with tempfile.TemporaryDirectory(prefix="redox-bench-") as folder:
        job = Job(server, key, Path(folder))
        set_connections(job)
        control(server, delay=0.0)
        poster(job, 1, 1)
        control(server, delay=delay)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, used, wall = status("VmRSS"), cpu(), time.perf_counter()
        poster(job, count, width)
        used, wall = cpu() - used, time.perf_counter() - wall
        counted = control(server)
        return Cost(wall, used, max(status("VmHWM") - before, 0), counted["posts"], counted["connections"])


def run(name: str, server: str, key: str, count: int, *, width: int = 1, delay: float = 0.0) -> Cost:
    """Do a job in a process of its own."""
    told = json.dumps({"server": server, "key": key, "count": count, "width": width, "delay": delay})
    with tempfile.TemporaryDirectory(prefix="redox-bench-home-") as home:
        command = [sys.executable, "-m", "benchmarks.posts", name, told]
        environment = processes.environment(home)
        done = subprocess.run(
            command, cwd=processes.ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT, check=True
        )
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def one_by_one(rounds: int, key: str) -> dict[str, list[Cost]]:
    """Post a thousand messages one after the other with each client, in interleaved rounds."""
    costs: dict[str, list[Cost]] = {name: [] for name in POSTERS}
    with processes.server() as server:
        for number in range(rounds):
            print(f"posts, round {number + 1} of {rounds}", flush=True)
            for name, found in costs.items():
                found.append(run(name, server, key, POSTS))
    return costs


def files(key: str) -> dict[str, Cost]:
    """Send files of messages: with a server that takes its time, one by one and side by side; and a long one without."""
    print("files of messages", flush=True)
    with processes.server() as server:
        return {
            "slow, 1": run("file", server, key, POSTS, width=1, delay=DELAY),
            "slow, 8": run("file", server, key, POSTS, width=WIDTH, delay=DELAY),
            "short": run("file", server, key, POSTS, width=WIDTH),
            "long": run("file", server, key, MORE_POSTS, width=WIDTH),
        }


def table(costs: dict[str, Sequence[Cost]] | dict[str, list[Cost]]) -> list[list[str]]:
    """Give the rows of the first table, fastest first."""
    ordered = sorted(costs, key=lambda name: statistics.median(cost.wall for cost in costs[name]))
    return [_row(name, costs[name]) for name in ordered]


def _row(name: str, costs: Sequence[Cost]) -> list[str]:
    rates = [cost.posts / cost.wall for cost in costs]
    spent = statistics.median(cost.cpu / cost.posts for cost in costs)
    return [
        POSTERS[name][0],
        f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})",
        f"{spent * 1000:.2f}",
        ", ".join(sorted({f"{cost.connections}" for cost in costs})),
        ", ".join(sorted({f"{cost.posts:,}" for cost in costs})),
    ]


def main() -> None:
    """Do one job and print what it cost. What is printed on the way goes to the standard error."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    print(json.dumps(asdict(measure(POSTERS[sys.argv[1]][1], **json.loads(sys.argv[2])))), file=answer, flush=True)


if __name__ == "__main__":
    main()
