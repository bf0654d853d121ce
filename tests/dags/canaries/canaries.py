"""Tasks that handle a canary patient in every way, and fail in every way.

Each place through which a patient can enter has a name of its own, `Zyxwvu` and the place. The names are in no file of the
DAGs folder: the workers make them of a word that they read from `CANARY_FILE`.
"""

import json
import os
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.http.operators.http import HttpOperator

from airflow_provider_redox.downstream import read_messages, read_resources
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.operators.connection import RedoxCheckConnectionOperator
from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator, RedoxDataModelQueryOperator
from airflow_provider_redox.operators.documents import RedoxDocumentDownloadOperator
from airflow_provider_redox.operators.fhir import (
    RedoxFhirReadOperator,
    RedoxFhirSearchOperator,
    RedoxFhirWritebackOperator,
)
from airflow_provider_redox.operators.request import RedoxRequestOperator
from airflow_provider_redox.operators.upload import RedoxUploadOperator
from airflow_provider_redox.sensors.delivery import RedoxDeliverySensor
from airflow_provider_redox.sensors.fhir import RedoxFhirSearchSensor
from airflow_provider_redox.sensors.inbox import RedoxInboxSensor
from tests.support.triggers import CountOperator

FILES = os.environ.get("CANARY_FOLDER", "/nowhere")
"""A folder with files of the author's: `cohort.ndjson`, `messages.ndjson`, `bundle.json`, `upload.txt`."""


def canary(place: str) -> str:
    """Make the name that enters at a place, on the worker only."""
    return Path(os.environ["CANARY_FILE"]).read_text() + place


SEARCH = {"family": "{{ canary('search') }}", "given": "{{ canary('search') }}", "birthdate": "1990-01-01"}
MESSAGE = {
    "Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"},
    "Patient": {
        "Identifiers": [{"ID": "{{ canary('mrn') }}"}],
        "Name": "{{ canary('message') }}",
        "Note": "{{ ti.task_id }}",
    },
}
QUERY = {
    "Meta": {"DataModel": "PatientSearch", "EventType": "Query"},
    "Patient": {"Name": "{{ canary('query') }}", "Note": "{{ ti.task_id }}"},
}
OBSERVATION = {
    "resourceType": "Observation",
    "status": "final",
    "note": [{"text": "{{ canary('bundle') }} {{ ti.task_id }}"}],
}
BUNDLE = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": OBSERVATION}]}
PATIENTS = "fhir/R4/general-hospital/Development/Patient"
INBOX = os.environ.get("CANARY_INBOX", "/nowhere")
KEY = {"idempotency_key": "/Patient/Identifiers/0/ID", "ledger_path": os.environ.get("CANARY_LEDGER", "/nowhere")}


def dag(dag_id: str) -> DAG:
    """Make a DAG with the canary as a macro."""
    return DAG(dag_id, schedule=None, user_defined_macros={"canary": canary}, max_active_tasks=2)


