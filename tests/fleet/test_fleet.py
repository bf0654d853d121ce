"""The fleet at work, and what may befall it. The tests build on each other's fleet, not on each other's results."""

from __future__ import annotations

import base64
import json
import os
import statistics
import time
from collections import Counter
from datetime import datetime
from typing import Any

import pytest

from airflow_provider_redox.cli.keygen import new_key

from .conftest import figure
from .services import Fleet

pytestmark = pytest.mark.slow

TASKS = int(os.environ.get("FLEET_TASKS", "1000"))
WAITS = int(os.environ.get("FLEET_WAITS", "200"))
LIFETIME = 40
OBSERVATIONS = 2574
"""In the sandbox's population."""

MESSAGES, SEGMENT = 60, 10

ROTATED = 200
"""Tasks of a run in which the key is rotated: enough for some to begin after it."""


def exchanges(fleet: Fleet, *, after: int = 0) -> list[float]:
    """Give when tokens were asked for, in seconds, since an entry of the sandbox's ledger."""
    asked = fleet.redox("GET", f"ledger?path=/v2/auth/token&after={after}")
    return [instant(entry["time"]) for entry in asked]


def instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def now_in_ledger(fleet: Fleet) -> int:
    entries = fleet.redox("GET", "ledger")
    return entries[-1]["n"] if entries else 0


def generations(times: list[float], lifetime: float) -> list[int]:
    """Count the exchanges of each lifetime: those within half a life of the first belong together."""
    found: list[list[float]] = []
    for when in times:
        if found and when - found[-1][0] < lifetime / 2:
            found[-1].append(when)
        else:
            found.append([when])
    return [len(one) for one in found]


def tokens(fleet: Fleet, name: str, tasks: int, conn_id: str = "redox_default") -> str:
    """Have so many mapped tasks use a token; give the run's ID."""
    return fleet.begin("fleet_tokens", tasks=tasks, name=name, conn_id=conn_id)


LOST = 1000.0
"""Seconds that a run may take of which a restart took a task that was on its way to a worker: Airflow queues that again
after `[scheduler] task_queued_timeout`, ten minutes."""


def test_the_examples_run(fleet: Fleet) -> None:
    """Every example DAG that asks for no warehouse is a success on Celery workers, with its results in the object store."""
    runs = {}
    wanted = {"tags": ["redox", "example"], "tags_match_mode": "all", "limit": 100}
    for dag in fleet.request("GET", "/dags", params=wanted)["dags"]:
        runs[dag["dag_id"]] = fleet.begin(dag["dag_id"])
    assert len(runs) >= 8
    for dag_id, run_id in runs.items():
        fleet.succeeds(dag_id, run_id, timeout=600)
    manifest = fleet.xcom("redox_minimal_fhir_search", runs["redox_minimal_fhir_search"], "patients")
    assert manifest["output"][0]["url"].startswith("s3://aws_results@redox/results/")


def test_one_token_for_a_thousand_tasks(fleet: Fleet) -> None:
    """A thousand mapped tasks on two workers, over several lifetimes, cost one exchange for each, and never above two."""
    fleet.redox("PATCH", "settings", {"token_lifetime": LIFETIME})
    fleet.redox("POST", "revoke")
    before, began = now_in_ledger(fleet), time.monotonic()
    run = tokens(fleet, "thousand", TASKS)
    fleet.succeeds("fleet_tokens", run, timeout=1800)
    lasted, notes = time.monotonic() - began, fleet.notes("thousand")
    lives = generations(exchanges(fleet, after=before), LIFETIME)
    assert len(notes) == TASKS
    assert len({note["token"] for note in notes}) <= sum(lives) + 1  # the one that was revoked lay there still
    assert (statistics.median(lives), max(lives) <= 2) == (1, True)
    took = sorted(1000 * note["took"] for note in notes)
    trips = Counter(note["trips"] for note in notes)
    figure(
        f"{TASKS} tasks in {lasted:.0f} s: {sum(lives)} token exchanges in {len(lives)} lifetimes of {LIFETIME} s {lives}; "
        f"a token took {statistics.median(took):.0f} ms in the median, {took[int(0.95 * len(took))]:.0f} ms at 95 %, "
        f"{took[-1]:.0f} ms at most; calls to the store by task {dict(sorted(trips.items()))}"
    )


