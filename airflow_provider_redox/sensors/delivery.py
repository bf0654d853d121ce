"""A sensor that waits until Redox has delivered."""

from __future__ import annotations

import ast
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast

from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.links.logs import LogLink
from airflow_provider_redox.operators.arguments import ITS_OWN, PERIOD, TEXT, choice
from airflow_provider_redox.sensors.base import RedoxSensor

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from airflow.providers.common.compat.sdk import Context, PokeReturnValue, XComArg
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_redox.operators.arguments import Rules
    from airflow_provider_redox.operators.signatures import RedoxSensorArguments
    from airflow_provider_redox.protocol.keys import SigningKey
    from airflow_provider_redox.sensors.waiting import Asked, Deliveries
    from airflow_provider_redox.triggers.events import Event


class RedoxDeliverySensor(RedoxSensor):
    """Wait until Redox has delivered every message; a message that it gave up on, or held back, fails the task.

    That Redox accepted a message says that it has stored it. What became of it then stands in its logs, which the Platform
    API shows. Say which logs in one of three ways.

    The result is `{"delivered": n, "counts": {"succeeded": n, ...}, "log_ids": [... up to 50]}`. Patience is Airflow's own
    `timeout`, seven days by default.

    :param log_ids: the log IDs, from a post's result. It holds 50 at most.
    :param results_path: a post's result, such as `post.output`, or its `results_url`: every log of every message that was
        accepted, thousands of them.
    :param destination: a name from `extra.destinations`, or a UUID, for FHIR writebacks, whose answer carries no log ID:
        every log to this destination in the window, others' too. At least one has to be there.
    :param window: from when to when, as two times in ISO 8601; by default from the start of the DAG run until this task's.
        Its logs are looked for 150 seconds after its end, when all can be seen.
    :param filtered: `fail`, or `accept`: a message that a rule in Redox held back counts as delivered.
    :param failed: `wait`, as Redox tries again in production, or `fail`.
    :param data_mode: `realtime` or `backfill`; Redox's own choice by default.
    :param redox_conn_id: the connection for the Platform API, which wants a user-level key, `extra.organization_id` and
        `extra.environment_id`; or one that names it in `extra.platform_conn_id`.
    """

    template_fields: Sequence[str] = (*RedoxSensor.template_fields, "log_ids", "results_path", "destination", "window")
    rules: ClassVar[Rules] = {
        "log_ids": ITS_OWN,
        "results_path": ITS_OWN,
        "destination": TEXT,
        "window": PERIOD,
        "filtered": choice("fail", "accept"),
        "failed": choice("wait", "fail"),
        "data_mode": choice("realtime", "backfill", optional=True),
    }
    operator_extra_links = (LogLink(),)

    def __init__(
        self,
        *,
        log_ids: Sequence[str] | str | XComArg | None = None,
        results_path: str | Mapping[str, Any] | XComArg | None = None,
        destination: str | None = None,
        window: Sequence[Any] | None = None,
        filtered: Literal["fail", "accept"] = "fail",
        failed: Literal["wait", "fail"] = "wait",
        data_mode: str | None = None,
        **kwargs: Unpack[RedoxSensorArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.log_ids = log_ids
        self.results_path = results_path
        self.destination = destination
        self.window = window
        self.filtered = filtered
        self.failed = failed
        self.data_mode = data_mode
        self._deliveries: Deliveries | None = None
        self.check_literals()
        self._check_together()

    def execute(self, context: Context) -> Any:
        """Wait here, or defer and have the triggerer wait."""
        from airflow_provider_redox.sensors.waiting import result_of

        self._deliveries = None
        with failing_for_good():
            self.check_arguments()
        if self.deferrable:
            with failing_for_good():
                self._deliveries = self._begin(context)
            verdict = self._deliveries.watch.verdict(time.time())
            if verdict.status == "delivered":  # nothing was sent, so there is nothing to wait for
                return result_of(verdict)
        return super().execute(context)

    def poke(self, context: Context) -> PokeReturnValue:
        """Ask once."""
        from airflow.providers.common.compat.sdk import PokeReturnValue

        from airflow_provider_redox.sensors.waiting import leave_logs, lost, result_of

        with failing_for_good():
            deliveries = self._deliveries = self._deliveries or self._begin(context)
            verdict = deliveries.ask()
            self.log.info("Delivery of %s.", verdict.told)
            if verdict.status == "failed":
                raise lost(context, deliveries.asked, verdict)
            if verdict.status == "delivered":
                leave_logs(context, deliveries.asked, verdict)
        return PokeReturnValue(is_done=verdict.status == "delivered", xcom_value=result_of(verdict))

    def trigger(self, context: Context, deadline: float) -> BaseTrigger:
        """Make the trigger."""
        deliveries = self._deliveries or self._begin(context)
        return deliveries.trigger(context["ti"], deadline=deadline, interval=self.poke_interval)

    def ended_well(self, context: Context, event: Event) -> dict[str, Any]:
        """Give the result."""
        from airflow_provider_redox.sensors.waiting import leave_logs, result_of, verdict_of

        verdict = verdict_of(event)
        self.log.info("Redox delivered %s.", verdict.told)
        leave_logs(context, self._asked(), verdict)
        return result_of(verdict)

    def ended_badly(self, context: Context, event: Event) -> None:
        """Raise for a message that was not delivered."""
        from airflow_provider_redox.sensors.waiting import lost, verdict_of

        if event.status != "timeout":
            raise lost(context, self._asked(), verdict_of(event))

    def too_late(self, context: Context, words: str, event: Event | None) -> NoReturn:
        """Say which messages are not delivered; those that Redox could not deliver are the cause."""
        from airflow_provider_redox.sensors.waiting import lost, verdict_of

        if event is not None:
            verdict = verdict_of(event)
        elif self._deliveries is not None:
            verdict = self._deliveries.watch.verdict(time.time())
        else:
            raise AirflowSensorTimeout(words)
        cause = lost(context, self._asked(), verdict)
        raise AirflowSensorTimeout(f"{words} {cause}") from cause

    def keys(self) -> Sequence[SigningKey]:
        """Give the keys of the Platform connection."""
        return self._asked().client.settings.keys

    def _asked(self) -> Asked:
        from airflow_provider_redox.sensors.waiting import Asked

        return self._deliveries.asked if self._deliveries is not None else Asked.by(self.redox_conn_id)

    def _begin(self, context: Context) -> Deliveries:
        """Check what is waited for, before anything is asked or stored."""
        from airflow_provider_redox.protocol.delivery import Rules
        from airflow_provider_redox.sensors.waiting import Asked, Deliveries, Order, earliest, window_of

        asked, since, began = Asked.by(self.redox_conn_id), earliest(context), self._began(context)
        logs = None if self.log_ids is None else self._listed()
        window = None
        if self.destination is not None:
            window = window_of(self.window, self.destination, asked, since=since, until=began)
        rules = Rules(self.filtered, self.failed)
        order = Order(rules, since, logs, self._results_url(), window, self.data_mode)
        return Deliveries.begin(asked, order, began=began)

    def _check_together(self) -> None:
        if [self.log_ids is None, self.results_path is None, self.destination is None].count(True) != 2:
            raise RedoxConfigError("log_ids, results_path, destination: give one of them")
        if self.window is not None and self.destination is None:
            raise RedoxConfigError("window: needs a destination")

    def _results_url(self) -> str | None:
        path = cast("str | Mapping[str, Any] | None", self.results_path)  # rendered by now
        url = path.get("results_url") if isinstance(path, Mapping) else path
        if path is not None and (not isinstance(url, str) or not url):
            raise RedoxConfigError("results_path: must be a post's result, or its results_url")
        return url

    def _listed(self) -> list[str]:
        """Give the log IDs; a template without native objects renders a list as its text."""
        from airflow_provider_redox.protocol.delivery import SHOWN, checked_log_ids

        listed: Any = self.log_ids
        if isinstance(listed, str):
            listed = _literal(listed) if listed.startswith("[") else [listed]
        if not isinstance(listed, list | tuple) or not listed:
            raise RedoxConfigError("log_ids: must be a list of log IDs; it came out empty or as something else")
        if len(listed) == SHOWN:
            self.log.warning("A post's result holds %d log IDs at most. To wait for all, give its results_url.", SHOWN)
        return checked_log_ids(listed)

    def _began(self, context: Context) -> float:
        """Give the time of the first look, also when each look is in a process of its own (mode reschedule)."""
        from airflow_provider_redox.sensors.waiting import earliest

        first = getattr(context["ti"], "get_first_reschedule_date", None)
        moment = first(context) if self.reschedule and first is not None else None
        if self.reschedule and first is None:
            return _began_on_airflow_2(context["ti"], self.retries or 0) or earliest(context)
        return moment.timestamp() if moment is not None else time.time()


def _began_on_airflow_2(ti: Any, retries: int) -> float | None:
    """Ask as Airflow 2's own sensors do, which have it nowhere else."""
    from airflow.sensors import base  # type: ignore[attr-defined]

    tried = (ti.max_tries or 0) - retries + 1
    instance = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
    try:
        moment = base._orig_start_date(**instance, try_number=tried)  # noqa: SLF001
    except Exception:  # noqa: BLE001  (no database, or another Airflow)
        return None
    return None if moment is None else float(moment.timestamp())


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
