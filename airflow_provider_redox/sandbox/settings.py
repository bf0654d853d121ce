"""What can be changed while the sandbox runs, and what each setting accepts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LINK_STYLES = ("absolute", "relative", "post-only", "get-only", "foreign", "loop", "aba", "endless")
FINAL_STATUSES = ("succeeded", "failed", "filtered")


class BadSettingError(ValueError):
    """A setting is unknown or its value does not fit; the message says which."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The switches of a sandbox; times are seconds.

    ``clock_offset`` moves the server's clock. ``final_status`` may be a list: new logs take its entries in order, the
    last for all that follow. ``failing_attempts`` of a delivery fail before the last one, ``delivery_seconds`` each, and
    ``log_delay`` seconds go by until a new log can be seen. ``token_response`` overrides parts of the token answer, null
    removes one.
    ``destination_errors`` makes every Data Model query answer 200 with these ``Meta.Errors``. ``total_offset`` is added
    to a searchset's total. ``shift`` resources are inserted before each further page of a search, which then begins with
    what the page before ended with; below 0 they vanish, and as many are never shown. The total stays what it was.
    ``ignored_parameters`` of a search are not applied and not in its self link; with ``strict_supported`` a request that
    prefers ``handling=strict`` is refused for them. ``quota`` is for the requests of one address in ``quota_window``; the
    refused ones use it up too with ``quota_counts_refused``. With a ``source_id``, requests have to name it, as in an
    environment of several sources.
    """

    token_lifetime: float = 300
    token_response: dict[str, Any] | None = None
    page_size: int = 50
    link_style: str = "absolute"
    foreign_origin: str = "http://127.0.0.1:9"
    total_offset: int = 0
    shift: int = 0
    ignored_parameters: Sequence[str] = ()
    strict_supported: bool = False
    patient_search_rule: bool = True
    get_search: bool = False
    delivery_seconds: float = 2
    failing_attempts: int = 0
    log_delay: float = 0
    final_status: str | list[str] = "succeeded"
    destination_errors: list[dict[str, Any]] | None = None
    clock_offset: float = 0
    quota: int = 10_000
    quota_window: float = 300
    quota_counts_refused: bool = False
    retry_after: str | int | None = None
    source_id: str | None = None

    def patched(self, changes: object) -> Settings:
        """Return a copy with ``changes``, each of them checked."""
        if not isinstance(changes, dict):
            raise BadSettingError("settings are one JSON object")
        for name, value in changes.items():
            _check(name, value)
        return replace(self, **changes)

    def as_json(self) -> dict[str, Any]:
        """Return all settings by name."""
        return asdict(self)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and _number(value) and value > 0


def _not_negative(value: object) -> bool:
    return isinstance(value, int | float) and _number(value) and value >= 0


def _integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count(value: object) -> bool:
    return isinstance(value, int) and _integer(value) and value > 0


def _natural(value: object) -> bool:
    return isinstance(value, int) and _integer(value) and value >= 0


def _boolean(value: object) -> bool:
    return isinstance(value, bool)


def _mapping_or_none(value: object) -> bool:
    return value is None or isinstance(value, dict)


def _text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _header_or_none(value: object) -> bool:
    return value is None or isinstance(value, str) or _integer(value)


def _names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _origin(value: object) -> bool:
    return isinstance(value, str) and bool(urlsplit(value).scheme and urlsplit(value).netloc)


def _style(value: object) -> bool:
    return value in LINK_STYLES


def _final(value: object) -> bool:
    statuses = value if isinstance(value, list) else [value]
    return bool(statuses) and all(status in FINAL_STATUSES for status in statuses)


def _errors_or_none(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(error, dict) for error in value))


CHECKS: dict[str, tuple[Callable[[object], bool], str]] = {
    "token_lifetime": (_positive, "a number of seconds above 0"),
    "token_response": (_mapping_or_none, "an object or null"),
    "page_size": (_count, "an integer above 0"),
    "link_style": (_style, f"one of {', '.join(LINK_STYLES)}"),
    "foreign_origin": (_origin, "an origin such as http://127.0.0.1:9"),
    "total_offset": (_integer, "an integer"),
    "shift": (_integer, "an integer"),
    "ignored_parameters": (_names, "a list of names"),
    "strict_supported": (_boolean, "true or false"),
    "patient_search_rule": (_boolean, "true or false"),
    "get_search": (_boolean, "true or false"),
    "delivery_seconds": (_not_negative, "a number of seconds"),
    "failing_attempts": (_natural, "an integer from 0"),
    "log_delay": (_not_negative, "a number of seconds"),
    "final_status": (_final, f"one of {', '.join(FINAL_STATUSES)}, or a list of them"),
    "destination_errors": (_errors_or_none, "a list of objects or null"),
    "clock_offset": (_number, "a number of seconds"),
    "quota": (_count, "an integer above 0"),
    "quota_window": (_positive, "a number of seconds above 0"),
    "quota_counts_refused": (_boolean, "true or false"),
    "retry_after": (_header_or_none, "a header value or null"),
    "source_id": (_text_or_none, "a UUID or null"),
}


def _check(name: str, value: object) -> None:
    if name not in CHECKS:
        raise BadSettingError(f"unknown setting {name!r}; there are {', '.join(CHECKS)}")
    accepts, wanted = CHECKS[name]
    if not accepts(value):
        raise BadSettingError(f"setting {name!r} must be {wanted}")
