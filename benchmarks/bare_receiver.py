"""The bare application that the receiver is measured beside: it writes the same files, as durably, and checks nothing.

uvicorn benchmarks.bare_receiver:app
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("BARE_INBOX", "bare-inbox"))
threads = ThreadPoolExecutor(16)


def sync(folder: Path) -> None:
    """Let a folder's entries outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def keep(body: bytes) -> None:
    """Write a message under its log ID, and its arrival."""
    log_id = json.loads(body)["Meta"]["Logs"][0]["ID"]
    folder = ROOT / "messages" / log_id[:2]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{log_id}.partial").open("xb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    (folder / f"{log_id}.partial").rename(folder / f"{log_id}.json")
    sync(folder)
    arrivals = ROOT / "arrivals" / time.strftime("%Y-%m-%d/%H%M", time.gmtime())
    arrivals.mkdir(parents=True, exist_ok=True)
    (arrivals / f"{time.time():.6f}_{log_id}").touch()
    sync(arrivals)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Take a body, write it, answer 200."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    await asyncio.get_running_loop().run_in_executor(threads, keep, body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
