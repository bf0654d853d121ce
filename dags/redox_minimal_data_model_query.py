"""The smallest question: one Data Model query to one destination, its answer in storage."""

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_redox.operators.data_model import RedoxDataModelQueryOperator

with DAG("redox_minimal_data_model_query", schedule=None, tags=["redox", "example"], doc_md=__doc__):
    RedoxDataModelQueryOperator(
        task_id="find_patient",
        destination="general",
        payload={
            "Meta": {"DataModel": "PatientSearch", "EventType": "Query"},
            "Patient": {"Demographics": {"FirstName": "Keva", "LastName": "Green", "DOB": "1995-08-26"}},
        },
    )
