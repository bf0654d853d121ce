"""The search sensor: it counts cheaply, and leaves no patient behind while it waits."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import pendulum
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, BaseHook

from airflow_provider_redox.exceptions import RedoxError
from airflow_provider_redox.sensors.fhir import RedoxFhirSearchSensor
from airflow_provider_redox.triggers.fhir import SURPRISES
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox
from tests.support.tasks import Task, event_of, fired

PATIENT = {"family": "Quillfeather", "given": "Ada", "birthdate": "1990-01-01"}
EVERYWHERE = pytest.mark.parametrize("deferrable", [False, True], ids=["in the task", "in the triggerer"])


def task(**arguments: Any) -> Task:
    given = {"resource_type": "Observation", "search_params": {"code": "4548-4"}, "poke_interval": 0.2, "timeout": 20}
    return Task(RedoxFhirSearchSensor(task_id="wait", **{**given, **arguments}))


def run(one: Task) -> Any:
    return one.through_the_triggerer() if one.sensor.deferrable else one.execute()


def write(sandbox: Sandbox, code: str) -> None:
    from airflow_provider_redox.hooks.redox import RedoxHook

    coding = [{"system": "http://loinc.org", "code": code}]
    observation = {"resourceType": "Observation", "status": "final", "code": {"coding": coding}}
    bundle = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": observation}]}
    RedoxHook().fhir_writeback("Observation", "$observation-create", bundle)


@EVERYWHERE
def test_it_counts_what_is_there(redox_connection: Sandbox, *, deferrable: bool):
    """One small request: the server's own count, no resource."""
    assert run(task(deferrable=deferrable)) > 10
    (asked,) = redox_connection.ledger("/Observation/_search")
    assert parse_qs(asked["body"])["_summary"] == ["count"]


@EVERYWHERE
def test_python_values_are_written_as_everywhere(redox_connection: Sandbox, *, deferrable: bool):
    """Also where the search waits in a trigger's row, which is JSON."""
    moment = pendulum.datetime(2020, 1, 1, tz="Europe/Amsterdam")
    params = {"date": [moment, date(2019, 1, 31)], "_lastUpdated": moment, "value-quantity": Decimal("0.10")}
    with pytest.raises((AirflowSensorTimeout, AirflowFailException)):
        run(task(search_params=params, timeout=0.5, deferrable=deferrable))
    asked = parse_qs(redox_connection.ledger("/Observation/_search")[0]["body"])
    assert asked["date"] == ["2020-01-01T00:00:00+01:00", "2019-01-31"]
    assert asked["_lastUpdated"] == ["2020-01-01T00:00:00+01:00"]
    assert asked["value-quantity"] == ["0.10"]


@EVERYWHERE
def test_it_waits_until_there_is_enough(redox_connection: Sandbox, *, deferrable: bool):
    """It asks again until something has come."""
    one = task(search_params={"code": "of-the-test"}, min_count=2, deferrable=deferrable)
    write(redox_connection, "of-the-test")
    if not deferrable:
        assert one.sensor.poke(one.context).is_done is False
        write(redox_connection, "of-the-test")
        assert one.execute() == 2
        return

    async def event() -> Any:
        waiting = asyncio.create_task(event_of(one.deferred().trigger))
        await asyncio.sleep(1)
        await asyncio.to_thread(write, redox_connection, "of-the-test")
        return await waiting

    assert one.resumed(asyncio.run(event())) == 2


@EVERYWHERE
def test_a_count_of_everybody_ends_no_wait(redox_connection: Sandbox, *, deferrable: bool):
    """A server that counts without saying by which filters is asked for resources, and these were not asked for."""
    everybody = {"resourceType": "Bundle", "type": "searchset", "total": 999}
    coding = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
    other = {"resource": {"resourceType": "Observation", "id": "o", "code": coding}, "search": {"mode": "match"}}
    page = {"resourceType": "Bundle", "type": "searchset", "entry": [other]}
    for body in (everybody, page):
        redox_connection.fault("body", body=body, match={"path": "/Observation"}, times=1)
    with pytest.raises((AirflowSensorTimeout, AirflowFailException, RedoxError)) as ended:
        run(task(search_params={"code": "never"}, timeout=2, deferrable=deferrable))
    assert not deferrable or isinstance(ended.value, AirflowSensorTimeout)
    assert len(redox_connection.ledger("/Observation/_search")) >= 2


