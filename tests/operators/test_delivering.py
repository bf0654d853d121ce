"""Posting and waiting for delivery in one task: nothing is posted twice, whatever wakes the task."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.exceptions import RedoxDeliveryError, RedoxSecurityError
from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
from tests.support.sandbox import Sandbox
from tests.support.tasks import Task, fired, quick_polling

__all__ = ["quick_polling"]

MESSAGE = {"Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"}, "Patient": {"Notes": ["Quillfeather"]}}
EVERYWHERE = pytest.mark.parametrize("deferrable", [False, True], ids=["in the task", "in the triggerer"])


@pytest.fixture(autouse=True)
def _quick(quick_polling: None) -> None:
    """Every test here polls quickly."""


def task(output: str, **arguments: Any) -> Task:
    given = {"payload": MESSAGE, "results_path": output, "wait_for_delivery": True, "poll_interval": 0.2}
    return Task(RedoxDataModelPostOperator(task_id="post", **{**given, **arguments}))


def resumed(one: Task, event: Any, deferral: Any) -> Any:
    """Wake the task as Airflow does: by the method and with the arguments that the deferral named."""
    return one.sensor.resume_execution(deferral.method_name, {**deferral.kwargs, "event": event}, one.context)


def run(one: Task) -> Any:
    if not one.sensor.deferrable:
        return one.execute()
    deferral = one.deferred()
    return resumed(one, fired(deferral.trigger), deferral)


@EVERYWHERE
def test_it_ends_when_all_is_delivered(redox_connection: Sandbox, output: str, *, deferrable: bool):
    """The result is that of the post, and how many logs were delivered."""
    redox_connection.settings(delivery_seconds=1)
    result = run(task(output, deferrable=deferrable))
    assert (result["accepted"], result["delivered"], len(result["log_ids"])) == (1, 1, 1)
    assert redox_connection.stats()["messages"] == 1


@EVERYWHERE
def test_a_message_that_is_lost_fails_the_task(redox_connection: Sandbox, output: str, *, deferrable: bool):
    """For good, with the log and where to look; the message was posted once."""
    redox_connection.settings(delivery_seconds=0, final_status="filtered")
    one = task(output, deferrable=deferrable)
    with pytest.raises(AirflowFailException, match=r"1 filtered.*dashboard.*only wait anew") as caught:
        run(one)
    assert isinstance(caught.value.__cause__, RedoxDeliveryError)
    assert len(one.xcoms["redox_logs"]["log_ids"]) == 1


@EVERYWHERE
def test_patience_ends(redox_connection: Sandbox, output: str, *, deferrable: bool):
    """After delivery_timeout it is an error that a retry may heal: it posts nothing, and waits anew."""
    redox_connection.settings(delivery_seconds=3600)
    with pytest.raises(RedoxDeliveryError, match="1 pending"):
        run(task(output, deferrable=deferrable, delivery_timeout=timedelta(seconds=1)))


@EVERYWHERE
def test_a_retry_waits_and_posts_nothing(redox_connection: Sandbox, output: str, *, deferrable: bool):
    """What an earlier try has posted is in storage: the next one finds it accepted, and follows its log."""
    redox_connection.settings(delivery_seconds=3600)
    with pytest.raises(RedoxDeliveryError):
        run(task(output, deferrable=deferrable, delivery_timeout=0.5))
    redox_connection.control("PATCH", "logs", {"status": "succeeded"})
    result = run(task(output, deferrable=deferrable))
    assert (result["delivered"], result["already_sent"]) == (1, 1)
    assert redox_connection.stats()["messages"] == 1


def test_nothing_is_posted_after_the_wait(redox_connection: Sandbox, output: str):
    """Whatever the event says, true or not: resuming asks and sends nothing at Redox's data model endpoint."""
    redox_connection.settings(delivery_seconds=0)
    one = task(output, deferrable=True)
    deferral = one.deferred()
    events = [None, {}, {"status": "error", "error": "RedoxServerError"}, {"status": "timeout"}, {"status": "failed"}]
    for event in events:
        with pytest.raises(Exception, match=r"."):
            resumed(one, event, deferral)
    assert resumed(one, fired(deferral.trigger), deferral)["delivered"] == 1
    assert len(redox_connection.ledger("/endpoint")) == 1


