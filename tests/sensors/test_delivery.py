"""The delivery sensor: in the task, in the triggerer, and what a reader sees of it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, AirflowSkipException

from airflow_provider_redox.exceptions import RedoxDeliveryError, RedoxSecurityError
from airflow_provider_redox.links.logs import LogLink, log_url
from airflow_provider_redox.sensors.delivery import RedoxDeliverySensor
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox
from tests.support.tasks import Task, fired

Logs = Callable[..., list[str]]
EVERYWHERE = pytest.mark.parametrize("deferrable", [False, True], ids=["in the task", "in the triggerer"])


def task(**arguments: Any) -> Task:
    return Task(RedoxDeliverySensor(task_id="delivered", **{"poke_interval": 0.2, "timeout": 20, **arguments}))


def run(one: Task) -> Any:
    return one.through_the_triggerer() if one.sensor.deferrable else one.execute()


def later(sandbox: Sandbox, status: str, ids: list[str] | None = None, *, after: int = 1) -> None:
    """Let logs have a status when so many requests have been made to the Platform API."""
    import threading

    def end() -> None:
        while len(sandbox.ledger("/platform/")) < after:
            pass
        sandbox.control("PATCH", "logs", {"status": status, **({} if ids is None else {"ids": ids})})

    threading.Thread(target=end, daemon=True).start()


@EVERYWHERE
def test_it_waits_until_all_are_delivered(redox_connection: Sandbox, logs: Logs, *, deferrable: bool):
    """The result counts what was delivered, and holds the log IDs."""
    ids = logs(3)
    later(redox_connection, "succeeded")
    assert run(task(log_ids=ids, deferrable=deferrable)) == {
        "delivered": 3,
        "counts": {"succeeded": 3},
        "log_ids": sorted(ids),
    }


@EVERYWHERE
@pytest.mark.parametrize(
    ("status", "choice", "delivered"),
    [
        ("filtered", {}, False),
        ("filtered", {"filtered": "accept"}, True),
        ("failed", {"failed": "fail"}, False),
    ],
)
def test_the_author_chooses(logs: Logs, status: str, choice: dict[str, str], *, delivered: bool, deferrable: bool):
    """A final failure is a RedoxDeliveryError at the edge of the task, never a success, and no retry can heal it."""
    one = task(log_ids=logs(2, status), deferrable=deferrable, **choice)
    if delivered:
        assert run(one)["counts"] == {status: 2}
        return
    with pytest.raises(AirflowFailException, match="2 logs: 2 " + status) as caught:
        run(one)
    assert isinstance(caught.value.__cause__, RedoxDeliveryError)


@EVERYWHERE
def test_failed_is_not_final_by_default(redox_connection: Sandbox, logs: Logs, *, deferrable: bool):
    """Redox tries again in production: the sensor goes on until it has succeeded."""
    ids = logs(1, "failed")
    later(redox_connection, "succeeded", after=2)
    assert run(task(log_ids=ids, deferrable=deferrable))["delivered"] == 1
    assert len(redox_connection.ledger("/platform/")) >= 3


@EVERYWHERE
def test_patience_ends(redox_connection: Sandbox, logs: Logs, *, deferrable: bool):
    """After `timeout` it is Airflow's own AirflowSensorTimeout, which says what is not delivered and where to look."""
    (log_id,) = logs(1, "failed")
    with pytest.raises(AirflowSensorTimeout) as caught:
        run(task(log_ids=[log_id], deferrable=deferrable, timeout=1))
    assert f"{log_id} (failed)" in str(caught.value)
    assert f"logs?logId={log_id}" in str(caught.value)
    assert isinstance(caught.value.__cause__, RedoxDeliveryError)


@EVERYWHERE
def test_soft_fail_skips(logs: Logs, *, deferrable: bool):
    """As with all of Airflow's sensors a failure, and a timeout, then skip the task."""
    for status, choice in (("failed", {"failed": "fail"}), ("pending", {"timeout": 0.5})):
        with pytest.raises(AirflowSkipException):
            run(task(log_ids=logs(1, status), deferrable=deferrable, soft_fail=True, **choice))


@EVERYWHERE
def test_a_new_log_may_not_be_there_yet(redox_connection: Sandbox, *, deferrable: bool):
    """A log that is not found is waited for as long as it can be new."""
    redox_connection.settings(log_delay=2, delivery_seconds=0)
    from airflow_provider_redox.hooks.redox import RedoxHook

    message = {"Meta": {"DataModel": "Device", "EventType": "New"}, "Device": {"ID": "1"}}
    accepted = RedoxHook().post_data_model(message, destination="general")
    assert run(task(log_ids=list(accepted.log_ids), deferrable=deferrable))["delivered"] == 1
    assert 404 in {entry["status"] for entry in redox_connection.ledger("/platform/")}


