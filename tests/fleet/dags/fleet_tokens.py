"""Mapped tasks that each need a token for one request, and write down what the token cost them."""

import contextlib
import hashlib
import json
import time
from datetime import timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, Variable, task

with DAG(
    "fleet_tokens",
    schedule=None,
    params={"tasks": 10, "name": "notes", "conn_id": "redox_default"},
    max_active_tasks=16,
    default_args={"retries": 10, "retry_delay": timedelta(seconds=5)},
):

    @task
    def numbers(params: dict) -> list[int]:
        return list(range(params["tasks"]))

    @task
    def ask(number: int, params: dict) -> None:
        from airflow_provider_redox.exceptions import RedoxResponseError
        from airflow_provider_redox.hooks.redox import RedoxHook

        trips = []
        for name in ("get", "set"):
            call = getattr(Variable, name)
            setattr(Variable, name, lambda *a, call=call, name=name, **k: (trips.append(name), call(*a, **k))[1])
        hook = RedoxHook(params["conn_id"])
        client = hook.client
        began = time.monotonic()
        token = hook.get_access_token()
        took = time.monotonic() - began
        with contextlib.suppress(RedoxResponseError):  # there is no such log; the token is accepted all the same
            hook.get_log("none")
        client.close()
        line = {"number": number, "trips": len(trips), "took": took}
        line["token"] = hashlib.sha256(token.encode()).hexdigest()[:16]
        with Path(f"/opt/airflow/logs/{params['name']}.jsonl").open("a") as notes:
            notes.write(json.dumps(line) + "\n")

    ask.expand(number=numbers())
