"""What Airflow's metrics are told, as a real statsd receiver hears it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_provider_redox.client.driver import nobody
from airflow_provider_redox.hooks import metrics
from airflow_provider_redox.protocol.effects import Metric
from tests.support.sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[2]
WORK = """
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, task
from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.protocol.outcomes import RetryPolicy

ARRIVAL = {"Meta": {"DataModel": "PatientAdmin", "EventType": "Arrival"}}

with DAG("counted", schedule=None) as dag:

    @task
    def work():
        hook = RedoxHook()
        hook.retry = RetryPolicy(rate_limit_floor=0.1)
        resources = list(hook.fhir_search("Observation", {"code": "http://loinc.org|4548-4"}))
        Path("count").write_text(str(len(resources)))
        try:
            hook.post_data_model(ARRIVAL)
        except RedoxAmbiguousOutcomeError:
            pass
        hook.client.close()

    work()
"""


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    """A UDP socket, as statsd listens on one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(0.2)
        yield listening


@pytest.fixture
def work(sandbox: Sandbox, tmp_path: Path) -> Callable[..., None]:
    """Run the task in an Airflow of its own, with these settings of its metrics."""
    (tmp_path / "counted.py").write_text(WORK)
    sandbox.fault("status", status=429, match={"path": "Observation"})
    sandbox.fault("reset", match={"path": "/endpoint"}, when="after")

    def run(**metrics: str) -> None:
        environment = {
            **os.environ,
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
            "PYTHONPATH": str(ROOT),
            "AIRFLOW_CONN_REDOX_DEFAULT": json.dumps(sandbox.with_extra(cache_backend="memory")),
            **{f"AIRFLOW__METRICS__{name.upper()}": value for name, value in metrics.items()},
        }
        code = "from airflow.utils import db; db.initdb(); from counted import dag; print(dag.test().state)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            cwd=tmp_path,
        )
        assert done.stdout.splitlines()[-1].endswith("success"), done.stdout[-3000:] + done.stderr[-3000:]

    return run


def heard(receiver: socket.socket) -> tuple[Counter[str], list[str]]:
    """Add up what arrived, and give every name of ours."""
    counted: Counter[str] = Counter()
    with contextlib.suppress(TimeoutError):
        while True:
            for line in receiver.recv(65_536).decode().splitlines():
                if found := re.fullmatch(r"airflow\.(redox\.[^:]*):([\d.]+)\|(c|ms)", line):
                    counted[found[1]] += round(float(found[2]))
    return counted, list(counted)


@pytest.mark.airflow_run
def test_a_statsd_receiver_hears_it(
    sandbox: Sandbox, receiver: socket.socket, work: Callable[..., None], tmp_path: Path
) -> None:
    """A search of some pages behind a 429, then a post whose answer is lost, arrive at statsd as what they were."""
    pytest.importorskip("statsd", reason="Airflow's extra [statsd] is not installed in this environment")
    host, port = receiver.getsockname()
    work(statsd_on="True", statsd_host=host, statsd_port=str(port))
    counted, names = heard(receiver)
    received = sum(entry["path"].startswith(("/fhir", "/endpoint")) for entry in sandbox.ledger())
    assert counted["redox.requests"] == received > 4
    assert counted["redox.token_exchanges"] == 1
    assert counted["redox.resources"] == int((tmp_path / "count").read_text()) > 100
    assert counted["redox.rate_limited"] == 1
    assert counted["redox.ambiguous"] == 1
    assert counted["redox.waited"] >= 100
    assert counted["redox.bytes"] > 50_000
    assert set(names) == {metric.value for metric in Metric}


def test_nobody_counts_when_metrics_are_off() -> None:
    """With Airflow's metrics switched off nothing is counted, and none of Airflow's own metrics is even imported for it."""
    code = (
        "import sys; from airflow_provider_redox.hooks.metrics import airflow_meter; "
        "from airflow_provider_redox.client.driver import nobody; "
        "assert airflow_meter() is nobody"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=os.environ)


def test_metrics_that_are_not_found_fail_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An Airflow that keeps its metrics elsewhere is told of once, and nothing is counted."""
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
    monkeypatch.setattr(metrics, "_PLACES", ("airflow.no_such_module",))
    metrics.airflow_meter.cache_clear()
    try:
        assert metrics.airflow_meter() is nobody
    finally:
        metrics.airflow_meter.cache_clear()
    assert "none are sent" in caplog.text
