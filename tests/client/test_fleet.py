"""Eight processes on one address, with work for all, before a server that counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import datetime

import pytest
import requests

from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.slow

PROCESSES, THREADS, WINDOW, WINDOWS, LIMIT = 8, 4, 10.0, 6, 400
BYSTANDER = "/blob/bystander"


def test_eight_processes_share_one_quota(sandbox: Sandbox) -> None:
    """After the first 429 no window at the server is above the limit, refused requests included; nobody starves."""
    sandbox.settings(quota=LIMIT, quota_window=WINDOW)
    start = time.time() + 8
    environ = {**os.environ, "FLEET_START": str(start)}
    arguments = [str(WINDOW), str(WINDOW * WINDOWS), str(THREADS)]
    command = [sys.executable, "-m", "tests.support.puller", *arguments]
    fleet = [
        subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    for process in fleet:
        assert process.stdin is not None
        process.stdin.write(sandbox.connection_json)
        process.stdin.close()
        process.stdin = None
    met = []
    while (now := time.time()) < start + WINDOW * WINDOWS:
        if now > start:
            met.append((now - start, requests.get(f"{sandbox.url}{BYSTANDER}", timeout=10).status_code))
        time.sleep(WINDOW / 20)
    pulled = [json.loads(process.communicate(timeout=60)[0]) for process in fleet]

    seen = [(datetime.fromisoformat(entry["time"]).timestamp(), entry["status"]) for entry in sandbox.ledger()]
    first = next(at for at, status in seen if status == 429)
    later = [at for at, _ in seen if at > first + WINDOW / 10]
    assert max(sum(at - WINDOW < one <= at for one in later) for at in later) <= LIMIT
    answered = [status != 429 for at, status in met if at > 2 * WINDOW]
    assert sum(answered) > len(answered) * 0.9
    each = [sum(counts[2:]) for counts in pulled]
    assert min(each) > sum(each) / PROCESSES / 4
    assert sum(each) > LIMIT * (WINDOWS - 2) * 0.5
