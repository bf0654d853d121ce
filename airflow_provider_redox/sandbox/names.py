"""The names that are fixed: destinations, environments, Data Model events, resource types. All IDs are invented."""

from __future__ import annotations

ORGANIZATION_ID = "100042"
ENVIRONMENT_ID = "5f1c3a52-7d0e-4c58-9b63-2f6f0a5d9e11"
QUIET_ENVIRONMENT_ID = "e2c7b1a4-90d3-4f6b-8a35-1c9d7e04b862"
"""Another environment of the organization, in which nothing ever happens."""
ENVIRONMENTS = ("Development", "Staging", "Production")
DESTINATIONS = {
    "general": {"slug": "general-hospital", "id": "0f4bd1d1-451d-4351-8cfd-b767d1b488d6"},
    "lakeside": {"slug": "lakeside-clinic", "id": "af394f14-b34a-464f-8d24-895f370af4c9"},
}
DESTINATION_NAMES = {destination["id"]: destination["slug"] for destination in DESTINATIONS.values()}

# Notifications: an answer of 200 means received, not delivered.
NOTIFICATIONS = {
    "Claim": "Payment PaymentBatch Submission SubmissionBatch",
    "ClinicalSummary": "PatientPush VisitPush",
    "Device": "New",
    "Financial": "AccountUpdate Transaction",
    "Flowsheet": "New",
    "Inventory": "Deplete Update",
    "Media": "Delete New Replace",
    "Medications": "Administration Cancel New Update",
    "Notes": "Delete New Replace",
    "Order": "Cancel GroupedOrders New Update",
    "Organization": "New Update",
    "PatientAdmin": "Arrival Cancel Discharge NewPatient PatientMerge PatientUpdate PreAdmit Registration Transfer"
    " VisitMerge VisitUpdate",
    "PatientEducation": "Delete New Update",
    "Provider": "Activate Deactivate New Update",
    "Referral": "AuthResponse AuthReview Cancel Modify New",
    "Research": "Study SubjectUpdate",
    "Results": "New NewUnsolicited",
    "Scheduling": "Cancel Modification New NoShow PushSlots Reschedule",
    "SSO": "Sign-on",
    "SurgicalScheduling": "Cancel Modification New NoShow Reschedule",
    "Vaccination": "Administration New",
}
# Queries: exactly one destination, the answer comes with the response.
QUERIES = {
    "ClinicalDecisions": {"Request": "Response"},
    "ClinicalSummary": dict.fromkeys(("DocumentGet", "DocumentQuery", "PatientQuery", "VisitQuery"), ""),
    "Enrichment": dict.fromkeys(("NaturalLanguageProcessingQuery", "NormalizationQuery"), ""),
    "Media": {"Query": ""},
    "Notes": {"Query": ""},
    "Order": {"Query": ""},
    "Organization": {"Query": ""},
    "PatientAdmin": {"CensusQuery": "", "VisitQuery": ""},
    "PatientSearch": {"Query": "Response", "LocationQuery": ""},
    "Provider": {"ProviderQuery": ""},
    "Referral": {"Query": ""},
    "Results": {"Query": ""},
    "Scheduling": {"AvailableSlots": "", "Booked": ""},
    "Vaccination": {"PatientQuery": ""},
}

RESOURCE_TYPES = frozenset(  # a block of words reads better than 148 quoted lines
    """
Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse AuditEvent Basic Binary
BiologicallyDerivedProduct BodyStructure Bundle CapabilityStatement CarePlan CareTeam CatalogEntry ChargeItem
ChargeItemDefinition Claim ClaimResponse ClinicalImpression CodeSystem Communication CommunicationRequest
CompartmentDefinition Composition ConceptMap Condition Consent Contract Coverage CoverageEligibilityRequest
CoverageEligibilityResponse DetectedIssue Device DeviceDefinition DeviceMetric DeviceRequest DeviceUseStatement
DiagnosticReport DocumentManifest DocumentReference EffectEvidenceSynthesis Encounter Endpoint EnrollmentRequest
EnrollmentResponse EpisodeOfCare EventDefinition Evidence EvidenceVariable ExampleScenario ExplanationOfBenefit
FamilyMemberHistory Flag Goal GraphDefinition Group GuidanceResponse HealthcareService ImagingStudy Immunization
ImmunizationEvaluation ImmunizationRecommendation ImplementationGuide InsurancePlan Invoice Library Linkage List
Location Measure MeasureReport Media Medication MedicationAdministration MedicationDispense MedicationKnowledge
MedicationRequest MedicationStatement MedicinalProduct MessageDefinition MessageHeader MolecularSequence NamingSystem
NutritionOrder Observation ObservationDefinition OperationDefinition OperationOutcome Organization
OrganizationAffiliation Parameters Patient PaymentNotice PaymentReconciliation Person PlanDefinition Practitioner
PractitionerRole Procedure Provenance Questionnaire QuestionnaireResponse RelatedPerson RequestGroup
ResearchDefinition ResearchElementDefinition ResearchStudy ResearchSubject RiskAssessment RiskEvidenceSynthesis
Schedule SearchParameter ServiceRequest Slot Specimen SpecimenDefinition StructureDefinition StructureMap Subscription
Substance SupplyDelivery SupplyRequest Task TerminologyCapabilities TestReport TestScript ValueSet VerificationResult
VisionPrescription
""".split()  # noqa: SIM905
)
