"""The Platform API's logs: what Redox knows of a message, found by where it went, what it was and when.

It wants a user-level key, and so a connection of its own. Logs come as metadata, and are found by metadata: only who names
a text that stands in the message has Redox look into payloads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import msgspec

from airflow_provider_redox.checks import given
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxProtocolError
from airflow_provider_redox.protocol.effects import Flow, RedoxResponse, Request, Wait
from airflow_provider_redox.protocol.exchange import Environment, ask
from airflow_provider_redox.protocol.instants import utc
from airflow_provider_redox.protocol.settings import Settings

PAGE = 50
"""Logs on a page, the most that Redox gives."""

PAGES_AT_MOST = 20

SETTLED_AFTER = 150.0
"""Seconds after which a message that left would have a log: Redox itself gives up after about 120."""

SKEW = 10.0
"""Seconds that our clock may differ from Redox's."""

WITNESSED = 30 * 86400.0
"""Seconds into the past in which an environment has to show a log of a destination, to be believed that it has none now."""

_PAUSE = 15.0


@dataclass(frozen=True, slots=True)
class Sought:
    """What a message's log looks like.

    :param since: when it was sent at the earliest, in seconds since the epoch.
    :param until: when its log can have been made at the latest.
    :param term: a text that stands in its payload: it goes to Redox's payload search, which needs another role.
    :param category: what Redox calls the kind of that text, where it wants to be told.
    """

    data_model: str
    event_type: str
    destination_id: str
    since: float
    until: float
    term: str | None = field(default=None, repr=False)
    category: str | None = None


class Found(msgspec.Struct, frozen=True, rename="camel"):
    """One log, as far as it is read.

    :param created_at: when it was made, in ISO 8601, if the answer states it. The other fields are also set only if stated.
    """

    id: str
    status: str = ""
    created_at: Any = None
    data_model: Any = None
    event_type: Any = None
    destination: Any = None


class _Payload(msgspec.Struct):
    results: list[Found]  # an answer without it does not say that there is none


class _Meta(msgspec.Struct):
    page: dict[str, Any] = {}


class _Answer(msgspec.Struct):
    payload: _Payload
    meta: _Meta = msgspec.field(default_factory=_Meta)


def find_logs(settings: Settings, env: Environment, sought: Sought, headers: Mapping[str, str]) -> Flow[list[Found]]:
    """Search the logs, every page."""
    named = {"category": sought.category} if sought.category else {}
    filters = {
        "dataModel": sought.data_model,
        "eventType": sought.event_type,
        "destinationId": sought.destination_id,
        "createdAfter": iso(sought.since - SKEW),
        "createdBefore": iso(sought.until + SKEW),
        **({} if sought.term is None else {"searchTerms": [{"value": sought.term, **named}]}),
    }
    found: dict[str, Found] = {}  # a log that is made meanwhile may move another one onto two pages
    cursor: str | None = None
    for _ in range(PAGES_AT_MOST):
        logs, cursor = yield from page_of_logs(settings, env, filters, cursor, headers)
        check_fitting(logs, filters)
        found.update({log.id: log for log in logs})
        if cursor is None:
            return list(found.values())
    raise RedoxProtocolError("the log search has too many pages to be read; narrow it by time, or by correlation_key")


def is_witnessed(
    settings: Settings, env: Environment, destination_id: str, until: float, headers: Mapping[str, str]
) -> Flow[bool]:
    """Say whether the environment shows any log to this destination: another environment's search finds none of ours."""
    times = {"createdAfter": iso(until - WITNESSED), "createdBefore": iso(until + SKEW)}
    filters = {"destinationId": destination_id, **times}
    logs, _ = yield from page_of_logs(settings, env, filters, None, headers)
    check_fitting(logs, filters)
    return bool(logs)


def check_fitting(logs: Iterable[Found], filters: Mapping[str, Any]) -> None:
    """Raise `RedoxProtocolError` for a log that does not fit the search: then the whole result proves nothing.

    A service that does not know a filter returns everybody's logs. A log without the filtered field counts as fitting.
    """
    for log in logs:
        place = log.destination.get("id") if isinstance(log.destination, Mapping) else None
        stated = {"dataModel": log.data_model, "eventType": log.event_type, "destinationId": place}
        wrong = [
            name for name, value in stated.items() if value and name in filters and plain(value) != plain(filters[name])
        ]
        made = moment_of(log.created_at)
        if (
            made is not None
            and not _moment(filters["createdAfter"]) - SKEW <= made <= _moment(filters["createdBefore"]) + SKEW
        ):
            wrong.append("createdAt")
        if wrong:
            raise RedoxProtocolError(
                f"the log search returned logs that do not fit its filter {wrong[0]}, so it proves nothing"
            )


