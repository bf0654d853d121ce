"""The options of `[redox]` in Airflow's configuration."""

from __future__ import annotations

import os

from airflow_provider_redox.checks import is_empty
from airflow_provider_redox.exceptions import RedoxConfigError


def option(name: str) -> str:
    """Return an option; an empty text if it is not set, as in Airflow's own generated configuration file.

    Raises `RedoxConfigError` if its environment variable is set and empty, as a deployment leaves it whose own variable is
    missing: results would go to the default place, and disclosures would not be recorded.
    """
    from airflow.providers.common.compat.sdk import conf

    variable = f"AIRFLOW__REDOX__{name.upper()}"
    if variable in os.environ and is_empty(os.environ[variable]):
        raise RedoxConfigError(f"[redox] {name}: {variable} is set and empty; give it a value, or unset it")
    return str(conf.get("redox", name, fallback="") or "")
