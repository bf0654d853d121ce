"""Tasks that handle a canary patient in every way, and fail in every way. The patient's name is in no file but one."""

import os
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.http.operators.http import HttpOperator

from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator, RedoxDataModelQueryOperator
from airflow_provider_redox.operators.fhir import (
    RedoxFhirReadOperator,
    RedoxFhirSearchOperator,
    RedoxFhirWritebackOperator,
)
from airflow_provider_redox.operators.request import RedoxRequestOperator
from airflow_provider_redox.operators.upload import RedoxUploadOperator
from airflow_provider_redox.sensors.fhir import RedoxFhirSearchSensor
from tests.support.triggers import CountOperator


def canary() -> str:
    """Read the canary, on the worker only."""
    return Path(os.environ["CANARY_FILE"]).read_text()


SEARCH = {"family": "{{ canary() }}", "given": "{{ canary() }}", "birthdate": "1990-01-01"}
MESSAGE = {
    "Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"},
    "Patient": {"Name": "{{ canary() }}", "Note": "{{ dag.dag_id }}"},
}
QUERY = {
    "Meta": {"DataModel": "PatientSearch", "EventType": "Query"},
    "Patient": {"Name": "{{ canary() }}", "Note": "{{ dag.dag_id }}"},
}
OBSERVATION = {"resourceType": "Observation", "status": "final", "note": [{"text": "{{ canary() }}"}]}
BUNDLE = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": OBSERVATION}]}
PATIENTS = "fhir/R4/general-hospital/Development/Patient"


def dag(dag_id: str) -> DAG:
    """Make a DAG with the canary as a macro."""
    return DAG(dag_id, schedule=None, user_defined_macros={"canary": canary})


with dag("canary_success"):
    RedoxFhirSearchOperator(task_id="search", resource_type="Patient", search_params=SEARCH)
    RedoxDataModelPostOperator(task_id="post", payload=MESSAGE)
    RedoxDataModelQueryOperator(task_id="query", payload=QUERY)
    HttpOperator(
        task_id="http",
        http_conn_id="redox_default",
        endpoint="fhir/R4/general-hospital/Development/Observation/_search",
        data={"code": "4548-4"},
        response_filter=lambda response: response.status_code,
    )

with dag("canary_writes"):
    RedoxRequestOperator(task_id="request", method="POST", path=f"{PATIENTS}/_search", form=SEARCH)
    RedoxFhirWritebackOperator(
        task_id="writeback", resource_type="Observation", operation="$observation-create", bundle=BUNDLE
    )
    RedoxUploadOperator(task_id="upload", path=os.environ.get("CANARY_FILE"))

with dag("canary_unread"):
    RedoxFhirReadOperator(task_id="read", resource_type="Patient", resource_id="{{ canary() }}")

with dag("canary_unasked"):
    RedoxRequestOperator(
        task_id="request", method="GET", path=PATIENTS + "/{{ canary() }}", query_params={"a": "{{ canary() }}"}
    )

with dag("canary_unwritten"):
    RedoxFhirWritebackOperator(task_id="writeback", resource_type="Patient", operation="$patient-update", bundle=BUNDLE)

with dag("canary_invalid"):
    RedoxDataModelQueryOperator(task_id="query", payload=QUERY, validate="strict")

with dag("canary_deferred"):
    CountOperator(task_id="count", code="4548-4")

with dag("canary_waits"):
    patient = RedoxFhirSearchSensor(
        task_id="search",
        resource_type="Patient",
        search_params=SEARCH,
        deferrable=True,
        poke_interval=1,
        timeout=3,
        soft_fail=True,
    )
    RedoxDataModelPostOperator(task_id="post", payload=MESSAGE, wait_for_delivery=True, deferrable=True, poll_interval=1)

with dag("canary_refused"):
    RedoxFhirSearchOperator(task_id="search", resource_type="Patient", search_params={"unknown": "{{ canary() }}"})

with dag("canary_destination_error"):
    RedoxDataModelPostOperator(task_id="post", payload=MESSAGE)

with dag("canary_ambiguous"):
    RedoxDataModelPostOperator(task_id="post", payload=MESSAGE)

with dag("canary_garbage"):
    RedoxDataModelQueryOperator(task_id="query", payload=QUERY)
