"""The DAGs that load a warehouse: what was pulled is there, once, and can be asked for."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.database import returned
from tests.support.run_dags import run_dags
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.airflow_run

DAGS = Path(__file__).parents[2] / "dags"


def run_twice(home: Path, dag_id: str, **environment: str) -> dict[str, Any]:
    """Run a DAG two times on one database, and give what its tasks returned."""
    sandbox = Sandbox.start()
    try:
        for _ in range(2):
            ended, printed = run_dags(
                home, DAGS, [dag_id], AIRFLOW_CONN_REDOX_DEFAULT=sandbox.connection_json, **environment
            )
            assert ended[dag_id] == "success", printed[-3000:]
    finally:
        sandbox.stop()
    return returned(home, dag_id)


def patients(result: dict[str, Any]) -> int:
    return sum(file["count"] for file in result["conditions"]["output"] if file["type"] == "Patient")


def test_duckdb_takes_it(tmp_path: Path) -> None:
    """Every resource is one row, of its hospital, after two loads; the query counts the patients that were found."""
    duckdb = pytest.importorskip("duckdb")
    database = tmp_path / "warehouse.duckdb"
    result = run_twice(tmp_path / "home", "redox_warehouse_duckdb", WAREHOUSE_DUCKDB=str(database))
    with duckdb.connect(str(database), read_only=True) as warehouse:
        rows = warehouse.execute(
            "SELECT type, count(*), min(destination), count(last_updated) FROM fhir GROUP BY type"
        ).fetchall()
    counted = {kind: count for kind, count, _, _ in rows}
    assert sum(counted.values()) == result["load"]
    assert counted["Patient"] == patients(result) > 10
    assert {(destination, dated == count) for _, count, destination, dated in rows} == {("general", True)}
    assert sum(result["patients_by_status"].values()) == patients(result)


def programs() -> Path | None:
    """Where PostgreSQL's own programs are, as Debian has them; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A PostgreSQL of its own, on a free port of this machine."""
    folder = programs()
    if folder is None:
        pytest.skip(
            "PostgreSQL's server is not installed here; `apt-get install postgresql` brings it, `make test-fleet` too"
        )
    pytest.importorskip("psycopg")
    home = tmp_path_factory.mktemp("postgres")
    # It refuses to run as root, as containers do; Debian's package makes a user for it.
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    if user:
        for parent in (home, *list(home.parents)[:2]):
            parent.chmod(0o755)
        shutil.chown(home, pwd.getpwnam("postgres").pw_uid)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = home / "data"
    make = [*user, str(folder / "initdb"), "-D", str(data), "-A", "trust", "-U", "redox", "--no-sync"]
    subprocess.run(make, check=True, capture_output=True, cwd=home)
    options = ["-p", str(port), "-h", "127.0.0.1", "-k", str(home), "-F"]
    server = subprocess.Popen(
        [*user, str(folder / "postgres"), "-D", str(data), *options],
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port)
        yield {"conn_type": "postgres", "host": "127.0.0.1", "port": port, "login": "redox", "schema": "postgres"}
    finally:
        server.terminate()
        server.wait(30)


def wait_for(port: int) -> None:
    import psycopg

    for _ in range(300):
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="redox", dbname="postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("PostgreSQL did not start")


@pytest.mark.slow
def test_postgres_takes_it(postgres: dict[str, Any], tmp_path: Path) -> None:
    """Every resource is one row, of its hospital, after two loads; the query counts the patients that were found."""
    import psycopg

    result = run_twice(tmp_path / "home", "redox_warehouse_postgres", AIRFLOW_CONN_WAREHOUSE=json.dumps(postgres))
    with psycopg.connect(host="127.0.0.1", port=postgres["port"], user="redox", dbname="postgres") as warehouse:
        rows = warehouse.execute("SELECT type, count(*), min(destination) FROM fhir GROUP BY type").fetchall()
    counted = {kind: count for kind, count, _ in rows}
    assert sum(counted.values()) == result["load"]
    assert counted["Patient"] == patients(result) > 10
    assert {destination for _, _, destination in rows} == {"general"}
    assert sum(result["patients_by_status"].values()) == patients(result)
