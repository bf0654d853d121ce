"""Run the main job on this machine and say what happened: `make demo`. With --stay (`make up`) leave it running.

A real Airflow (scheduler, DAG processor, triggerer, API server on SQLite) and a sandbox Redox server are started on
the loopback interface, the example DAGs in `dags/` run against the sandbox, and a table says what they fetched and
sent. Then everything is ended: after a failure, Ctrl-C and SIGTERM too. The exit status is 1 when a DAG run failed.

All of it lives in `.demo/` in the checkout, made fresh each time: the results, the logs, Airflow's home.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import requests
from local_airflow import FINISHED, AirflowApiError, DagImportError, LocalAirflow
from local_processes import HOST, PortTakenError, ProcessDiedError, Processes, check_port_free

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
DAGS = ROOT / "dags"
STATE = ROOT / ".demo"
RESULTS = STATE / "results"
LOGS = STATE / "logs"
SANDBOX = [sys.executable, "-m", "airflow_provider_redox.sandbox"]
AIRFLOW, REDOX = "Airflow", "the sandbox Redox server"
PORT_VARIABLES = {AIRFLOW: "DEMO_PORT", REDOX: "DEMO_SANDBOX_PORT"}
TAG = "redox"
RUN_ID = "demo"  # it is part of the results' paths: short, and the same each time
WIDTH = 64  # of a line of progress, before its seconds


class DemoError(RuntimeError):
    """Something is missing without which the demo has nothing to show."""


# Errors whose message says it all; any other is a mistake of ours, and shows where.
EXPECTED = (
    AirflowApiError,
    DagImportError,
    DemoError,
    PermissionError,
    ProcessDiedError,
    TimeoutError,
    requests.RequestException,
)


class Run(NamedTuple):
    """One DAG run, its last known state, and the seconds from its trigger until we saw that."""

    dag_id: str
    run_id: str
    state: str
    seconds: float


def main() -> int:
    """Do as the command line says; give the exit status."""
    options = parse_options()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, exit_on_signal)
    try:
        check_port_free(options.port, AIRFLOW)
        check_port_free(options.sandbox_port, REDOX)
        with fresh_state(), everything_stopped_after(Processes()) as processes:
            return demo(options, processes)
    except KeyboardInterrupt:
        return 130
    except PortTakenError as error:
        variable, target = PORT_VARIABLES[error.purpose], "up" if options.stay else "demo"
        return complain(f"{error} Choose another one, for example: {variable}={error.port + 1} make {target}")
    except EXPECTED as error:
        return complain(f"{error}")


def demo(options: argparse.Namespace, processes: Processes) -> int:
    """Start everything, run the DAGs, report; with --stay, wait for Ctrl-C."""
    began = time.monotonic()
    connection = start_sandbox(processes, options.sandbox_port)
    airflow = start_airflow(processes, options.port, connection)
    runs = run_dags(airflow, timeout=options.timeout)
    report(airflow, runs, options.sandbox_port)
    print(f"\n  {time.monotonic() - began:.0f} seconds in all; results, logs and Airflow's home are in {STATE.name}/\n")
    if options.stay:
        stay(processes, options)
        return 0
    return 1 if any(run.state != "success" for run in runs) else 0


# Starting


def start_sandbox(processes: Processes, port: int) -> dict[str, Any]:
    """Start the sandbox; give the Airflow connection that it prints when it listens."""
    with phase("Starting a sandbox Redox server"):
        child = processes.start(
            "The sandbox Redox server",
            [*SANDBOX, "--port", str(port), "--print-connection"],
            log=LOGS / "sandbox.log",
            env=os.environ,
            stdout=subprocess.PIPE,  # holds a private key: not for a log
        )
        return parse_connection(processes.first_line(child, timeout=60))


def parse_connection(line: str) -> dict[str, Any]:
    """Read the connection that the sandbox printed; an error does not show it, for the key in it."""
    try:
        connection: dict[str, Any] = json.loads(line)
    except ValueError:
        raise DemoError("The sandbox Redox server printed something else than a connection.") from None
    return connection


def start_airflow(processes: Processes, port: int, connection: Mapping[str, Any]) -> LocalAirflow:
    """Start Airflow with the connection `redox_default` and every DAG loaded."""
    settings = {"AIRFLOW__REDOX__OUTPUT_ROOT": f"file://{RESULTS}"}
    home = STATE / "airflow"
    airflow = LocalAirflow(home, DAGS, port, env=settings, logs=LOGS, processes=processes, phase=phase)
    airflow.start()
    with phase("Loading the DAGs"):
        airflow.add_connection("redox_default", connection)
        airflow.wait_for_dags()
    return airflow


# Running


def run_dags(airflow: LocalAirflow, *, timeout: float) -> list[Run]:
    """Trigger every DAG with the tag at once, show each as it ends, and give all, unfinished ones too."""
    dag_ids = airflow.dag_ids(tag=TAG)
    if not dag_ids:
        raise DemoError(f"No DAG in {DAGS.name}/ carries the tag {TAG!r}.")
    print(f"  Running {len(dag_ids)} DAGs:")
    began = time.monotonic()
    runs = {dag_id: Run(dag_id, airflow.trigger(dag_id, run_id=RUN_ID), "queued", 0) for dag_id in dag_ids}
    while time.monotonic() - began < timeout and (open_runs := [r for r in runs.values() if r.state not in FINISHED]):
        for run in open_runs:
            state, seconds = airflow.run_state(run.dag_id, run.run_id), time.monotonic() - began
            runs[run.dag_id] = run._replace(state=state, seconds=seconds)
            if state in FINISHED:
                show(f"  {run.dag_id}: {state}", seconds)
        airflow.processes.check()
        time.sleep(0.5)
    return list(runs.values())


def stay(processes: Processes, options: argparse.Namespace) -> None:
    """Watch over the processes until Ctrl-C, the regular end of this."""
    print(f"  Airflow: http://{HOST}:{options.port} (no password)")
    print(f"  Sandbox: http://{HOST}:{options.sandbox_port}")
    print(f"  In another terminal: AIRFLOW_HOME={STATE.name}/airflow .venv/bin/airflow dags list")
    print("  Ctrl-C ends everything.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            processes.check()
            time.sleep(1)
    print()


# Reporting


def report(airflow: LocalAirflow, runs: Sequence[Run], sandbox_port: int) -> None:
    """Say what the runs fetched and sent, and what failed."""
    values = [value for run in runs for _, _, value in airflow.xcoms(run.dag_id, run.run_id)]
    report_results([v for v in values if is_manifest(v)], [v for v in values if is_post_summary(v)])
    report_traffic(sandbox_port)
    for run in runs:
        if run.state != "success":
            report_failure(airflow, run)


def report_results(manifests: Sequence[Mapping[str, Any]], summaries: Sequence[Mapping[str, Any]]) -> None:
    """Print what was fetched, a line for each file even if several manifests name it, and what became of messages."""
    files = {entry["url"]: entry for manifest in manifests for entry in (*manifest["output"], *manifest["error"])}
    folder = common_folder([*files, *(summary["results_url"] for summary in summaries)])
    if folder:
        print(f"\n  Files below {short_url(folder)}")
    rows = [(e["type"], str(e["count"]), url.removeprefix(folder)) for url, e in sorted(files.items())]
    print_table(("type", "count", "file"), rows)
    counted = ("accepted", "refused", "ambiguous")
    rows = [(*(str(s[name]) for name in counted), s["results_url"].removeprefix(folder)) for s in summaries]
    print_table((*counted, "file"), rows)
    if log_ids := [log_id for summary in summaries for log_id in summary["log_ids"]]:
        print(f"  Redox's log IDs of the messages: {shortened(log_ids, 5)}")


def report_traffic(sandbox_port: int) -> None:
    """Print what the sandbox counted."""
    with requests.Session() as http:
        http.trust_env = False
        stats = http.get(f"http://{HOST}:{sandbox_port}/_sandbox/stats", timeout=10).json()
    counts = (str(stats[key]) for key in ("requests", "tokens", "messages"))
    print_table(("requests", "tokens exchanged", "messages received"), [tuple(counts)])


def report_failure(airflow: LocalAirflow, run: Run) -> None:
    """Print the failed tasks of a run with the end of their logs; for an unfinished run, what each task was doing."""
    tasks = airflow.task_instances(run.dag_id, run.run_id)
    states = ", ".join(f"{task['task_id']} {task['state'] or 'not started'}" for task in tasks)
    print(f"\n  {run.dag_id}: {run.state} ({states})")
    for task in (task for task in tasks if task["state"] == "failed"):
        log = airflow.task_log(
            run.dag_id, run.run_id, task["task_id"], try_number=task["try_number"], map_index=task["map_index"]
        )
        print(f"    The end of the log of {task['task_id']}, try {task['try_number']}:")
        print("\n".join(f"      {short_url(line)}" for line in log[-20:]))


def is_manifest(value: object) -> bool:
    """Tell whether an XCom is the manifest of a search."""
    return isinstance(value, dict) and isinstance(value.get("output"), list) and isinstance(value.get("error"), list)


def is_post_summary(value: object) -> bool:
    """Tell whether an XCom says what became of messages."""
    return isinstance(value, dict) and {"accepted", "refused", "ambiguous", "log_ids", "results_url"} <= value.keys()


# Words on the screen


@contextlib.contextmanager
def phase(text: str) -> Iterator[None]:
    """Show what is being done while it is done, and the seconds it took."""
    began = time.monotonic()
    print(f"  {text + ' ':.<{WIDTH}}", end="", flush=True)
    try:
        yield
    except BaseException:
        print(flush=True)
        raise
    print(f"{time.monotonic() - began:6.1f} s", flush=True)


def show(text: str, seconds: float) -> None:
    """Print a line of progress for something that has ended."""
    print(f"  {text + ' ':.<{WIDTH}}{seconds:6.1f} s", flush=True)


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns as wide as their widest cell, the last one fitted to the screen; nothing without rows."""
    if not rows:
        return
    screen = shutil.get_terminal_size(fallback=(200, 24)).columns
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    widths[-1] = min(widths[-1], max(screen - sum(width + 2 for width in widths[:-1]) - 2, len(head[-1])))
    print()
    for row in (head, tuple("-" * width for width in widths), *rows):
        cells = [cell.rjust(w) if cell.isdigit() else cell.ljust(w) for cell, w in zip(row, widths, strict=True)]
        print("  " + "  ".join([*cells[:-1], fitted(cells[-1], widths[-1])]).rstrip())


