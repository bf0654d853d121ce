"""This provider: the operator's whole path, from the connection to the manifest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from airflow_provider_redox.client.slots import MemorySlot
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from benchmarks.job import Job, set_connections
from benchmarks.pages import SIZE


def drain(job: Job) -> None:
    """Execute the operator as a worker would; its token is asked for anew."""
    set_connections(job)
    MemorySlot.forget_all()
    patients = RedoxFhirSearchOperator(
        task_id="patients", resource_type="Patient", page_size=SIZE, output_path=f"file://{job.out}"
    )
    patients.execute(context("patients"))  # type: ignore[arg-type]


def context(task_id: str) -> dict[str, Any]:
    """Give what Airflow hands to `execute`, as far as operators read it."""
    where = {
        "dag_id": "bench",
        "run_id": "manual__2026-11-23T10:00:00+00:00",
        "task_id": task_id,
        "map_index": -1,
        "try_number": 1,
    }
    return {"ti": SimpleNamespace(**where), "params": {}}
