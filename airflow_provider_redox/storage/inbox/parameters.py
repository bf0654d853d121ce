"""Checks of what a DAG says of an inbox, light enough for reading DAGs: nothing of storage is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_provider_redox.checks import empty, is_empty, meant, one_of
from airflow_provider_redox.exceptions import RedoxConfigError

_LEAST = {"max_messages": 1, "gather_seconds": 0, "poll_interval": 0.05, "lateness": 0}
_NOT_EMPTY = ("name", "data_model", "event_type", "source", "name_pattern", "state_path")
_GROUPS = {"data_model", "event_type", "source", "log_id"}


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Refuse what cannot be, when the DAG is read. Raises `RedoxConfigError`."""
    for name, least in _LEAST.items():
        value = parameters.get(name, least)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
            raise RedoxConfigError(f"{name}: must be a number, {least} or more")
    if parameters.get("start", "earliest") not in ("earliest", "latest"):
        raise RedoxConfigError(one_of("start", parameters["start"], ("earliest", "latest")))
    if not isinstance(parameters["inbox_path"], str) or is_empty(parameters["inbox_path"]):
        raise RedoxConfigError("inbox_path: must be an absolute path or a URL, and is empty or no text")
    for name in _NOT_EMPTY:
        _check_filter(name, parameters.get(name))
    if parameters.get("name_pattern") is not None:
        compiled(parameters["name_pattern"])


def _check_filter(name: str, value: Any) -> None:
    """Refuse an empty value: it would select every message, or another reader's position."""
    if is_empty(value) or (isinstance(value, list | tuple) and any(map(is_empty, value))):
        raise RedoxConfigError(empty(name))


def compiled(pattern: str) -> re.Pattern[str]:
    """Read the pattern of a foreign layout, see `ForeignListing`. Raises `RedoxConfigError`."""
    try:
        found = re.compile(pattern)
    except (re.error, TypeError):
        raise RedoxConfigError("name_pattern: must be a regular expression, and cannot be read as one") from None
    unknown = set(found.groupindex) - _GROUPS
    if unknown:
        raise RedoxConfigError(
            f"name_pattern: has a group {min(unknown)}, which is not known; {meant(min(unknown), sorted(_GROUPS))}"
        )
    return found
