"""Writebacks: a message Bundle to an operation."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from .conftest import KEVA, Client

FHIR_JSON = {"Content-Type": "application/fhir+json"}


def bundle(*resources: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Make a message Bundle: a MessageHeader, then the resources."""
    header = {
        "resourceType": "MessageHeader",
        "id": str(uuid.uuid4()),
        "eventUri": "https://fhir.redoxengine.com/EventDefinition/ObservationCreate",
        "source": {"name": "test", "endpoint": "urn:uuid:7ce6f387-c33c-417d-8682-81e83628cbd9"},
    } | changes
    return {"resourceType": "Bundle", "type": "message", "entry": [{"resource": row} for row in (header, *resources)]}


def observation(**changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "subject": {"reference": "Patient/p1"},
        "code": {"coding": [{"system": "http://loinc.org", "code": "59408-5"}]},
    } | changes


def patient() -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [{"system": "urn:redox:general:MR", "value": "0000000001"}],
    }


def write(redox: Client, path: str, body: Any) -> Any:
    return redox.call("POST", redox.fhir(path), json=body, headers=FHIR_JSON)


def test_a_written_observation_can_be_searched(redox: Client) -> None:
    """The resource gets an ID, a version and a time of its own, and its subject is the patient in the store."""
    sent = bundle(patient(), observation())
    answer = write(redox, "Observation/$observation-create", sent)
    assert answer.status_code == 200
    (stored,) = redox.found("Observation", {"patient": KEVA, "code": "59408-5"})
    assert stored["id"] != "o1"
    assert stored["subject"]["reference"] == f"Patient/{KEVA}"
    assert stored["meta"]["versionId"] == "1"
    assert redox.control("GET", "stats").json()["resources_by_type"]["Patient"] == 200


def test_the_answer_says_ok_and_which_message_it_answers(redox: Client) -> None:
    """The answer is a message Bundle with a MessageHeader: response.code ok, the identifier that was sent."""
    sent = bundle(observation())
    answer = write(redox, "Observation/$observation-create", sent).json()
    header = answer["entry"][0]["resource"]
    assert (answer["type"], header["resourceType"]) == ("message", "MessageHeader")
    assert header["response"] == {"identifier": sent["entry"][0]["resource"]["id"], "code": "ok"}
    assert answer["identifier"]["value"] in redox.control("GET", "messages").json()[0]["logs"]


def test_a_match_is_not_included_once_more(redox: Client) -> None:
    """What is on the page as a match does not come again as an include, even if another match refers to it."""
    one, two = {"resourceType": "Basic", "id": "b1"}, {"resourceType": "Basic", "subject": {"reference": "Basic/b1"}}
    assert write(redox, "Basic/$basic-create", bundle(one, two)).status_code == 200
    entries = redox.search("Basic", {"_count": "9", "_include": "Basic:subject"}).json()["entry"]
    assert [entry["search"]["mode"] for entry in entries] == ["match", "match"]


def test_an_encoded_dollar_is_a_dollar(redox: Client) -> None:
    """Some clients percent-encode the operation's first character."""
    assert write(redox, "Observation/%24observation-create", bundle(observation())).status_code == 200


def test_a_new_patient_is_created(redox: Client) -> None:
    """A create makes a new record, even for an identifier that is known."""
    assert write(redox, "Patient/$patient-create", bundle(patient())).status_code == 200
    assert len(redox.found("Patient", {"identifier": "urn:redox:general:MR|0000000001"})) == 2


def test_an_update_makes_the_next_version(redox: Client) -> None:
    """An update finds the record by ID or identifier and replaces it under its ID."""
    changed = patient() | {"birthDate": "1995-08-27"}
    assert write(redox, "Patient/$patient-update", bundle(changed)).status_code == 200
    found = redox.call("GET", redox.fhir(f"Patient/{KEVA}")).json()
    assert (found["birthDate"], found["meta"]["versionId"]) == ("1995-08-27", "2")


def test_an_update_of_nobody_is_refused(redox: Client) -> None:
    """An update without a record to replace gets 404, and nothing is stored."""
    stranger = {"resourceType": "Patient", "identifier": [{"system": "urn:x", "value": "1"}]}
    assert write(redox, "Patient/$patient-update", bundle(stranger)).status_code == 404
    assert redox.control("GET", "messages").json() == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"resourceType": "Patient"},
        bundle(observation()) | {"type": "transaction"},
        {"resourceType": "Bundle", "type": "message"},
        {"resourceType": "Bundle", "type": "message", "entry": [{}]},
        {"resourceType": "Bundle", "type": "message", "entry": [{"resource": observation()}]},
        bundle(patient()),
        bundle(observation(), eventUri=None),
        bundle(observation(), source=None),
        bundle(observation(), source={"name": "no endpoint"}),
    ],
)
def test_what_is_no_message_is_refused(redox: Client, body: Any) -> None:
    """Without the type message, a MessageHeader first, its event and source, or a resource of the type: 400."""
    answer = write(redox, "Observation/$observation-create", body)
    assert (answer.status_code, answer.json()["resourceType"]) == (400, "OperationOutcome")
    assert redox.control("GET", "messages").json() == []


def test_a_writeback_is_fhir_json(redox: Client) -> None:
    """application/json is not application/fhir+json: 415."""
    answer = redox.call("POST", redox.fhir("Observation/$observation-create"), json=bundle(observation()))
    assert answer.status_code == 415


@pytest.mark.parametrize("path", ["Observation/$patient-create", "Patient/$patient-delete", "Patient/$match"])
def test_an_operation_belongs_to_its_type(redox: Client, path: str) -> None:
    """Only $<type>-create and $<type>-update of the type in the path exist: else 404."""
    assert write(redox, path, bundle(patient())).status_code == 404


def test_a_body_of_forty_megabytes_is_the_largest(redox: Client) -> None:
    """Above 40 MB the answer is 413, whether the body is a little or a lot larger."""
    for size in (40 * 1024 * 1024 + 1, 45 * 1024 * 1024):
        options = {"data": b" " * size, "headers": FHIR_JSON}
        assert redox.call("POST", redox.fhir("Patient/$patient-create"), **options).status_code == 413
    redox.control("DELETE", "ledger")


def test_the_source_is_in_the_header_of_the_message(redox: Client) -> None:
    """Where there are several sources, MessageHeader.source.endpoint names one."""
    redox.settings(source_id="7ce6f387-c33c-417d-8682-81e83628cbd9")
    assert write(redox, "Observation/$observation-create", bundle(observation())).status_code == 200
    other = bundle(observation(), source={"endpoint": "urn:uuid:00000000-0000-4000-8000-000000000000"})
    assert write(redox, "Observation/$observation-create", other).status_code == 400
