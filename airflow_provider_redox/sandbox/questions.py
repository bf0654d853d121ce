"""What the destinations answer to Data Model queries: the patients of the store in Redox's shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .store import Resource, Store

SEX = {"female": "Female", "male": "Male", "other": "Other"}


def answer(store: Store, model: str, event: str, message: dict[str, Any]) -> dict[str, Any]:
    """Return the body beside Meta; a query without an answer of its own gets an empty one."""
    if (model, event) == ("PatientSearch", "Query"):
        return _patient_search(store, message)
    if (model, event) == ("ClinicalSummary", "PatientQuery"):
        return _clinical_summary(store, message)
    if model == "Scheduling":
        return {"Visits": []}
    return {}


def _patient_search(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    """Answer with the one match, or the several, or none: never with a guess."""
    found = [_patient(resource) for resource in matches(store, message.get("Patient"))]
    if len(found) == 1:
        return {"Patient": found[0], "PotentialMatches": []}
    return {"PotentialMatches": found}


def _clinical_summary(store: Store, message: dict[str, Any]) -> dict[str, Any]:
    found = matches(store, message.get("Patient"))
    if len(found) != 1:
        return {"Header": {"Patient": {"Identifiers": []}}, "Problems": [], "VitalSigns": []}
    key = found[0]["id"]
    return {
        "Header": {"Document": {"Title": "Patient summary", "Locale": "US"}, "Patient": _patient(found[0])},
        "Problems": [_problem(resource) for resource in store.of_patient("Condition", key)],
        "VitalSigns": [_vital(resource) for resource in store.of_patient("Observation", key) if _measured(resource)],
    }


def matches(store: Store, patient: object) -> list[Resource]:
    """Find patients by any identifier, else by first name, last name and birth date together."""
    if not isinstance(patient, dict):
        return []
    wanted = {str(row.get("ID")) for row in _rows(patient.get("Identifiers")) if row.get("ID")}
    if wanted:
        return [found for found in store.all("Patient") if wanted & {value for value, _ in _identifiers(found)}]
    demographics = patient.get("Demographics")
    person = _person(demographics) if isinstance(demographics, dict) else ("", "", "")
    return [found for found in store.all("Patient") if _person_of(found) == person] if all(person) else []


def _rows(value: object) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _person(demographics: dict[str, Any]) -> tuple[str, str, str]:
    first, last = demographics.get("FirstName", ""), demographics.get("LastName", "")
    return str(first).casefold(), str(last).casefold(), str(demographics.get("DOB", ""))


def _person_of(patient: Resource) -> tuple[str, str, str]:
    given, family = _name(patient)
    return given.casefold(), family.casefold(), str(patient.get("birthDate", ""))


def _name(patient: Resource) -> tuple[str, str]:
    name = _first(patient.get("name"))
    given = name.get("given") or [""]
    return str(given[0]) if isinstance(given, list) else "", str(name.get("family", ""))


def _first(value: object) -> dict[str, Any]:
    return next(iter(_rows(value)), {})


def _identifiers(patient: Resource) -> list[tuple[str, str]]:
    rows = _rows(patient.get("identifier"))
    return [(str(row.get("value", "")), str(row.get("system", "")).rpartition(":")[2]) for row in rows]


def _patient(patient: Resource) -> dict[str, Any]:
    given, family = _name(patient)
    phones = [row.get("value") for row in _rows(patient.get("telecom")) if row.get("system") == "phone"]
    return {
        "Identifiers": [{"ID": value, "IDType": kind} for value, kind in _identifiers(patient)],
        "Demographics": {
            "FirstName": given,
            "LastName": family,
            "DOB": patient.get("birthDate", ""),
            "Sex": SEX.get(str(patient.get("gender")), "Unknown"),
            "PhoneNumber": {"Home": phones[0]} if phones else {},
            "Address": _address(_first(patient.get("address"))),
        },
        "Notes": [],
    }


def _address(address: dict[str, Any]) -> dict[str, Any]:
    lines = address.get("line")
    return {
        "StreetAddress": ", ".join(map(str, lines)) if isinstance(lines, list) else "",
        "City": address.get("city"),
        "State": address.get("state"),
        "ZIP": address.get("postalCode"),
    }


def _coding(resource: Resource) -> dict[str, Any]:
    concept = resource.get("code")
    coding = _first(concept.get("coding")) if isinstance(concept, dict) else {}
    return {"Code": coding.get("code"), "CodeSystem": coding.get("system"), "Name": coding.get("display")}


def _problem(condition: Resource) -> dict[str, Any]:
    return _coding(condition) | {"StartDate": condition.get("onsetDateTime"), "Status": {"Name": "Active"}}


def _measured(observation: Resource) -> bool:
    return isinstance(observation.get("valueQuantity"), dict)


def _vital(observation: Resource) -> dict[str, Any]:
    quantity = observation["valueQuantity"]
    value = {"Value": str(quantity.get("value")), "Units": quantity.get("unit")}
    return _coding(observation) | value | {"DateTime": observation.get("effectiveDateTime")}