@EVERYWHERE
def test_a_log_that_nobody_knows_fails(
    redox_connection: Sandbox, logs: Logs, monkeypatch: pytest.MonkeyPatch, *, deferrable: bool
):
    """After the grace a log that is not found is a failure, and the error says that it is not found."""
    for module in ("protocol.delivery", "sensors.waiting"):
        monkeypatch.setattr(f"airflow_provider_redox.{module}.GRACE", 0.5)
    with pytest.raises(AirflowFailException, match=r"no-such-log \(HTTP 404\)"):
        run(task(log_ids=[*logs(1, "succeeded"), "no-such-log"], deferrable=deferrable))


def reschedule_exception() -> type[BaseException]:
    """How Airflow says that a task is to be looked at again; 3.1 has it elsewhere than later ones."""
    for module in ("airflow.sdk.exceptions", "airflow.exceptions"):
        found = getattr(importlib.import_module(module), "AirflowRescheduleException", None)
        if found is not None:
            return found
    raise AssertionError


def test_between_two_looks_the_worker_may_be_free(redox_connection: Sandbox, logs: Logs):
    """In mode reschedule each look is a task's own process; the grace and the patience count from the first one."""
    pytest.importorskip("airflow.sdk", reason="Airflow 2 asks its database for the first look")
    rescheduled = reschedule_exception()
    first: list[datetime] = []

    def look(*ids: str) -> Any:
        one = Task(
            RedoxDeliverySensor(task_id="delivered", log_ids=list(ids), mode="reschedule", poke_interval=60, timeout=600),
            get_first_reschedule_date=lambda _context: first[0] if first else None,
        )
        one.context["task_reschedule_count"] = len(first)
        return one.execute()

    ids = logs(1)
    with pytest.raises(rescheduled) as caught:
        look(*ids)
    assert 50 < (caught.value.reschedule_date - datetime.now(UTC)).total_seconds() <= 60
    first.append(datetime.now(UTC))
    with pytest.raises(rescheduled):
        look("not-there-yet")
    first[0] -= timedelta(seconds=301)
    with pytest.raises(AirflowFailException, match=r"not-there-yet \(HTTP 404\)"):
        look("not-there-yet")
    with pytest.raises(rescheduled):
        look(*ids)
    redox_connection.control("PATCH", "logs", {"status": "succeeded"})
    assert look(*ids)["delivered"] == 1
    first[0] -= timedelta(seconds=600)
    with pytest.raises(AirflowSensorTimeout):
        look(*logs(1))


def lines(path: Path, *entries: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps({"index": number, **entry}) + "\n" for number, entry in enumerate(entries)))
    return f"file://{path}"


@EVERYWHERE
def test_it_reads_the_results_of_a_post(redox_connection: Sandbox, logs: Logs, tmp_path: Path, *, deferrable: bool):
    """Every log of every accepted message is waited for, thousands of them; what was refused has none."""
    ids = logs(1200, "succeeded")
    accepted = [{"outcome": "accepted", "log_ids": ids[start : start + 2]} for start in range(0, 1200, 2)]
    url = lines(tmp_path / "results.ndjson", *accepted, {"outcome": "refused", "issues": []})
    one = task(results_path=url, deferrable=deferrable)
    assert run(one)["delivered"] == 1200
    assert run(task(results_path={"results_url": url}))["delivered"] == 1200
    assert len(redox_connection.ledger("/logs/search/")) == 2 * 24
    if deferrable:
        assert ids[0] not in json.dumps(one.deferred().trigger.serialize())


@EVERYWHERE
def test_nothing_accepted_is_nothing_to_wait_for(logs: Logs, tmp_path: Path, *, deferrable: bool):
    """A night without messages is over at once."""
    url = lines(tmp_path / "results.ndjson", {"outcome": "refused"})
    assert task(results_path=url, deferrable=deferrable).execute()["delivered"] == 0


def test_a_message_without_a_log_cannot_be_followed(redox_connection: Sandbox, tmp_path: Path):
    """Nobody can tell whether it was delivered, so it is not called delivered."""
    url = lines(tmp_path / "results.ndjson", {"outcome": "accepted", "log_ids": []})
    with pytest.raises(AirflowFailException, match="without a log ID"):
        run(task(results_path=url))


def writeback() -> None:
    from airflow_provider_redox.hooks.redox import RedoxHook

    observation = {"resourceType": "Observation", "status": "final"}
    bundle = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": observation}]}
    RedoxHook().fhir_writeback("Observation", "$observation-create", bundle, destination="general")


