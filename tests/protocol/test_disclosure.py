"""Whom a resource, a message or any body is about: nobody is passed over, and nobody taken for somebody else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.protocol.disclosure import SEARCH, Disclosure, Moment, Requester, events
from airflow_provider_redox.protocol.patients import Identifier, patients_of_body, patients_of_content

MRN = Identifier("77", "urn:mrn")
PATIENT = {"resourceType": "Patient", "id": "5", "identifier": [{"system": "urn:mrn", "value": "77"}]}
NAMELESS = {"resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": "77"}]}


def observation(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": "1", **more}


def answered(deep: int) -> list[dict[str, Any]]:
    """An answer that refers to a patient, below questions below questions."""
    answer = {"answer": [{"valueReference": {"reference": "#p", "type": "Patient", "identifier": {"value": "77"}}}]}
    return [answer if deep == 0 else {"item": answered(deep - 1)}]


CASES: dict[str, tuple[Any, set[Any]]] = {
    "itself": (PATIENT, {"5"}),
    "relative": (observation(subject={"reference": "Patient/5"}), {"5"}),
    "absolute": (observation(subject={"reference": "https://h.example/fhir/Patient/5"}), {"5"}),
    "a version": (observation(subject={"reference": "Patient/5/_history/2"}), {"5"}),
    "anywhere": (observation(component=[{"extension": [{"valueReference": {"reference": "Patient/5"}}]}]), {"5"}),
    "several": ({"resourceType": "Group", "member": [{"entity": {"reference": f"Patient/{n}"}} for n in "56"]}, {"5", "6"}),
    "an odd ID": (observation(subject={"reference": "Patient/12_3"}), {"12_3"}),
    "a long ID": (observation(subject={"reference": f"Patient/{'a' * 100}"}), {"a" * 100}),
    "by identifier": (observation(subject={"identifier": {"system": "urn:mrn", "value": "77"}}), {MRN}),
    "by identifier and type": (
        observation(focus=[{"type": "Patient", "identifier": {"system": "urn:mrn", "value": "77"}}]),
        {MRN},
    ),
    "contained": (observation(contained=[{**NAMELESS, "id": "p1"}], subject={"reference": "#p1"}), {MRN}),
    "a Bundle": ({"resourceType": "Bundle", "entry": [{"resource": PATIENT}]}, {"5"}),
    "a Bundle by urn": (
        {
            "resourceType": "Bundle",
            "entry": [
                {"fullUrl": "urn:uuid:1", "resource": NAMELESS},
                {"resource": observation(subject={"reference": "urn:uuid:1"})},
            ],
        },
        {MRN},
    ),
    "a Bundle in a Bundle": (
        {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Bundle", "entry": [{"resource": PATIENT}]}}]},
        {"5"},
    ),
    "Parameters": ({"resourceType": "Parameters", "parameter": [{"name": "p", "resource": PATIENT}]}, {"5"}),
    "a message": ({"Meta": {}, "Patient": {"Identifiers": [{"ID": "77", "IDType": "urn:mrn"}]}}, {MRN}),
    "an answer": ({"Meta": {}, "Patients": [{"Identifiers": [{"ID": "77", "IDType": "urn:mrn"}]}]}, {MRN}),
    "candidates": ({"Meta": {}, "PotentialMatches": [{"Identifiers": [{"ID": "77", "IDType": "urn:mrn"}]}]}, {MRN}),
    "with a link": ({**PATIENT, "link": [{"other": {"reference": "Patient/6"}, "type": "seealso"}]}, {"5", "6"}),
    "deep in a questionnaire": (
        {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "QuestionnaireResponse", "item": answered(8)}}]},
        {Identifier("77", "")},
    ),
    "nobody": (observation(subject={"reference": "Group/5"}, performer=[{"reference": "Practitioner/Patient"}]), set()),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("spelling", ["plain", "spaced", "escaped"])
def test_patients_are_found(case: str, spelling: str) -> None:
    """In every place and in every spelling that JSON allows."""
    content, wanted = CASES[case]
    text = json.dumps(content, separators=(",", ":"), indent=None if spelling != "spaced" else 1)
    if spelling == "escaped":
        text = text.replace("/", "\\/").replace("Patient", "\\u0050atient")
    assert set(patients_of_body(text.encode())) == wanted


@given(
    st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_anything_can_be_looked_at(content: Any) -> None:
    """Whatever a server sends, looking for patients gives names or nothing."""
    for wrapped in (content, {"reference": content, "identifier": content, "Patient": content, "resourceType": content}):
        for one in patients_of_body(json.dumps(wrapped).encode()):
            assert isinstance(one, str | Identifier)
    assert list(patients_of_body(b"\xff{")) == []


def test_patients_of_a_message_of_any_make() -> None:
    """What is encoded is looked through: tuples, dataclasses and numbers of any kind."""

    @dataclass
    class Named:
        Identifiers: tuple[dict[str, str], ...]

    message = {"Meta": {}, "Patient": Named(({"ID": "77", "IDType": "urn:mrn"},)), "Value": Decimal("1.10")}
    bundle = {"resourceType": "Bundle", "entry": ({"resource": observation(subject={"reference": "Patient/5"})},)}
    assert set(patients_of_content(message)) == {MRN}
    assert set(patients_of_content(bundle)) == {"5"}


def test_trace_ids_are_told_once() -> None:
    """Of many patients the first event has the IDs by which Redox finds the requests; else a record would be these."""
    disclosure = Disclosure(
        SEARCH, "Observation", "https://h", patients=dict.fromkeys(["1", "2", "3"]), trace_ids=["t"] * 100
    )
    moment = Moment("2026-01-01T00:00:00Z", lambda _: "hash", lambda: "id", "0")
    told = list(events(disclosure, Requester("client", "key"), moment))
    assert ["Redox trace IDs" in json.dumps(event) for event in told] == [True, False, False]
    assert len({len(event["entity"]) for event in told[1:]}) == 1
