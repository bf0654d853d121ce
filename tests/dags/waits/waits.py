"""A thousand waits for delivery, one mapped task; their pool is closed, so that no worker is needed to see them woken."""

import json
import os
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_redox.sensors.delivery import RedoxDeliverySensor

with DAG("thousand_waits", schedule=None, max_active_tasks=2000):
    RedoxDeliverySensor.partial(task_id="wait", pool="closed", deferrable=True, poke_interval=40).expand(
        log_ids=[[log_id] for log_id in json.loads(Path(os.environ["LOG_IDS"]).read_text())]
    )