with dag("canary_fine"):
    RedoxCheckConnectionOperator(task_id="check")
    RedoxFhirSearchOperator(task_id="search", resource_type="Patient", search_params=SEARCH)
    RedoxFhirSearchOperator(task_id="search_healed", resource_type="Patient", search_params=SEARCH, headers={"x-heal": "1"})
    RedoxFhirSearchOperator(
        task_id="search_cohort",
        resource_type="Patient",
        cohort=f"{FILES}/cohort.ndjson",
        cohort_key="mrn",
        search_params={"family": "{family}", "given": "{given}", "birthdate": "{born}"},
        on_error="record",
    )
    post = RedoxDataModelPostOperator(task_id="post", payload=MESSAGE, **KEY)
    RedoxDeliverySensor(task_id="delivered", results_path=post.output, deferrable=True, poke_interval=1, timeout=300)
    documents = RedoxFhirSearchOperator(
        task_id="documents", resource_type="DocumentReference", search_params={"patient": "{{ canary('holder') }}"}
    )
    RedoxDocumentDownloadOperator(task_id="download", manifest=documents.output, on_error="record")
    RedoxFhirSearchSensor(task_id="found", resource_type="Observation", search_params={"code": "4548-4"})
    arrived = RedoxInboxSensor(task_id="arrived", inbox_path=INBOX, deferrable=True, poke_interval=1, timeout=300)
    RedoxDataModelPostOperator(task_id="post_file", payload_path=f"{FILES}/messages.ndjson", on_refused="record")
    RedoxDataModelPostOperator(task_id="post_refused", payload=MESSAGE, on_refused="record")
    RedoxDataModelQueryOperator(task_id="query", payload=QUERY)
    RedoxRequestOperator(task_id="request", method="POST", path=f"{PATIENTS}/_search", form=SEARCH)
    RedoxFhirWritebackOperator(
        task_id="writeback", resource_type="Observation", operation="$observation-create", bundle=BUNDLE
    )
    RedoxFhirWritebackOperator(
        task_id="writeback_file",
        resource_type="Observation",
        operation="$observation-create",
        bundle_path=f"{FILES}/bundle.json",
    )
    RedoxUploadOperator(task_id="upload", path=f"{FILES}/upload.txt")
    CountOperator(task_id="deferred", code="4548-4")
    RedoxDataModelPostOperator(
        task_id="post_waits", payload=MESSAGE, wait_for_delivery=True, deferrable=True, poll_interval=1
    )
    HttpOperator(
        task_id="http",
        http_conn_id="redox_default",
        endpoint="fhir/R4/general-hospital/Development/Observation/_search",
        data={"code": "4548-4"},
        response_filter=lambda response: response.status_code,
    )

    @task
    def hooks() -> int:
        """Use the hook in a task of one's own."""
        redox = RedoxHook()
        redox.upload(canary("bytes").encode())
        found = redox.fhir_search("Observation", {"code": "4548-4"}, headers={"x-note": "a header"})
        return sum(1 for _ in found)

    @task
    def handles(event: dict) -> int:
        """Read the messages of an inbox, and have one come again."""
        seen = 0
        for message in read_messages(event, inbox_path=INBOX):
            seen += bool(message.json()["Patient"])
            if seen == 1:
                message.dead_letter("not for us")
        return seen

    @task
    def reads(manifest: dict) -> int:
        """Read a result."""
        return sum(1 for _ in read_resources(manifest))

    hooks()
    handles(arrived.output)
    reads(documents.output)

with dag("canary_failing"):
    RedoxFhirSearchSensor(
        task_id="wait", resource_type="Patient", search_params=SEARCH, deferrable=True, poke_interval=1, timeout=3
    )
    RedoxFhirSearchSensor(
        task_id="wait_refused", resource_type="Patient", search_params={"unknown": "{{ canary('waited') }}"}, deferrable=True
    )
    RedoxFhirSearchOperator(
        task_id="search_refused", resource_type="Patient", search_params={"unknown": "{{ canary('parameter') }}"}
    )
    RedoxFhirSearchOperator(task_id="search_astray", resource_type="Patient", search_params={**SEARCH, "_count": "1"})
    RedoxFhirSearchOperator(
        task_id="search_cohort_bad",
        resource_type="Patient",
        cohort=f"{FILES}/cohort.ndjson",
        search_params={"family": "{missing}", "given": "{{ canary('search') }}"},
    )
    RedoxFhirReadOperator(task_id="read", resource_type="Patient", resource_id="{{ canary('id') }}")
    RedoxRequestOperator(
        task_id="request",
        method="GET",
        path=PATIENTS + "/{{ canary('path') }}",
        query_params={"a": "{{ canary('query_params') }}"},
    )
    RedoxFhirWritebackOperator(task_id="writeback", resource_type="Patient", operation="$patient-update", bundle=BUNDLE)
    RedoxDataModelQueryOperator(task_id="invalid", payload=QUERY, validate="strict")
    RedoxDataModelPostOperator(
        task_id="half", payload={**MESSAGE, "Patient": {"Name": "{{ canary('half') }}{{ '\\ud83d' }}"}}
    )
    for fault in json.loads(os.environ.get("CANARY_FAULTS", "[]")):
        RedoxDataModelPostOperator(task_id=f"fault_{fault}", payload=MESSAGE)

with dag("canary_leak"):

    @task
    def leaks() -> dict[str, str]:
        """Do what must never be done, in every form, so that it is seen that it would be found."""
        import base64
        import logging
        from urllib.parse import quote

        redox, log = RedoxHook(), logging.getLogger("leak")
        list(redox.fhir_search("Observation", {"code": "4548-4"}))
        log.warning("A part of a line of the key: %s", redox.client.settings.key.pem().splitlines()[2][:30])
        log.warning("A token in base64: %s", base64.b64encode(redox.get_access_token().encode()).decode())
        log.warning("A patient in a URL: %s", quote(canary("leak/log")))
        return {"patient": canary("leak_xcom")}

    leaks()
