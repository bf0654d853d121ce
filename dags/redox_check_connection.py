"""Check the connection from a worker, where Airflow's Test button is off or the api-server reaches Redox another way."""

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_redox.operators.connection import RedoxCheckConnectionOperator

with DAG("redox_check_connection", schedule=None, tags=["redox", "example"], doc_md=__doc__):
    RedoxCheckConnectionOperator(task_id="check")
