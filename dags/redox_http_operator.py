"""Airflow's own HttpOperator on a redox connection: it signs in by itself.

Give it a `response_filter`, so that no body reaches XCom, and leave it not deferrable: a deferrable HttpOperator, HttpSensor
and HttpNotifier do not ask the connection for its hook, so they are not signed in.
"""

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.http.operators.http import HttpOperator

with DAG("redox_http_operator", schedule=None, tags=["redox", "example"], doc_md=__doc__):
    HttpOperator(
        task_id="count_diabetics",
        http_conn_id="redox_default",
        method="POST",
        endpoint="fhir/R4/general-hospital/Development/Condition/_search",
        data={"code": "http://snomed.info/sct|44054006", "_summary": "count"},
        response_filter=lambda response: response.json()["total"],
        deferrable=False,
    )
