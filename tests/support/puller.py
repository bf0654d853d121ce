"""One process of a fleet: reads the same patient with several threads until it is told to stop.

`python -m tests.support.puller WINDOW SECONDS THREADS`, the connection as JSON on stdin. Prints how many answers it got in
each window since the fleet's start, which is the epoch's second that stands in FLEET_START.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from airflow_provider_redox.client.driver import real_environment
from airflow_provider_redox.client.pacing import Address
from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.exceptions import RedoxRateLimitError
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from tests.client.drivers import settings_of

PATIENT = "81c2f5eb-f99f-40c4-b504-59483e6148d7"


def main(window: float, seconds: float, threads: int) -> list[int]:
    """Pull, and count."""
    start = float(os.environ["FLEET_START"])
    policy = RetryPolicy(base=window / 300, cap=window / 5, rate_limit_floor=window / 10)
    client = SyncClient(settings_of(json.load(sys.stdin)), env=real_environment(policy), address=Address(window=window))
    counts = [0] * (int(seconds / window) + 2)

    def pull() -> None:
        while time.time() < start + seconds:
            try:
                client.run(client.calls.read("Patient", PATIENT))
            except RedoxRateLimitError:
                continue
            counts[int((time.time() - start) / window)] += 1

    time.sleep(max(start - time.time(), 0))
    pullers: list[Any] = [threading.Thread(target=pull, daemon=True) for _ in range(threads)]
    for puller in pullers:
        puller.start()
    for puller in pullers:
        puller.join(start + seconds + window - time.time())
    return counts


if __name__ == "__main__":
    print(json.dumps(main(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))))  # noqa: T201
