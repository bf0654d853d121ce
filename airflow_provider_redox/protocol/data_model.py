"""Redox's own Data Model API: the Meta envelope, which events only ask, and errors inside a 200.

A message is the author's: what it says is sent as it is. Only what `Meta` lacks is filled in, on a copy.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from airflow_provider_redox.checks import given, is_empty, near
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxDestinationError, RedoxProtocolError
from airflow_provider_redox.protocol.destinations import Destination, find_destination
from airflow_provider_redox.protocol.effects import RedoxResponse, Request
from airflow_provider_redox.protocol.failures import is_transient, is_unsure, meta_errors, traced
from airflow_provider_redox.protocol.instants import utc
from airflow_provider_redox.protocol.jsonsource import Source
from airflow_provider_redox.protocol.settings import Settings
from airflow_provider_redox.protocol.uploads import uploads_in
from airflow_provider_redox.protocol.values import as_json

PATH = "/endpoint"
MAX_BYTES = 40 * 1024 * 1024
"""Bytes of one message (Redox, quotas and constraints, August 2025)."""

QUERY_EVENTS: Mapping[str, frozenset[str]] = {
    "clinicalsummary": frozenset({"DocumentGet", "DocumentQuery", "PatientQuery", "VisitQuery"}),
    "enrichment": frozenset({"NormalizationQuery"}),
    "media": frozenset({"Query"}),
    "notes": frozenset({"Query"}),
    "order": frozenset({"Query"}),
    "organization": frozenset({"Query"}),
    "patientadmin": frozenset({"CensusQuery", "VisitQuery"}),
    "patientsearch": frozenset({"LocationQuery", "Query"}),
    "provider": frozenset({"ProviderQuery"}),
    "referral": frozenset({"Query"}),
    "results": frozenset({"Query"}),
    "scheduling": frozenset({"AvailableSlots", "Booked"}),
    "vaccination": frozenset({"PatientQuery"}),
}
"""Events that only ask, by data model: those with a `...Response` twin, without ClinicalDecisions.Request, which may
have effects. Everything else is unsafe to repeat, the unknown included."""

_encoder = msgspec.json.Encoder(decimal_format="number")  # else 1.10 would be sent as the text "1.10"

_LOG_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")  # it goes into XCom, errors and logs, where no name or sentence may go


@dataclass(frozen=True, slots=True)
class Accepted:
    """Redox took a message: one log ID for each destination, and the trace ID."""

    log_ids: tuple[str, ...]
    trace_id: str | None


def is_query(message: Any) -> bool:
    """Say whether a message only asks, so that it may be sent again."""
    meta = message.get("Meta") if isinstance(message, Mapping) else None
    if not isinstance(meta, Mapping):
        return False
    model, event = meta.get("DataModel"), meta.get("EventType")
    if not isinstance(model, str) or not isinstance(event, str):
        return False
    return event in QUERY_EVENTS.get(model.replace(" ", "").lower(), frozenset())


def meant_query(message: Mapping[str, Any]) -> str:
    """Return the end of an error message about an unknown query: the most similar known one, if there is one."""
    known = {f"{model}.{event}": event for model, events in QUERY_EVENTS.items() for event in sorted(events)}
    meta = message["Meta"]
    model = str(meta["DataModel"]).replace(" ", "").lower()
    close = near(meta["EventType"], QUERY_EVENTS.get(model, ())) or near(f"{model}.{meta['EventType']}", known, cutoff=0.8)
    return f". Did you mean {close}?" if close else ""


def complete(
    message: Mapping[str, Any],
    settings: Settings,
    *,
    destinations: Sequence[str] | None,
    environment: str | None,
    now: float,
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a copy whose Meta has what Redox needs; what the author wrote stays.

    Filled in where absent or null: EventDateTime (UTC), Destinations, Source, FacilityCode, Test, the `defaults`, and
    `extra.meta`; what is filled in comes after what the author wrote. What stays null is sent as null, as in Redox's own
    samples.
    Raises `RedoxConfigError` for a message without Meta, DataModel, EventType or destination, for an empty routing field of
    Meta, for a query with none or several destinations, for a Test that contradicts the environment, and for a value that
    JSON cannot express.
    """
    if not isinstance(message, Mapping) or not isinstance(message.get("Meta"), Mapping):
        raise RedoxConfigError("payload: must be an object with a Meta object; Redox routes by Meta")
    whole: dict[str, Any] = as_json(message, where="payload")
    if defaults is not None and not isinstance(defaults, Mapping):
        raise RedoxConfigError("meta: must be a mapping of fields of Meta")
    stated = _laid_over(as_json({} if defaults is None else defaults, where="meta"), whole["Meta"])
    meta = _laid_over(copy.deepcopy(dict(settings.meta)), stated)
    _check_routing(meta)
    _fill(meta, "EventDateTime", _iso(now))
    if destinations is not None and stated.get("Destinations") is not None:
        raise RedoxConfigError("destination: given in the operator and in Meta.Destinations; leave one of them out")
    if destinations is None and meta.get("Destinations", ()) is None:
        raise RedoxConfigError(
            "payload: Meta.Destinations is null, which does not mean the default; leave it out, or name destination"
        )
    _complete_destinations(meta, settings, destinations)
    if settings.source_id:
        _fill(meta, "Source", {"ID": settings.source_id})
    _complete_test(meta, settings.environment_for(environment))
    whole["Meta"] = meta
    if is_query(whole) and len(meta["Destinations"]) != 1:
        raise RedoxConfigError("payload: a query goes to exactly one destination; keep one in Meta.Destinations")
    return whole


