"""Send, wait until Redox has delivered, and tell somebody when it has not.

Accepted means that Redox has stored a message. What became of it then is in its logs, which the sensor follows: deferred, so
that no worker is busy, and for all tasks of a triggerer together, so that a thousand of them cost what one costs. Only IDs
and counts go through XCom.
"""

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
from airflow_provider_redox.sensors.delivery import RedoxDeliverySensor

PATIENT = {
    "Identifiers": [{"ID": "0000000001", "IDType": "MR"}],
    "Demographics": {"FirstName": "Timothy", "LastName": "Bixby", "DOB": "2008-01-06"},
}

with DAG("redox_wait_for_delivery", schedule=None, tags=["redox", "example"], doc_md=__doc__):
    send = RedoxDataModelPostOperator(
        task_id="send",
        destination="general",
        payload={"Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"}, "Patient": PATIENT},
    )

    delivered = RedoxDeliverySensor(
        task_id="delivered",
        results_path=send.output,
        deferrable=True,
        poke_interval=5,
        timeout=timedelta(hours=12),
    )

    @task(trigger_rule="one_failed")
    def alert() -> str:
        """Tell whoever is on duty: the log of the failed task says which messages, and links to them."""
        return "Some messages were not delivered"

    delivered >> alert()

    RedoxDataModelPostOperator(
        task_id="send_and_wait",
        destination="lakeside",
        payload={"Meta": {"DataModel": "PatientAdmin", "EventType": "PatientUpdate"}, "Patient": PATIENT},
        wait_for_delivery=True,
        deferrable=True,
        poll_interval=5,
    )
