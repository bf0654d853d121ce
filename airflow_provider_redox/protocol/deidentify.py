"""Samples without persons, for development: FHIR resources from which all goes that is not known to be harmless.

What stays is what a list names: codes of public terminologies, numbers with their units, flags, statuses, years, and
references among the resources of the sample, by new IDs. All other text goes, whatever element it stands in: names,
addresses, identifiers, narratives, notes, displays, extensions, attachments; and ages. Dates are cut to their year, and a
year that is more than 89 years ago to 89, as the Safe Harbor rule of HIPAA (45 CFR 164.514(b)(2)) has it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PUBLIC = frozenset(
    {
        "http://loinc.org",
        "http://snomed.info/sct",
        "http://unitsofmeasure.org",
        "http://www.nlm.nih.gov/research/umls/rxnorm",
        "http://www.ama-assn.org/go/cpt",
        "http://hl7.org/fhir/sid/cvx",
        "http://hl7.org/fhir/sid/icd-10",
        "http://hl7.org/fhir/sid/icd-10-cm",
        "http://hl7.org/fhir/sid/icd-9-cm",
        "http://hl7.org/fhir/sid/ndc",
        "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical",
        "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification",
        "http://terminology.hl7.org/CodeSystem/condition-category",
        "http://terminology.hl7.org/CodeSystem/condition-clinical",
        "http://terminology.hl7.org/CodeSystem/condition-ver-status",
        "http://terminology.hl7.org/CodeSystem/observation-category",
        "http://terminology.hl7.org/CodeSystem/v3-ActCode",
        "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus",
        "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
    }
)
"""Systems whose codes say nothing of a person."""

UCUM = "http://unitsofmeasure.org"

RESOURCE_TYPES = frozenset(
    [
        "Account",
        "ActivityDefinition",
        "AdverseEvent",
        "AllergyIntolerance",
        "Appointment",
        "AppointmentResponse",
        "Basic",
        "Binary",
        "BodyStructure",
        "Bundle",
        "CarePlan",
        "CareTeam",
        "ChargeItem",
        "Claim",
        "ClaimResponse",
        "ClinicalImpression",
        "Communication",
        "CommunicationRequest",
        "Composition",
        "Condition",
        "Consent",
        "Contract",
        "Coverage",
        "DetectedIssue",
        "Device",
        "DeviceRequest",
        "DeviceUseStatement",
        "DiagnosticReport",
        "DocumentManifest",
        "DocumentReference",
        "Encounter",
        "Endpoint",
        "EpisodeOfCare",
        "ExplanationOfBenefit",
        "FamilyMemberHistory",
        "Flag",
        "Goal",
        "Group",
        "GuidanceResponse",
        "HealthcareService",
        "ImagingStudy",
        "Immunization",
        "ImmunizationEvaluation",
        "ImmunizationRecommendation",
        "Invoice",
        "List",
        "Location",
        "Media",
        "Medication",
        "MedicationAdministration",
        "MedicationDispense",
        "MedicationRequest",
        "MedicationStatement",
        "MessageHeader",
        "NutritionOrder",
        "Observation",
        "Organization",
        "OrganizationAffiliation",
        "Parameters",
        "Patient",
        "Person",
        "PlanDefinition",
        "Practitioner",
        "PractitionerRole",
        "Procedure",
        "Provenance",
        "Questionnaire",
        "QuestionnaireResponse",
        "RelatedPerson",
        "RequestGroup",
        "ResearchStudy",
        "ResearchSubject",
        "RiskAssessment",
        "Schedule",
        "ServiceRequest",
        "Slot",
        "Specimen",
        "Subscription",
        "Substance",
        "SupplyDelivery",
        "SupplyRequest",
        "Task",
        "ValueSet",
        "VisionPrescription",
    ]
)
"""FHIR R4's types of resources that hold data of care; what claims another type is left out."""

AGES = frozenset({"30525-0", "21612-7", "29553-5", "35659-2", "39016-1", "63900-5"})
"""LOINC's codes of ages."""

_CODE = re.compile(r"[A-Za-z0-9._/{}\[\]%*^:-]{1,20}")
_WORDS = re.compile(r"[A-Za-z][A-Za-z-]{0,40}")
_YEAR = re.compile(r"(\d{4})(?:-|$)")
_CODES = frozenset(
    {
        "resourceType",
        "status",
        "docStatus",
        "gender",
        "intent",
        "priority",
        "use",
        "mode",
        "criticality",
        "severity",
        "comparator",
        "language",
    }
)
"""Elements whose values are words of FHIR's own: letters and hyphens only."""

