"""Find the patients that a FHIR resource, a Bundle or a Data Model message names, by logical IDs and identifiers.

A patient is named by its own resource (a Patient, a Data Model's `Patient`), by a reference anywhere (`Patient/1`, its URL,
`Patient?identifier=…`, the `fullUrl` of a Bundle's entry), or by an identifier alone in an element of the Patient
compartment (`compartment`) or in a reference with `"type": "Patient"`. The record of disclosures and the erasure of patients
both use this module, so that both find the same patients.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.compartment import referring

_REFERENCE = re.compile(rb'"reference"\s*:\s*"(?:[^"\\]*/)?Patient/([^"/?#\\]+)(?=["/?#])')
_TO_PATIENT = re.compile(r"(?:^|/)Patient/([^/?#]+)")
_CONDITIONAL = re.compile(r"(?:^|/)Patient\?([^#]+)")
_HIDDEN = re.compile(
    rb'\\[u/]|"identifier"\s*:\s*\{|"contained"|"resourceType"\s*:\s*"(?:Bundle|Parameters|Patient)"|"Meta"'
)
_URN = re.compile(rb'"reference"\s*:\s*"urn:')
"""Signs that plain references are not enough: escapes, references by identifier or urn, contained resources, messages."""

_PARTS = (dict, list, tuple)
_PEOPLE = ("Patient", "Patients", "PotentialMatches")
_URI = "urn:ietf:rfc:3986"
"""The system of an identifier that is a URI (https://hl7.org/fhir/R4/identifier-registry.html)."""

_PROVIDERS = frozenset({"NPI", "PRN", "MD", "DN", "DEA", "EI", "TAX", "U", "XX", "FI", "NPPES"})
_NPI = "http://hl7.org/fhir/sid/us-npi"


class Identifier(NamedTuple):
    """An identifier by which a message, or a reference without a URL, names a patient.

    :param type: the system of a FHIR identifier, the `IDType` of a Data Model's.
    :param code: the kind of identifier, such as MR, if it is stated (HL7 table 0203).
    """

    value: str
    type: str
    code: str = ""

    @property
    def is_urn(self) -> bool:
        """Whether it is the `fullUrl` of an entry that has no URL yet."""
        return self.type == _URI


Patient = str | Identifier
"""A logical ID, or an identifier."""


class Mention(NamedTuple):
    """One place that names a patient.

    :param names: all IDs and identifiers of this patient in that place.
    :param linked: IDs of the same person in other records (`Patient.link`).
    :param is_sure: False if it may be a practitioner or somebody else; it then counts only if its name is already known.
    """

    names: tuple[Patient, ...]
    linked: tuple[Patient, ...] = ()
    is_sure: bool = True


def patients_of_body(body: bytes) -> Iterator[Patient]:
    """Yield the patients of any body: a resource, a Bundle, a Data Model message. A body that is not JSON names none."""
    yield from _told(mentions_of_body(body))


def patients_of_content(content: Any) -> Iterator[Patient]:
    """Yield the patients of a message, a Bundle or an answer, given as any Python values that can be encoded as JSON."""
    yield from _told(_mentions(msgspec.to_builtins(content, builtin_types=(Decimal,), str_keys=True)))


def patients_of_url(url: str) -> Iterator[Patient]:
    """Yield the patients that the URL of a request names: in its path, or as `patient` or `subject` of its query."""
    path, _, query = url.partition("?")
    yield from _named_by(url) or _named_by(path)
    for name, value in parse_qsl(query):
        if name.partition(":")[0] in ("patient", "subject"):
            for one in value.split(","):
                yield from _named_by(one) or ((one,) if name == "patient" and "/" not in one else ())


def mentions_of_body(body: bytes) -> Iterator[Mention]:
    """Yield every place in a body that names a patient.

    Most resources only have plain references to their patients. These are searched without parsing, as there may be
    millions.
    """
    hides = (
        b"Patient?" in body or b'"Identifiers"' in body or (b"urn:" in body and _URN.search(body))
    )  # each at memory's speed
    if not hides and _HIDDEN.search(body) is None:
        found = _REFERENCE.findall(body)
        if found:
            yield from (Mention((one.decode("utf-8", "replace"),)) for one in found)
            return
    try:
        parsed = jsontext.parse(body)
    except ValueError:
        return
    yield from _mentions(parsed)


def _told(mentions: Iterable[Mention]) -> Iterator[Patient]:
    """Yield each patient as it is recorded: by logical ID, or by all its identifiers if there is no logical ID.

    An entry's urn stands for the patient of that entry, and is left out if the Bundle has that entry.
    """
    found = [one for one in mentions if one.is_sure]
    resolved = {name for one in found if len(one.names) > 1 for name in one.names if _is_urn(name)}
    for one in found:
        ids = [name for name in one.names if isinstance(name, str)]
        others = [name for name in one.names if not _is_urn(name)]
        yield from ids or others or [name for name in one.names if name not in resolved]


def _is_urn(name: Patient) -> bool:
    return isinstance(name, Identifier) and name.is_urn


def _mentions(content: Any) -> Iterator[Mention]:
    """Yield the mentions in JSON. The element of a reference decides whether an identifier alone means a patient."""
    pending: list[tuple[Any, bool]] = [(content, False)]
    about: dict[int, bool] = {}
    while pending:
        value, is_contained = pending.pop()
        if isinstance(value, list | tuple):
            pending += [(one, is_contained) for one in reversed(value) if isinstance(one, _PARTS)]
        elif isinstance(value, dict):
            about.update((id(reference), is_subject) for reference, is_subject in referring(value))
            yield from _of_object(value, is_contained=is_contained, about=about.get(id(value)))
            pending += [
                (part, is_contained or name == "contained")
                for name, part in reversed(value.items())
                if isinstance(part, _PARTS)
            ]


def _of_object(value: Mapping[str, Any], *, is_contained: bool, about: bool | None) -> Iterator[Mention]:
    """Yield the patient that an object is, or refers to; its members are visited separately.

    :param about: None if the object is not in an element of the compartment; else whether that element is a subject.
    """
    if value.get("resourceType") == "Patient":
        yield from _patient(value, is_contained=is_contained)
    elif "resourceType" not in value and ("reference" in value or isinstance(value.get("identifier"), Mapping)):
        yield from _reference(value, about=about)
    entry = value.get("resource")
    if isinstance(value.get("fullUrl"), str):
        yield from _entry(value["fullUrl"], entry if isinstance(entry, Mapping) else {})
    if "relation" in value and isinstance(
        value.get("url"), str
    ):  # a link of a Bundle, whose query may name who was asked for
        yield from (Mention((name,), is_sure=False) for name in patients_of_url(value["url"]))
    request = value.get("request")
    if isinstance(request, Mapping) and isinstance(request.get("url"), str):
        names = _named_by(request["url"])
        if names:
            yield Mention(names)
    for people in (value[key] for key in _PEOPLE if key in value):
        for person in people if isinstance(people, list | tuple) else [people]:
            names = (*_model_identifiers(person, "Identifiers"), *_model_identifiers(person, "PreviousIdentifiers"))
            if names:
                yield Mention(names)


def _patient(value: Mapping[str, Any], *, is_contained: bool) -> Iterator[Mention]:
    """Yield a Patient. The ID of a contained Patient is only valid in the containing resource, so it does not count."""
    logical_id = value.get("id")
    own: tuple[Patient, ...] = (logical_id,) if isinstance(logical_id, str) and logical_id and not is_contained else ()
    names = (*own, *_identifiers(value.get("identifier")))
    links = value.get("link")
    others = [one.get("other") for one in links if isinstance(one, Mapping)] if isinstance(links, list | tuple) else []
    linked = [name for one in others if isinstance(one, Mapping) for name in _named_by(one.get("reference"))]
    if names or linked:
        yield Mention(names, tuple(linked))


def _reference(value: Mapping[str, Any], *, about: bool | None) -> Iterator[Mention]:
    """Yield the patient that a reference names: by URL, by urn, by identifier, or by several of them."""
    text, kind = value.get("reference"), str(value.get("type") or "").rpartition("/")[2]
    identifiers = tuple(_identifiers(value.get("identifier")))
    names = _named_by(text)
    if names:
        yield Mention((*names, *identifiers))
    elif isinstance(text, str) and text.startswith("urn:"):
        if kind in ("", "Patient"):
            yield Mention((Identifier(text, _URI), *identifiers), is_sure=bool(about) or kind == "Patient")
    elif identifiers and (text is None or text == "" or str(text).startswith("#")):
        if kind == "Patient":
            yield Mention(identifiers)
        elif not kind and not any(one.type == _NPI or one.code in _PROVIDERS for one in identifiers):
            yield Mention(identifiers, is_sure=about is not None)


def _entry(full_url: str, resource: Mapping[str, Any]) -> Iterator[Mention]:
    """Yield the patient that the URL of a Bundle's entry names, together with the names of the Patient in that entry."""
    names: tuple[Patient, ...] = _named_by(full_url)
    if resource.get("resourceType") == "Patient":
        own = next(_patient(resource, is_contained=False), Mention(()))
        urn = (Identifier(full_url, _URI),) if full_url.startswith("urn:") else ()
        names = tuple(dict.fromkeys((*names, *own.names, *urn)))
    if names:
        yield Mention(names)


def _named_by(reference: Any) -> tuple[Patient, ...]:
    """Return the Patient that a URL refers to, by ID or by a query for identifiers; nothing for any other URL."""
    if not isinstance(reference, str):
        return ()
    if found := _TO_PATIENT.search(reference):
        return (found[1],)
    if not (found := _CONDITIONAL.search(reference)):
        return ()
    asked = [value for name, value in parse_qsl(found[1]) if name == "identifier"]
    tokens = [one.rpartition("|") for text in asked for one in text.split(",")]
    ids = [value for name, value in parse_qsl(found[1]) if name == "_id"]
    return (*ids, *(Identifier(value, system) for system, _, value in tokens if value))


def _identifiers(given: Any) -> Iterator[Identifier]:
    """Yield the identifiers of a FHIR element."""
    for one in given if isinstance(given, list | tuple) else [given]:
        if isinstance(one, Mapping) and isinstance(one.get("value"), str | int) and one["value"]:
            yield Identifier(str(one["value"]), str(one.get("system") or ""), _code(one.get("type")))


def _code(concept: Any) -> str:
    codings = concept.get("coding") if isinstance(concept, Mapping) else None
    for coding in codings if isinstance(codings, list | tuple) else ():
        if isinstance(coding, Mapping) and isinstance(coding.get("code"), str):
            return str(coding["code"])
    return ""


def _model_identifiers(person: Any, listed: str) -> Iterator[Identifier]:
    """Yield the identifiers of a person in a Data Model message."""
    found = person.get(listed) if isinstance(person, Mapping) else None
    for one in found if isinstance(found, list | tuple) else ():
        if isinstance(one, Mapping) and isinstance(one.get("ID"), str | int) and one["ID"]:
            yield Identifier(str(one["ID"]), str(one.get("IDType") or ""))
