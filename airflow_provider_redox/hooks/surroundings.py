"""What a client needs beside its connection, and has from Airflow: the shared token, the metrics, the record."""

from __future__ import annotations

from typing import Any

from airflow_provider_redox.client import driver
from airflow_provider_redox.hooks.auditing import auditor_of
from airflow_provider_redox.hooks.metrics import airflow_meter
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from airflow_provider_redox.protocol.settings import Settings
from airflow_provider_redox.token_cache import shared_slots


def surroundings(settings: Settings, retry: RetryPolicy | None, audit: str | None) -> dict[str, Any]:
    """Give the arguments of a client. Raises `RedoxConfigError`."""
    return {
        "shared": shared_slots(settings),
        "env": driver.real_environment(retry, origin=settings.base_url),
        "meter": airflow_meter(),
        "recorder": auditor_of(settings, audit),
    }
