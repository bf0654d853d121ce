"""The message Bundle of a writeback: what it must be, and the MessageHeader that it gets when it has none."""

from __future__ import annotations

import copy
import json
import uuid
from typing import Any

import pytest

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.calls import Calls
from airflow_provider_redox.protocol.destinations import Destination
from airflow_provider_redox.protocol.message_header import NO_SOURCE, completed, new_message_id

from .flows import World, answer, said_by
from .material import settings

SOURCE = "7ce6f387-c33c-417d-8682-81e83628cbd9"
GENERAL = Destination("general", slug="general-hospital", id="0f4bd1d1-451d-4351-8cfd-b767d1b488d6")
OBSERVATION = {"resourceType": "Observation", "id": "o1", "status": "final"}
PATIENT = {"resourceType": "Patient", "id": "p1"}
HEADER = {"resourceType": "MessageHeader", "eventUri": "urn:own", "source": {"endpoint": "urn:own"}}


def bundle(*resources: Any, **changes: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "message", "entry": [{"resource": row} for row in resources], **changes}


def whole(given: Any, **options: Any) -> Any:
    known = {"resource_type": "Observation", "operation": "$observation-create", "message_id": "m-1", "source_id": SOURCE}
    return completed(given, **{**known, **options})


def header_of(given: Any, **options: Any) -> Any:
    return whole(given, **options)["entry"][0]["resource"]


def test_a_bundle_gets_a_message_header() -> None:
    """It says what happens, from where, to where, and about which resource; and it is the first entry."""
    sent = whole(bundle(PATIENT, OBSERVATION), destination=GENERAL)
    assert sent["entry"][0] == {
        "fullUrl": "urn:uuid:m-1",
        "resource": {
            "resourceType": "MessageHeader",
            "id": "m-1",
            "eventUri": "https://fhir.redoxengine.com/EventDefinition/ObservationCreate",
            "destination": [{"name": "general", "endpoint": f"urn:uuid:{GENERAL.id}"}],
            "source": {"name": "Apache Airflow", "endpoint": f"urn:uuid:{SOURCE}"},
            "focus": [{"reference": "Observation/o1"}],
        },
    }
    assert [entry["resource"] for entry in sent["entry"][1:]] == [PATIENT, OBSERVATION]


def test_the_authors_own_header_stays() -> None:
    """A Bundle with a MessageHeader is sent as it is, whatever the operation is called."""
    given = bundle(HEADER, OBSERVATION)
    assert whole(given, operation="$write-results") == given


def test_the_authors_bundle_is_not_changed() -> None:
    """The header goes onto a copy."""
    given = bundle(OBSERVATION)
    before = copy.deepcopy(given)
    whole(given)
    assert given == before


@pytest.mark.parametrize("resource", [OBSERVATION, HEADER])
def test_a_bundle_without_a_type_is_a_message(resource: Any) -> None:
    """A writeback is a message, so the type may be left out."""
    assert whole({"resourceType": "Bundle", "entry": [{"resource": resource}]})["type"] == "message"


@pytest.mark.parametrize(
    ("resource_type", "operation", "event"),
    [
        ("Patient", "$patient-update", "PatientUpdate"),
        ("Patient", "patient-create", "PatientCreate"),
        ("DocumentReference", "$documentreference-create", "DocumentReferenceCreate"),
        ("Appointment", "$appointment-no-show", "AppointmentNoShow"),
    ],
)
def test_the_event_follows_from_the_operation(resource_type: str, operation: str, event: str) -> None:
    """Type and verb in Redox's spelling."""
    made = header_of(bundle({"resourceType": resource_type}), resource_type=resource_type, operation=operation)
    assert made["eventUri"].rpartition("/")[2] == event


@pytest.mark.parametrize("operation", ["$write", "$write-results", "$patient-update", "$observation", "$observation-x2"])
def test_an_event_that_nobody_knows_is_not_invented(operation: str) -> None:
    """For an operation that does not say what happens to the resource, the author writes the header."""
    with pytest.raises(RedoxConfigError, match="put a MessageHeader"):
        whole(bundle(OBSERVATION), operation=operation)


def test_without_a_source_the_endpoint_names_none() -> None:
    """FHIR wants an endpoint; where the environment has one source only, it must not look like the ID of another."""
    made = header_of(bundle(OBSERVATION), source_id=None)
    assert made["source"]["endpoint"] == NO_SOURCE
    assert "urn:uuid" not in json.dumps(made["source"])


