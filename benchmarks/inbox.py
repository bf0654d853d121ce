"""How many messages a second the receiver takes on one core, beside a bare application that writes the same files.

    python -m benchmarks.inbox [--messages 20000] [--rounds 3] [--feeds 16] [--folder DIR]

Both servers run on uvicorn, one process on one core, in turn, round by round; this process pushes from the other cores.
What is told is the median of messages a second, of the server's CPU time for a message, and its memory after each round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOKEN = "verification-token-of-benchmarks"  # noqa: S105  (of nothing)
TICKS = os.sysconf("SC_CLK_TCK")
WARM_UP = 500


@dataclass(frozen=True)
class Measured:
    """One round of one server."""

    per_second: float
    cpu_ms: float
    rss_mb: float


def body(size: int = 2000) -> bytes:
    """Make a result of a size that is usual, with a log ID of its own."""
    meta = {"DataModel": "Results", "EventType": "New", "Source": {"ID": "general"}, "Logs": [{"ID": str(uuid.uuid4())}]}
    return json.dumps({"Meta": meta, "Orders": [{"Results": [{"Value": "x" * (size - 160)}]}]}).encode()


@contextlib.contextmanager
def server(kind: str, folder: Path, core: int) -> Iterator[tuple[int, int]]:
    """Start a server on one core and give its process ID and port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    commands = {
        "ours": ["-m", "airflow_provider_redox.receiver", "--port", str(port)],
        "bare": [
            "-m",
            "uvicorn",
            "benchmarks.bare_receiver:app",
            "--port",
            str(port),
            "--no-access-log",
            "--lifespan",
            "off",
        ],
    }
    told = {"REDOX_RECEIVER_INBOX": str(folder), "REDOX_RECEIVER_TOKENS": TOKEN, "BARE_INBOX": str(folder)}
    with subprocess.Popen(
        [sys.executable, *commands[kind]],
        env={**os.environ, **told},
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    ) as process:
        try:
            until_open(port)
            yield process.pid, port
        finally:
            process.terminate()


def until_open(port: int) -> None:
    """Wait until somebody listens."""
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise TimeoutError("the server did not start")


async def push(port: int, messages: int, feeds: int) -> float:
    """Push so many messages over so many connections, each waiting for its answer, and give the seconds."""
    left = iter(range(messages))

    async def feed() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in left:
            content = body()
            head = (
                f"POST /bench HTTP/1.1\r\nHost: x\r\nverification-token: {TOKEN}\r\nContent-Length: {len(content)}\r\n\r\n"
            )
            writer.write(head.encode() + content)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            assert b"content-length: 0" in answer.lower(), answer
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(feed() for _ in range(feeds)))
    return time.perf_counter() - begun


def cpu_seconds(pid: int) -> float:
    """Give the CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss(pid: int) -> float:
    """Give its resident memory in MB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def measure(kind: str, options: argparse.Namespace) -> Measured:
    """Run one round of one server, in a new folder."""
    folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=options.folder))
    try:
        with server(kind, folder, core=0) as (pid, port):
            asyncio.run(push(port, WARM_UP, options.feeds))
            before = cpu_seconds(pid)
            seconds = asyncio.run(push(port, options.messages, options.feeds))
            used = cpu_seconds(pid) - before
            found = sum(1 for _ in (folder / "bench" if kind == "ours" else folder).glob("messages/*/*.json"))
            assert found == options.messages + WARM_UP, found
            return Measured(options.messages / seconds, used / options.messages * 1000, rss(pid))
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--feeds", type=int, default=16)
    parser.add_argument("--folder", default=None, help="where the inboxes lie, by default the temporary folder")
    options = parser.parse_args()
    others = os.sched_getaffinity(0) - {0}
    os.sched_setaffinity(0, others or {0})
    rounds: dict[str, list[Measured]] = {"bare": [], "ours": []}
    for _ in range(options.rounds):
        for kind, measured in rounds.items():
            measured.append(measure(kind, options))
    print(f"{options.messages} messages of 2 kB over {options.feeds} feeds, {options.rounds} rounds, medians\n")
    print("| server | messages/s | CPU ms/message | MB at the end of each round |\n| --- | --- | --- | --- |")
    for kind, measured in rounds.items():
        speed, cpu = (statistics.median(getattr(one, name) for one in measured) for name in ("per_second", "cpu_ms"))
        print(f"| {kind} | {speed:.0f} | {cpu:.3f} | {', '.join(f'{one.rss_mb:.0f}' for one in measured)} |")
    ratio = statistics.median(o.per_second / b.per_second for o, b in zip(rounds["ours"], rounds["bare"], strict=True))
    print(f"\nours / bare: {ratio:.2f}")


if __name__ == "__main__":
    main()
