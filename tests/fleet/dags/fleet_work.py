"""Work that is long enough for a worker to be killed in it: a search of many pages, and many posts."""

import json
from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator

AGAIN = {"retries": 3, "retry_delay": timedelta(seconds=1)}

with DAG("fleet_search", schedule=None, default_args=AGAIN):
    RedoxFhirSearchOperator(
        task_id="search",
        resource_type="Observation",
        search_params={"_lastUpdated": "ge2000-01-01"},
        page_size=20,
    )

with DAG("fleet_batch", schedule=None, params={"messages": 10}, default_args=AGAIN):

    @task
    def written(params: dict) -> str:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        meta = {"DataModel": "PatientAdmin", "EventType": "Arrival"}
        lines = [{"Meta": meta, "Visit": {"VisitNumber": f"visit-{number}"}} for number in range(params["messages"])]
        S3Hook("aws_results").load_string("\n".join(map(json.dumps, lines)), "messages.ndjson", "redox", replace=True)
        return "s3://aws_results@redox/messages.ndjson"

    RedoxDataModelPostOperator(
        task_id="batch",
        destination="general",
        payload_path=written(),
        segment_size=10,
        max_concurrency=2,
        on_ambiguous="fail",
    )
