"""Pull from many hospitals: one mapped task for each, one result of all.

The hospitals are those of `extra.destinations`, read when the DAG runs. One that fails or hangs holds up no other; what
follows takes what came.
"""

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_redox.destinations import redox_destinations
from airflow_provider_redox.downstream import merge_manifests, read_resources
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from airflow_provider_redox.types import Manifest

with DAG(
    "redox_many_hospitals",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    tags=["redox", "example"],
    doc_md=__doc__,
):
    diabetics = RedoxFhirSearchOperator.partial(
        task_id="diabetics",
        resource_type="Condition",
        search_params={"code": "http://snomed.info/sct|44054006"},
        line_format="envelope",
        execution_timeout=timedelta(hours=1),
        max_active_tis_per_dagrun=8,
    ).expand(destination=redox_destinations())

    @task(trigger_rule="all_done")
    def count(manifests: list[Manifest]) -> dict[str, int]:
        """Merge the results, and count: what came, and from how many hospitals."""
        manifest = merge_manifests(manifests)
        resources = sum(1 for _ in read_resources(manifest, "Condition"))
        return {"hospitals": len(manifest["extension"]["merged"]), "conditions": resources}

    count(diabetics.output)  # type: ignore[arg-type]  # Airflow types what mapped tasks return as an XComArg
