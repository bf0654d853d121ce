"""Wait until the hospital has results, and pull them.

The sensor asks the server to count, which costs one small request each time. While it is deferred, its search lies in the
metadata database sealed with the connection's private key.
"""

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from airflow_provider_redox.sensors.fhir import RedoxFhirSearchSensor

HBA1C = {"code": "http://loinc.org|4548-4"}

with DAG("redox_wait_for_results", schedule=None, tags=["redox", "example"], doc_md=__doc__):
    there = RedoxFhirSearchSensor(
        task_id="there",
        resource_type="Observation",
        search_params=HBA1C,
        min_count=5,
        deferrable=True,
        poke_interval=60,
        timeout=timedelta(hours=6),
    )

    results = RedoxFhirSearchOperator(task_id="results", resource_type="Observation", search_params=HBA1C)

    there >> results
