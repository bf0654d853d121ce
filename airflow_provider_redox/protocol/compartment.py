"""The elements by which FHIR R4 resources refer to their patient: the Patient compartment, as element paths.

The types and parameters are those of https://hl7.org/fhir/R4/compartmentdefinition-patient.html. Each parameter is listed as
the path of the element that it searches (https://hl7.org/fhir/R4/searchparameter-registry.html). Four types that refer to a
patient but are not in the compartment follow it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_DEFINED = """
Account subject
AdverseEvent subject
AllergyIntolerance patient recorder asserter
Appointment participant.actor
AppointmentResponse actor
AuditEvent agent.who entity.what
Basic subject author
BodyStructure patient
CarePlan subject activity.detail.performer
CareTeam subject participant.member
ChargeItem subject
Claim patient payee.party
ClaimResponse patient
ClinicalImpression subject
Communication subject sender recipient
CommunicationRequest subject sender recipient requester
Composition subject author attester.party
Condition subject asserter
Consent patient
Coverage policyHolder subscriber beneficiary payor
CoverageEligibilityRequest patient
CoverageEligibilityResponse patient
DetectedIssue patient
DeviceRequest subject performer
DeviceUseStatement subject
DiagnosticReport subject
DocumentManifest subject author recipient
DocumentReference subject author
Encounter subject
EnrollmentRequest candidate
EpisodeOfCare patient
ExplanationOfBenefit patient payee.party
FamilyMemberHistory patient
Flag subject
Goal subject
Group member.entity
ImagingStudy subject
Immunization patient
ImmunizationEvaluation patient
ImmunizationRecommendation patient
Invoice subject recipient
List subject source
MeasureReport subject
Media subject
MedicationAdministration subject performer.actor
MedicationDispense subject receiver
MedicationRequest subject
MedicationStatement subject
MolecularSequence patient
NutritionOrder patient
Observation subject performer
Patient link.other
Person link.target
Procedure subject performer.actor
Provenance target
QuestionnaireResponse subject author
RelatedPerson patient
RequestGroup subject action.participant
ResearchSubject individual
RiskAssessment subject
Schedule actor
ServiceRequest subject performer
Specimen subject
SupplyDelivery patient
SupplyRequest deliverTo
VisionPrescription patient
"""

_BESIDES = """
Contract subject
Device patient
GuidanceResponse subject
Task for
"""

PATHS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    words[0]: tuple(tuple(path.split(".")) for path in words[1:])
    for words in map(str.split, (_DEFINED + _BESIDES).splitlines())
    if words
}
"""The elements of each type that may refer to its patient."""

_SUBJECTS = frozenset({"subject", "patient", "beneficiary", "for", "individual", "candidate"})


def referring(resource: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """Yield each reference of a resource to its patient, and whether its element is a subject."""
    for path in PATHS.get(str(resource.get("resourceType")), ()):
        for reference in _at(resource, path):
            yield reference, path[-1] in _SUBJECTS


def _at(value: Any, path: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list | tuple):
        for one in value:
            yield from _at(one, path)
    elif isinstance(value, Mapping):
        if path:
            yield from _at(value.get(path[0]), path[1:])
        else:
            yield value
