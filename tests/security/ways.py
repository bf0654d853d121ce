"""Every way in which a redox connection can be used, as one line each: a rule that is about all of them is stated once.

A new operator, sensor, trigger, call of a hook or command joins by a line in `WAYS`. Each way uses `redox_default`, sends
`PATIENT` where a patient can be sent, and raises when it does not succeed.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow_provider_redox.cli.main import main
from airflow_provider_redox.hooks.redox import RedoxAsyncHook, RedoxHook
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

PATIENT = "Featherstonehaugh"
SEARCH = {"family": PATIENT, "given": "Ebenezer"}
MESSAGE = {
    "Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient", "Destinations": [{"ID": "d-1"}]},
    "Patient": {"Demographics": {"LastName": PATIENT}},
}
QUERY = {**MESSAGE, "Meta": {**MESSAGE["Meta"], "DataModel": "PatientSearch", "EventType": "Query"}}
OBSERVATION = {"resourceType": "Observation", "status": "final", "note": [{"text": PATIENT}]}
BUNDLE = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": OBSERVATION}]}
BASE = "fhir/R4/general-hospital/Development"
FILE = PATIENT.encode()


class CommandFailedError(Exception):
    """A command ended with another status than 0; its words are on the streams."""


@dataclass(frozen=True)
class Way:
    """One way.

    :param use: goes it, with a folder for what it writes.
    :param sends_patient: whether it sends the patient, and so more than a token request.
    :param pages: whether it reads the pages of a search, all of them.
    """

    name: str
    use: Callable[[Path], Any]
    sends_patient: bool = True
    pages: bool = False


def hook(call: Callable[[RedoxHook], Any]) -> Callable[[Path], Any]:
    return lambda _: call(RedoxHook())


def session(_folder: Path) -> Any:
    """Post by the requests Session of a hook, which does not know where its server is."""
    server = json.loads(os.environ["AIRFLOW_CONN_REDOX_DEFAULT"])["host"]
    response = RedoxHook().get_conn().post(f"{server}/endpoint", json=MESSAGE)
    if not response.ok:
        raise CommandFailedError(str(response.status_code))
    return response


def async_hook(call: Callable[[RedoxAsyncHook], Any]) -> Callable[[Path], Any]:
    async def use() -> Any:
        async with RedoxAsyncHook() as opened:
            return await call(opened)

    return lambda _: asyncio.run(use())


async def listed(found: Any) -> list[Any]:
    return [one async for one in found]


def operator(make: Callable[..., Any], *, output: str | None = "output_path", **arguments: Any) -> Callable[[Path], Any]:
    """Execute an operator, or a sensor that is not deferrable, as a worker does."""

    def use(folder: Path) -> Any:
        here = {output: f"file://{folder}/out"} if output else {}
        return make(task_id="it", **here, **arguments).execute(_context())

    return use


def http_operator(**arguments: Any) -> Callable[[Path], Any]:
    from airflow.providers.http.operators.http import HttpOperator

    return lambda _: HttpOperator(task_id="it", http_conn_id="redox_default", **arguments).execute({})


def of_file(
    make: Callable[..., Any], argument: str, line: str, *, output: str = "output_path", **arguments: Any
) -> Callable[[Path], Any]:
    """Execute an operator on a file of one row."""

    def use(folder: Path) -> Any:
        (folder / "rows.ndjson").write_text(line)
        return operator(make, output=output, **{argument: str(folder / "rows.ndjson")}, **arguments)(folder)

    return use


def uploading(folder: Path) -> Any:
    """Execute the operator that uploads a file which holds the patient, and is named after him."""
    path = folder / f"{PATIENT}.txt"
    path.write_bytes(FILE)
    return operator(RedoxUploadOperator, path=str(path))(folder)


def deferred(make: Callable[..., Any], **arguments: Any) -> Callable[[Path], Any]:
    """Defer a sensor, and run its trigger to its event, as a triggerer does."""

    async def use() -> Any:
        sensor = make(task_id="it", deferrable=True, poke_interval=0.1, timeout=1.5, **arguments)
        trigger = sensor.trigger(_context(), time.time() + 1.5)
        event = await anext(trigger.run())
        if event.payload["status"] not in ("found", "delivered"):
            raise CommandFailedError(f"{event.payload} {trigger.serialize()}")
        return event

    return lambda _: asyncio.run(use())


def sensor(make: Callable[..., Any], **arguments: Any) -> Callable[[Path], Any]:
    """Poke a sensor once."""

    def use(_: Path) -> Any:
        told = make(task_id="it", deferrable=False, **arguments).poke(_context())
        if not told.is_done:
            raise CommandFailedError(repr(told.xcom_value))
        return told

    return use


def _context() -> dict[str, Any]:
    ti = SimpleNamespace(dag_id="attacked", run_id="once", task_id="it", map_index=-1, try_number=1, max_tries=0)
    return {"ti": ti, "task_reschedule_count": 0}


def press_test(_folder: Path) -> str:
    works, words = RedoxHook().test_connection()
    if not works:
        raise CommandFailedError(words)
    return words


def command(*arguments: str) -> Callable[[Path], Any]:
    """Run a command on the connection, in this process."""

    def use(folder: Path) -> str:
        file = folder / "connection.json"
        file.write_text(os.environ["AIRFLOW_CONN_REDOX_DEFAULT"])
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            status = main([arguments[0], "--conn-json", str(file), *arguments[1:]])
        words = out.getvalue() + err.getvalue()
        if status:
            raise CommandFailedError(words)
        return words

    return use


PROBE = ("probe", "--destination", "general-hospital", "--pause", "0", "--yes", "--family", PATIENT)

WAYS = [
    Way("RedoxHook.fhir_search", hook(lambda redox: list(redox.fhir_search("Patient", SEARCH))), pages=True),
    Way("RedoxHook.fhir_read", hook(lambda redox: redox.fhir_read("Patient", PATIENT))),
    Way("RedoxHook.fhir_writeback", hook(lambda redox: redox.fhir_writeback("Observation", "$observation-create", BUNDLE))),
    Way("RedoxHook.post_data_model", hook(lambda redox: redox.post_data_model(MESSAGE))),
    Way("RedoxHook.query_data_model", hook(lambda redox: redox.query_data_model(QUERY))),
    Way("RedoxHook.upload", hook(lambda redox: redox.upload(FILE))),
    Way("RedoxHook.request", hook(lambda redox: redox.request("PUT", f"{BASE}/Patient/1", json=OBSERVATION))),
    Way("RedoxHook.get_log", hook(lambda redox: redox.get_log(PATIENT))),
    Way("RedoxHook.run", hook(lambda redox: redox.run("/endpoint", json.dumps(MESSAGE)))),
    Way("RedoxHook.get_conn", session),
    Way("RedoxHook.get_access_token", hook(lambda redox: redox.get_access_token()), sends_patient=False),
    Way("RedoxAsyncHook.fhir_search", async_hook(lambda redox: listed(redox.fhir_search("Patient", SEARCH))), pages=True),
    Way("RedoxAsyncHook.fhir_read", async_hook(lambda redox: redox.fhir_read("Patient", PATIENT))),
    Way(
        "RedoxAsyncHook.fhir_writeback",
        async_hook(lambda redox: redox.fhir_writeback("Observation", "$observation-create", BUNDLE)),
    ),
    Way("RedoxAsyncHook.post_data_model", async_hook(lambda redox: redox.post_data_model(MESSAGE))),
    Way("RedoxAsyncHook.query_data_model", async_hook(lambda redox: redox.query_data_model(QUERY))),
    Way("RedoxAsyncHook.upload", async_hook(lambda redox: redox.upload(FILE))),
    Way("RedoxAsyncHook.request", async_hook(lambda redox: redox.request("PUT", f"{BASE}/Patient/1", json=OBSERVATION))),
    Way("RedoxAsyncHook.get_log", async_hook(lambda redox: redox.get_log(PATIENT))),
    Way("RedoxAsyncHook.get_access_token", async_hook(lambda redox: redox.get_access_token()), sends_patient=False),
    Way(
        "RedoxFhirSearchOperator",
        operator(RedoxFhirSearchOperator, resource_type="Patient", search_params=SEARCH),
        pages=True,
    ),
    Way("RedoxFhirReadOperator", operator(RedoxFhirReadOperator, resource_type="Patient", resource_id=PATIENT)),
    Way(
        "RedoxFhirWritebackOperator",
        operator(RedoxFhirWritebackOperator, resource_type="Observation", operation="$observation-create", bundle=BUNDLE),
    ),
    Way("RedoxDataModelPostOperator", operator(RedoxDataModelPostOperator, output="results_path", payload=MESSAGE)),
    Way("RedoxDataModelQueryOperator", operator(RedoxDataModelQueryOperator, payload=QUERY)),
    Way("RedoxDocumentDownloadOperator", operator(RedoxDocumentDownloadOperator, urls=[f"Binary/{PATIENT}"])),
    Way("RedoxRequestOperator", operator(RedoxRequestOperator, method="POST", path="/endpoint", json=MESSAGE)),
    Way("RedoxUploadOperator", uploading),
    Way("RedoxCheckConnectionOperator", operator(RedoxCheckConnectionOperator, output=None), sends_patient=False),
    Way(
        "RedoxFhirSearchOperator of a cohort",
        of_file(
            RedoxFhirSearchOperator,
            "cohort",
            json.dumps({"family": PATIENT}),
            resource_type="Patient",
            search_params={"family": "{family}"},
        ),
        pages=True,
    ),
    Way(
        "RedoxDataModelPostOperator of a file",
        of_file(RedoxDataModelPostOperator, "payload_path", json.dumps(MESSAGE), output="results_path"),
    ),
    Way(
        "RedoxDataModelQueryOperator of a cohort",
        of_file(
            RedoxDataModelQueryOperator,
            "cohort",
            json.dumps({"family": PATIENT}),
            payload={**QUERY, "Patient": {"Demographics": {"LastName": "{family}"}}},
        ),
    ),
    Way("RedoxFhirSearchSensor", sensor(RedoxFhirSearchSensor, resource_type="Patient", search_params=SEARCH)),
    Way("RedoxFhirSearchTrigger", deferred(RedoxFhirSearchSensor, resource_type="Patient", search_params=SEARCH)),
    Way("RedoxDeliverySensor", sensor(RedoxDeliverySensor, log_ids=["log-1"]), sends_patient=False),
    Way("RedoxDeliveryTrigger", deferred(RedoxDeliverySensor, log_ids=["log-1"]), sends_patient=False),
    Way("HttpOperator", http_operator(endpoint="/endpoint", data=json.dumps(MESSAGE))),
    Way("Test button", press_test, sends_patient=False),
    Way("check", command("check"), sends_patient=False),
    Way("probe", command(*PROBE)),
]
"""Calls of hooks, operators, sensors, triggers, the Test button, commands."""

SENDING = [way for way in WAYS if way.sends_patient]
"""Those that send a patient."""
