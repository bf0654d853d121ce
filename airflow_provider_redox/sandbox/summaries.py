"""Parts of resources: ``_elements``, and ``_summary`` as FHIR R4 marks it (search.html#summary)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .answers import refuse_fhir

if TYPE_CHECKING:
    from .store import Resource

SUMMARY = {
    "Patient": "identifier active name telecom gender birthDate deceasedBoolean deceasedDateTime address "
    "managingOrganization link",
    "Observation": "identifier basedOn partOf status code subject focus encounter effectiveDateTime effectivePeriod issued "
    "performer valueQuantity valueCodeableConcept valueString valueBoolean valueInteger valueRange hasMember derivedFrom "
    "component",
    "Condition": "identifier clinicalStatus verificationStatus code bodySite subject encounter onsetDateTime onsetAge "
    "onsetPeriod onsetString recordedDate recorder asserter",
    "Encounter": "identifier status class type priority subject episodeOfCare participant appointment reasonCode "
    "reasonReference diagnosis",
    "DocumentReference": "masterIdentifier identifier status docStatus type category subject date author relatesTo "
    "description securityLabel content context",
}
"""The summary elements of the types that the population has."""

MANDATORY = {
    "Observation": "status code",
    "Condition": "subject",
    "Encounter": "status class",
    "DocumentReference": "status content",
}

_SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}


def elements_of(resource_type: str, summary: str | None, listed: str) -> tuple[str, ...]:
    """Return the elements that a search wants; none for whole resources. ``-text`` is all but the narrative."""
    named = tuple(filter(None, listed.split(",")))
    if named or summary in (None, "false", "count"):
        return named
    if summary == "data":
        return ("-text",)
    if summary == "text":
        return ("text", *MANDATORY.get(resource_type, "").split())
    if summary != "true":
        refuse_fhir(400, "value", "_summary: true, text, data, count or false")
    if resource_type not in SUMMARY:
        refuse_fhir(400, "not-supported", f"_summary: not known for {resource_type}")
    return tuple(SUMMARY[resource_type].split())


def project(resource: Resource, elements: tuple[str, ...]) -> Resource:
    """Return the part of a resource that is wanted, marked as a part."""
    if not elements:
        return resource
    if elements == ("-text",):
        kept = {key: value for key, value in resource.items() if key != "text"}
    else:
        kept = {key: value for key, value in resource.items() if key in {"resourceType", "id", *elements}}
    return kept | {"meta": resource["meta"] | {"tag": [_SUBSETTED]}}