def test_a_token_that_is_revoked_for_all(fleet: Fleet) -> None:
    """When Redox forgets the token that all workers hold, no task fails, and one or two new ones are asked for."""
    fleet.redox("PATCH", "settings", {"token_lifetime": 300})
    fleet.redox("POST", "revoke")
    before = now_in_ledger(fleet)
    run = tokens(fleet, "revoked", 24)
    fleet.until(lambda: len(fleet.notes("revoked")) > 4, 120, "some tasks are done")
    fleet.redox("POST", "revoke")
    fleet.succeeds("fleet_tokens", run, timeout=300)
    asked = len(exchanges(fleet, after=before))
    assert 2 <= asked <= 4
    figure(f"all tokens revoked twice in a run of 24 tasks: {asked} exchanges, no task failed")


def test_workers_that_are_killed(fleet: Fleet) -> None:
    """Workers killed in a search and in a batch: the search goes on and is whole, and no message is sent twice."""
    fleet.redox("POST", "faults", {"kind": "delay", "seconds": 0.4, "times": None, "match": {"path": "Observation"}})
    fleet.redox("POST", "faults", {"kind": "delay", "seconds": 1.5, "times": None, "match": {"path": "/endpoint"}})
    sent_before, before = len(fleet.redox("GET", "messages")), now_in_ledger(fleet)
    runs = {"fleet_search": fleet.begin("fleet_search"), "fleet_batch": fleet.begin("fleet_batch", messages=MESSAGES)}

    def visits() -> Counter[str]:
        messages = fleet.redox("GET", "messages")[sent_before:]
        return Counter(one["body"]["Visit"]["VisitNumber"] for one in messages if "Visit" in one["body"])

    def under_way() -> bool:
        return len(fleet.redox("GET", f"ledger?path=Observation&after={before}")) > 60 and len(visits()) > 12

    fleet.until(under_way, 300, "both are under way")
    for name in ("worker-1", "worker-2"):
        fleet.services.kill(name)
    killed = time.monotonic()
    for name in ("worker-1", "worker-2"):
        fleet.services.start(name)
    fleet.redox("DELETE", "faults")
    fleet.succeeds("fleet_search", runs["fleet_search"], timeout=600)
    took = time.monotonic() - killed
    fleet.wait("fleet_batch", runs["fleet_batch"], timeout=600)  # fails, for those of which nobody knows
    manifest = fleet.xcom("fleet_search", runs["fleet_search"], "search")
    pages = len(fleet.redox("GET", f"ledger?path=Observation&after={before}"))
    counts = visits()
    unknown = MESSAGES - len(counts)
    assert sum(entry["count"] for entry in manifest["output"]) == OBSERVATIONS
    assert max(counts.values()) == 1, "a message was sent twice"
    assert unknown <= SEGMENT, "more than a segment was not sent"
    figure(
        f"both workers killed: the search asked for {pages} pages, {-(-OBSERVATIONS // 20)} without the kill, and ended "
        f"{took:.0f} s later; of a batch of {MESSAGES} messages {len(counts)} arrived, none twice"
    )


def test_the_triggerer_is_killed_with_many_waits(fleet: Fleet) -> None:
    """The triggerer is killed with hundreds of waits and started again: each goes on, and all end well."""
    fleet.redox("PATCH", "settings", {"delivery_seconds": 100_000})
    run = fleet.begin("fleet_waits", waits=WAITS)
    fleet.until(lambda: fleet.states("fleet_waits", run).get("deferred", 0) == WAITS, 900, "all wait")
    fleet.services.kill("triggerer")
    before, killed = now_in_ledger(fleet), time.monotonic()
    fleet.services.start("triggerer")
    fleet.redox("PATCH", "logs", {"status": "succeeded"})
    fleet.succeeds("fleet_waits", run, timeout=900)
    fleet.redox("PATCH", "settings", {"delivery_seconds": 2})
    took, asked = time.monotonic() - killed, len(fleet.redox("GET", f"ledger?path=/platform/&after={before}"))
    tokens_asked = len(exchanges(fleet, after=before))
    assert tokens_asked <= 2
    figure(
        f"the triggerer killed with {WAITS} waits: all ended well {took:.0f} s later, {asked} requests for logs, "
        f"{tokens_asked} token exchanges"
    )


