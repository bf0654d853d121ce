"""The nightly pull of a cohort: the patients with diabetes, and their HbA1c values that are new or were changed of late.

The first search finds the patients. The second one asks for the values of each of them: its cohort is the manifest of the
first. Each search writes NDJSON files by resource type and hands on a manifest: URLs, counts and checksums, no patient.
"""

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from airflow_provider_redox.types import Manifest

with DAG(
    "redox_nightly_cohort",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2},
    params={"days": 30},  # pyright: ignore[reportArgumentType]  (Airflow names what it turns this into)
    tags=["redox", "example"],
    doc_md=__doc__,
):
    diabetics = RedoxFhirSearchOperator(
        task_id="diabetics",
        resource_type="Condition",
        search_params={"code": "http://snomed.info/sct|44054006", "_include": "Condition:subject"},
    )

    @task
    def patients(manifest: Manifest) -> Manifest:
        """Keep the files of the patients: each line of them is a row of the cohort."""
        return {**manifest, "output": [file for file in manifest["output"] if file["type"] == "Patient"]}

    # Templates in search_params are rendered on the worker, and stored nowhere; {id} is each patient's.
    hba1c = RedoxFhirSearchOperator(
        task_id="hba1c",
        resource_type="Observation",
        cohort=patients(diabetics.output),
        cohort_key="id",
        search_params={
            "patient": "{id}",
            "code": "http://loinc.org|4548-4",
            "_lastUpdated": "ge{{ macros.ds_add(dag_run.start_date.strftime('%Y-%m-%d'), -params.days) }}",
        },
        page_size=100,
    )

    @task
    def summary(manifests: list[Manifest]) -> dict[str, int]:
        """Count the resources of both searches, by type."""
        files = [file for manifest in manifests for file in manifest["output"]]
        return {kind: sum(f["count"] for f in files if f["type"] == kind) for kind in {f["type"] for f in files}}

    summary([diabetics.output, hba1c.output])
