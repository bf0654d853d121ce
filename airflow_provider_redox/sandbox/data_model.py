"""The Data Model API: ``POST /endpoint`` for notifications and queries alike.

A notification is kept, one log for each destination, and answered with its Meta. A query has exactly one destination
and is answered at once. Errors are 400 with ``Meta.Errors``.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NoReturn

from . import intervals, questions
from .answers import Refusal, json_answer
from .call import MalformedError
from .names import DESTINATION_NAMES, NOTIFICATIONS, QUERIES
from .store import instant

if TYPE_CHECKING:
    from .answers import Answer
    from .call import Call
    from .state import Sandbox

ECHOED = ("DataModel", "EventType", "EventDateTime", "Test", "Source", "Destinations", "FacilityCode")
_numbers = itertools.count(531_829)


def post(sandbox: Sandbox, call: Call) -> Answer:
    """Answer ``POST /endpoint``, or its old alias ``/query``."""
    message = _message(call)
    meta = message["Meta"]
    model = _check_event(meta)
    destinations = _check_destinations(meta)
    _check_source(sandbox, call, meta)
    if meta["EventType"] in QUERIES.get(model, {}):
        return _answer_query(sandbox, message, model, destinations)
    return _accept(sandbox, call, message, destinations)


def _message(call: Call) -> dict[str, Any]:
    if call.media_type != "application/json":
        _refuse({}, "Content-Type must be application/json", "DataModels")
    try:
        message = call.json()
    except MalformedError as error:
        _refuse({}, str(error), "DataModels")
    if not isinstance(message, dict) or not isinstance(message.get("Meta"), dict):
        _refuse({}, "Required field missing - Meta", "DataModels")
    return message


def _check_event(meta: dict[str, Any]) -> str:
    """Return the data model without its space; refuse an unknown event, a bad time, a Test that is no boolean."""
    for name in ("DataModel", "EventType"):
        if not isinstance(meta.get(name), str) or not meta[name]:
            _refuse(meta, f"Required field missing - Meta.{name}", "DataModels")
    model = str(meta["DataModel"]).replace(" ", "")
    events = {*NOTIFICATIONS.get(model, "").split(), *QUERIES.get(model, {})}
    if meta["EventType"] not in events:
        _refuse(meta, "Unknown DataModel or EventType in Meta", "DataModels")
    if "EventDateTime" in meta and intervals.of_value(meta["EventDateTime"]) is None:
        _refuse(meta, "Meta.EventDateTime must be an ISO 8601 time", "DataModels")
    if not isinstance(meta.get("Test", True), bool):
        _refuse(meta, "Meta.Test must be a boolean", "DataModels")
    return model


def _check_destinations(meta: dict[str, Any]) -> list[str]:
    listed = meta.get("Destinations")
    if not isinstance(listed, list) or not listed or not all(isinstance(entry, dict) for entry in listed):
        _refuse(meta, "Required field missing - Meta.Destinations", "DataModels")
    found = [str(entry.get("ID", "")) for entry in listed]
    if any(key not in DESTINATION_NAMES for key in found):
        _refuse(meta, "No subscription from this source to this destination", "Subscriptions")
    if len(set(found)) != len(found):
        _refuse(meta, "A destination is named twice", "Subscriptions")
    return found


def _check_source(sandbox: Sandbox, call: Call, meta: dict[str, Any]) -> None:
    wanted = (sandbox.settings.source_id or "").lower()
    source = meta.get("Source")
    named = str(source.get("ID", "")) if isinstance(source, dict) else ""
    if wanted and wanted not in {named.lower(), call.header("Redox-Source-Id").lower()}:
        _refuse(meta, "Required field missing - Meta.Source.ID: there are several sources", "DataModels")


def _accept(sandbox: Sandbox, call: Call, message: dict[str, Any], destinations: list[str]) -> Answer:
    names = (str(message["Meta"]["DataModel"]), str(message["Meta"]["EventType"]))
    now = sandbox.now()
    logs = [sandbox.logs.create("send", names, key, sandbox.settings, now) for key in destinations]
    sandbox.messages.append(
        {
            "kind": "notification",
            "n": call.n,
            "time": instant(now),
            "trace_id": call.trace_id,
            "operation": ".".join(names),
            "destinations": destinations,
            "logs": [log.id for log in logs],
            "body": message,
        }
    )
    return json_answer({"Meta": _echo(message["Meta"]) | {"Logs": [log.handle() for log in logs]}})


def _answer_query(sandbox: Sandbox, message: dict[str, Any], model: str, destinations: list[str]) -> Answer:
    meta = message["Meta"]
    if len(destinations) != 1:
        _refuse(meta, "A query goes to one destination: more than one synchronous destination", "Send")
    log = sandbox.logs.create("request", (str(meta["DataModel"]), meta["EventType"]), destinations[0], *_at(sandbox))
    answered = _echo(meta) | {"Logs": [log.handle()]}
    answered["EventType"] = QUERIES[model][meta["EventType"]] or f"{meta['EventType']}Response"
    if sandbox.settings.destination_errors:
        return json_answer({"Meta": answered | {"Errors": sandbox.settings.destination_errors}})
    return json_answer({"Meta": answered} | questions.answer(sandbox.store, model, meta["EventType"], message))


def _at(sandbox: Sandbox) -> tuple[Any, float]:
    return sandbox.settings, sandbox.now()


def _echo(meta: dict[str, Any]) -> dict[str, Any]:
    return {name: meta[name] for name in ECHOED if name in meta}


def _refuse(meta: dict[str, Any], text: str, module: str) -> NoReturn:
    error = {"ID": next(_numbers), "Text": text, "Type": "message", "Module": module}
    raise Refusal(json_answer({"Meta": _echo(meta) | {"Errors": [error]}}, status=400))
