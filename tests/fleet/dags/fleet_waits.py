"""Many deferred waits for the delivery of one message."""

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
from airflow_provider_redox.sensors.delivery import RedoxDeliverySensor

with DAG("fleet_waits", schedule=None, params={"waits": 10}, default_args={"retries": 2}):
    send = RedoxDataModelPostOperator(
        task_id="send",
        destination="general",
        payload={"Meta": {"DataModel": "PatientAdmin", "EventType": "Arrival"}, "Visit": {"VisitNumber": "waits"}},
    )

    @task
    def each(sent: dict, params: dict) -> list[list[str]]:
        return [sent["log_ids"]] * params["waits"]

    RedoxDeliverySensor.partial(
        task_id="wait", deferrable=True, poke_interval=5, timeout=timedelta(hours=1), retry_delay=timedelta(seconds=1)
    ).expand(log_ids=each(send.output))