@pytest.mark.parametrize("destination", [None, Destination("x", slug="x")])
def test_a_destination_without_a_uuid_is_the_urls_affair(destination: Destination | None) -> None:
    """The slug in the URL says where it goes."""
    assert "destination" not in header_of(bundle(OBSERVATION), destination=destination)


def test_the_focus_is_what_is_written() -> None:
    """References follow fullUrl before the ID, and a resource without either is left out."""
    entries = [
        {"fullUrl": "urn:uuid:o-1", "resource": OBSERVATION},
        {"resource": OBSERVATION},
        {"resource": {"resourceType": "Observation"}},
        {"resource": PATIENT},
    ]
    made = header_of({"resourceType": "Bundle", "entry": entries})
    assert made["focus"] == [{"reference": "urn:uuid:o-1"}, {"reference": "Observation/o1"}]


def test_nothing_to_refer_to_is_no_focus() -> None:
    """FHIR allows no empty lists."""
    assert "focus" not in header_of(bundle({"resourceType": "Observation"}))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "must be a FHIR Bundle"),
        ({"resourceType": "Patient", "x": "Canary"}, "must be a FHIR Bundle"),
        (bundle(OBSERVATION, type="transaction"), "type must be message"),
        (bundle(), "at least one resource"),
        ({"resourceType": "Bundle"}, "at least one resource"),
        (bundle(entry="Canary"), "at least one resource"),
        (bundle(entry=["Canary"]), r"entry\[0\] has no resource"),
        (bundle(OBSERVATION, None), r"entry\[1\] has no resource"),
        (bundle(OBSERVATION, {"id": "Canary"}), r"entry\[1\] has no resource with a resourceType"),
        (bundle(OBSERVATION, HEADER), r"entry\[1\] is a MessageHeader"),
        (bundle(HEADER, HEADER), r"entry\[1\] is a MessageHeader"),
        (bundle(PATIENT), "holds no Observation"),
    ],
)
def test_what_is_no_message_is_named(given: Any, words: str) -> None:
    """A Bundle that no server would take is refused by what is wrong with it, without its content."""
    with pytest.raises(RedoxConfigError, match=words) as raised:
        whole(given)
    assert str(raised.value).startswith("bundle: ")
    assert "Canary" not in said_by(raised.value)


def test_the_same_names_give_the_same_id() -> None:
    """An ID is a UUID of version 5, the same for the same names, and another for others."""
    ids = {new_message_id("a", "b"), new_message_id("a", "b"), new_message_id("ab"), new_message_id("a", "c")}
    assert len(ids) == 3
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in ids} == {(5, uuid.RFC_4122)}


def test_the_same_bundle_and_id_give_the_same_bytes() -> None:
    """Nothing in the header comes from a clock or from chance."""

    def sent(world: World) -> bytes | None:
        calls = Calls(settings(destination="hospital", environment="Staging"), world.env())
        world.run(calls.writeback("Observation", "$observation-create", bundle(OBSERVATION), message_id="m-1"))
        return world.sent[0].body

    later = World(answer(body=b"", redox_trace_id="t"))
    later.clock += 86_400
    assert sent(World(answer(body=b"", redox_trace_id="t"))) == sent(later)


def test_each_call_of_a_hook_is_a_message_of_its_own() -> None:
    """Without an ID of the caller's, two calls have two."""
    world = World(*[answer(body=b"", redox_trace_id="t") for _ in range(2)])
    calls = Calls(settings(destination="hospital", environment="Staging"), world.env())
    for _ in range(2):
        world.run(calls.writeback("Observation", "$observation-create", bundle(OBSERVATION)))
    first, second = (json.loads(request.body or b"")["entry"][0]["resource"]["id"] for request in world.sent)
    assert first != second


def test_a_bundle_that_is_too_large_is_named() -> None:
    """40 MB is what Redox takes."""
    calls = Calls(settings(destination="hospital", environment="Staging"), World().env())
    large = bundle({**OBSERVATION, "note": "x" * (40 * 1024 * 1024)})
    with pytest.raises(RedoxConfigError, match=r"^bundle: 419\d+ bytes, and Redox takes 41943040"):
        calls.writeback("Observation", "$observation-create", large)
