"""Load each result that Redox pushes into a table, as soon as it arrives.

The receiver puts what Redox pushes into an inbox; the watcher tells the asset of new messages; that starts this DAG. A
message that is no result as it should be is given up as a dead letter, and the others go on. A row is written once, however
often its message comes. Needs Airflow 3; on Airflow 2 a sensor waits instead, see `redox_inbox_sensor`.
"""

import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_redox.downstream import read_messages
from airflow_provider_redox.exceptions import RedoxError
from airflow_provider_redox.triggers.inbox import RedoxInboxTrigger

HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
INBOX = os.environ.get("REDOX_INBOX", f"{HOME}/redox-inbox/results")
TABLE = os.environ.get("REDOX_TABLE", f"{HOME}/redox-results.sqlite")

arrived = RedoxInboxTrigger(INBOX, data_model="Results", event_type="New", poll_interval=2)


def rows(log_id: str, message: dict[str, Any]) -> Iterator[tuple[str | int | None, ...]]:
    """Yield a row for each result, its value as it was sent: 1.10, <0.5, Positive. Raises KeyError or TypeError for none."""
    for order in message["Orders"]:
        for number, result in enumerate(order["Results"]):
            if not isinstance(result["Value"], str):
                raise TypeError("Value")
            yield log_id, order["ID"], number, result["Code"], result["Value"], result.get("Units")


with DAG(
    "redox_inbox_results",
    schedule=[Asset("redox_results", watchers=[AssetWatcher(name="redox_inbox", trigger=arrived)])],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    tags=["redox", "example"],
    doc_md=__doc__,
):

    @task(retries=2)
    def load(triggering_asset_events: Any = None) -> dict[str, int]:
        """Write the rows of every message of the events that started this run."""
        count = {"messages": 0, "rows": 0, "dead": 0}
        table = sqlite3.connect(TABLE, timeout=60)
        table.execute(
            "create table if not exists results (log_id, order_id, number, code, value, units, "
            "primary key (log_id, order_id, number))"
        )
        for message in read_messages(triggering_asset_events or {}, inbox_path=INBOX, max_tries=5):
            try:
                found = list(rows(message.log_id, message.json()))
            except (RedoxError, KeyError, TypeError) as error:
                message.dead_letter(f"not a result: {type(error).__name__}")
                count["dead"] += 1
                continue
            with table:
                table.executemany("insert or ignore into results values (?, ?, ?, ?, ?, ?)", found)
            count["messages"] += 1
            count["rows"] += len(found)
        table.close()
        return count

    load()