@EVERYWHERE
def test_patience_ends(redox_connection: Sandbox, *, deferrable: bool):
    """Nothing found is Airflow's own timeout."""
    with pytest.raises(AirflowSensorTimeout):
        run(task(search_params={"code": "never"}, timeout=0.5, deferrable=deferrable))


def test_the_row_holds_no_patient(redox_connection: Sandbox):
    """The search is sealed; it opens with the connection's key only."""
    one = task(resource_type="Patient", search_params=PATIENT, deferrable=True)
    trigger = one.deferred().trigger
    stored = json.dumps(trigger.serialize()) + repr(trigger)
    assert "Quillfeather" not in stored
    assert "1990-01" not in stored
    assert "family" not in stored
    assert trigger.sealed != one.deferred().trigger.sealed


def test_no_patient_is_in_an_url(redox_connection: Sandbox):
    """Search parameters travel in the body, from the triggerer too."""
    with pytest.raises(AirflowSensorTimeout):
        run(task(resource_type="Patient", search_params=PATIENT, timeout=0.5, deferrable=True))
    asked = redox_connection.ledger("/Patient/_search")
    assert asked
    assert all("Quillfeather" in entry["body"] and "Quillfeather" not in entry["path"] + entry["query"] for entry in asked)


def test_another_connection_cannot_open_it(redox_connection: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """With another client the task is told, and a retry seals it anew; the row of one task does not work elsewhere."""
    trigger = task(deferrable=True).deferred().trigger
    other = redox_connection.with_extra(client_id="somebody-else")
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(other))
    event = fired(trigger)
    assert (event["status"], event["error"]) == ("error", "SealError")


def test_the_event_is_not_believed_without_proof(redox_connection: Sandbox):
    """As for deliveries: the wait begins again."""
    one = task(deferrable=True)
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        one.resumed({"status": "found", "counts": {"matches": 9}})
    assert caught.value.kwargs == {"doubted": 1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"search_params": {}}, "search_params: is empty"),
        ({"search_params": ["a"]}, "search_params"),
        ({"min_count": 0}, "min_count"),
        ({"handling": "loose"}, "handling"),
        ({"resource_type": "patients!"}, "resource"),
        ({"destination": "no such place"}, "destination"),
    ],
)
@EVERYWHERE
def test_bad_arguments_are_told_before_anything_is_asked(
    redox_connection: Sandbox, arguments: dict[str, Any], words: str, *, deferrable: bool
):
    """The complaint names the argument, and nothing is stored in a row."""
    with refused(words):
        run(task(**arguments, deferrable=deferrable))
    assert redox_connection.ledger("/_search") == []


def test_a_search_that_is_refused_fails(redox_connection: Sandbox):
    """What no waiting heals is told to the task by its class and status."""
    with pytest.raises(AirflowFailException, match="HTTP 400"):
        run(task(search_params={"nonsense": "x"}, deferrable=True))


def test_an_outage_is_waited_out(redox_connection: Sandbox):
    """Errors that pass are tried again."""
    redox_connection.fault("status", status=503, match={"path": "/_search"}, times=3)
    assert run(task(deferrable=True)) > 10


def test_what_runs_out_of_time_elsewhere_is_no_deadline(redox_connection: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """A secrets backend that does not answer is asked again after the pause, some times, and then the trigger gives up."""
    trigger = task(deferrable=True).deferred().trigger
    asked: list[str] = []

    def silent(conn_id: str) -> Any:
        asked.append(conn_id)
        raise TimeoutError

    monkeypatch.setattr(BaseHook, "get_connection", staticmethod(silent))
    with pytest.raises(TimeoutError):
        fired(trigger)
    assert len(asked) == SURPRISES
