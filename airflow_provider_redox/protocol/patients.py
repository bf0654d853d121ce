"""Who is in it: the patients that a FHIR resource, a Bundle or a Data Model message is of, by their IDs, never by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from airflow_provider_redox.protocol import jsontext

_REFERENCE = re.compile(rb'"reference"\s*:\s*"(?:[^"\\]*/)?Patient/([^"/?#\\]+)(?=["/?#])')
_TO_PATIENT = re.compile(r"(?:^|/)Patient/([^/?#]+)")
_HIDDEN = re.compile(
    rb'\\[u/]|"identifier"\s*:\s*\{|"contained"|"resourceType"\s*:\s*"(?:Bundle|Parameters|Patient)"|"Meta"'
)
"""What a look for references alone may pass over: escapes, references by identifier, resources in resources, messages."""
_PEOPLE = ("Patient", "Patients", "PotentialMatches")
_DEEPEST = 64


class Identifier(NamedTuple):
    """How a Data Model message names a patient."""

    value: str
    type: str


Patient = str | Identifier
"""A logical ID, or an identifier of a Data Model message."""


def patients_of_body(body: bytes) -> Iterator[Patient]:
    """Give the patients of any body: a resource, a Bundle, a Data Model message. A body that is no JSON names none.

    Most resources refer to their patients and to nobody else in them; these are not parsed, as there may be millions.
    """
    if _HIDDEN.search(body) is None:
        found = _REFERENCE.findall(body)
        if found:
            yield from (one.decode("utf-8", "replace") for one in found)
            return
    try:
        parsed = jsontext.parse(body)
    except ValueError:
        return
    yield from _people(parsed, _DEEPEST)


def persons_of_body(body: bytes) -> Iterator[tuple[str | None, set[str]]]:
    """Give the Patient resources in JSON, wherever they are, by logical ID and identifiers.

    The ID of one that another resource contains is known to that one only, so it is None.
    """
    if b'"Patient"' not in body and b"\\u" not in body:
        return
    try:
        pending = [(jsontext.parse(body), False)]
    except ValueError:
        return
    while pending:
        value, contained = pending.pop()
        if isinstance(value, list | tuple):
            pending += [(one, contained) for one in value]
        elif isinstance(value, dict):
            pending += [(part, contained or name == "contained") for name, part in value.items()]
            if value.get("resourceType") == "Patient":
                logical_id = value.get("id")
                known = isinstance(logical_id, str) and not contained
                yield (logical_id if known else None), set(_values(value.get("identifier")))


def _values(listed: Any) -> Iterator[str]:
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and isinstance(one.get("value"), str):
            yield one["value"]


def patients_of_content(content: Any) -> Iterator[Patient]:
    """Give the patients of a message, a Bundle, or an answer, as Python values of whatever kind JSON can be made of."""
    yield from _people(msgspec.to_builtins(content, builtin_types=(Decimal,), str_keys=True), _DEEPEST)


def _people(value: Any, deep: int) -> Iterator[Patient]:
    """Walk through JSON: FHIR Patients and references to such, and the identifiers of a Data Model's people."""
    if deep == 0:
        return
    if isinstance(value, list | tuple):
        for one in value:
            yield from _people(one, deep - 1)
    elif isinstance(value, Mapping):
        yield from _person(value)
        for name, part in value.items():
            if name == "contained":
                yield from _contained(part, deep - 1)
                continue
            if name in _PEOPLE:
                for person in part if isinstance(part, list | tuple) else [part]:
                    yield from _identified(person, "Identifiers", "ID", "IDType")
            yield from _people(part, deep - 1)


def _contained(resources: Any, deep: int) -> Iterator[Patient]:
    """A resource in a resource has an ID that only the two know, so a patient in there is known by its identifiers."""
    for one in resources if isinstance(resources, list | tuple) else ():
        is_patient = isinstance(one, Mapping) and one.get("resourceType") == "Patient"
        yield from _identified(one, "identifier", "value", "system") if is_patient else _people(one, deep)


def _person(value: Mapping[str, Any]) -> Iterator[Patient]:
    """Give whom an object is, or refers to."""
    if value.get("resourceType") == "Patient":
        if isinstance(value.get("id"), str) and value["id"]:
            yield value["id"]
        else:
            yield from _identified(value, "identifier", "value", "system")
        return
    reference = value.get("reference")
    if isinstance(reference, str) and (found := _TO_PATIENT.search(reference)):
        yield found[1]
    elif value.get("type") == "Patient" and isinstance(value.get("identifier"), Mapping):
        yield from _identified({"identifier": [value["identifier"]]}, "identifier", "value", "system")
    subject = value.get("subject", value.get("patient"))
    if isinstance(subject, Mapping) and "reference" not in subject and isinstance(subject.get("identifier"), Mapping):
        yield from _identified({"identifier": [subject["identifier"]]}, "identifier", "value", "system")


def _identified(person: Any, listed: str, value: str, kind: str) -> Iterator[Identifier]:
    found = person.get(listed) if isinstance(person, Mapping) else None
    for one in found if isinstance(found, list | tuple) else ():
        if isinstance(one, Mapping) and isinstance(one.get(value), str | int) and one[value]:
            yield Identifier(str(one[value]), str(one.get(kind) or ""))
