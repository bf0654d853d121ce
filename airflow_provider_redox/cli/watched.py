"""A client that keeps what came back of each request, for the commands that look at answers themselves."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import urllib3

from airflow_provider_redox.client.driver import real_environment
from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.protocol.effects import Effect, Happened, Send
from airflow_provider_redox.protocol.outcomes import RetryPolicy, http_date
from airflow_provider_redox.protocol.settings import Settings

ONCE = RetryPolicy(attempts=1)


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer, or why there was none, and this machine's clock when the request was halfway."""

    happened: Happened = field(repr=False)
    at: float

    @property
    def clock_offset(self) -> float | None:
        """Seconds by which the server's clock is ahead of ours; None without a Date header.

        A Date is in whole seconds, cut off, so half a second is added: the error is half a second and half the way.
        """
        try:
            return http_date(self.happened.headers["date"]) + 0.5 - self.at
        except (KeyError, ValueError, TypeError, OverflowError):
            return None


class WatchedClient(SyncClient):
    """Sends each request once and remembers what came of it. Shares its token with nobody."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, env=real_environment(ONCE))
        self.seen: list[Seen] = []
        self.versions: set[int] = set()

    def perform(self, effect: Effect) -> Any:
        """Do one thing that a flow asks for."""
        started = time.time()
        result = super().perform(effect)
        if isinstance(effect, Send):
            self.seen.append(Seen(result, (started + time.time()) / 2))
        return result

    def _read(self, response: urllib3.BaseHTTPResponse) -> Happened:
        self.versions.add(response.version)
        return super()._read(response)
