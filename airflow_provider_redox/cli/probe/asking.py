"""How the probe asks: one request at a time, with a pause, each once, an end to their number; and what it notes."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

from airflow_provider_redox.cli.probe.findings import LEFT_OUT, Gate, names
from airflow_provider_redox.cli.watched import WatchedClient
from airflow_provider_redox.exceptions import RedoxProtocolError
from airflow_provider_redox.protocol.effects import Failure, Happened, RedoxResponse, Request, Send
from airflow_provider_redox.protocol.failures import issues_of
from airflow_provider_redox.protocol.settings import origin

MOST = 25
"""Requests of one probe."""

TOO_MANY = 429

NAMES = 20
"""Names of one JSON object that are told."""


class StoppedAskingError(Exception):
    """No further request is sent; the message says why."""


@dataclass(slots=True)
class Asker:
    """Sends the probe's requests. Raises `StoppedAskingError` after a 429 and at the end of the number."""

    client: WatchedClient
    gate: Gate
    pause: float
    requests: int = 0
    answers: list[RedoxResponse] = field(default_factory=list, repr=False)
    _stopped: str = ""

    def ask(self, request: Request) -> Happened:
        """Send a request, once."""
        if self._stopped or self.requests == MOST:
            raise StoppedAskingError(self._stopped or f"{MOST} requests were sent")
        if self.requests:
            time.sleep(self.pause)
        self.requests += 1
        happened: Happened = self.client.perform(Send(request))
        if isinstance(happened, RedoxResponse):
            self.answers.append(happened)
        if happened.status == TOO_MANY:
            self._stopped = "the server answered 429, the rate limit"
            raise StoppedAskingError(self._stopped)
        return happened


def facts(happened: Happened) -> dict[str, Any]:
    """Say what came back: status and content type, the codes of an error; or that nothing did."""
    if isinstance(happened, Failure):
        return {"no_answer": happened.stage.value}
    found: dict[str, Any] = {"status": happened.status, "content_type": media_type(happened)}
    if happened.status >= 400:
        found["body"] = shape(json_of(happened))
        issues = issues_of(happened)
        return {**found, "issues": list(issues)} if issues else found
    return found


def refused(happened: Happened) -> bool | None:
    """Say whether the server said no (4xx); None when it said neither yes nor no."""
    return judged(happened, verdict=happened.status >= 400)


def judged(happened: Happened, *, verdict: bool | None) -> bool | None:
    """Give the verdict on an answer; None when there was none, or only that the server could not do it (5xx)."""
    return verdict if 200 <= happened.status < 500 else None


def media_type(happened: Happened) -> str | None:
    """Give the media type of an answer without its parameters."""
    value = happened.headers.get("content-type", "").partition(";")[0].strip().lower()
    return value if re.fullmatch(r"[a-z]+/[a-z0-9.+-]+", value) else None


def json_of(happened: Happened) -> Any:
    """Parse an answer's JSON; None for what is none."""
    try:
        return happened.json() if isinstance(happened, RedoxResponse) else None
    except RedoxProtocolError:
        return None


def shape(value: Any, *, depth: int = 2) -> Any:
    """Give the outline of a JSON value: names and kinds, no text of its own."""
    if isinstance(value, dict):
        first = dict(list(value.items())[:NAMES])
        return {field_name(name): shape(inner, depth=depth - 1) for name, inner in first.items()} if depth else "object"
    if isinstance(value, list):
        return [shape(value[0], depth=depth - 1)] if value and depth else "list"
    kinds = {str: "text", bool: "boolean", int: "number", float: "number"}
    return kinds.get(type(value), "no JSON" if depth == 2 else "null")


def field_name(name: str) -> str:
    """Let through what can be the name of a field; a key with spaces or digits in it may be anything."""
    return name if re.fullmatch(r"[A-Za-z_$][A-Za-z_$.:-]{0,39}", name) else LEFT_OUT


def about_link(url: str, *, base: str, aliases: tuple[str, ...]) -> dict[str, Any]:
    """Describe a link: its form, whose origin it is on, the names of its parameters; no host and no value."""
    try:
        link, joined, home = urlsplit(url), urlsplit(urljoin(f"{base}/", url)), urlsplit(base)
        whose = "own" if origin(joined) == origin(home) else "other"
    except ValueError:
        return {"form": "not a URL"}
    if whose == "other" and (joined.hostname or "").lower() in aliases:
        whose = "alias"
    form = "absolute" if link.scheme else "path" if link.path.startswith("/") else "relative"
    below = joined.path == home.path or joined.path.startswith(f"{home.path}/")
    parameters = names(field_name(name) for name, _ in parse_qsl(link.query, keep_blank_values=True))
    return {"form": form, "origin": whose, "below_the_base": below, "parameters": parameters}
