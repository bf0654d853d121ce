"""Post messages: a new patient to one destination, then vital signs to another.

A post is never repeated by accident, though retries are allowed: a next try knows what this one sent. Build a payload
from what lies in storage, or from templates, which are rendered on the worker; a payload that comes through XCom lies in
the metadata database.
"""

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator

PATIENT = {
    "Identifiers": [{"ID": "0000000001", "IDType": "MR"}],
    "Demographics": {"FirstName": "Timothy", "LastName": "Bixby", "DOB": "2008-01-06"},
}

with DAG("redox_post_messages", schedule=None, default_args={"retries": 3}, tags=["redox", "example"], doc_md=__doc__):
    new_patient = RedoxDataModelPostOperator(
        task_id="new_patient",
        destination="general",
        payload={"Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"}, "Patient": PATIENT},
    )

    vital_signs = RedoxDataModelPostOperator(
        task_id="vital_signs",
        destination="lakeside",
        payload={
            "Meta": {"DataModel": "Flowsheet", "EventType": "New"},
            "Patient": PATIENT,
            "Visit": {"VisitNumber": "{{ run_id }}"},
            "Observations": [
                {
                    "DateTime": "2026-01-05T08:00:00Z",
                    "Value": "72",
                    "ValueType": "Numeric",
                    "Code": "8867-4",
                    "Codeset": "LOINC",
                }
            ],
        },
    )

    new_patient >> vital_signs
