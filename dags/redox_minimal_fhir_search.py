"""The smallest search: one operator, NDJSON files by resource type, a manifest in XCom."""

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator

with DAG("redox_minimal_fhir_search", schedule=None, tags=["redox", "example"], doc_md=__doc__):
    RedoxFhirSearchOperator(
        task_id="patients",
        resource_type="Patient",
        search_params={"given": "Keva", "family": "Green", "birthdate": "1995-08-26"},
    )
