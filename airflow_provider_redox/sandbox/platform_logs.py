"""The part of the Platform API that tells what became of a message: one log, and the search over logs.

Redox shows page links relative to ``/platform/v1``; so does this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from . import intervals
from .answers import Refusal, json_answer
from .call import MalformedError
from .names import ENVIRONMENT_ID, ORGANIZATION_ID, QUIET_ENVIRONMENT_ID

if TYPE_CHECKING:
    from .answers import Answer
    from .call import Call
    from .delivery import Log
    from .state import Sandbox

MAX_COUNT = 50
FILTERS = ("dataModel", "eventType", "status", "type", "destinationId")
TIMES = ("createdAfter", "createdBefore", "updatedAfter", "updatedBefore")
IGNORED = ("serviceRegion", "sourceId", "facilityCode")
MODES = ("realtime", "backfill")


def _refusal(status: int, text: str) -> Refusal:
    body = {"meta": {"version": "1.0.0"}, "payload": None, "errors": [{"message": text}]}
    return Refusal(json_answer(body, status=status))


def get_log(sandbox: Sandbox, call: Call) -> Answer:
    """Answer ``GET /platform/v1/organizations/{organization}/logs/{log}``."""
    log, now = sandbox.logs.by_id.get(call.groups["log"]), sandbox.now()
    mode = _mode(dict(call.query_pairs()).get("dataMode"))
    if call.groups["organization"] != ORGANIZATION_ID or log is None or log.visible > now or log.data_mode != mode:
        raise _refusal(404, "no such log in this organization")
    return json_answer({"meta": {"version": "1.0.0"}, "payload": {"result": log.as_json(now)}})


def search_logs(sandbox: Sandbox, call: Call) -> Answer:
    """Answer ``POST /platform/v1/environments/{environment}/logs/search/metadata``, oldest first."""
    return _search(sandbox, call, _wanted(call))


def search_payloads(sandbox: Sandbox, call: Call) -> Answer:
    """Answer ``.../logs/search/payloads``: those of the logs whose message holds each of the ``searchTerms`` as a text."""
    wanted = _wanted(call, "searchTerms")
    terms = wanted.pop("searchTerms", None)
    if not isinstance(terms, list) or not terms or not all(isinstance(one, dict) and one.get("value") for one in terms):
        raise _refusal(400, "searchTerms must be a list of objects with a value")
    values = [str(one["value"]) for one in terms]
    holding = {
        log
        for message in sandbox.messages
        if all(_holds(message["body"], value) for value in values)
        for log in message.get("logs", ())
    }
    return _search(sandbox, call, wanted, among=holding)


def _holds(value: object, text: str) -> bool:
    if isinstance(value, dict):
        return any(_holds(inner, text) for inner in value.values())
    if isinstance(value, list):
        return any(_holds(inner, text) for inner in value)
    return str(value) == text


def _search(sandbox: Sandbox, call: Call, wanted: dict[str, Any], among: set[str] | None = None) -> Answer:
    environment = call.groups["environment"]
    if environment not in (ENVIRONMENT_ID, QUIET_ENVIRONMENT_ID):
        raise _refusal(404, "no such environment")
    mode = _mode(wanted.pop("dataMode", None))
    times = {name: _time(name, wanted[name]) for name in TIMES if name in wanted}
    now = sandbox.now()
    logs = sandbox.logs if environment == ENVIRONMENT_ID else ()
    held = (log for log in logs if among is None or log.id in among)
    seen = (log for log in held if log.visible <= now and log.data_mode == mode)
    found = [log for log in seen if _in_time(log, times, now) and _fits(log, wanted, now)]
    count, offset = _page(call)
    rows = [log.as_json(now) for log in found[offset : offset + count]]
    page = {"links": _links(call, count, offset, len(found)), "total": len(found)}
    return json_answer({"meta": {"version": "1.0.0", "page": page}, "payload": {"results": rows}})


def _mode(value: object) -> str:
    mode = MODES[0] if value is None else value
    if mode not in MODES:
        raise _refusal(400, f"dataMode must be one of {', '.join(MODES)}")
    return str(mode)


def _wanted(call: Call, *more: str) -> dict[str, Any]:
    try:
        wanted = call.json() if call.body else {}
    except MalformedError as error:
        raise _refusal(400, str(error)) from None
    if not isinstance(wanted, dict):
        raise _refusal(400, "the body must be an object of filters")
    unknown = set(wanted) - {*FILTERS, *TIMES, *IGNORED, "dataMode", *more}
    if unknown:
        raise _refusal(400, f"unknown filter: {min(unknown)[:40]}")
    return wanted


def _time(name: str, value: object) -> float:
    try:
        return intervals.parse(str(value)).low
    except ValueError:
        raise _refusal(400, f"{name} must be an ISO 8601 time") from None


def _fits(log: Log, wanted: dict[str, Any], now: float) -> bool:
    if not any(name in wanted for name in FILTERS):
        return True
    facts = (log.data_model, log.event_type, log.status(now), log.kind, log.destination_id)
    return all(wanted.get(name, fact) == fact for name, fact in zip(FILTERS, facts, strict=True))


def _in_time(log: Log, times: dict[str, float], now: float) -> bool:
    for name, limit in times.items():
        # What is shown has milliseconds, and so has what is compared.
        happened = round(log.created if name.startswith("created") else log.updated(now), 3)
        if not (happened >= limit if name.endswith("After") else happened < limit):
            return False
    return True


def _page(call: Call) -> tuple[int, int]:
    pairs = dict(call.query_pairs())
    count, cursor = pairs.get("_count", str(MAX_COUNT)), pairs.get("_cursor", "0")
    if not count.isdigit() or not 1 <= int(count) <= MAX_COUNT:
        raise _refusal(400, f"_count must be 1 to {MAX_COUNT}")
    if not cursor.isdigit():
        raise _refusal(400, "_cursor is not one of ours")
    return int(count), int(cursor)


def _links(call: Call, count: int, offset: int, total: int) -> dict[str, str]:
    path = call.path.removeprefix("/platform/v1")
    places = {"self": offset, "first": 0} | ({"next": offset + count} if offset + count < total else {})
    return {name: f"{path}?{urlencode({'_count': count, '_cursor': place})}" for name, place in places.items()}
