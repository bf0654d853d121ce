"""The Data Model API: notifications, queries, errors in Meta."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from .conftest import Client, message


def ids(redox: Client) -> tuple[str, str]:
    named = redox.extra["destinations"]
    return named["general"]["id"], named["lakeside"]["id"]


def test_a_notification_is_echoed_with_a_log_for_each_destination(redox: Client) -> None:
    """The answer repeats the Meta that was sent and adds a log ID and an attempt ID per destination."""
    sent = message("PatientAdmin", "NewPatient", *ids(redox))
    answer = redox.post(sent)
    meta = answer.json()["Meta"]
    assert answer.status_code == 200
    assert {name: meta[name] for name in sent["Meta"]} == sent["Meta"]
    assert len({str(uuid.UUID(log["ID"])) for log in meta["Logs"]}) == 2
    assert all(uuid.UUID(log["AttemptID"]) for log in meta["Logs"])


def test_an_accepted_message_can_be_looked_at(redox: Client) -> None:
    """The control plane lists what was accepted, as it came, with the log IDs that were answered."""
    sent = message("Device", "New", ids(redox)[0], Device={"ID": "d-1"})
    logs = [log["ID"] for log in redox.post(sent).json()["Meta"]["Logs"]]
    (kept,) = redox.control("GET", "messages").json()
    assert (kept["kind"], kept["operation"], kept["logs"], kept["body"]) == ("notification", "Device.New", logs, sent)


def test_a_known_identifier_finds_its_patient(redox: Client) -> None:
    """PatientSearch.Query is answered with event Response and the one patient who has the identifier."""
    sent = message("PatientSearch", "Query", ids(redox)[0], Patient={"Identifiers": [{"ID": "0000000001"}]})
    body = redox.post(sent).json()
    assert body["Meta"]["EventType"] == "Response"
    assert len(body["Meta"]["Logs"]) == 1
    assert body["Patient"]["Demographics"]["FirstName"] == "Keva"
    assert body["Patient"]["Identifiers"] == [{"ID": "0000000001", "IDType": "MR"}]


@pytest.mark.parametrize(
    ("demographics", "count"),
    [
        ({"FirstName": "Sam", "LastName": "Rivers", "DOB": "1980-02-29"}, 2),
        ({"FirstName": "Sam", "LastName": "Rivers", "DOB": "1980-02-28"}, 0),
        ({"FirstName": "Sam", "LastName": "Rivers"}, 0),
    ],
)
def test_an_unclear_person_is_no_match(redox: Client, demographics: dict[str, str], count: int) -> None:
    """Several matches are potential ones, none is an empty list, and there is no Patient in either answer."""
    sent = message("PatientSearch", "Query", ids(redox)[0], Patient={"Demographics": demographics})
    body = redox.post(sent).json()
    assert "Patient" not in body
    assert len(body["PotentialMatches"]) == count


@pytest.mark.parametrize("model", ["ClinicalSummary", "Clinical Summary"])
@pytest.mark.parametrize("path", ["/endpoint", "/query"])
def test_a_summary_is_about_the_patient(redox: Client, model: str, path: str) -> None:
    """ClinicalSummary.PatientQuery answers problems and vital signs; /query is the old alias, the space is allowed."""
    sent = message(model, "PatientQuery", ids(redox)[0], Patient={"Identifiers": [{"ID": "0000000001"}]})
    body = redox.post(sent, path).json()
    assert (body["Meta"]["DataModel"], body["Meta"]["EventType"]) == (model, "PatientQueryResponse")
    assert body["Header"]["Patient"]["Demographics"]["LastName"] == "Green"
    assert body["Problems"][0]["Code"] == "44054006"
    assert body["VitalSigns"]


@pytest.mark.parametrize(
    ("model", "event", "answered"),
    [
        ("Scheduling", "Booked", "BookedResponse"),
        ("Scheduling", "AvailableSlots", "AvailableSlotsResponse"),
        ("Results", "Query", "QueryResponse"),
        ("ClinicalDecisions", "Request", "Response"),
        ("Vaccination", "PatientQuery", "PatientQueryResponse"),
    ],
)
def test_every_query_is_answered_with_its_twin(redox: Client, model: str, event: str, answered: str) -> None:
    """A query's answer names the response event; a query is not kept as a message."""
    body = redox.post(message(model, event, ids(redox)[0])).json()
    assert body["Meta"]["EventType"] == answered
    assert redox.control("GET", "messages").json() == []


