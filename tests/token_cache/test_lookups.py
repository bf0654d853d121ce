"""What the Variable cache asks of a secrets backend, which Airflow asks before its own database."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from airflow import __version__ as airflow_version

from tests.docs.pages import text
from tests.support.sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[2]
TASKS = """
from airflow.providers.common.compat.sdk import DAG, task
from airflow.utils import db

from airflow_provider_redox.client.slots import MemorySlot
from airflow_provider_redox.hooks.redox import RedoxHook

with DAG("asking", schedule=None) as dag:

    @task
    def cold():
        RedoxHook().get_access_token()

    @task
    def warm():
        MemorySlot.forget_all()
        with open("lookups", "a") as notes:
            notes.write("warm\\n")
        RedoxHook().get_access_token()

    cold() >> warm()

if __name__ == "__main__":
    db.initdb()
    assert dag.test().state == "success"
"""


@pytest.mark.airflow_run
@pytest.mark.skipif(airflow_version.startswith("2."), reason="Airflow 2 has no server that asks the backend again")
def test_look_ups_of_a_secrets_backend(sandbox: Sandbox, tmp_path: Path) -> None:
    """Worker and server each ask the backend: two look-ups for a task that finds a token, twelve for one that brings it."""
    (tmp_path / "asking.py").write_text(TASKS)
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "AIRFLOW__SECRETS__BACKEND": "tests.token_cache.counting.CountingBackend",
        "AIRFLOW__WORKERS__SECRETS_BACKEND": "tests.token_cache.counting.CountingBackend",
        "TEST_LOOKUPS": str(tmp_path / "lookups"),
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_CONN_REDOX_DEFAULT": json.dumps(sandbox.connection),
    }
    done = subprocess.run(
        [sys.executable, "asking.py"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    cold, warm = (tmp_path / "lookups").read_text().split("warm\n")
    assert (cold.count("redox_cache__"), warm.count("redox_cache__")) == (12, 2)


def test_the_pattern_of_the_docs_leaves_the_cache_out() -> None:
    """With the page's `variables_lookup_pattern`, AWS Secrets Manager is not asked for the cache, and for others it is."""
    secrets_manager = pytest.importorskip("airflow.providers.amazon.aws.secrets.secrets_manager")
    (kwargs,) = re.findall(r"^backend_kwargs = (\{.*\})$", text("managed-services"), re.MULTILINE)

    class Asked(secrets_manager.SecretsManagerBackend):  # type: ignore[misc, name-defined]
        @property
        def client(self) -> None:
            raise ConnectionError

    backend = Asked(**json.loads(kwargs))
    assert backend.get_variable("redox_cache__0123") is None
    assert backend.get_variable("redox_cache__0123__claim") is None
    with pytest.raises(ConnectionError):
        backend.get_variable("anything_else")
