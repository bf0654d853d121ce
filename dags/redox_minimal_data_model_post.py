"""The smallest send: one Data Model message, accepted with its log ID, refused, or honestly unknown; never sent twice."""

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator

with DAG("redox_minimal_data_model_post", schedule=None, tags=["redox", "example"], doc_md=__doc__):
    RedoxDataModelPostOperator(
        task_id="new_patient",
        destination="general",
        payload={
            "Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"},
            "Patient": {
                "Identifiers": [{"ID": "0000000001", "IDType": "MR"}],
                "Demographics": {"FirstName": "Timothy", "LastName": "Bixby", "DOB": "2008-01-06"},
            },
        },
    )
