"""Defer the waits of a run as their workers would have: `python -m tests.support.defer_waits RUN_ID LOG_IDS`.

Each wait is made by the real sensor, and its row is stored as Airflow's Execution API stores it. It spares a thousand task
processes, which are not what is looked at.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.tasks import Task

BEGAN = datetime.now(UTC) - timedelta(minutes=10)
"""When the run is said to have begun: before the logs of its messages were made."""


def main(run_id: str, log_ids: list[str]) -> None:
    """Defer every task instance of the run."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = session.scalars(select(TaskInstance).where(TaskInstance.run_id == run_id)).all()
        assert sorted(one.map_index for one in found) == list(range(len(log_ids)))
        for one in found:
            deferral = _deferral(one, log_ids[one.map_index])
            path, kwargs = deferral.trigger.serialize()
            row = Trigger(classpath=path, kwargs=kwargs)
            session.add(row)
            session.flush()
            one.state, one.trigger_id = "deferred", row.id
            one.next_method, one.next_kwargs = deferral.method_name, deferral.kwargs
            one.trigger_timeout = datetime.now(UTC) + deferral.timeout


def _deferral(one: Any, log_id: str) -> Any:
    from airflow_provider_redox.sensors.delivery import RedoxDeliverySensor

    sensor = RedoxDeliverySensor(task_id=one.task_id, log_ids=[log_id], deferrable=True, poke_interval=40)
    task = Task(sensor, dag_id=one.dag_id, run_id=one.run_id, map_index=one.map_index)
    task.context["dag_run"].start_date = BEGAN
    return task.deferred()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