def plain(value: Any) -> str:
    """Return a name or an ID in the form in which it is compared: without spaces, in lower case."""
    return str(value).replace(" ", "").lower()


def moment_of(text: Any) -> float | None:
    """Read a time in ISO 8601 as seconds since the epoch; None for what is none, or has no zone."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return None if moment.tzinfo is None else moment.timestamp()


def _moment(text: Any) -> float:
    return moment_of(text) or 0.0


def settle(settings: Settings, env: Environment, sought: Sought, headers: Mapping[str, str]) -> Flow[list[Found]]:
    """Search until a log is found, or so long that one would be there; then once more."""
    while True:
        late = env.now() >= sought.until
        found = yield from find_logs(settings, env, sought, headers)
        if found or late:
            return found
        yield Wait(min(_PAUSE, max(sought.until - env.now(), 1.0)))


def page_of_logs(
    settings: Settings, env: Environment, filters: Mapping[str, Any], cursor: str | None, headers: Mapping[str, str]
) -> Flow[tuple[list[Found], str | None]]:
    """Fetch one page of the search (`POST v1/environments/{environmentId}/logs/search/metadata`), and the next cursor.

    With `searchTerms` among the filters it is `.../search/payloads`.
    """
    settings.allow.check("log")
    if not settings.environment_id:
        raise RedoxConfigError("extra.environment_id: missing in the Platform connection; the log search needs it")
    kind = "payloads" if "searchTerms" in filters else "metadata"
    query = urlencode({"_count": PAGE, **({"_cursor": cursor} if cursor else {})})
    path = f"/platform/v1/environments/{quote(settings.environment_id, safe='')}/logs/search/{kind}?{query}"
    kinds = {"content-type": "application/json", "accept": "application/json"}
    label = f"POST /platform/v1/environments/{{id}}/logs/search/{kind}"
    body = msgspec.json.encode(filters)
    request = Request("POST", f"{settings.base_url}{path}", label, {**headers, **kinds}, body)
    answer = yield from ask(request, _read, env=env, statuses=(200, 201))  # frameworks answer 201 to any POST
    return answer.payload.results, _next(answer)


def log_request(
    settings: Settings,
    log_id: str,
    *,
    organization_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    data_mode: str | None = None,
) -> Request:
    """Ask for one log (`GET v1/organizations/{organizationId}/logs/{logId}`). Raises `RedoxConfigError`."""
    settings.allow.check("log")
    organization = given(organization_id, settings.organization_id, name="organization_id")
    if organization is None:
        raise RedoxConfigError("extra.organization_id: missing; the Platform API needs it")
    path = f"/platform/v1/organizations/{_segment(organization)}/logs/{_segment(log_id)}"
    query = f"?{urlencode({'dataMode': data_mode})}" if data_mode else ""
    label = "GET /platform/v1/organizations/{id}/logs/{id}"
    return Request("GET", f"{settings.base_url}{path}{query}", label, settings.headers if headers is None else headers)


def read_log(response: RedoxResponse) -> dict[str, Any]:
    """Read one log. Raises `RedoxProtocolError`."""
    answer = response.json()
    payload = answer.get("payload") if isinstance(answer, dict) else None
    result = payload.get("result", payload) if isinstance(payload, dict) else None
    if not isinstance(result, dict):
        raise RedoxProtocolError(f"HTTP {response.status}, but the answer holds no log")
    return result


def _segment(identifier: str) -> str:
    if not identifier or set(identifier) == {"."}:
        raise RedoxConfigError("log_id, organization_id: an empty or dotted ID names nothing")
    if re.search(r"[\ud800-\udfff]", identifier):  # Python's own error would hold the whole text
        raise RedoxConfigError("log_id, organization_id: holds half of a character (a lone surrogate), which cannot be sent")
    return quote(identifier, safe="")


def _read(response: RedoxResponse) -> _Answer:
    try:
        return msgspec.convert(response.json(), _Answer)
    except msgspec.ValidationError:
        raise RedoxProtocolError(f"HTTP {response.status}, but the answer holds no list of logs") from None


def _next(answer: _Answer) -> str | None:
    """Take the cursor out of the next link, which is relative; nothing else of it is followed."""
    links = answer.meta.page.get("links")
    link = links.get("next") if isinstance(links, dict) else None
    if not isinstance(link, str) or not link:
        return None
    cursors = parse_qs(urlsplit(link).query).get("_cursor")
    if not cursors:
        raise RedoxProtocolError("the log search names a next page without a cursor")
    return cursors[0]


def iso(moment: float) -> str:
    """Write a time as the Platform API reads it."""
    return utc(moment)
