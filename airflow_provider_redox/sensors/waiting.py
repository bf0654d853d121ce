"""Waiting for delivery, for whichever task does it: what is waited for, asking once from the task, or the trigger."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_redox.checks import one_of
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxDeliveryError
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.links.logs import KEY, log_url
from airflow_provider_redox.protocol.delivery import GRACE, SHOWN, Rules, Verdict, Watch, Window, delivery_error
from airflow_provider_redox.protocol.destinations import find_destination
from airflow_provider_redox.protocol.looking import DATA_MODES, Knowledge, Platform, find_in_window, look
from airflow_provider_redox.protocol.platform import moment_of
from airflow_provider_redox.storage.sent_logs import sent_logs
from airflow_provider_redox.triggers.delivery import RedoxDeliveryTrigger
from airflow_provider_redox.triggers.events import Event, ticket_of

if TYPE_CHECKING:
    from airflow_provider_redox.client.sync import SyncClient

LISTED = 1000
"""Log IDs that a trigger's row may hold."""

_EARLIER = 3600.0


@dataclass(frozen=True, slots=True)
class Asked:
    """The Platform connection of a task.

    :param conn_id: its name: the one that the author gave, or the one that this names in `extra.platform_conn_id`.
    """

    conn_id: str
    client: SyncClient

    @classmethod
    def by(cls, conn_id: str) -> Asked:
        """Find it. Raises `RedoxConfigError` when it lacks what the Platform API needs."""
        client = RedoxHook(conn_id).client
        named = client.settings.platform_conn_id
        if named and named != conn_id:
            conn_id, client = named, RedoxHook(named).client
        for name in ("organization_id", "environment_id"):
            if not getattr(client.settings, name):
                raise RedoxConfigError(f"extra.{name}: missing in the connection {conn_id}; the Platform API needs it")
        return cls(conn_id, client)


@dataclass(frozen=True, slots=True)
class Order:
    """What is waited for: logs by their IDs, or a file of result lines, or a window.

    :param since: when logs of which nothing else is known were made at the earliest.
    """

    rules: Rules
    since: float
    logs: Sequence[str] | None = None
    results_url: str | None = None
    window: Window | None = None
    data_mode: str | None = None

    def __post_init__(self) -> None:
        if self.data_mode not in (None, *DATA_MODES):
            raise RedoxConfigError(one_of("data_mode", self.data_mode, DATA_MODES))
        if self.logs is not None and len(self.logs) > LISTED:
            raise RedoxConfigError(f"log_ids: holds more than {LISTED}; wait by results_path instead")


@dataclass(slots=True)
class Deliveries:
    """One task's wait."""

    asked: Asked
    order: Order
    watch: Watch
    knowledge: Knowledge = field(default_factory=Knowledge)

    @classmethod
    def begin(cls, asked: Asked, order: Order, *, began: float) -> Deliveries:
        """Read what is to be waited for. Raises `RedoxConfigError`, and `RedoxDeliveryError` for what cannot be followed."""
        logs = dict.fromkeys(order.logs or (), order.since)
        if order.results_url is not None:
            logs = _followed(order.results_url, order.since)
        return cls(asked, order, Watch(logs, order.rules, began + GRACE, window=order.window))

    def ask(self) -> Verdict:
        """Look once, from the task itself."""
        client, watch = self.asked.client, self.watch
        platform = Platform(client.settings, client.env, self.order.data_mode)
        window = watch.due(time.time())
        if window is not None:
            watch.found(client.run(find_in_window(platform, window)), time.time())

        def told(statuses: Mapping[str, str]) -> None:
            watch.tell(statuses, time.time())

        client.run(look(platform, watch.open(), self.knowledge, told))
        return watch.verdict(time.time())

    def trigger(self, ti: Any, *, deadline: float, interval: float) -> RedoxDeliveryTrigger:
        """Make the trigger that waits instead."""
        order, window = self.order, self.order.window
        return RedoxDeliveryTrigger(
            redox_conn_id=self.asked.conn_id,
            logs=None if order.logs is None else list(order.logs),
            results_url=order.results_url,
            since=order.since,
            window=None if window is None else [window.destination_id, window.since, window.until],
            rules={"filtered": order.rules.filtered, "failed": order.rules.failed},
            grace_until=self.watch.grace_until,
            deadline=deadline,
            interval=interval,
            data_mode=order.data_mode,
            ticket=ticket_of(ti),
        )


def result_of(verdict: Verdict) -> dict[str, Any]:
    """Give what XCom holds of messages that were delivered."""
    return {"delivered": sum(verdict.counts.values()), "counts": dict(verdict.counts), "log_ids": list(verdict.log_ids)}


def verdict_of(event: Event) -> Verdict:
    """Read an event's verdict; it comes from outside, so its lists are cut and made to fit."""
    pairs = list(zip(event.log_ids, event.statuses, strict=False))[:SHOWN]
    return Verdict(event.status, event.counts, tuple(one for one, _ in pairs), tuple(status for _, status in pairs))


def leave_logs(context: Any, asked: Asked, verdict: Verdict) -> str:
    """Leave the log IDs for the link, and give the address of the first."""
    return leave(context, asked.client.settings.organization_id, verdict.log_ids)


def leave(context: Any, organization_id: str | None, log_ids: Sequence[str]) -> str:
    """Leave log IDs for the link, and give the address of the first; nothing where it cannot be told."""
    left = {"organization_id": organization_id, "log_ids": list(log_ids)}
    address, push = log_url(left), getattr(context["ti"], "xcom_push", None)
    if push is not None and address:
        push(key=KEY, value=left)
    return address


def lost(context: Any, asked: Asked, verdict: Verdict) -> RedoxDeliveryError:
    """Make the error for messages that were not delivered."""
    return delivery_error(verdict, leave_logs(context, asked, verdict))


def earliest(context: Any) -> float:
    """Give the time before which nothing of this run can have been sent."""
    run = context.get("dag_run")
    started = getattr(run, "start_date", None)
    return started.timestamp() if isinstance(started, datetime) else time.time() - _EARLIER


def window_of(window: Sequence[Any] | None, destination: str, asked: Asked, *, since: float, until: float) -> Window:
    """Check a window and its destination. Raises `RedoxConfigError`."""
    found = find_destination(asked.client.settings.destinations, destination)
    if found.id is None:
        raise RedoxConfigError(
            f"destination: the log search needs a UUID; describe {destination} with its id in extra.destinations of the "
            f"connection {asked.conn_id}, or name the UUID itself"
        )
    if window is None:
        return Window(found.id, since, until)
    if isinstance(window, str) or len(window) != 2:
        raise RedoxConfigError("window: must be two times, from and until")
    start, end = (_moment(one) for one in window)
    if start >= end:
        raise RedoxConfigError("window: its end lies before its start; swap them")
    return Window(found.id, start, end)


def _moment(value: Any) -> float:
    found = moment_of(value.isoformat() if isinstance(value, datetime) else value)
    if found is None:
        raise RedoxConfigError("window: holds what is not a time with a zone, such as 2026-01-01T00:00:00Z")
    return found


def _followed(url: str, since: float) -> dict[str, float]:
    sent = sent_logs(url)
    if sent.without_id:
        raise RedoxDeliveryError(
            f"{sent.without_id} messages in {url} were accepted without a log ID, so nothing tells whether they were "
            "delivered. Wait by destination and window instead"
        )
    return {log_id: made or since for log_id, made in sent.made.items()}