def test_redis_restarts(fleet: Fleet) -> None:
    """Redis is killed and started again while tasks run: they all end well, with the token that was there."""
    run = tokens(fleet, "redis", 24)
    fleet.until(lambda: len(fleet.notes("redis")) > 2, 120, "some tasks are done")
    before = now_in_ledger(fleet)
    fleet.services.restart("redis", number=9)
    fleet.succeeds("fleet_tokens", run, timeout=LOST)
    figure(f"Redis killed in a run of 24 tasks: no task failed, {len(exchanges(fleet, after=before))} exchanges")


def test_postgresql_and_the_api_server_restart(fleet: Fleet) -> None:
    """PostgreSQL, then the API server, restart while tasks run: no task fails for the token."""
    run = tokens(fleet, "postgres", 24)
    fleet.until(lambda: len(fleet.notes("postgres")) > 2, 120, "some tasks are done")
    before = now_in_ledger(fleet)
    fleet.services.restart("postgres", number=2)
    fleet.services.restart("api-server")
    fleet.succeeds("fleet_tokens", run, timeout=LOST)
    asked = len(exchanges(fleet, after=before))
    assert asked <= 2
    figure(f"PostgreSQL and the API server restarted in a run of 24 tasks: {asked} exchanges, no run failed")


def test_the_fernet_key_is_replaced(fleet: Fleet) -> None:
    """With another Fernet key what lies in the database cannot be read: that costs one token or two, and no task."""
    fleet.services.config["api-server"]["environment"]["AIRFLOW__CORE__FERNET_KEY"] = base64.urlsafe_b64encode(
        os.urandom(32)
    ).decode()
    before = now_in_ledger(fleet)
    fleet.services.restart("api-server")
    run = tokens(fleet, "fernet", 16)
    fleet.succeeds("fleet_tokens", run, timeout=300)
    asked = len(exchanges(fleet, after=before))
    assert 1 <= asked <= 2
    figure(f"Fernet key replaced before a run of 16 tasks: {asked} exchanges, no task failed")


def test_one_token_by_xcom(fleet: Fleet) -> None:
    """With the token in an XCom the tasks of a run share it over both workers too."""
    for name in ("worker-1", "worker-2"):
        environment = fleet.services.config[name]["environment"]
        connection: dict[str, Any] = json.loads(environment["AIRFLOW_CONN_REDOX_DEFAULT"])
        connection["extra"] |= {"cache_backend": "xcom"}
        environment["AIRFLOW_CONN_REDOX_XCOM"] = json.dumps(connection)
        fleet.services.restart(name)
    before = now_in_ledger(fleet)
    run = tokens(fleet, "xcom", 64, "redox_xcom")
    fleet.succeeds("fleet_tokens", run, timeout=400)
    asked, notes = len(exchanges(fleet, after=before)), fleet.notes("xcom")
    took = sorted(1000 * note["took"] for note in notes)
    assert (len(notes), 1 <= asked <= 2) == (64, True)
    figure(f"the token in an XCom, 64 tasks of one run: {asked} exchanges; a token took {statistics.median(took):.0f} ms")


def test_the_private_key_is_rotated(fleet: Fleet) -> None:
    """The key is rotated worker by worker while tasks run, and the old one then taken away: no task fails."""
    environment = fleet.services.config["worker-1"]["environment"]
    connection: dict[str, Any] = json.loads(environment["AIRFLOW_CONN_REDOX_DEFAULT"])
    client_id, key = connection["extra"]["client_id"], new_key("RS384")
    (old,) = json.loads(fleet.secrets["REDOX_SANDBOX_CLIENT"])["jwks"]["keys"]
    fleet.redox("POST", "clients", {"client_id": client_id, "jwks": {"keys": [old, key.public_jwk()]}})
    connection["password"], connection["extra"]["kid"] = key.pem(), key.kid
    before = now_in_ledger(fleet)
    run = tokens(fleet, "rotated", ROTATED)
    fleet.until(lambda: len(fleet.notes("rotated")) > 2, 120, "some tasks are done")
    for name in ("worker-1", "worker-2", "triggerer"):
        fleet.services.config[name]["environment"]["AIRFLOW_CONN_REDOX_DEFAULT"] = json.dumps(connection)
        fleet.services.restart(name)
    fleet.redox("POST", "clients", {"client_id": client_id, "jwks": {"keys": [key.public_jwk()]}})
    fleet.succeeds("fleet_tokens", run, timeout=600)
    asked = len(exchanges(fleet, after=before))
    assert 1 <= asked <= 3  # tokens of another key are other tokens
    figure(f"private key rotated over the workers in a run of {ROTATED} tasks: {asked} exchanges, no task failed")
