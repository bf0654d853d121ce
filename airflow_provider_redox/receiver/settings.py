"""What a receiver is told by its environment. No error, repr or log line shows a token."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from airflow_provider_redox.checks import is_empty, meant
from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.inbound import Tokens
from airflow_provider_redox.storage.inbox.place import inbox_root

PREFIX = "REDOX_RECEIVER_"
MIB = 1024 * 1024
LARGEST = 40 * MIB
"""Bytes of the largest message that Redox sends (Redox, quotas and constraints, August 2025)."""

VARIABLES: Mapping[str, str] = {
    "INBOX": "where messages go: a URL or an absolute path; each feed gets a folder in it",
    "TOKENS": "the destination's verification token in Redox; several, separated by commas, while one replaces another",
    "TOKENS_FILE": "a file that holds them, one a line, instead",
    "STORAGE_OPTIONS": "JSON for the storage driver, such as an endpoint_url; not with a connection in the path",
    "ON_MALFORMED": "accept or refuse what is no message; it is kept in quarantine either way",
    "MAX_BYTES": "the largest message",
    "MAX_PENDING_BYTES": "how much may be held in memory at once; more is answered with 503",
    "PER_SECOND": "how many messages a second are taken; more are answered with 429. 0 is no limit",
    "BODY_SECONDS": "how long a body may take to come",
    "STORAGE_SECONDS": "how long the storage may take; then 503 is answered",
    "LOG_LEVEL": "debug, info, warning or error",
    "METRICS_TOKEN": "who shows it as a bearer token may read /metrics; without it there are none",
}


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """How a receiver works. Sizes are bytes, times seconds."""

    inbox: str
    tokens: Tokens
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    refuse_malformed: bool = False
    max_bytes: int = LARGEST
    max_pending_bytes: int = 256 * MIB
    per_second: float = 0
    body_seconds: float = 60
    storage_seconds: float = 20
    metrics_token: Tokens | None = None
    log_level: str = "info"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> ReceiverSettings:
        """Read `REDOX_RECEIVER_…`. Raises `RedoxConfigError`, which names the variable and not its value."""
        told = _Told(os.environ if environ is None else environ)
        metrics = told.text("METRICS_TOKEN")
        return cls(
            inbox=told.read("INBOX", _inbox, ""),
            tokens=told.read("TOKENS", lambda _: Tokens(_tokens(told)), ""),
            storage_options=told.read("STORAGE_OPTIONS", _options, "{}"),
            refuse_malformed=told.read("ON_MALFORMED", _is_refuse, "accept"),
            max_bytes=int(told.read("MAX_BYTES", _positive, str(LARGEST))),
            max_pending_bytes=int(told.read("MAX_PENDING_BYTES", _positive, str(256 * MIB))),
            per_second=told.read("PER_SECOND", _number, "0"),
            body_seconds=told.read("BODY_SECONDS", _positive, "60"),
            storage_seconds=told.read("STORAGE_SECONDS", _positive, "20"),
            metrics_token=told.read("METRICS_TOKEN", lambda text: Tokens([text]), metrics) if metrics else None,
            log_level=told.read("LOG_LEVEL", _level, "info"),
        )


class _Told:
    """The variables, each read by a function whose complaint is given the variable's name."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        named = {name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX)}
        # Kubernetes tells every pod of a service `redox-receiver` by variables that begin so, too.
        unknown = {name for name in named if not name.startswith(("SERVICE_", "PORT"))} - set(VARIABLES)
        if unknown:
            wrong = min(unknown)
            raise RedoxConfigError(
                f"{PREFIX}{wrong[:40]}: there is no such setting of the receiver; {meant(wrong, VARIABLES)}"
            )
        for name in sorted(named & set(VARIABLES)):
            if is_empty(environ[PREFIX + name]):
                raise RedoxConfigError(f"{PREFIX}{name}: is set and empty; give it a value, or unset it")

    def text(self, name: str) -> str:
        """Return a variable; an empty text if it is not set."""
        return self._environ.get(PREFIX + name, "").strip()

    def read(self, name: str, how: Callable[[str], Any], default: str) -> Any:
        try:
            return how(self.text(name) or default)
        except (ValueError, RedoxConfigError) as error:
            raise RedoxConfigError(f"{PREFIX}{name}: {error}") from None


def _tokens(told: _Told) -> list[str]:
    file = told.text("TOKENS_FILE")
    if not file:
        return [token.strip() for token in told.text("TOKENS").split(",")]
    try:
        return [line.strip() for line in Path(file).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the file of {PREFIX}TOKENS_FILE could not be read ({type(error).__name__})") from None


def _inbox(text: str) -> str:
    try:
        return inbox_root(text)
    except RedoxConfigError as error:
        raise ValueError(str(error).partition(": ")[2]) from None


def _options(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError:
        raise ValueError("must be a JSON object") from None


def _is_refuse(text: str) -> bool:
    if text not in ("accept", "refuse"):
        raise ValueError("must be accept or refuse")
    return text == "refuse"


def _level(text: str) -> str:
    if text not in ("debug", "info", "warning", "error"):
        raise ValueError("must be debug, info, warning or error")
    return text


def _number(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", text):
        raise ValueError("must be a number")
    return float(text)


def _positive(text: str) -> float:
    number = _number(text)
    if number <= 0:
        raise ValueError("must be above 0")
    return number
