"""Waiting for delivery in the task that posted: both steps in one operator, and never a post from a trigger.

The post comes first and its outcome stands in storage before the wait begins. So whatever wakes the task, an event, a
retry, a clear, finds that the messages were accepted, sends none again, and goes on waiting.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import conf

from airflow_provider_redox.checks import given
from airflow_provider_redox.exceptions import RedoxDeliveryError
from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.links.logs import LogLink
from airflow_provider_redox.operators.arguments import FLAG, seconds
from airflow_provider_redox.operators.base import RedoxOperator

if TYPE_CHECKING:
    from typing import Unpack

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_redox.operators.arguments import Rules
    from airflow_provider_redox.operators.signatures import RedoxArguments
    from airflow_provider_redox.protocol.delivery import Verdict
    from airflow_provider_redox.sensors.waiting import Asked, Deliveries

POSTED = "redox_posted"
"""The XCom that holds the summary of the post while the task waits."""


class DeliveringOperator(RedoxOperator):
    """An operator that posts, and may wait until Redox has delivered.

    :param wait_for_delivery: whether the task ends when Redox has delivered every message that it accepted, and fails when
        it does not deliver one. The result then has `"delivered": n`.
    :param deferrable: wait in the triggerer, without a worker; `[operators] default_deferrable` by default.
    :param delivery_timeout: how long to wait; a day by default.
    :param poll_interval: seconds between two looks at the logs.
    """

    operator_extra_links = (LogLink(),)
    rules: ClassVar[Rules] = {
        "wait_for_delivery": FLAG,
        "deferrable": FLAG,
        "delivery_timeout": seconds(0),
        "poll_interval": seconds(0),
    }
    platform_conn_id: str | None

    def __init__(
        self,
        *,
        wait_for_delivery: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        delivery_timeout: timedelta | float = timedelta(days=1),
        poll_interval: float = 60.0,
        **kwargs: Unpack[RedoxArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.wait_for_delivery = wait_for_delivery
        self.deferrable = deferrable
        self.delivery_timeout = delivery_timeout
        self.poll_interval = poll_interval
        self.check_literals()

    def post(self, context: Context) -> dict[str, Any]:
        """Send, or find that it was sent, and give the summary."""
        raise NotImplementedError

    def execute(self, context: Context) -> dict[str, Any]:
        """Post and give the summary; wait for delivery where that is wanted."""
        if not self.wait_for_delivery:
            with failing_for_good():
                self.check_arguments()
                return self._linked(context, self.post(context))
        from airflow_provider_redox.triggers.events import check_provable

        with failing_for_good():
            self.check_arguments()
            asked = self._asked()  # what is wrong with it is told before anything is sent
            if self.deferrable:
                check_provable(asked.client.settings.keys)
            summary = self.post(context)
            deliveries = self._deliveries(context, asked, summary)
            verdict = deliveries.watch.verdict(time.time())
            if verdict.status == "open":
                if self.deferrable:
                    self._defer(context, deliveries, summary, 0)
                verdict = self._wait_here(deliveries)
            return self._ended(context, asked, verdict, summary)

    def delivered(self, context: Context, event: Any = None, doubted: int = 0) -> dict[str, Any]:
        """Go on where the trigger ended. Nothing is sent here."""
        from airflow_provider_redox.sensors.waiting import verdict_of
        from airflow_provider_redox.triggers.events import error_of, is_believed, parse_event

        with failing_for_good():
            self.check_arguments()
            asked, told, posted = self._asked(), parse_event(event), self._posted(context)
            if told.status == "error":
                raise error_of(told, asked.conn_id)
            keys, ti = asked.client.settings.keys, context["ti"]
            if told.status == "delivered" and not is_believed(told, keys, ti, doubted=doubted):
                self._defer(context, self._deliveries(context, asked, posted), posted, doubted + 1)
            return self._ended(context, asked, verdict_of(told), posted)

    def _posted(self, context: Context) -> dict[str, Any]:
        """Give the summary of the post, from the XCom of this task instance: deferring keeps those."""
        ti = context["ti"]
        left = ti.xcom_pull(task_ids=ti.task_id, key=POSTED, map_indexes=ti.map_index)
        if not isinstance(left, Mapping):
            raise RedoxDeliveryError(f"the XCom {POSTED} of this task is gone, so it is not known what was posted; clear it")
        return dict(left)

    def _linked(self, context: Context, summary: dict[str, Any]) -> dict[str, Any]:
        """Leave for the button what it needs, where the connection tells the organization."""
        from airflow_provider_redox.sensors.waiting import leave

        leave(context, self.hook.client.settings.organization_id, summary.get("log_ids", ()))
        return summary

    def _asked(self) -> Asked:
        from airflow_provider_redox.sensors.waiting import Asked

        return Asked.by(given(self.platform_conn_id, self.redox_conn_id, name="platform_conn_id"))

    def _deliveries(self, context: Context, asked: Asked, summary: Mapping[str, Any]) -> Deliveries:
        """Say what is waited for: the log IDs of the one message, or the file of results, which names those of each."""
        from airflow_provider_redox.protocol.delivery import SHOWN, Rules, checked_log_ids
        from airflow_provider_redox.sensors.waiting import Deliveries, Order, earliest

        log_ids, accepted = checked_log_ids(summary.get("log_ids", ())), summary.get("accepted", 0)
        all_listed = accepted == 1 <= len(log_ids) < SHOWN  # of several, one may have two log IDs and another none
        url = None if all_listed else summary.get("results_url")
        if not all_listed and url is None:
            raise RedoxDeliveryError(
                "the messages were accepted, but not all their log IDs are known, so nothing tells if they were delivered. "
                "They are not sent again; wait for them by destination and window, or look in Redox's dashboard"
            )
        order = Order(Rules(), earliest(context), log_ids if url is None else None, url)
        return Deliveries.begin(asked, order, began=time.time())

    def _defer(self, context: Context, deliveries: Deliveries, summary: Mapping[str, Any], doubted: int) -> NoReturn:
        from airflow_provider_redox.triggers.events import MARGIN

        patience = self._patience
        context["ti"].xcom_push(key=POSTED, value=dict(summary))  # shown while the task waits, and there when it wakes
        trigger = deliveries.trigger(context["ti"], deadline=time.time() + patience, interval=self.poll_interval)
        self.log.info("Waiting in the triggerer until Redox has delivered.")
        self.defer(
            trigger=trigger,
            method_name="delivered",
            kwargs={"doubted": doubted},
            timeout=timedelta(seconds=patience + MARGIN),
        )

    def _wait_here(self, deliveries: Deliveries) -> Verdict:
        deliveries.watch.deadline = time.time() + self._patience
        while (verdict := deliveries.ask()).status == "open":
            self.log.info("Delivery of %s.", verdict.told)
            time.sleep(self.poll_interval)
        return verdict

    @property
    def _patience(self) -> float:
        patience = self.delivery_timeout
        return patience.total_seconds() if isinstance(patience, timedelta) else float(patience)

    def _ended(self, context: Context, asked: Asked, verdict: Verdict, summary: Mapping[str, Any]) -> dict[str, Any]:
        from airflow_provider_redox.sensors.waiting import leave_logs, lost

        if verdict.status == "delivered":
            self.log.info("Redox delivered %s.", verdict.told)
            leave_logs(context, asked, verdict)
            return {**summary, "delivered": sum(verdict.counts.values())}
        error = lost(context, asked, verdict)
        error.add_note("The messages were accepted; no retry and no clear sends them again, they only wait anew.")
        error.retryable = verdict.status == "timeout"
        raise error