@EVERYWHERE
def test_a_writeback_is_known_by_destination_and_time(
    redox_connection: Sandbox, logs: Logs, monkeypatch: pytest.MonkeyPatch, *, deferrable: bool
):
    """All logs to the destination in the window have to be delivered; what went elsewhere, or earlier, is of no interest."""
    redox_connection.settings(delivery_seconds=0)
    logs(5, "failed")
    logs(1, "failed", age=3000, destination=redox_connection.connection["extra"]["destinations"]["general"]["id"])
    writeback()
    monkeypatch.setattr("airflow_provider_redox.protocol.delivery.SETTLED_AFTER", 0.0)
    begin = datetime.now(UTC) - timedelta(minutes=10)
    window = [begin.isoformat(), datetime.now(UTC).isoformat()]
    result = run(task(destination="general", window=window, deferrable=deferrable))
    assert result["counts"] == {"succeeded": 1}
    nothing = [begin.isoformat(), (begin + timedelta(minutes=1)).isoformat()]
    with pytest.raises(AirflowFailException, match="no log was found"):
        run(task(destination="general", window=nothing, deferrable=deferrable))


def test_a_window_that_is_not_over_is_not_judged(redox_connection: Sandbox):
    """Until its last log can be seen nothing is asked, whatever is delivered already."""
    writeback()
    redox_connection.control("DELETE", "ledger")
    with pytest.raises(AirflowSensorTimeout):
        run(task(destination="general", timeout=1))
    assert redox_connection.ledger("/platform/") == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give one of them"),
        ({"log_ids": ["a"], "results_path": "/x"}, "give one of them"),
        ({"log_ids": []}, "log_ids: is empty"),
        ({"log_ids": "[oops"}, "came out empty"),
        ({"log_ids": ["a b"]}, "log_ids[0]: is not a log ID"),
        ({"log_ids": ["a"], "window": ["2026-01-01T00:00:00Z"] * 2}, "window: needs a destination"),
        ({"log_ids": ["a"], "failed": "never"}, "failed: must be"),
        ({"log_ids": ["a"], "data_mode": "sometimes"}, "data_mode"),
        ({"log_ids": [f"log-{n}" for n in range(1001)]}, "wait by results_path"),
        ({"results_path": "/no/such/file"}, "no file of result lines"),
        ({"results_path": {"accepted": 1}}, "a post's result"),
        ({"results_path": ""}, "results_path: is empty"),
        (
            {"destination": "general", "window": ["2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"]},
            "its end lies before its start",
        ),
        ({"destination": "general", "window": ["yesterday", "today"]}, "time with a zone"),
        ({"destination": "general", "window": "2026"}, "two times"),
        ({"destination": "some-slug"}, "UUID"),
    ],
)
@EVERYWHERE
def test_bad_arguments_are_told_before_anything_is_asked(
    redox_connection: Sandbox, arguments: dict[str, Any], words: str, *, deferrable: bool
):
    """The complaint names the argument."""
    with refused(words):
        run(task(**arguments, deferrable=deferrable))
    assert redox_connection.ledger("/platform/") == []


@pytest.mark.parametrize("missing", ["organization_id", "environment_id"])
def test_a_connection_that_is_none_of_the_platform_is_told(
    redox_connection: Sandbox, monkeypatch: pytest.MonkeyPatch, missing: str
):
    """The complaint names the field and the connection."""
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(redox_connection.with_extra(**{missing: None})))
    with pytest.raises(AirflowFailException, match=f"extra.{missing}: missing in the connection redox_default"):
        run(task(log_ids=["a"]))


@EVERYWHERE
def test_the_platform_connection_is_followed(
    redox_connection: Sandbox, logs: Logs, monkeypatch: pytest.MonkeyPatch, *, deferrable: bool
):
    """A connection that names its Platform connection will do."""
    own = redox_connection.with_extra(platform_conn_id="redox_platform", organization_id=None, environment_id=None)
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(own))
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_PLATFORM", redox_connection.connection_json)
    one = task(log_ids=logs(1, "succeeded"), deferrable=deferrable)
    assert run(one)["delivered"] == 1
    if deferrable:
        assert one.deferred().trigger.redox_conn_id == "redox_platform"


def test_a_list_that_a_template_made_text_of_is_read(logs: Logs):
    """Jinja renders a list as its text unless the DAG asks for native objects."""
    ids = logs(2, "succeeded")
    assert run(task(log_ids=str(ids)))["delivered"] == 2
    assert run(task(log_ids=ids[0]))["delivered"] == 1


def test_a_backfill_is_asked_for_as_such(redox_connection: Sandbox, logs: Logs):
    """Its logs are in another place of Redox's."""
    ids = logs(2, "succeeded", data_mode="backfill")
    assert run(task(log_ids=ids, data_mode="backfill", deferrable=True))["delivered"] == 2


