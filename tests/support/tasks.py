"""Run a sensor or a deferrable operator as a worker and a triggerer would, in this process, against the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import XComArg

from tests.support.sandbox import Sandbox


class Pulled(XComArg):
    """An earlier task's result, without a database."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def iter_references(self) -> Any:
        """Name the tasks that it is of: none."""
        return iter(())

    def resolve(self, *_: Any, **__: Any) -> Any:
        """Give the result."""
        return self.value


class Task:
    """One task instance, and what it left in XCom."""

    def __init__(self, sensor: Any, **where: Any) -> None:
        self.sensor = sensor
        self.xcoms: dict[str, Any] = {}
        facts = {"dag_id": "send", "run_id": "manual__1", "task_id": sensor.task_id, "map_index": -1, **where}
        xcom = {"xcom_push": lambda key, value: self.xcoms.update({key: value}), "xcom_pull": self.pull}
        self.context = {
            "ti": SimpleNamespace(**facts, **xcom, max_tries=0),
            "dag_run": SimpleNamespace(start_date=datetime.now(UTC)),
        }

    def pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        """Give what this task instance has pushed."""
        assert (task_ids, map_indexes) == (self.sensor.task_id, self.context["ti"].map_index)
        return self.xcoms.get(key)

    def execute(self) -> Any:
        """Run the sensor to its end in the task."""
        return self.sensor.execute(self.context)

    def deferred(self) -> Any:
        """Run the sensor until it defers, and give what Airflow would store."""
        try:
            self.sensor.execute(self.context)
        except BaseException as deferral:
            if not hasattr(deferral, "trigger"):
                raise
            return deferral
        raise AssertionError("the sensor did not defer")

    def resumed(self, event: Any, **kwargs: Any) -> Any:
        """Wake the task with an event."""
        return self.sensor.resume_execution("execute_complete", {"event": event, **kwargs}, self.context)

    def through_the_triggerer(self) -> Any:
        """Defer, wait for the trigger's event, and go on with it."""
        return self.resumed(fired(self.deferred().trigger))


def rebuilt(trigger: Any) -> Any:
    """Make the trigger anew from its row alone, as a triggerer does."""
    path, kwargs = trigger.serialize()
    module, _, name = path.rpartition(".")
    return getattr(__import__(module, fromlist=[name]), name)(**kwargs)


async def event_of(trigger: Any) -> Any:
    """Wait for the event of a trigger that was rebuilt from its row."""
    async for event in rebuilt(trigger).run():
        return event.payload
    raise AssertionError("the trigger fired no event")


def fired(*triggers: Any) -> Any:
    """Run triggers together in one event loop, and give the event of the only one, or of all."""

    async def run() -> list[Any]:
        return await asyncio.wait_for(asyncio.gather(*map(event_of, triggers)), 60)

    events = asyncio.run(run())
    return events[0] if len(triggers) == 1 else events


@pytest.fixture
def logs(redox_connection: Sandbox) -> Callable[..., list[str]]:
    """Make logs in the sandbox: so many, with a status."""

    def make(count: int = 1, status: str = "pending", age: float = 1.0, **order: Any) -> list[str]:
        found: list[str] = redox_connection.control("POST", "logs", {"count": count, "status": status, "age": age, **order})[
            "ids"
        ]
        return found

    return make


@pytest.fixture
def quick_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test wait for others to join, and none for what another has used up."""
    from airflow_provider_redox.triggers import polling

    monkeypatch.setattr(polling, "GATHERING", 0.05)
    monkeypatch.setattr(polling, "RESTART", 0.05)
    polling._paces.clear()
