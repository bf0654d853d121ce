"""RedoxInboxSensor: the same inbox, for a DAG that waits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxProtocolError
from airflow_provider_redox.sensors.inbox import RedoxInboxSensor
from airflow_provider_redox.triggers.inbox import InboxArrivalTrigger
from tests.inbox.boxes import Box


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(f"file://{tmp_path}/inbox/results")


def context(run: str) -> Any:
    return {"ti": SimpleNamespace(dag_id="d", run_id=run, task_id="arrived", map_index=-1)}


def sensor(box: Box, **arguments: Any) -> RedoxInboxSensor:
    return RedoxInboxSensor(task_id="arrived", inbox_path=box.root, **{"deferrable": True, **arguments})


def ids(event: Any) -> list[str]:
    return [one["log_id"] for one in event["messages"]]


def test_each_run_is_handed_what_no_other_was(box: Box):
    """In the order of arrival, the rest by the next run."""
    box.put("b", "a", "c")
    assert ids(sensor(box, max_messages=2).execute(context("1"))) == ["b", "a"]
    assert ids(sensor(box, max_messages=2).execute(context("2"))) == ["c"]
    with pytest.raises(TaskDeferred):
        sensor(box).execute(context("3"))


def test_a_run_that_is_tried_again_is_handed_the_same(box: Box):
    """Its worker may have died after it took the messages; others came in between."""
    box.put("a")
    first = sensor(box).execute(context("1"))
    box.put("b")
    assert sensor(box).execute(context("1")) == first
    assert ids(sensor(box).execute(context("2"))) == ["b"]


def test_a_worker_that_dies_before_the_place_is_moved_loses_nothing(box: Box, monkeypatch: pytest.MonkeyPatch):
    """What the run was handed is written down first."""
    from airflow_provider_redox.storage.inbox.watching import Watch

    box.put("a")
    with monkeypatch.context() as patch:
        patch.setattr(Watch, "settle", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            sensor(box).execute(context("1"))
    assert ids(sensor(box).execute(context("1"))) == ["a"]
    with pytest.raises(TaskDeferred):
        sensor(box).execute(context("2"))


def test_it_waits_in_the_triggerer(box: Box):
    """With the trigger of the same inbox, place and filters, and takes what is there when it is woken."""
    one = sensor(box, data_model="Results")
    with pytest.raises(TaskDeferred) as deferred:
        one.execute(context("1"))
    assert isinstance(deferred.value.trigger, InboxArrivalTrigger)
    kwargs = deferred.value.trigger.serialize()[1]
    assert (kwargs["inbox_path"], kwargs["name"], kwargs["data_model"]) == (box.root, "d.arrived", "Results")
    with pytest.raises(TaskDeferred):
        one.execute_complete(context("1"), {"status": "arrived"})
    box.put("x", DataModel="Orders")
    box.put("a")
    assert ids(one.execute_complete(context("1"), {"status": "arrived"})) == ["a"]


def test_it_may_wait_in_the_worker(box: Box):
    """Without deferring, it looks at every poke."""
    one = sensor(box, deferrable=False)
    assert not one.poke(context("1"))
    box.put("a")
    found = one.poke(context("1"))
    assert found
    assert ids(found.xcom_value) == ["a"]


def test_a_name_is_shared_by_who_uses_it(box: Box):
    """Two DAGs of one name share one place."""
    box.put("a")
    sensor(box, name="lab").execute(context("1"))
    with pytest.raises(TaskDeferred):
        sensor(box, name="lab").execute({"ti": SimpleNamespace(dag_id="e", run_id="1", task_id="t", map_index=-1)})


def test_what_no_retry_heals_fails_for_good(box: Box):
    """A path that cannot be, in a template that came out so: deferred and in the worker."""
    for deferrable in (True, False):
        waiting = sensor(box, deferrable=deferrable)
        waiting.state_path = "relative"
        with pytest.raises(AirflowFailException, match="state_path: must be an absolute path"):
            waiting.execute(context("1"))


def test_what_a_run_was_handed_is_not_guessed(box: Box):
    """A file that says it and cannot be read is an error that names it."""
    box.put("a")
    sensor(box).execute(context("1"))
    (handed,) = Path(box.root.removeprefix("file://")).rglob("handed/*.json")
    handed.write_bytes(b"\xff")
    with pytest.raises(RedoxProtocolError, match=rf"{handed.name}: what this run was handed cannot be read"):
        sensor(box).execute(context("1"))


def test_a_group_that_means_nothing_is_refused_when_the_dag_is_read(box: Box):
    """As the trigger does."""
    with pytest.raises(RedoxConfigError, match="name_pattern: has a group patient"):
        sensor(box, name_pattern=r"(?P<patient>\w+)")