_DATES = re.compile(r".*(?:Date|DateTime|Instant)|date|issued|start|end|recorded|created|authoredOn|sent|received")
_DROPPED = frozenset({"text", "meta", "identifier", "contained", "extension", "modifierExtension", "implicitRules"})
_OLDEST = 89


@dataclass(frozen=True, slots=True)
class Deidentifier:
    """Takes persons out of resources. Raises ValueError, without any of it, for what is of no known type.

    :param key: what new IDs are made with. Throw it away, and nobody finds the way back.
    :param year: the year that ages are counted to.
    """

    key: bytes
    year: int

    def resource(self, resource: Mapping[str, Any]) -> dict[str, Any]:
        """Give what is left of a resource."""
        kind, identity = str(resource.get("resourceType")), str(resource.get("id"))
        if kind not in RESOURCE_TYPES:
            raise ValueError("not a type of resource that is known to be harmless")
        left = self._mapping(resource)
        return {"resourceType": kind, "id": self.new_id(kind, identity), **left}

    def new_id(self, kind: str, identity: str) -> str:
        """Give the ID that stands for another one: the same for the same."""
        return hmac.new(self.key, f"{kind}/{identity}".encode(), hashlib.sha256).hexdigest()[:32]

    def _mapping(self, value: Mapping[str, Any]) -> dict[str, Any]:
        if "reference" in value:
            return self._reference(value)
        if isinstance(value.get("system"), str) or isinstance(value.get("code"), str):
            return self._coded(value)
        ages = _is_age("", value)
        left = {
            name: self._element(name, part)
            for name, part in value.items()
            if name not in (*_DROPPED, "id") and not _is_age(name, {}) and not (ages and name.startswith("value"))
        }
        return {name: part for name, part in left.items() if part is not None}

    def _element(self, name: str, part: Any) -> Any:
        """Give what is left of an element; None for nothing."""
        if name.startswith("_"):  # extensions of a primitive
            return None
        if isinstance(part, Mapping):
            return self._mapping(part) or None
        if isinstance(part, list):
            return [left for one in part if (left := self._element(name, one)) is not None] or None
        if isinstance(part, bool):
            return part
        if isinstance(part, int | float):
            return part if name in ("value", "low", "high", "quantity", "count") else None
        return self._text(name, part) if isinstance(part, str) else None

    def _text(self, name: str, text: str) -> str | None:
        if name in _CODES:
            return text if _WORDS.fullmatch(text) and len(text) <= 20 else None
        if _DATES.fullmatch(name) and (found := _YEAR.match(text)):
            return self._year(found[1])
        return None

    def _year(self, born: str) -> str:
        return str(max(int(born), self.year - _OLDEST))

    def _coded(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a code of a public terminology, and the number of a quantity; of any other code nothing."""
        system, code, number = value.get("system"), value.get("code"), value.get("value")
        left: dict[str, Any] = {}
        if system in PUBLIC and isinstance(code, str) and _CODE.fullmatch(code):
            left = {"system": system, "code": code} | ({"unit": code} if system == UCUM and "unit" in value else {})
        if isinstance(number, int | float) and not isinstance(number, bool) and not _counts_years(value):
            left["value"] = number
        return left

    def _reference(self, value: Mapping[str, Any]) -> dict[str, Any]:
        kind, _, identity = str(value["reference"])[:500].partition("/_history/")[0].rpartition("/")
        kind = kind.rpartition("/")[2]
        return {"reference": f"{kind}/{self.new_id(kind, identity)}"} if kind in RESOURCE_TYPES and identity else {}


def _counts_years(value: Mapping[str, Any]) -> bool:
    """Say whether a quantity is a time as long as a life may be: years, months."""
    return value.get("system") == UCUM and value.get("code") in ("a", "mo")


def _is_age(name: str, value: Mapping[str, Any]) -> bool:
    """Say whether an element is an age, or an observation of one."""
    coding = value.get("code", {}).get("coding") if isinstance(value.get("code"), Mapping) else None
    codes = {one.get("code") for one in coding if isinstance(one, Mapping)} if isinstance(coding, list) else set()
    ranged = name.lower().endswith(("agerange", "onsetrange", "abatementrange", "deceasedrange", "performedrange"))
    return name.lower().endswith("age") or ranged or not AGES.isdisjoint(codes)