def _beside(stated: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are not stated."""
    return {name: value for name, value in fields.items() if name not in stated}


def encode(message: Any, *, where: str = "payload") -> bytes:
    """Encode a message.

    Raises `RedoxConfigError`, with the place, for a value that is not JSON, and for too large a message.
    """
    body = None
    with suppress(RecursionError, msgspec.MsgspecError):  # the complaint is made outside: msgspec's own may hold the text
        body = _encoder.encode(as_json(message, where=where))
    if body is None:
        raise RedoxConfigError(f"{where}: is nested too deeply, or holds itself")
    return checked_size(body, where=where)


def checked_size(body: bytes, *, where: str) -> bytes:
    """Return a body. Raises `RedoxConfigError` for one that is larger than Redox takes."""
    if len(body) > MAX_BYTES:
        raise RedoxConfigError(f"{where}: {len(body)} bytes, and Redox takes {MAX_BYTES}; send files by upload")
    return body


def written(source: Source, message: Mapping[str, Any]) -> bytes:
    """Return the text of a message from a file as it is sent: the file's text, and what `complete` added to its Meta."""
    own, meta = source.value["Meta"], message["Meta"]
    filled = {name: encode(value).decode() for name, value in meta.items() if name not in own or own[name] != value}
    return source.with_members(filled, of="Meta").encode()


def request(
    settings: Settings, message: Mapping[str, Any], headers: Mapping[str, str], *, source: Source | None = None
) -> Request:
    """Build the request that carries a message.

    :param source: the text that the message was read from; if given, this text is sent.
    """
    meta = message["Meta"]
    label = f"POST {PATH} ({_shown(meta['DataModel'])} {_shown(meta['EventType'])})"
    all_headers = {**headers, "content-type": "application/json", "accept": "application/json"}
    ids = [place["ID"] for place in meta.get("Destinations", ())]
    destination = ids[0] if len(ids) == 1 else None  # Redox hands on what has several
    url = f"{settings.base_url}{PATH}"
    body = encode(message) if source is None else checked_size(written(source, message), where="payload")
    if b"upload" in body or b"\\u" in body:  # raises for a mark: what an author wanted uploaded has its URI by now
        uploads_in(message)
    return Request("POST", url, label, all_headers, body, destination=destination)


def log_ids_of(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the log IDs in an answer's Meta."""
    logs = answer["Meta"].get("Logs")
    entries = logs if isinstance(logs, list) else []
    found = (entry.get("ID") for entry in entries if isinstance(entry, dict))
    return tuple(str(one) for one in found if _LOG_ID.fullmatch(str(one) if isinstance(one, str | int) else ""))


def read_answer(response: RedoxResponse) -> dict[str, Any]:
    """Read an answer whole.

    Raises `RedoxProtocolError` for an answer without a Meta object, and `RedoxDestinationError` for errors inside the 200.
    """
    answer = response.json()
    if not isinstance(answer, dict) or not isinstance(answer.get("Meta"), dict):
        raise RedoxProtocolError(f"HTTP {response.status}, but the answer has no Meta object")
    if answer["Meta"].get("Errors"):
        issues = meta_errors(answer)
        said = f": {'; '.join(issues)}" if issues else ""
        log_ids = log_ids_of(answer)
        partly = f"; it gave log IDs all the same: {', '.join(log_ids)}" if log_ids else ""
        error = RedoxDestinationError(
            f"HTTP {response.status} with Meta.Errors{traced(response)}{said}{partly}",
            log_ids=log_ids,
            status=response.status,
            issues=issues,
            trace_id=response.trace_id,
        )
        error.retryable = is_transient(response) and not log_ids
        error.may_have_arrived = is_unsure(response)
        raise error
    return answer


def _laid_over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Return both mappings merged, the upper's fields first; a null of the upper does not replace a value of the lower."""
    filled = {name: lower[name] if value is None and name in lower else value for name, value in upper.items()}
    return {**filled, **{name: value for name, value in lower.items() if name not in filled}}


def _fill(meta: dict[str, Any], name: str, value: Any) -> None:
    if _says_nothing(meta.get(name)):
        meta[name] = value


def _says_nothing(value: Any) -> bool:
    """Return whether a value is null, or an object of nulls only, as `Source` is in Redox's samples."""
    return value is None or (isinstance(value, Mapping) and all(one is None for one in value.values()))


def _check_routing(meta: Mapping[str, Any]) -> None:
    """Refuse missing or empty fields that decide what a message is or where it goes."""
    for name in ("DataModel", "EventType"):
        if not isinstance(meta.get(name), str) or is_empty(meta[name]):
            raise RedoxConfigError(f"payload: Meta.{name} is missing; Redox tells messages apart by it, so put it in")
    source = meta.get("Source")
    for name, value in (
        *((name, meta.get(name)) for name in ("Destinations", "FacilityCode", "EventDateTime", "Source")),
        ("Source.ID", source.get("ID") if isinstance(source, Mapping) else None),
    ):
        if is_empty(value) and not (name == "Source" and isinstance(value, Mapping)):
            raise RedoxConfigError(f"payload: Meta.{name} is empty; give it a value, or leave it out")


def _complete_destinations(meta: dict[str, Any], settings: Settings, names: Sequence[str] | None) -> None:
    if names is None and meta.get("Destinations") is not None:
        _check_destinations(meta["Destinations"])
        return
    if isinstance(names, str) or (names is not None and not names):
        raise RedoxConfigError("destinations: must be a list of names or UUIDs, with one at least")
    found = [find_destination(settings.destinations, settings.destination)] if names is None else _named(settings, names)
    meta["Destinations"] = [{"ID": one.id_for(meta["DataModel"]), "Name": one.name} for one in found]
    _check_destinations(meta["Destinations"])
    if len(found) == 1 and found[0].facility_code:
        _fill(meta, "FacilityCode", found[0].facility_code)


def _named(settings: Settings, names: Sequence[str]) -> list[Destination]:
    """Return the destinations that an author named.

    A None in the list is refused: as the default it could be one hospital twice.
    """
    if len(names) == 1:
        return [find_destination(settings.destinations, given(names[0], "", name="destination"))]
    return [
        find_destination(settings.destinations, "" if one is None else one, where=f"destinations[{number}]")
        for number, one in enumerate(names)
    ]


def _check_destinations(stated: Any) -> None:
    """Each has an ID, as text, and none stands there twice: Redox would deliver the message there twice."""
    if not isinstance(stated, list):
        raise RedoxConfigError('payload: Meta.Destinations must be a list such as [{"ID": "<UUID>"}]')
    ids = [place.get("ID") if isinstance(place, Mapping) else None for place in stated]
    for number, one in enumerate(ids):
        if not isinstance(one, str) or not one.strip():
            raise RedoxConfigError(f"payload: Meta.Destinations[{number}] has no ID; put the destination's UUID there")
        if one.strip().lower() in (str(other).strip().lower() for other in ids[:number]):
            raise RedoxConfigError(f"payload: Meta.Destinations[{number}] names a destination a second time; remove it")


def _complete_test(meta: dict[str, Any], environment: str | None) -> None:
    """Fill in Meta.Test as the environment says: everything but Production is a test."""
    if environment is None:
        if not isinstance(meta.get("Test"), bool | None):
            raise RedoxConfigError("payload: Meta.Test must be true or false")
        return
    expected = environment != "Production"
    _fill(meta, "Test", expected)
    stated = meta["Test"]
    if not isinstance(stated, bool) or stated is not expected:
        raise RedoxConfigError(
            f"payload: Meta.Test must be {str(expected).lower()} in {environment}; correct it, or the environment"
        )


def _iso(now: float) -> str:
    return utc(now)


def _shown(name: str) -> str:
    return name if name.replace(" ", "").isalnum() and len(name) < 40 else "?"


def addressee(message: Mapping[str, Any]) -> str:
    """Name where a complete message goes, for the path of its result."""
    places = [place if isinstance(place, Mapping) else {} for place in message["Meta"]["Destinations"]]
    return str(places[0].get("Name") or places[0].get("ID")) if len(places) == 1 else "several"
