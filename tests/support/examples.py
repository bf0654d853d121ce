"""The example DAGs that the installed Airflow can run, and what they find when they do."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from tests.inbox.boxes import Box
from tests.support.sandbox import Sandbox

FOLDER = Path(__file__).parents[2] / "dags"
AIRFLOW_3 = int(importlib.metadata.version("apache-airflow").partition(".")[0]) >= 3
AIRFLOW_3_ONLY = {"redox_inbox_results"}
"""An asset watcher is needed, which Airflow 2 has not."""
WAREHOUSES = {"redox_warehouse_duckdb", "redox_warehouse_postgres"}
"""These need a warehouse; see test_warehouse.py."""
READABLE = sorted({path.stem for path in FOLDER.glob("*.py")} - (set() if AIRFLOW_3 else AIRFLOW_3_ONLY))
DAG_IDS = sorted(set(READABLE) - WAREHOUSES)


def surroundings(home: Path, sandbox: Sandbox) -> dict[str, str]:
    """Fill an inbox below an Airflow home; give the environment in which the DAGs find it, and the sandbox."""
    inbox = Box(f"file://{home}/inbox/results")
    inbox.put("r1", "r2", "r3")
    inbox.put("o1", DataModel="Order")
    return {
        "AIRFLOW_CONN_REDOX_DEFAULT": sandbox.connection_json,
        "ROSTER": f"file://{home}/roster.ndjson",
        "REDOX_INBOX": f"{home}/inbox/results",
    }
