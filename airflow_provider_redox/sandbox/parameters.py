"""The search parameters that the sandbox knows, and how each of them matches (FHIR R4, search.html)."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import intervals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .store import Resource


@dataclass(frozen=True, slots=True)
class Parameter:
    """How to match one search parameter: its kind, and where its values stand in a resource."""

    kind: str
    paths: tuple[str, ...]
    target: str = ""


def _parameter(kind: str, *paths: str, target: str = "") -> Parameter:
    return Parameter(kind, paths, target)


COMMON = {
    "_id": _parameter("token", "id"),
    "_lastUpdated": _parameter("date", "meta.lastUpdated"),
    "identifier": _parameter("token", "identifier"),
}
PERSON = {
    "name": _parameter("string", "name"),
    "given": _parameter("string", "name.given"),
    "family": _parameter("string", "name.family"),
    "gender": _parameter("token", "gender"),
    "birthdate": _parameter("date", "birthDate"),
    "telecom": _parameter("token", "telecom"),
    "phone": _parameter("token", "telecom"),
    "email": _parameter("token", "telecom"),
    "address": _parameter("string", "address"),
    "address-city": _parameter("string", "address.city"),
    "address-state": _parameter("string", "address.state"),
    "address-postalcode": _parameter("string", "address.postalCode"),
    "active": _parameter("token", "active"),
}
CLINICAL = {
    "patient": _parameter("reference", "subject", "patient", target="Patient"),
    "subject": _parameter("reference", "subject", "patient"),
    "encounter": _parameter("reference", "encounter", "context.encounter", "context", target="Encounter"),
    "code": _parameter("token", "code", "vaccineCode", "medicationCodeableConcept"),
    "category": _parameter("token", "category"),
    "type": _parameter("token", "type"),
    "status": _parameter("token", "status"),
    "clinical-status": _parameter("token", "clinicalStatus"),
    "verification-status": _parameter("token", "verificationStatus"),
    "date": _parameter(
        "date",
        *("effectiveDateTime", "effectivePeriod", "effectiveInstant", "period", "onsetDateTime", "onsetPeriod"),
        *("recordedDate", "performedDateTime", "performedPeriod", "occurrenceDateTime", "authoredOn", "date"),
    ),
}
EXTRA = {
    "Condition": {
        "onset-date": _parameter("date", "onsetDateTime", "onsetPeriod"),
        "recorded-date": _parameter("date", "recordedDate"),
    },
    "Encounter": {"class": _parameter("token", "class")},
    "Observation": {"value-quantity": _parameter("number", "valueQuantity.value")},
    "Organization": {"name": _parameter("string", "name")},
    "Location": {"name": _parameter("string", "name")},
}
PEOPLE = frozenset({"Patient", "Practitioner", "RelatedPerson", "Person"})


def known(resource_type: str) -> dict[str, Parameter]:
    """Return the search parameters of a resource type, by name."""
    return COMMON | (PERSON if resource_type in PEOPLE else CLINICAL) | EXTRA.get(resource_type, {})


MODIFIERS = {"string": {"exact", "contains"}, "token": {"not"}, "date": set[str](), "number": set[str]()}


def accepts(parameter: Parameter, modifier: str) -> bool:
    """Say whether ``modifier`` may follow the parameter; a reference takes the type it points at."""
    if not modifier or modifier == "missing":
        return True
    if parameter.kind == "reference":
        return modifier == (parameter.target or modifier) and modifier[:1].isupper()
    return modifier in MODIFIERS[parameter.kind]


def values(resource: Resource, parameter: Parameter) -> Iterator[Any]:
    """Iterate over the values that stand at the paths of a parameter, lists flattened."""
    for path in parameter.paths:
        yield from _walk(resource, path.split("."))


def _walk(node: Any, steps: list[str]) -> Iterator[Any]:
    if isinstance(node, list):
        for item in node:
            yield from _walk(item, steps)
    elif not steps:
        yield node
    elif isinstance(node, dict) and steps[0] in node:
        yield from _walk(node[steps[0]], steps[1:])


def match_string(value: Any, modifier: str, wanted: str) -> bool:
    """Match text, or any text within a name or an address: by prefix, accents and case aside, or exactly."""
    texts = list(_texts(value))
    if modifier == "exact":
        return wanted in texts
    needle = _fold(wanted)
    if modifier == "contains":
        return any(needle in _fold(text) for text in texts)
    return any(_fold(text).startswith(needle) for text in texts)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        yield from (text for key, item in value.items() if key not in {"use", "period"} for text in _texts(item))


def _fold(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def match_token(value: Any, _modifier: str, wanted: str) -> bool:
    """Match ``code``, ``system|code``, ``|code`` (no system) or ``system|`` (any code of it)."""
    return any(_token_fits(system, code, wanted) for system, code in _tokens(value))


def _token_fits(system: str | None, code: str, wanted: str) -> bool:
    wanted_system, bar, wanted_code = wanted.rpartition("|")
    if not bar:
        return code == wanted
    implied = system is None and wanted_system != ""
    same = (system or "") == wanted_system or implied
    return same and (not wanted_code or code == wanted_code)


def _tokens(value: Any) -> Iterator[tuple[str | None, str]]:
    """Yield (system, code); the system of a plain code is None: the element implies it."""
    if isinstance(value, bool):
        yield None, str(value).lower()
    elif isinstance(value, str):
        yield None, value
    elif isinstance(value, dict) and isinstance(value.get("coding"), list):
        for coding in value["coding"]:
            yield from _tokens(coding)
    elif isinstance(value, dict):
        yield value.get("system", ""), str(value.get("code", value.get("value", "")))


def match_date(value: Any, _modifier: str, wanted: str) -> bool:
    """Match a date, a partial date or a period, with its prefix."""
    target = intervals.of_value(value)
    prefix, text = intervals.split_prefix(wanted)
    return target is not None and intervals.compare(prefix, target, intervals.parse(text))


def match_number(value: Any, _modifier: str, wanted: str) -> bool:
    """Match a number: plain, or with eq, ne, gt, lt, ge or le."""
    prefix, text = intervals.split_prefix(wanted)
    point = intervals.Interval(float(text), float(text))
    number = isinstance(value, int | float)
    return number and intervals.compare(prefix, intervals.Interval(float(value), float(value)), point)


def match_reference(value: Any, modifier: str, wanted: str) -> bool:
    """Match ``id``, ``Type/id`` or an absolute URL that ends so."""
    reference = value.get("reference", "") if isinstance(value, dict) else ""
    kind, _, key = str(reference).rpartition("/")
    wanted_kind, _, wanted_key = wanted.rpartition("/")
    wanted_kind = wanted_kind.rpartition("/")[2] or modifier
    return key == wanted_key and (not wanted_kind or kind.rpartition("/")[2] == wanted_kind)


MATCHERS: dict[str, Callable[[Any, str, str], bool]] = {
    "string": match_string,
    "token": match_token,
    "date": match_date,
    "number": match_number,
    "reference": match_reference,
}


def check_value(parameter: Parameter, modifier: str, text: str) -> None:
    """Raise ValueError if ``text`` is no value for the parameter's kind or modifier."""
    if modifier == "missing":
        if text not in {"true", "false"}:
            raise ValueError("missing takes true or false")
    elif parameter.kind in {"date", "number"}:
        prefix, rest = intervals.split_prefix(text)
        if prefix not in intervals.PREFIXES:
            raise ValueError("unknown prefix")
        _ = intervals.parse(rest) if parameter.kind == "date" else float(rest)
