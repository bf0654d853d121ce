"""RedoxInboxSensor: wait for messages in an inbox, and hand them to the next task. For Airflow 2, and for who prefers it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseSensorOperator, conf

from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.operators.arguments import (
    FLAG,
    NAME_OR_NAMES,
    PLACE,
    TEXT,
    CheckedArguments,
    number,
    whole,
)
from airflow_provider_redox.operators.templates import TextStaysText
from airflow_provider_redox.storage.inbox.parameters import check_parameters

if TYPE_CHECKING:
    from typing import Unpack

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_redox.operators.arguments import Rules
    from airflow_provider_redox.operators.signatures import WaitingArguments
    from airflow_provider_redox.storage.inbox.watching import Wanted


class RedoxInboxSensor(CheckedArguments, TextStaysText, BaseSensorOperator):
    """Waits until there are messages that this task has not told of, and returns an event for `read_messages`.

    A task that is tried again, or cleared, returns what it returned before. The next run of the DAG goes on after it. Give
    the DAG `max_active_runs=1`, or a `name` for each, so that one place in the inbox is not moved by two at once.

    The parameters are those of `RedoxInboxTrigger`, and Airflow's for sensors: `poke_interval` in place of `poll_interval`,
    no `start`, 1000 `max_messages` by default; `gather_seconds` counts while it is deferred.

    :param name: whose place in the inbox this is; by default the task's.
    :param deferrable: wait in the triggerer, where it costs no worker slot; by default as `[operators] default_deferrable`.
    """

    template_fields: Sequence[str] = ("inbox_path", "name", "data_model", "event_type", "source", "state_path")
    rules: ClassVar[Rules] = {
        "inbox_path": PLACE.required,
        "name": TEXT,
        "data_model": NAME_OR_NAMES,
        "event_type": NAME_OR_NAMES,
        "source": NAME_OR_NAMES,
        "max_messages": whole(1),
        "gather_seconds": number(0),
        "lateness": number(0),
        "name_pattern": TEXT,
        "state_path": PLACE,
        "deferrable": FLAG,
    }
    ui_color = "#f7d9d0"

    if TYPE_CHECKING:

        @property
        def output(self) -> Any:
            """What this task returns, for a later task. Airflow calls it an XComArg, which no typed `@task` would take."""

    def __init__(
        self,
        *,
        inbox_path: str,
        name: str | None = None,
        data_model: str | Sequence[str] | None = None,
        event_type: str | Sequence[str] | None = None,
        source: str | Sequence[str] | None = None,
        max_messages: int = 1000,
        gather_seconds: float = 0.0,
        lateness: float = 120.0,
        name_pattern: str | None = None,
        state_path: str | None = None,
        poke_interval: float | timedelta = 5.0,
        deferrable: bool | None = None,
        **kwargs: Unpack[WaitingArguments],
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.inbox_path = inbox_path
        self.name = name
        self.data_model = data_model
        self.event_type = event_type
        self.source = source
        self.max_messages = max_messages
        self.gather_seconds = gather_seconds
        self.lateness = lateness
        self.name_pattern = name_pattern
        self.state_path = state_path
        self.deferrable = (
            conf.getboolean("operators", "default_deferrable", fallback=False) if deferrable is None else deferrable
        )
        self.check_literals()
        check_parameters(self._parameters(name))

    def execute(self, context: Context) -> Any:
        """Return an event when there are messages, at once or later."""
        with failing_for_good():
            self.check_arguments()
        if not self.deferrable:
            return super().execute(context)
        return self._taken(context) or self._wait(context)

    def execute_complete(self, context: Context, event: Any) -> Any:  # noqa: ARG002  (what it says is looked at anew)
        """Go on when the trigger has seen a message."""
        return self._taken(context) or self._wait(context)

    def poke(self, context: Context) -> Any:
        """Look once."""
        from airflow.providers.common.compat.sdk import PokeReturnValue

        event = self._taken(context)
        return PokeReturnValue(is_done=event is not None, xcom_value=event)

    def _wait(self, context: Context) -> Any:
        from airflow_provider_redox.triggers.inbox import InboxArrivalTrigger

        with failing_for_good():
            trigger = InboxArrivalTrigger(**self._parameters(self._name(context)))
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=self.timeout))

    def _taken(self, context: Context) -> dict[str, Any] | None:
        """Take the messages that are there: what is handed to this run is written down before the place is moved."""
        from airflow_provider_redox.storage.inbox.handing import hand

        ti = context["ti"]
        run = (ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index))
        with failing_for_good():
            return hand(self._wanted(context), run, max_messages=self.max_messages, now=time.time())

    def _wanted(self, context: Context) -> Wanted:
        from airflow_provider_redox.storage.inbox.watching import Wanted

        own = ("poll_interval", "max_messages", "gather_seconds")
        return Wanted(**{key: value for key, value in self._parameters(self._name(context)).items() if key not in own})

    def _name(self, context: Context) -> str:
        return self.name if self.name is not None else f"{context['ti'].dag_id}.{context['ti'].task_id}"

    def _parameters(self, name: str | None) -> dict[str, Any]:
        return {
            "inbox_path": self.inbox_path,
            "name": name,
            "data_model": self.data_model,
            "event_type": self.event_type,
            "source": self.source,
            "max_messages": self.max_messages,
            "gather_seconds": self.gather_seconds,
            "poll_interval": self.poke_interval,
            "lateness": self.lateness,
            "name_pattern": self.name_pattern,
            "state_path": self.state_path,
        }