def test_a_query_goes_to_one_destination(redox: Client) -> None:
    """Two destinations for a query are refused."""
    answer = redox.post(message("PatientSearch", "Query", *ids(redox)))
    assert answer.status_code == 400
    assert "more than one synchronous destination" in answer.json()["Meta"]["Errors"][0]["Text"]


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"DataModel": None}, "DataModels"),
    ({"DataModel": "PatientAdminister"}, "DataModels"),
    ({"EventType": "Response"}, "DataModels"),
    ({"EventType": 7}, "DataModels"),
    ({"EventDateTime": "yesterday"}, "DataModels"),
    ({"Test": "true"}, "DataModels"),
    ({"Destinations": []}, "DataModels"),
    ({"Destinations": None}, "DataModels"),
    ({"Destinations": [{"Name": "no ID"}]}, "Subscriptions"),
    ({"Destinations": [{"ID": "00000000-0000-4000-8000-000000000000"}]}, "Subscriptions"),
]


@pytest.mark.parametrize(("changes", "module"), BROKEN)
def test_a_broken_meta_is_refused(redox: Client, changes: dict[str, Any], module: str) -> None:
    """A missing or unknown part of Meta gets 400, and Meta.Errors names the module that refused."""
    sent = message("PatientAdmin", "NewPatient", ids(redox)[0])
    sent["Meta"] |= changes
    answer = redox.post(sent)
    (error,) = answer.json()["Meta"]["Errors"]
    assert answer.status_code == 400
    assert (error["Type"], error["Module"], set(error)) == ("message", module, {"ID", "Text", "Type", "Module"})
    assert redox.control("GET", "stats").json()["messages"] == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"Meta": []}', b'{"Meta": {}, "Meta": {}}', b'{"Meta": NaN}', b"\xff"])
def test_what_is_no_message_is_refused(redox: Client, body: bytes) -> None:
    """Bodies that are not strict JSON, or without Meta, get 400 in Redox's shape."""
    answer = redox.call("POST", "/endpoint", data=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, len(answer.json()["Meta"]["Errors"])) == (400, 1)


def test_a_key_stands_once_in_an_object(redox: Client) -> None:
    """A message that is good but for a key that comes twice is refused: which of the two holds is anyone's guess."""
    text = json.dumps(message("Device", "New", ids(redox)[0]))
    twice = text.replace('"Test": true', '"Test": true, "Test": true')
    headers = {"Content-Type": "application/json"}
    assert redox.call("POST", "/endpoint", data=text, headers=headers).status_code == 200
    assert redox.call("POST", "/endpoint", data=twice, headers=headers).status_code == 400


def test_a_message_is_json(redox: Client) -> None:
    """Another content type is refused."""
    assert redox.call("POST", "/endpoint", data={"a": "b"}).status_code == 400


def test_a_destination_may_fail_inside_a_200(redox: Client) -> None:
    """With destination_errors, a query's answer is 200, has the errors in Meta and no content."""
    errors = [{"ID": 1, "Text": "timed out", "Type": "transmission", "Module": "Send", "DestinationStatusCode": 504}]
    redox.settings(destination_errors=errors)
    sent = message("PatientSearch", "Query", ids(redox)[0], Patient={"Identifiers": [{"ID": "0000000001"}]})
    answer = redox.post(sent)
    assert (answer.status_code, answer.json()["Meta"]["Errors"], "Patient" in answer.json()) == (200, errors, False)


def test_the_source_has_to_be_named_where_there_are_several(redox: Client) -> None:
    """With a source_id, Meta.Source.ID or the header Redox-Source-Id names it."""
    source = "7ce6f387-c33c-417d-8682-81e83628cbd9"
    redox.settings(source_id=source)
    sent = message("Device", "New", ids(redox)[0])
    assert redox.post(sent).status_code == 400
    assert redox.call("POST", "/endpoint", json=sent, headers={"Redox-Source-Id": source}).status_code == 200
    sent["Meta"]["Source"] = {"ID": source}
    assert redox.post(sent).status_code == 200


def test_a_message_of_many_megabytes_is_accepted(redox: Client) -> None:
    """A body of 20 MB is fine, one above 40 MB gets 413."""
    sent = message("Media", "New", ids(redox)[0], Media={"FileContents": "A" * (20 * 1024 * 1024)})
    assert redox.post(sent).status_code == 200
    sent["Media"]["FileContents"] *= 2
    assert redox.post(sent).status_code == 413
    redox.control("POST", "reset")
