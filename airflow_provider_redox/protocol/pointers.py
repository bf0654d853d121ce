"""JSON Pointers (RFC 6901), to find in a message what tells it from others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_provider_redox.checks import is_empty, near
from airflow_provider_redox.exceptions import RedoxConfigError

_FIELD = re.compile("[A-Za-z][A-Za-z0-9_]{0,39}")
_INDEX = re.compile("0|[1-9][0-9]{0,8}")


def find(document: Any, pointer: str, *, where: str) -> str:
    """Give the text or number that a pointer leads to, as text. Raises `RedoxConfigError` that names the pointer."""
    if not isinstance(pointer, str) or not pointer.startswith("/"):
        raise RedoxConfigError(f"{where}: must be a JSON Pointer such as /Order/Results/0/ID")
    value, meant = document, ""
    for token in pointer[1:].split("/"):
        name = token.replace("~1", "/").replace("~0", "~")
        meant = meant or _meant(value, name)
        value = _step(value, name)
    if isinstance(value, bool) or not isinstance(value, str | int) or is_empty(str(value)):
        raise RedoxConfigError(f"{where}: {pointer} leads to no text or number in the payload{meant or '; correct it'}")
    return str(value)


def _meant(value: Any, name: str) -> str:
    """Return the end of an error message about a missing field: a similar existing one, if any; no other field is shown."""
    if not isinstance(value, Mapping) or name in value:
        return ""
    close = near(name, filter(_FIELD.fullmatch, filter(lambda one: isinstance(one, str), value)), cutoff=0.8)
    return f"; did you mean {close}?" if close else ""


def _step(value: Any, token: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(token)
    if isinstance(value, list | tuple) and _INDEX.fullmatch(token) and int(token) < len(value):
        return value[int(token)]
    return None
