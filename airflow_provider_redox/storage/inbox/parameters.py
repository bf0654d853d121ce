"""Checks of what a DAG says of an inbox, light enough for reading DAGs: nothing of storage is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_provider_redox.exceptions import RedoxConfigError

_LEAST = {"max_messages": 1, "gather_seconds": 0, "poll_interval": 0.05, "lateness": 0}
_GROUPS = {"data_model", "event_type", "source", "log_id"}


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Refuse what cannot be, when the DAG is read. Raises `RedoxConfigError`."""
    for name, least in _LEAST.items():
        value = parameters.get(name, least)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
            raise RedoxConfigError(f"{name}: must be a number, {least} or more")
    if parameters.get("start", "earliest") not in ("earliest", "latest"):
        raise RedoxConfigError("start: must be earliest or latest")
    if not isinstance(parameters["inbox_path"], str) or not parameters["inbox_path"]:
        raise RedoxConfigError("inbox_path: must be an absolute path or a URL")
    compiled(parameters.get("name_pattern") or "")


def compiled(pattern: str) -> re.Pattern[str]:
    """Read the pattern of a foreign layout, see `ForeignListing`. Raises `RedoxConfigError`."""
    try:
        found = re.compile(pattern)
    except (re.error, TypeError):
        raise RedoxConfigError("name_pattern: is no regular expression") from None
    unknown = set(found.groupindex) - _GROUPS
    if unknown:
        raise RedoxConfigError(f"name_pattern: has a group {min(unknown)}; there are {', '.join(sorted(_GROUPS))}")
    return found
