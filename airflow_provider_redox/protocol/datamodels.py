"""Messages checked against the models of Redox's Data Models, before anything is sent.

The models are those of the PyPI package `redox` (extra `[datamodels]`). They check the structure: what has to be there, what
does not exist, texts where texts belong. They rewrite what they parse, so the author's own message is what is sent. One
data model is imported, when it is first needed; `redox.factory` would load all of them, for seconds.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from airflow_provider_redox.checks import near, one_of
from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.data_model import encode

MODES = ("strict", "lenient", "off")
TOLD = 20
"""Problems that an error lists; the rest is counted."""

EVENTS: Mapping[str, str] = {
    "claim": "PaymentBatch SubmissionBatch",
    "clinicaldecisions": "Request Response",
    "clinicalsummary": "DocumentGet DocumentGetResponse DocumentQuery DocumentQueryResponse PatientPush PatientQuery "
    "PatientQueryResponse VisitPush VisitQuery VisitQueryResponse",
    "device": "New",
    "enrichment": "NormalizationQuery NormalizationQueryResponse",
    "financial": "AccountUpdate Transaction",
    "flowsheet": "New",
    "inventory": "Deplete Update",
    "media": "Delete New Query QueryResponse Replace",
    "medications": "Administration Cancel New Update",
    "notes": "Delete New Query QueryResponse Replace",
    "order": "Cancel GroupedOrders New Query QueryResponse Update",
    "organization": "New Query QueryResponse Update",
    "patientadmin": "Arrival Cancel CensusQuery CensusQueryResponse Discharge NewPatient PatientMerge PatientUpdate "
    "PreAdmit Registration Transfer VisitMerge VisitQuery VisitQueryResponse VisitUpdate",
    "patienteducation": "Delete New Update",
    "patientsearch": "LocationQuery LocationQueryResponse Query Response",
    "provider": "Activate Deactivate New ProviderQuery ProviderQueryResponse Update",
    "referral": "AuthResponse AuthReview Cancel Modify New Query QueryResponse",
    "research": "Study SubjectUpdate",
    "results": "New NewUnsolicited Query QueryResponse",
    "scheduling": "AvailableSlots AvailableSlotsResponse Booked BookedResponse Cancel Modification New NoShow PushSlots "
    "Reschedule",
    "sso": "SignOn",
    "surgicalscheduling": "Cancel Modification New NoShow Reschedule",
    "vaccination": "Administration New PatientQuery PatientQueryResponse",
}
"""The classes of `redox` 2.0, by its modules. Redox writes both `ClinicalSummary` and `Clinical Summary`, and `Sign-on`."""

_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not known there",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")  # as Redox names its fields; anything else could be a value


def check(message: Mapping[str, Any], mode: str) -> None:
    """Check a message as it would be sent, by `strict`, `lenient` or `off`.

    Lenient lets unknown fields pass, and events that have no model; strict neither. Raises `RedoxConfigError` with the path
    of each problem and no value, and when the extra is not installed.
    """
    if mode not in MODES:
        raise RedoxConfigError(one_of("validate", mode, MODES))
    if mode == "off":
        return
    found = model_of(message)
    if found is None:
        if mode == "strict":
            raise RedoxConfigError(
                f"payload: there is no model for this DataModel and EventType{_meant(message)}; say validate='lenient'"
            )
        return
    problems = list(_problems(_class(*found), msgspec.json.decode(encode(message)), mode))
    if problems:
        more = f"; and {len(problems) - TOLD} more" if len(problems) > TOLD else ""
        raise RedoxConfigError(f"payload: not a {'.'.join(found)}: {'; '.join(problems[:TOLD])}{more}")


def model_of(message: Mapping[str, Any]) -> tuple[str, str] | None:
    """Give the module and the class of a message's DataModel and EventType, or None where the library has none."""
    meta = message.get("Meta")
    model, event = (_plain(meta.get(name)) for name in ("DataModel", "EventType")) if isinstance(meta, Mapping) else ("", "")
    known = {_plain(name): name for name in EVENTS.get(model, "").split()}
    return (model, known[event]) if event in known else None


def _meant(message: Mapping[str, Any]) -> str:
    """Return which event, or which data model, was most likely meant."""
    meta = message["Meta"]
    model = _plain(meta.get("DataModel"))
    close = near(str(meta.get("EventType")), EVENTS[model].split()) if model in EVENTS else near(model, EVENTS)
    return f", did you mean {close}?" if close else ""


def _plain(name: Any) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()) if isinstance(name, str) else ""


def _class(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(f"redox.{module}"), name)
    except (ImportError, AttributeError):
        raise RedoxConfigError(
            'validate: the models are not installed on this worker; install "airflow-provider-redox[datamodels]"'
        ) from None


def _problems(model: Any, message: Any, mode: str) -> Iterator[str]:
    """Give one line for each problem. The library's own texts, and its errors, hold the values."""
    errors: list[Any] = []
    base, pydantic = importlib.import_module("redox.abstract_base"), importlib.import_module("pydantic")
    try:
        if mode == "lenient":
            with base.lenient_ingest():
                model.model_validate(message)
        else:
            model.model_validate(message)
    except pydantic.ValidationError as error:
        errors = error.errors(include_input=False, include_url=False, include_context=False)
    for one in errors:
        yield f"{_path(one['loc'])} {_WORDS.get(one['type'], 'is of another kind')}"


def _path(places: tuple[str | int, ...]) -> str:
    path = ""
    for place in places:
        if isinstance(place, int):
            path += f"[{place}]"
        else:
            path += f"{'.' if path else ''}{place if _FIELD.fullmatch(place) else '?'}"
    return path or "the message"
