"""The profile `inbox`: what Redox pushes comes in by TLS, lies in the bucket, and starts a DAG."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.receiver import message

from .conftest import figure
from .services import BESIDE, Fleet

pytestmark = pytest.mark.slow

URL = "https://localhost:8443"
DAG_ID = "redox_inbox_results"
PUSHES = 10


class Inbox:
    """The way in, as Redox takes it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._http = requests.Session()
        self._http.trust_env = False  # else a CA bundle of the environment goes before this one
        (root,) = Path(fleet.services.folder).glob("data/tls/caddy/pki/authorities/local/root.crt")
        self._http.verify = str(root)

    def post(self, path: str, body: Any = None, **headers: str) -> int:
        """Send something, and give the status."""
        return self._http.post(f"{URL}{path}", json=body, headers=headers, timeout=60).status_code

    def push(self, body: Any) -> int:
        """Push a message with the destination's token."""
        return self.post("/results", body, **{"verification-token": self.fleet.secrets["REDOX_RECEIVER_TOKENS"]})


@pytest.fixture(scope="module")
def inbox(fleet: Fleet) -> Iterator[Inbox]:
    """The receiver and the proxy; runs are made of asset events, and an asset is watched whose DAG is not paused."""
    if shutil.which("caddy") is None:
        pytest.skip("no caddy on this machine")
    fleet.unpause(DAG_ID)
    for quiet in ("AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE", "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL"):
        del fleet.services.extra[quiet]
    for name in ("scheduler", "dag-processor"):
        fleet.services.restart(name)
    for name in BESIDE:
        fleet.services.start(name)
        fleet.services.wait_healthy(name)
    yield Inbox(fleet)
    for name in BESIDE:
        fleet.services.kill(name)


def runs(fleet: Fleet) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = fleet.request("GET", f"/dags/{DAG_ID}/dagRuns", params={"limit": 100})["dag_runs"]
    return [run for run in found if run["run_type"] == "asset_triggered"]


def test_only_feeds_are_let_in(inbox: Inbox) -> None:
    """Without the token nobody gets in; the receiver's own pages, and paths that are no feed, are not there."""
    assert inbox.post("/results", message()) == 401
    assert inbox.post("/results", message(), **{"verification-token": "guessed"}) == 401
    for path in ("/health", "/metrics", "/a/b"):
        assert inbox.post(path, message()) == 404


def test_a_push_starts_a_run(inbox: Inbox, fleet: Fleet) -> None:
    """Each message starts a run of the example DAG, which loads it; the time between is measured."""
    waits = []
    for number in range(PUSHES):
        before = len(runs(fleet))
        pushed = message()
        pushed["Orders"] = [{"ID": f"order-{number}", "Results": [{"Code": "2345-7", "Value": "5.10"}]}]
        assert inbox.push(pushed) == 200
        answered = time.time()
        fleet.until(lambda known=before: len(runs(fleet)) > known, 180, "a run is queued")
        newest = max(runs(fleet), key=lambda run: run["queued_at"])
        waits.append(datetime.fromisoformat(newest["queued_at"]).timestamp() - answered)
        if number == 0:
            waits.clear()  # the first waits for the watcher to begin
    for run in runs(fleet):
        fleet.succeeds(DAG_ID, run["dag_run_id"], timeout=300)
    loaded = [fleet.xcom(DAG_ID, run["dag_run_id"], "load") for run in runs(fleet)]
    assert sum(one["messages"] for one in loaded) == PUSHES
    figure(
        f"from a push to its DAG run queued, {len(waits)} times, polling each 2 s: {statistics.median(waits):.1f} s in the "
        f"median, {max(waits):.1f} s at most"
    )
