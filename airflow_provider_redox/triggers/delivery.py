"""The trigger that waits for delivery, with all others of its connection in one polling."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_redox.exceptions import RedoxError, RedoxTransportError

_log = logging.getLogger(__name__)

PAUSE = 10.0
"""Seconds until a file of results that could not be read is tried again."""

ROW = (
    *("redox_conn_id", "logs", "results_url", "since", "window", "rules", "grace_until", "deadline", "interval"),
    *("data_mode", "ticket"),
)
"""What the trigger's row holds."""


class RedoxDeliveryTrigger(BaseTrigger):
    """Wait until logs are delivered, or one is lost, or patience runs out.

    Its row holds IDs, times and the author's choices, and is all that is needed to begin the wait again in another process;
    deadlines are absolute, in seconds since the epoch. Thousands of log IDs stay in the file of results.

    :param logs: log IDs.
    :param results_url: a post's result lines, instead of `logs`.
    :param since: when logs of which nothing else is known were made at the earliest.
    :param window: `[destination ID, from, until]`, instead of `logs`.
    :param rules: `filtered` and `failed`.
    :param grace_until: when a log that is not found is no longer new.
    :param ticket: what binds the event to the task instance.
    """

    def __init__(
        self,
        *,
        redox_conn_id: str,
        logs: list[str] | None = None,
        results_url: str | None = None,
        since: float = 0.0,
        window: list[Any] | None = None,
        rules: Mapping[str, str],
        grace_until: float,
        deadline: float,
        interval: float = 60.0,
        data_mode: str | None = None,
        ticket: str,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.redox_conn_id = redox_conn_id
        self.logs = logs
        self.results_url = results_url
        self.since = since
        self.window = window
        self.rules = rules
        self.grace_until = grace_until
        self.deadline = deadline
        self.interval = interval
        self.data_mode = data_mode
        self.ticket = ticket

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what the row holds."""
        kwargs = {name: getattr(self, name) for name in ROW}
        return "airflow_provider_redox.triggers.delivery.RedoxDeliveryTrigger", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and give one event."""
        from airflow_provider_redox.triggers.events import event_of_error

        try:
            event = await self._wait()
        except RedoxError as error:
            _log.warning("The wait for delivery cannot go on: %s", error)
            event = event_of_error(error)
        yield TriggerEvent(event.as_dict())

    async def _wait(self) -> Any:
        from airflow_provider_redox.triggers.events import Event, proven
        from airflow_provider_redox.triggers.polling import Wait, wait_with_others

        watch = await self._read()
        wait = Wait(watch, self.interval, self.data_mode)
        ended = await wait_with_others(self.redox_conn_id, wait)
        verdict = watch.verdict(time.time()) if ended is None else ended.verdict
        event = Event(
            verdict.status if ended else "timeout", dict(verdict.counts), list(verdict.log_ids), list(verdict.statuses)
        )
        return event if ended is None else proven(event, ended.key, self.ticket)

    async def _read(self) -> Any:
        """Make the wait. A store that has a bad day is asked again: the file was there when the task was deferred."""
        from asgiref.sync import sync_to_async

        while True:
            try:
                return await sync_to_async(self.watch)()  # it may ask Airflow for the store's connection
            except OSError as error:
                if time.time() + PAUSE >= self.deadline:
                    raise RedoxTransportError(f"the file of results could not be read ({type(error).__name__})") from None
                _log.warning("The file of results could not be read (%s); it is tried again.", type(error).__name__)
                await asyncio.sleep(PAUSE)

    def watch(self) -> Any:
        """Make the wait from the row, and from the file of results where there is one. Raises `RedoxConfigError`."""
        from airflow_provider_redox.protocol.delivery import Rules, Watch, Window
        from airflow_provider_redox.storage.sent_logs import sent_logs

        logs = dict.fromkeys(self.logs or (), self.since)
        if self.results_url is not None:
            logs = {log_id: made or self.since for log_id, made in sent_logs(self.results_url).made.items()}
        window = None if self.window is None else Window(*self.window)
        return Watch(logs, Rules(**self.rules), self.grace_until, self.deadline, window)