def test_an_event_without_proof_is_not_believed(redox_connection: Sandbox, output: str):
    """The wait begins again, and nothing is posted; the second one fails the task."""
    one = task(output, deferrable=True)
    deferral = one.deferred()
    forged = {"status": "delivered", "counts": {"succeeded": 1}, "log_ids": ["a"], "statuses": ["succeeded"]}
    with pytest.raises(BaseException) as again:  # noqa: PT011
        resumed(one, forged, deferral)
    assert again.value.kwargs["doubted"] == 1
    with pytest.raises(AirflowFailException) as refused:
        resumed(one, forged, again.value)
    assert isinstance(refused.value.__cause__, RedoxSecurityError)
    assert len(redox_connection.ledger("/endpoint")) == 1


def test_the_row_holds_no_message(redox_connection: Sandbox, output: str):
    """IDs, times and choices; the summary that is kept for the end has IDs, counts and a URL."""
    one = task(output, deferrable=True)
    deferral = one.deferred()
    stored = json.dumps([deferral.trigger.serialize(), deferral.kwargs, one.xcoms])
    assert "Quillfeather" not in stored
    assert deferral.timeout == timedelta(days=1, seconds=300)


def test_what_is_wrong_with_the_wait_is_told_before_anything_is_sent(
    redox_connection: Sandbox, output: str, monkeypatch: pytest.MonkeyPatch
):
    """A Platform connection that lacks something must not be found out after the post."""
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(redox_connection.with_extra(environment_id=None)))
    with pytest.raises(AirflowFailException, match="environment_id"):
        task(output).execute()
    assert redox_connection.stats()["messages"] == 0


def test_the_platform_connection_is_asked(redox_connection: Sandbox, output: str, monkeypatch: pytest.MonkeyPatch):
    """The post goes by one connection, the wait by another."""
    redox_connection.settings(delivery_seconds=0)
    own = redox_connection.with_extra(organization_id=None, environment_id=None)
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(own))
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_PLATFORM", redox_connection.connection_json)
    one = task(output, platform_conn_id="redox_platform", deferrable=True)
    deferral = one.deferred()
    assert deferral.trigger.redox_conn_id == "redox_platform"
    assert resumed(one, fired(deferral.trigger), deferral)["delivered"] == 1


def test_many_logs_are_followed_from_the_file_of_results(redox_connection: Sandbox, output: str):
    """A summary lists 50 at most: beyond, the row names the file."""
    one = task(output, deferrable=True)
    asked = one.sensor._asked()
    summary = {"accepted": 10_000, "log_ids": [f"log-{n}" for n in range(50)], "results_url": "/no/such/file"}
    with pytest.raises(Exception, match="results_path"):
        one.sensor._deliveries(one.context, asked, summary)
    with pytest.raises(RedoxDeliveryError, match="not all their log IDs"):
        one.sensor._deliveries(one.context, asked, {**summary, "results_url": None})


def test_nothing_accepted_is_nothing_to_wait_for(redox_connection: Sandbox, output: str):
    """A refused message that was only to be recorded has no log."""
    refused = {"Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"}, "Patient": []}
    redox_connection.fault("status", status=400, match={"path": "/endpoint"})
    result = task(output, payload=refused, on_refused="record", deferrable=True).execute()
    assert (result["accepted"], result["refused"], result["delivered"]) == (0, 1, 0)


def test_without_waiting_nothing_changes(redox_connection: Sandbox, output: str):
    """A post that does not wait asks the Platform API nothing."""
    assert "delivered" not in task(output, wait_for_delivery=False).execute()
    assert redox_connection.ledger("/platform/") == []
