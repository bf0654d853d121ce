"""Who was shown what of whom, and why: a disclosure, as FHIR R4 AuditEvents after IHE's Basic Audit Log Patterns.

The patterns (BALP 1.1, profiles Query, Read, Create and their Patient kin) want one event for each patient, so that an
event answers for one. Where they want the request as it was made, there are the names of its parameters and a keyed hash of
their values: the same question can be recognised, and not read. Patients are in the events alone that `events` gives;
`summary` is the same event without any.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow_provider_redox.protocol.patients import Identifier, Patient

PROFILES = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."

SUCCESS, REFUSED, FAILED = "0", "4", "8"
"""Codes of FHIR's audit-event-outcome: success, a minor failure, a serious one."""

TRACES_AT_MOST = 100
"""Trace IDs and log IDs of one event, each."""

_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_SOURCE = {"coding": [{"system": _DCM, "code": "110153", "display": "Source Role ID"}]}
_DESTINATION = {"coding": [{"system": _DCM, "code": "110152", "display": "Destination Role ID"}]}
_TERMS = "http://terminology.hl7.org/CodeSystem"
_PERSON = {"system": f"{_TERMS}/audit-entity-type", "code": "1", "display": "Person"}
_OBJECT = {"system": f"{_TERMS}/audit-entity-type", "code": "2", "display": "System Object"}
_OTHER = {"system": f"{_TERMS}/audit-entity-type", "code": "4", "display": "Other"}
_ROLES = f"{_TERMS}/object-role"


class Interaction(NamedTuple):
    """What was done, in the words of FHIR's RESTful interactions and of the pattern for it.

    :param profile: the pattern's; empty when there is none.
    :param is_sending: whether patients go out with it, so that it is recorded before it is done.
    """

    code: str
    action: str
    profile: str
    client: Mapping[str, Any]
    server: Mapping[str, Any]
    user: str
    is_sending: bool = False


SEARCH = Interaction("search-type", "E", "Query", _SOURCE, _DESTINATION, "IRCP")
READ = Interaction("read", "R", "Read", _DESTINATION, _SOURCE, "IRCP")
CREATE = Interaction("create", "C", "Create", _SOURCE, _DESTINATION, "AUT", is_sending=True)
OPERATION = Interaction("operation", "E", "", _SOURCE, _DESTINATION, "AUT", is_sending=True)

_USERS = {"IRCP": "information recipient", "AUT": "Author"}


@dataclass(frozen=True, slots=True)
class Requester:
    """On whose behalf: the OAuth client, and the task instance.

    :param user: who triggered the DAG run, where Airflow knows it.
    :param purpose: a code of HL7's PurposeOfUse.
    """

    client_id: str
    key_id: str
    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    map_index: int = -1
    try_number: int = 0
    owner: str = ""
    user: str = ""
    host: str = ""
    purpose: str | None = None

    @property
    def task(self) -> dict[str, str]:
        """What tells the task instance from others."""
        facts = {
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "task_id": self.task_id,
            "map_index": str(self.map_index) if self.map_index >= 0 else "",
            "try_number": str(self.try_number) if self.try_number else "",
            "owner": self.owner,
            "triggering_user": self.user,
        }
        return {name: value for name, value in facts.items() if value}


