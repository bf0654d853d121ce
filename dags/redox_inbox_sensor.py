"""Wait for messages that Redox pushed, and count them by data model and event type: the inbox on Airflow 2, and 3.

Each run is handed what arrived since the run before. On Airflow 3, `redox_inbox_results` is started by the messages instead.
"""

import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_redox.downstream import read_messages
from airflow_provider_redox.sensors.inbox import RedoxInboxSensor

HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
INBOX = os.environ.get("REDOX_INBOX", f"{HOME}/redox-inbox/results")

with DAG(
    "redox_inbox_sensor",
    schedule="@continuous",
    max_active_runs=1,
    catchup=False,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    tags=["inbox"],
    doc_md=__doc__,
):
    arrived = RedoxInboxSensor(task_id="arrived", inbox_path=INBOX, deferrable=True, timeout=24 * 3600, soft_fail=True)

    @task
    def count(event: dict[str, Any]) -> dict[str, int]:
        """Count the messages."""
        return dict(Counter(f"{one.data_model}^{one.event_type}" for one in read_messages(event, inbox_path=INBOX)))

    count(arrived.output)
