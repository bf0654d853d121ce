"""Match a roster to the hospital's FHIR IDs: one search for each patient of a list, in one task.

The list is a file in storage; here the first task writes it, as an export of your warehouse would. Its rows are read on the
worker: no name enters XCom, a template or a log.
"""

import json
import os
from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, task

from airflow_provider_redox.downstream import read_searches
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from airflow_provider_redox.types import Manifest

ROSTER = os.environ.get("ROSTER", "file:///tmp/redox-roster.ndjson")

with DAG(
    "redox_match_roster",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    default_args={"retries": 2},
    tags=["redox", "example"],
    doc_md=__doc__,
):

    @task
    def export() -> str:
        """Write the roster, and give its place."""
        patients = [
            {"mrn": "1", "family": "Green", "given": "Keva", "birthDate": "1995-08-26"},
            {"mrn": "2", "family": "Nobody", "given": "Known", "birthDate": "1990-01-01"},
        ]
        ObjectStoragePath(ROSTER).write_text("".join(json.dumps(patient) + "\n" for patient in patients))
        return ROSTER

    match = RedoxFhirSearchOperator(
        task_id="match",
        resource_type="Patient",
        cohort=export(),
        cohort_key="mrn",
        search_params={"family": "{family}", "given": "{given}", "birthdate": "{birthDate}"},
        on_error="record",
    )

    @task
    def count(manifest: Manifest) -> dict[str, int]:
        """Count the patients of the roster by what was found of them."""
        found = [search["status"] for search in read_searches(manifest)]
        return {status: found.count(status) for status in sorted(set(found))}

    count(match.output)
