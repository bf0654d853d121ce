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

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxDestinationError, RedoxProtocolError
from airflow_provider_redox.protocol.destinations import find_destination
from airflow_provider_redox.protocol.effects import RedoxResponse, Request
from airflow_provider_redox.protocol.failures import is_transient, meta_errors, traced
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


def complete(
    message: Mapping[str, Any],
    settings: Settings,
    *,
    destinations: Sequence[str] | None,
    environment: str | None,
    now: float,
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Give a copy whose Meta has what Redox needs; what the author wrote stays.

    Filled in where absent: EventDateTime (UTC), Destinations, Source, Test, the `defaults`, and `extra.meta`; what is
    filled in comes after what the author wrote.
    Raises `RedoxConfigError` for a message without Meta, DataModel, EventType or destination, for a query with other
    than one destination, for a Test that contradicts the environment, and for what JSON has not.
    """
    if not isinstance(message, Mapping) or not isinstance(message.get("Meta"), Mapping):
        raise RedoxConfigError("payload: must be an object with a Meta object; Redox routes by Meta")
    whole: dict[str, Any] = as_json(message, where="payload")
    if not isinstance(defaults or {}, Mapping):
        raise RedoxConfigError("meta: must be a mapping of fields of Meta")
    stated = {**whole["Meta"], **_beside(whole["Meta"], as_json(defaults or {}, where="meta"))}
    meta = {**stated, **_beside(stated, copy.deepcopy(dict(settings.meta)))}
    for name in ("DataModel", "EventType"):
        if not isinstance(meta.get(name), str) or not meta[name]:
            raise RedoxConfigError(f"payload: Meta.{name} is missing")
    meta.setdefault("EventDateTime", _iso(now))
    if destinations is not None and stated.get("Destinations"):
        raise RedoxConfigError("destination: given in the operator and in Meta.Destinations; leave one of them out")
    _complete_destinations(meta, settings, destinations)
    if settings.source_id:
        meta.setdefault("Source", {"ID": settings.source_id})
    _complete_test(meta, settings.environment_for(environment))
    whole["Meta"] = meta
    if is_query(whole) and len(meta["Destinations"]) != 1:
        raise RedoxConfigError("payload: a query goes to exactly one destination; Meta.Destinations names several")
    return whole


def _beside(stated: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that are not stated."""
    return {name: value for name, value in fields.items() if name not in stated}


def encode(message: Any, *, where: str = "payload") -> bytes:
    """Encode a message. Raises `RedoxConfigError`, with the place, for what cannot be JSON, and what Redox does not take."""
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
    """Return a message of a file as it is sent: its own text, with what `complete` filled in put into its Meta."""
    own, meta = source.value["Meta"], message["Meta"]
    filled = {name: encode(value).decode() for name, value in meta.items() if name not in own or own[name] != value}
    return source.with_members(filled, of="Meta").encode()


def request(
    settings: Settings, message: Mapping[str, Any], headers: Mapping[str, str], *, source: Source | None = None
) -> Request:
    """Make the request that carries a message.

    :param source: the text that it was read from, which is what leaves then.
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


def read_accepted(response: RedoxResponse) -> Accepted:
    """Read the answer to a notification.

    Raises `RedoxProtocolError` for an answer without a Meta object, and `RedoxDestinationError` for errors inside the 200.
    """
    return Accepted(log_ids_of(read_answer(response)), response.trace_id)


def log_ids_of(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the log IDs in an answer's Meta, one for each destination."""
    logs = answer["Meta"].get("Logs")
    entries = logs if isinstance(logs, list) else []
    found = (entry.get("ID") for entry in entries if isinstance(entry, dict))
    return tuple(str(one) for one in found if _LOG_ID.fullmatch(str(one) if isinstance(one, str | int) else ""))


def read_answer(response: RedoxResponse) -> dict[str, Any]:
    """Read an answer whole. Raises as `read_accepted` does."""
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
        raise error
    return answer


def _complete_destinations(meta: dict[str, Any], settings: Settings, names: Sequence[str] | None) -> None:
    if names is None and meta.get("Destinations"):
        _check_destinations(meta["Destinations"])
        return
    if isinstance(names, str) or (names is not None and not names):
        raise RedoxConfigError("destinations: must be a list of names or UUIDs, with one at least")
    found = [find_destination(settings.destinations, one, default=settings.destination) for one in names or (None,)]
    meta["Destinations"] = [{"ID": one.id_for(meta["DataModel"]), "Name": one.name} for one in found]
    _check_destinations(meta["Destinations"])
    if len(found) == 1 and found[0].facility_code:
        meta.setdefault("FacilityCode", found[0].facility_code)


def _check_destinations(stated: Any) -> None:
    """Each has an ID, as text, and none stands there twice: Redox would deliver the message there twice."""
    if not isinstance(stated, list):
        raise RedoxConfigError("payload: Meta.Destinations must be a list")
    ids = [place.get("ID") if isinstance(place, Mapping) else None for place in stated]
    for number, one in enumerate(ids):
        if not isinstance(one, str) or not one.strip():
            raise RedoxConfigError(f"payload: Meta.Destinations[{number}] has no ID; Redox routes by it")
        if one.strip().lower() in (str(other).strip().lower() for other in ids[:number]):
            raise RedoxConfigError(f"payload: Meta.Destinations[{number}] names a destination a second time")


def _complete_test(meta: dict[str, Any], environment: str | None) -> None:
    """Fill in Meta.Test as the environment says: everything but Production is a test."""
    if environment is None:
        if not isinstance(meta.get("Test", True), bool):
            raise RedoxConfigError("payload: Meta.Test must be true or false")
        return
    expected = environment != "Production"
    stated = meta.setdefault("Test", expected)
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
