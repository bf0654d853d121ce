"""The trigger that asks a FHIR search again and again, until it finds enough."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_redox.exceptions import RedoxError

_log = logging.getLogger(__name__)

SURPRISES = 10
"""Failures that nobody foresaw, such as a connection that Airflow does not give, after which the wait ends."""


class RedoxFhirSearchTrigger(BaseTrigger):
    """Wait until a search has enough matches, or patience runs out.

    :param sealed: the search, closed with the connection's key: search parameters can be patients.
    :param min_count: how many matches are enough.
    :param deadline: when patience runs out, in seconds since the epoch.
    :param ticket: what binds the event to the task instance.
    """

    def __init__(
        self, *, redox_conn_id: str, sealed: str, min_count: int, deadline: float, interval: float, ticket: str
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.redox_conn_id = redox_conn_id
        self.sealed = sealed
        self.min_count = min_count
        self.deadline = deadline
        self.interval = interval
        self.ticket = ticket
        self._surprises = 0

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what the row holds."""
        names = ("redox_conn_id", "sealed", "min_count", "deadline", "interval", "ticket")
        kwargs = {name: getattr(self, name) for name in names}
        return "airflow_provider_redox.triggers.fhir.RedoxFhirSearchTrigger", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask until there is enough, and give one event."""
        yield TriggerEvent((await self._wait()).as_dict())

    async def _wait(self) -> Any:
        from airflow_provider_redox.triggers.events import Event

        while (left := self.deadline - time.time()) > 0:
            limit = asyncio.timeout(left)
            try:
                async with limit:
                    event = await self._ask_or_tell()
                    if event is not None:
                        return event
                    await asyncio.sleep(self.interval)
            except TimeoutError:
                if not limit.expired():
                    raise
        return Event("timeout")

    async def _ask_or_tell(self) -> Any:
        """Ask once. What passes is told in the log and tried again; what stays becomes the event."""
        from airflow_provider_redox.triggers.events import event_of_error
        from airflow_provider_redox.triggers.sealed import SealError

        try:
            return await self._ask()
        except RedoxError as error:
            _log.warning("The search could not be asked: %s", error)
            return event_of_error(error) if not error.retryable or isinstance(error, SealError) else None
        except Exception as error:
            self._surprises += 1
            if self._surprises == SURPRISES:
                raise
            _log.warning("The search could not be asked (%s); it is tried again.", type(error).__name__)
            return None

    async def _ask(self) -> Any:
        """Ask once; None when there is not enough. The connection is read anew each time: its key may change."""
        from airflow_provider_redox.hooks.redox import RedoxAsyncHook
        from airflow_provider_redox.protocol.counting import count_matches
        from airflow_provider_redox.triggers.events import Event, proven
        from airflow_provider_redox.triggers.sealed import open_search

        async with RedoxAsyncHook(self.redox_conn_id) as hook:
            client = await hook.client()
            search = open_search(self.sealed, client.settings, self.ticket)
            count = await client.run(count_matches(client.calls, search, self.min_count))
            if count < self.min_count:
                return None
            return proven(Event("found", {"matches": count}), client.settings.key, self.ticket)