@dataclass(slots=True)
class Disclosure:
    """One use of patients' data, while it is made.

    :param what: a resource type, or a data model and its event, or the label of a request.
    :param server: the URL that patients' logical IDs are relative to.
    :param asked: what was asked for or sent, by the names of its parts; only a keyed hash of each part is recorded.
    :param unnamed: resources and messages that name no patient.
    :param announced: an ID, when it is on record already that this is going to be done.
    :param outcome: a code of audit-event-outcome, where no error tells it; and `said` why.
    """

    interaction: Interaction
    what: str
    server: str
    destination: str = ""
    environment: str = ""
    asked: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    patients: dict[Patient, None] = field(default_factory=dict, repr=False)
    unnamed: int = 0
    trace_ids: list[str] = field(default_factory=list)
    log_ids: list[str] = field(default_factory=list)
    announced: str = ""
    outcome: str = ""
    said: str = ""

    def outcome_of(self, error: BaseException | None) -> str:
        """Give the code of audit-event-outcome."""
        if error is None:
            return self.outcome or SUCCESS
        refused = getattr(error, "status", 0) >= 400 and not getattr(error, "may_have_arrived", False)
        return REFUSED if refused else FAILED

    def saw(self, patients: Iterable[Patient]) -> None:
        """Take down the patients of one resource or message."""
        found = dict.fromkeys(patients)
        self.patients |= found
        self.unnamed += not found

    def also(self, patients: Iterable[Patient]) -> None:
        """Take down patients that an answer names besides."""
        self.patients |= dict.fromkeys(patients)

    def answered(self, *, trace_id: str | None = None, log_ids: Iterable[str] = ()) -> None:
        """Take down the IDs by which Redox can find it."""
        if trace_id is not None and len(self.trace_ids) < TRACES_AT_MOST:
            self.trace_ids.append(trace_id)
        self.log_ids += [*log_ids][: TRACES_AT_MOST - len(self.log_ids)]


@dataclass(frozen=True, slots=True)
class Moment:
    """What became of it, and when that was written down.

    :param outcome: a code of FHIR's audit-event-outcome; None while it is not done yet.
    :param said: why it failed, without content.
    :param hashed: makes the keyed hash.
    :param new_id: gives a fresh ID.
    """

    recorded: str
    hashed: Callable[[bytes], str]
    new_id: Callable[[], str]
    outcome: str | None = None
    said: str = ""


def events(disclosure: Disclosure, requester: Requester, moment: Moment) -> Iterator[dict[str, Any]]:
    """Give the events of a disclosure: one for each patient, or one when it names none."""
    common = summary(disclosure, requester, moment)
    entities = common.pop("entity")
    profile = disclosure.interaction.profile
    if not disclosure.patients:
        yield {**common, **_profiled(profile, moment), "id": moment.new_id(), "entity": entities}
        return
    traced = entities
    for patient in disclosure.patients:
        person = {"what": _named(patient, disclosure.server), "type": _PERSON, "role": _role("1", "Patient")}
        event = {"resourceType": "AuditEvent", **_profiled(profile and f"Patient{profile}", moment), **common}
        yield {**event, "id": moment.new_id(), "entity": [*traced, person]}
        traced = [entity for entity in entities if "name" not in entity]  # the IDs by which Redox finds it are told once


def summary(disclosure: Disclosure, requester: Requester, moment: Moment) -> dict[str, Any]:
    """Give the event of a disclosure without its patients, of whom it tells the number."""
    interaction = disclosure.interaction
    why = {"purposeOfEvent": [_purpose(requester.purpose)]} if requester.purpose else {}
    outcome = {"outcome": moment.outcome} if moment.outcome else {}
    said = {"outcomeDesc": moment.said} if moment.said else {}
    return {
        "resourceType": "AuditEvent",
        "type": {"system": f"{_TERMS}/audit-event-type", "code": "rest", "display": "Restful Operation"},
        "subtype": [
            {
                "system": "http://hl7.org/fhir/restful-interaction",
                "code": interaction.code,
                "display": interaction.code,
            }
        ],
        "action": interaction.action,
        "recorded": moment.recorded,
        **outcome,
        **said,
        **why,
        "agent": _agents(disclosure, requester),
        "source": {
            "observer": {"display": f"airflow-provider-redox on {requester.host or 'a host that is not known'}"},
            "type": [{"system": f"{_TERMS}/security-source-type", "code": "4", "display": "Application Server"}],
        },
        "entity": _entities(disclosure, requester, moment),
    }


