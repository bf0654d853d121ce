"""JSON Pointers (RFC 6901), to find in a message what tells it from others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_provider_redox.checks import is_empty
from airflow_provider_redox.exceptions import RedoxConfigError

_INDEX = re.compile("0|[1-9][0-9]{0,8}")


def find(document: Any, pointer: str, *, where: str) -> str:
    """Give the text or number that a pointer leads to, as text. Raises `RedoxConfigError` that names the pointer."""
    if not isinstance(pointer, str) or not pointer.startswith("/"):
        raise RedoxConfigError(f"{where}: must be a JSON Pointer such as /Order/Results/0/ID")
    value = document
    for token in pointer[1:].split("/"):
        value = _step(value, token.replace("~1", "/").replace("~0", "~"))
    if isinstance(value, bool) or not isinstance(value, str | int) or is_empty(str(value)):
        raise RedoxConfigError(f"{where}: {pointer} leads to no text or number in the payload")
    return str(value)


def _step(value: Any, token: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(token)
    if isinstance(value, list | tuple) and _INDEX.fullmatch(token) and int(token) < len(value):
        return value[int(token)]
    return None