def fitted(path: str, width: int) -> str:
    """Leave out folders at the beginning of a path until it fits."""
    rest = path
    while len(path) > width and "/" in rest:
        rest = rest.partition("/")[2]
        path = f"…/{rest}"
    return path


def short_url(url: str) -> str:
    """Give a file of the checkout as its path there."""
    return url.removeprefix("file://").removeprefix(f"{ROOT}{os.sep}")


def common_folder(urls: Sequence[str]) -> str:
    """Give what all URLs begin with, to the last slash; all but the name if there is one URL."""
    return "".join(os.path.commonprefix(urls).rpartition("/")[:2])


def shortened(items: Sequence[str], limit: int) -> str:
    """Join the first items, and count the others."""
    more = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {more} more" if more > 0 else "")


def complain(text: str) -> int:
    """Print an error and give the exit status for it."""
    print(f"\n{text}", file=sys.stderr)
    return 1


# Beginning and end


def parse_options() -> argparse.Namespace:
    """Read the command line; the ports may come from the environment, for make."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=port, default=os.environ.get("DEMO_PORT", "8080"), help="Airflow's port")
    parser.add_argument("--sandbox-port", type=port, default=os.environ.get("DEMO_SANDBOX_PORT", "8089"))
    parser.add_argument("--timeout", type=float, default=300, help="seconds that the DAG runs may take")
    parser.add_argument("--stay", action="store_true", help="leave it running until Ctrl-C")
    return parser.parse_args()


def port(text: str) -> int:
    """Read a port number."""
    if not 1 <= int(text) <= 65_535:
        raise ValueError(text)
    return int(text)


@contextlib.contextmanager
def fresh_state() -> Iterator[None]:
    """Empty `.demo/`, and hold it: two demos in one checkout would pull the ground from under each other."""
    STATE.mkdir(exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError("Another demo runs in this checkout. End that one first.") from None
        for path in (STATE / "airflow", RESULTS, LOGS):
            shutil.rmtree(path, ignore_errors=True)
        RESULTS.mkdir(exist_ok=True)
        yield


@contextlib.contextmanager
def everything_stopped_after(processes: Processes) -> Iterator[Processes]:
    """End all processes at the end of the block, however it ends."""
    try:
        yield processes
    finally:
        with phase("Stopping everything"):
            processes.stop()


def exit_on_signal(number: int, _: object) -> NoReturn:
    """Leave by way of every `finally`, with the status that shells give to this signal."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