def _profiled(profile: str, moment: Moment) -> dict[str, Any]:
    """Claim a pattern where it fits: they are for what was done with success."""
    return {"meta": {"profile": [PROFILES + profile]}} if profile and moment.outcome == SUCCESS else {}


def _agents(disclosure: Disclosure, requester: Requester) -> list[dict[str, Any]]:
    interaction = disclosure.interaction
    who = requester.user or requester.owner or requester.dag_id or "unknown"
    purpose = {"purposeOfUse": [_purpose(requester.purpose)]} if requester.purpose else {}
    client = {"identifier": {"type": {"text": "OAuth client ID"}, "value": requester.client_id}}
    return [
        {
            "type": interaction.client,
            "who": client,
            "altId": requester.key_id,
            "requestor": False,
            "network": {"address": requester.host or "unknown", "type": "1"},
        },
        {
            "type": interaction.server,
            "who": {"display": disclosure.server},
            "requestor": False,
            "network": {"address": disclosure.server, "type": "5"},
        },
        {
            "type": {
                "coding": [
                    {
                        "system": f"{_TERMS}/v3-ParticipationType",
                        "code": interaction.user,
                        "display": _USERS[interaction.user],
                    }
                ]
            },
            "who": {"identifier": {"value": who}},
            "requestor": True,
            **purpose,
        },
    ]


def _entities(disclosure: Disclosure, requester: Requester, moment: Moment) -> list[dict[str, Any]]:
    task = {
        "announced": disclosure.announced,
        "destination": disclosure.destination,
        "environment": disclosure.environment,
        **requester.task,
        "patients": str(len(disclosure.patients)) if disclosure.patients or disclosure.unnamed else "",
        "without_patient": str(disclosure.unnamed) if disclosure.unnamed else "",
    }
    name = "/".join(filter(None, (requester.dag_id, requester.run_id, requester.task_id))) or "outside of a task"
    job = {"what": {"display": name}, "type": _OTHER, "role": _role("20", "Job"), "detail": _details(task)}
    ids = [("Redox trace IDs", disclosure.trace_ids), ("Redox log IDs", disclosure.log_ids)]
    traced = [
        {
            "what": {"display": title},
            "type": _OTHER,
            "name": title,
            "detail": _details({str(n): one for n, one in enumerate(of)}),
        }
        for title, of in ids
        if of
    ]
    return [_subject(disclosure, moment), job, *traced]


def _subject(disclosure: Disclosure, moment: Moment) -> dict[str, Any]:
    """Say what was asked for, or what went out."""
    hashes = {name: moment.hashed(content) for name, content in disclosure.asked.items()}
    if disclosure.interaction is SEARCH:
        query = f"{disclosure.what}?{'&'.join(f'{name}={value}' for name, value in hashes.items())}"
        names = f"{disclosure.what}?{'&'.join(hashes)}"
        encoded = base64.b64encode(query.encode()).decode()
        return {"type": _OBJECT, "role": _role("24", "Query"), "description": names, "query": encoded}
    detail = {"detail": _details(hashes)} if hashes else {}
    return {"what": {"display": disclosure.what}, "type": _OBJECT, "role": _role("4", "Domain Resource"), **detail}


def _details(facts: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"type": name, "valueString": value} for name, value in facts.items() if value]


def _role(code: str, display: str) -> dict[str, str]:
    return {"system": _ROLES, "code": code, "display": display}


def _purpose(code: str) -> dict[str, Any]:
    return {"coding": [{"system": f"{_TERMS}/v3-ActReason", "code": code}]}


def _named(patient: Patient, server: str) -> dict[str, Any]:
    if isinstance(patient, Identifier):
        kind = {"type": {"text": patient.type}} if patient.type else {}
        return {"identifier": {**kind, "value": patient.value}, "type": "Patient"}
    return {"reference": f"{server}/Patient/{patient}"}