def test_the_row_holds_ids_and_times_only(redox_connection: Sandbox, logs: Logs):
    """What a triggerer needs to begin the wait anew, and Airflow's own timeout behind it in case the triggerer is gone."""
    deferral = task(log_ids=(ids := logs(2)), deferrable=True).deferred()
    _, row = deferral.trigger.serialize()
    assert {name: value for name, value in row.items() if isinstance(value, str | list | dict)} == {
        "redox_conn_id": "redox_default",
        "logs": ids,
        "rules": {"filtered": "fail", "failed": "wait"},
        "ticket": row["ticket"],
    }
    assert json.loads(json.dumps(row)) == row
    assert deferral.timeout == timedelta(seconds=20 + 300)


def test_the_task_asks_nothing_before_it_defers(redox_connection: Sandbox, logs: Logs):
    """A thousand tasks that each asked once would not share their polling."""
    task(log_ids=logs(1, "succeeded"), deferrable=True).deferred()
    assert redox_connection.ledger("/platform/") == []


GOOD = {"status": "delivered", "counts": {"succeeded": 1}, "log_ids": ["a"], "statuses": ["succeeded"]}


@pytest.mark.parametrize("proof", ["", "0" * 32, "é"])
def test_an_event_without_proof_is_not_believed(logs: Logs, proof: str):
    """The wait begins again; if it happens twice, somebody writes events, and the task fails."""
    one = task(log_ids=logs(), deferrable=True)
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        one.resumed({**GOOD, "proof": proof}, doubted=0)
    assert caught.value.trigger.logs == one.sensor.log_ids
    assert caught.value.kwargs == {"doubted": 1}
    with pytest.raises(AirflowFailException) as refused:
        one.resumed({**GOOD, "proof": proof}, doubted=1)
    assert isinstance(refused.value.__cause__, RedoxSecurityError)


def test_an_event_of_another_task_is_not_believed(logs: Logs):
    """A true event, copied to another task instance, proves nothing there."""
    event = fired(task(log_ids=logs(1, "succeeded"), deferrable=True).deferred().trigger)
    other = Task(RedoxDeliverySensor(task_id="delivered", log_ids=logs(), deferrable=True), run_id="manual__2")
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        other.resumed(event)
    assert hasattr(caught.value, "trigger")


def test_an_event_that_was_changed_is_not_believed(logs: Logs):
    """The proof covers the counts and the log IDs."""
    one = task(log_ids=logs(2, "filtered"), filtered="accept", deferrable=True)
    event = fired(one.deferred().trigger)
    assert one.resumed(event)["counts"] == {"filtered": 2}
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        one.resumed({**event, "counts": {"succeeded": 2}})
    assert hasattr(caught.value, "trigger")


@pytest.mark.parametrize(
    "event", [None, {}, [], "delivered", {**GOOD, "more": 1}, {**GOOD, "counts": {"a": "Quillfeather"}}]
)
def test_an_event_of_another_shape_is_refused(logs: Logs, event: Any):
    """The error repeats nothing of it."""
    with pytest.raises(Exception, match="not one of its trigger's") as caught:
        task(log_ids=logs(), deferrable=True).resumed(event)
    assert "Quillfeather" not in str(caught.value)


def test_a_failure_needs_no_proof(logs: Logs):
    """Whoever can write events can fail a task, as can whoever marks it failed."""
    with pytest.raises(AirflowFailException, match="Redox did not deliver"):
        task(log_ids=logs(), deferrable=True).resumed({**GOOD, "status": "failed"})


def test_a_refused_key_is_told_to_the_task(redox_connection: Sandbox, logs: Logs):
    """The wait ends with what it met, as no waiting heals it, and names the connection."""
    one = task(log_ids=logs(), deferrable=True)
    trigger = one.deferred().trigger
    redox_connection.fault("status", status=401, match={"path": "/platform/"}, times=None)
    with pytest.raises(AirflowFailException, match=r"RedoxAuthError.*redox_default.*HTTP 401"):
        one.resumed(fired(trigger))


def test_an_outage_is_waited_out(redox_connection: Sandbox, logs: Logs):
    """Errors that pass are tried again with the next look."""
    redox_connection.fault("status", status=503, match={"path": "/platform/"}, times=4)
    assert run(task(log_ids=logs(1, "succeeded"), deferrable=True))["delivered"] == 1


def test_a_link_leads_to_the_log(redox_connection: Sandbox, logs: Logs):
    """The task leaves the IDs for the button, those that failed first, also when it fails."""
    good, bad = logs(1, "succeeded")[0], logs(1, "failed")[0]
    one = task(log_ids=[good, bad], failed="fail")
    with pytest.raises(AirflowFailException):
        run(one)
    (left,) = one.xcoms.values()
    assert left["log_ids"] == [bad]
    organization = redox_connection.connection["extra"]["organization_id"]
    assert log_url(left) == f"https://dashboard.redoxengine.com/#/organization/{organization}/logs?logId={bad}"
    assert any(isinstance(link, LogLink) for link in one.sensor.operator_extra_links)
