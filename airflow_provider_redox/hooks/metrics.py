"""Airflow's own metrics: what the drivers count goes where Airflow's numbers go, be it statsd, Datadog or OpenTelemetry."""

from __future__ import annotations

import contextlib
import logging
import sys
from datetime import timedelta
from functools import cache
from importlib import import_module
from typing import Any

from airflow_provider_redox.client.driver import Meter, nobody
from airflow_provider_redox.protocol.effects import Metric

_PLACES = ("airflow.sdk.observability.stats", "airflow.observability.stats", "airflow.stats")
"""Where Airflow's versions keep them, the newest first."""

_log = logging.getLogger(__name__)

_SWITCHES = ("statsd_on", "statsd_datadog_enabled", "otel_on")


@cache
def airflow_meter() -> Meter:
    """Give what counts for this process: Airflow's metrics, or nobody where they are switched off."""
    from airflow.providers.common.compat.sdk import conf

    if not any(conf.getboolean("metrics", switch, fallback=False) for switch in _SWITCHES):
        return nobody  # asking Airflow's would read its list of legacy names, 100 kB of YAML, for nothing
    stats = _stats()
    if stats is None:
        _log.warning("Airflow's metrics are not where this version of the provider looks for them; none are sent.")
        return nobody

    def count(metric: Metric, amount: float) -> None:
        with contextlib.suppress(Exception):  # a metric that is lost fails no task
            if metric is Metric.WAITED:
                stats.timing(metric.value, timedelta(seconds=amount))
            else:
                stats.incr(metric.value, int(amount))

    return count


def _stats() -> Any:
    # In a triggerer of Airflow 3 only the core's metrics are switched on, in a task only the task SDK's.
    places = _PLACES[1:] if "airflow.jobs.triggerer_job_runner" in sys.modules else _PLACES
    for place in places:
        with contextlib.suppress(ImportError):
            module = import_module(place)
            return module if hasattr(module, "incr") else module.Stats
    return None
