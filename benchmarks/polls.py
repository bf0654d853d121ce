"""How many requests a minute waiting for delivery costs: one wait, a hundred, a thousand, alone and among others' traffic.

    python -m benchmarks.polls [--seconds 65] [--into benchmarks/RESULTS.md]

Real triggers in one event loop, against the sandbox over HTTP, at an interval of 30 seconds. What is counted is the server's
own ledger; what is timed, how long after the status changed the last wait had noticed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.sections import put

CASES = ((1, 0), (100, 0), (1000, 0), (100, 20_000))
"""How many waits, and how many logs of others in their window."""

INTERVAL = 30.0
HEADING = "## Polls a minute"


@dataclass(frozen=True, slots=True)
class Row:
    """One case: requests for the first look at all, then in each minute, and how late the last wait noticed, in seconds."""

    waits: int
    others: int
    minute: float
    most: int
    noticed: float


@contextmanager
def sandbox() -> Iterator[dict[str, Any]]:
    """Run a sandbox, and give its connection."""
    command = [sys.executable, "-m", "airflow_provider_redox.sandbox", "--port", "0", "--print-connection"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.terminate()


def control(connection: dict[str, Any], method: str, path: str, body: Any = None) -> Any:
    """Speak to the sandbox's control plane."""
    import requests

    url = f"{connection['host']}:{connection['port']}/_sandbox/{path}"
    answer = requests.request(method, url, json=body, timeout=60)
    answer.raise_for_status()
    return answer.json()


async def measure(connection: dict[str, Any], waits: int, others: int, seconds: float) -> Row:
    """Wait with so many triggers for a while, then let all logs succeed."""
    from airflow_provider_redox.triggers.delivery import RedoxDeliveryTrigger

    def told(*call: Any) -> Any:
        return asyncio.to_thread(control, connection, *call)

    if others:
        await told("POST", "logs", {"count": others, "age": 60})
    ids = (await told("POST", "logs", {"count": waits, "age": 60, "status": "pending"}))["ids"]
    began = time.time()
    common = {"redox_conn_id": "redox_default", "since": began - 60, "grace_until": began + 300, "deadline": began + 86400}
    rules = {"filtered": "fail", "failed": "wait"}
    triggers = [RedoxDeliveryTrigger(**common, logs=[one], rules=rules, interval=INTERVAL, ticket="bench") for one in ids]

    async def event(trigger: RedoxDeliveryTrigger) -> Any:
        return await anext(aiter(trigger.run()))

    tasks = [asyncio.create_task(event(trigger)) for trigger in triggers]
    await asyncio.sleep(seconds)
    polled = [moment(entry["time"]) for entry in await told("GET", "ledger?path=/platform/")]
    await told("PATCH", "logs", {"status": "succeeded"})
    changed = time.monotonic()
    await asyncio.gather(*tasks)
    noticed = time.monotonic() - changed
    most = max(sum(start <= one < start + 60 for one in polled) for start in polled)
    return Row(waits, others, len(polled) / seconds * 60, most, noticed)


def moment(text: str) -> float:
    """Read a time of the ledger."""
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def table(rows: list[Row]) -> str:
    """Give the section of the page."""
    lines = [
        f"{HEADING}\n",
        f"Deferred waits for delivery in one event loop, `poke_interval` {INTERVAL:.0f} s, counted by the server over "
        "little more than one minute.\n",
        "| Waits | logs of others | requests a minute, over all | most in a minute | last one noticed after s |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [f"| {r.waits:,} | {r.others:,} | {r.minute:.0f} | {r.most} | {r.noticed:.0f} |" for r in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=65.0, help="how long each case waits before all is delivered")
    parser.add_argument("--cases", type=int, default=len(CASES), help="how many of the cases, the smallest first")
    parser.add_argument("--into", type=Path, help="a page to write the table into")
    options = parser.parse_args()
    os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="redox-bench-home-"))
    rows = []
    for waits, others in CASES[: options.cases]:
        print(f"{waits} waits, {others} logs of others", flush=True)
        with sandbox() as connection:
            os.environ["AIRFLOW_CONN_REDOX_DEFAULT"] = json.dumps(connection)
            from airflow_provider_redox.triggers import polling

            polling._paces.clear()  # noqa: SLF001  (each case has a minute of its own)
            rows.append(asyncio.run(measure(connection, waits, others, options.seconds)))
    print(table(rows))
    if options.into is not None:
        put(table(rows), HEADING, options.into)


if __name__ == "__main__":
    main()
