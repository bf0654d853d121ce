"""What the sensors share: the connection, deferring, and what becomes of the event that wakes them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, BaseSensorOperator, conf

from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.operators.arguments import FLAG, TEXT, CheckedArguments
from airflow_provider_redox.operators.templates import TextStaysText

if TYPE_CHECKING:
    from typing import Unpack

    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_redox.hooks.redox import RedoxHook
    from airflow_provider_redox.operators.arguments import Rules
    from airflow_provider_redox.operators.signatures import SensorArguments
    from airflow_provider_redox.protocol.keys import SigningKey
    from airflow_provider_redox.triggers.events import Event


class RedoxSensor(CheckedArguments, TextStaysText, BaseSensorOperator):
    """The base of the Redox sensors.

    :param redox_conn_id: the connection.
    :param deferrable: wait in the triggerer, without a worker; `[operators] default_deferrable` by default.
    """

    template_fields: Sequence[str] = ("redox_conn_id",)
    rules: ClassVar[Rules] = {"redox_conn_id": TEXT.required, "deferrable": FLAG}
    ui_color = "#f7d9d0"
    audit: str | None = None

    if TYPE_CHECKING:

        @property
        def output(self) -> Any:
            """What this task returns, for a later task. Airflow calls it an XComArg, which no typed `@task` would take."""

    def __init__(
        self,
        *,
        redox_conn_id: str = "redox_default",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Unpack[SensorArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.redox_conn_id = redox_conn_id
        self.deferrable = deferrable
        self.check_literals()

    @cached_property
    def hook(self) -> RedoxHook:
        """The hook of this sensor's connection."""
        from airflow_provider_redox.hooks.redox import RedoxHook

        return RedoxHook(self.redox_conn_id, audit=self.audit)

    def execute(self, context: Context) -> Any:
        """Wait here, or defer and have the triggerer wait."""
        with failing_for_good():
            self.check_arguments()
        if not self.deferrable:
            try:
                return super().execute(context)
            except AirflowSensorTimeout as error:
                self.too_late(context, str(error), None)
        return self._defer(context, 0)

    def execute_complete(self, context: Context, event: Any = None, doubted: int = 0) -> Any:
        """Go on where the trigger ended."""
        from airflow_provider_redox.triggers.events import error_of, is_believed, parse_event

        with failing_for_good():
            self.check_arguments()
            told = parse_event(event)
            if told.status == "error":
                raise error_of(told, self.redox_conn_id)
            if told.status in ("delivered", "found"):
                if is_believed(told, self.keys(), context["ti"], doubted=doubted):
                    return self.ended_well(context, told)
                self._defer(context, doubted + 1)
            self.ended_badly(context, told)
        return self.too_late(context, f"Sensor has timed out after {self.timeout:.0f} seconds.", told)

    def _defer(self, context: Context, doubted: int) -> NoReturn:
        from airflow_provider_redox.triggers.events import MARGIN, check_provable

        deadline = time.time() + self.timeout
        with failing_for_good():
            check_provable(self.keys())
            trigger = self.trigger(context, deadline)
        patience = timedelta(seconds=self.timeout + MARGIN)
        self.defer(trigger=trigger, method_name="execute_complete", kwargs={"doubted": doubted}, timeout=patience)

    def trigger(self, context: Context, deadline: float) -> BaseTrigger:
        """Make the trigger, all checked that can be checked before."""
        raise NotImplementedError

    def ended_well(self, context: Context, event: Event) -> Any:
        """Give the result."""
        raise NotImplementedError

    def ended_badly(self, context: Context, event: Event) -> None:
        """Raise for a wait that failed; do nothing for one that ran out of patience."""

    def too_late(self, context: Context, words: str, event: Event | None) -> NoReturn:  # noqa: ARG002
        """Raise for a wait that ran out of patience; `event` is the trigger's."""
        raise AirflowSensorTimeout(words)

    def keys(self) -> Sequence[SigningKey]:
        """Give the keys of the connection that the trigger asks by."""
        return self.hook.client.settings.keys
