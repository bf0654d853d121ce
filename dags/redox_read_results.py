"""Read the results of a search in the next task, and tell later DAGs where they are.

`read_resources` goes through the files of a manifest in flat memory, checks each, and gives dicts. What the task returns
goes into the metadata database: counts, no patient. Whoever is scheduled on the asset finds the manifest's URL in its event.
"""

from collections import Counter
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_redox.downstream import read_resources
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from airflow_provider_redox.types import Manifest

with DAG(
    "redox_read_results",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    tags=["redox", "example"],
    doc_md=__doc__,
):
    diabetics = RedoxFhirSearchOperator(
        task_id="diabetics",
        resource_type="Condition",
        search_params={"code": "http://snomed.info/sct|44054006", "_include": "Condition:subject"},
        outlets=[Asset(uri="redox://general-hospital/diabetics")],
    )

    @task
    def count_by_gender(manifest: Manifest) -> dict[str, int]:
        """Count the patients among the results."""
        return dict(Counter(patient.get("gender", "unknown") for patient in read_resources(manifest, "Patient")))

    count_by_gender(diabetics.output)
