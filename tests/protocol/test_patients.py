"""Whose a resource is: by every element of the compartment, by every way to refer, in samples of others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.protocol.compartment import PATHS
from airflow_provider_redox.protocol.identities import Identities
from airflow_provider_redox.protocol.patients import Identifier, Mention, mentions_of_body, patients_of_body, patients_of_url
from tests.support.samples import TEST_DATA

MRN = {"system": "urn:mrn", "value": "77"}
REFERRING: dict[str, tuple[dict[str, Any], set[Any]]] = {
    "a reference": ({"reference": "Patient/9"}, {"9"}),
    "a URL": ({"reference": "https://h/fhir/Patient/9/_history/2"}, {"9"}),
    "an identifier": ({"identifier": MRN}, {Identifier("77", "urn:mrn")}),
    "an identifier and its type": ({"type": "Patient", "identifier": MRN}, {Identifier("77", "urn:mrn")}),
    "a conditional reference": ({"reference": "Patient?identifier=urn:mrn|77"}, {Identifier("77", "urn:mrn")}),
    "an escaped conditional reference": (
        {"reference": "https://h/Patient?identifier=urn%3Amrn%7C77&active=true"},
        {Identifier("77", "urn:mrn")},
    ),
    "a reference with an identifier": ({"reference": "Patient/9", "identifier": MRN}, {"9"}),
}
NOT_REFERRING = {
    "a practitioner": {"reference": "Practitioner/9", "identifier": MRN},
    "a practitioner by identifier": {"type": "Practitioner", "identifier": MRN},
    "a practitioner by NPI": {"identifier": {"system": "http://hl7.org/fhir/sid/us-npi", "value": "1234567893"}},
    "a practitioner's query": {"reference": "Practitioner?identifier=urn:mrn|77"},
    "a group": {"reference": "Group/9"},
}


def built(kind: str, path: tuple[str, ...], reference: dict[str, Any]) -> bytes:
    """Make a resource of one type that refers at one path, each step of it in a list."""
    value: dict[str, Any] = reference
    for name in reversed(path):
        value = {name: [value]}
    return json.dumps({"resourceType": kind, "id": "1", **value}).encode()


@pytest.mark.parametrize(("kind", "path"), [(kind, path) for kind, paths in PATHS.items() for path in paths])
def test_each_element_of_the_compartment_tells_whose_it_is(kind: str, path: tuple[str, ...]) -> None:
    """In every element, in every way; what refers to somebody else tells nobody. A Patient is itself besides."""
    own = {"1"} if kind == "Patient" else set()
    for reference, wanted in REFERRING.values():
        assert set(patients_of_body(built(kind, path, reference))) == wanted | own
    for reference in NOT_REFERRING.values():
        assert set(patients_of_body(built(kind, path, reference))) == own


def test_the_compartment_is_whole() -> None:
    """The table has the 66 types of R4's compartment, and those that it leaves out although they name their patient."""
    besides = {"Contract", "Device", "GuidanceResponse", "Task"}
    assert len(PATHS.keys() - besides) == 66
    assert besides < PATHS.keys()


@pytest.mark.parametrize("field", ["valueReference", "owner", "anything"])
def test_an_identifier_elsewhere_is_nobodys_for_a_record(field: str) -> None:
    """Outside of these elements an identifier alone may be anybody's: it counts for who knows it, and is not recorded."""
    body = json.dumps({"resourceType": "Task", field: {"identifier": MRN}}).encode()
    assert list(patients_of_body(body)) == []
    (mention,) = mentions_of_body(body)
    assert not mention.is_sure
    assert Identities(["77"]).knows(mention)


def bundle(*entries: tuple[str, dict[str, Any]]) -> bytes:
    listed = [{"fullUrl": url, "resource": resource} for url, resource in entries]
    return json.dumps({"resourceType": "Bundle", "entry": listed}).encode()


def test_an_urn_is_the_patient_of_its_entry() -> None:
    """Within a Bundle a urn stands for its entry's patient; alone it is recorded as it stands, where a subject is."""
    observation = {"resourceType": "Observation", "subject": {"reference": "urn:uuid:p"}}
    patient = {"resourceType": "Patient", "identifier": [MRN]}
    assert set(patients_of_body(bundle(("urn:uuid:p", patient), ("urn:uuid:o", observation)))) == {
        Identifier("77", "urn:mrn")
    }
    alone = Identifier("urn:uuid:p", "urn:ietf:rfc:3986")
    assert set(patients_of_body(json.dumps(observation).encode())) == {alone}
    performer = {"resourceType": "Observation", "performer": [{"reference": "urn:uuid:p"}]}
    assert {one.is_sure for one in mentions_of_body(json.dumps(performer).encode())} == {False}


@pytest.mark.parametrize("url", ["Patient/9", "Patient?identifier=urn:mrn|77"])
def test_a_request_in_a_bundle_names_its_patient(url: str) -> None:
    """An entry without a resource, such as a deletion, names whom its URL names."""
    body = json.dumps({"resourceType": "Bundle", "entry": [{"request": {"method": "DELETE", "url": url}}]}).encode()
    assert set(patients_of_body(body)) == ({"9"} if "/" in url else {Identifier("77", "urn:mrn")})


def test_who_was_asked_for_is_known_in_an_answer_without_any() -> None:
    """An empty answer names in its link whom it was about: nobody was disclosed, and an erasure finds it."""
    link = {"relation": "self", "url": "https://h/fhir/Observation?patient=9&code=x"}
    body = json.dumps({"resourceType": "Bundle", "total": 0, "link": [link]}).encode()
    assert list(patients_of_body(body)) == []
    assert about(Identities(["Patient/9"]), body)
    assert not about(Identities(["Patient/8"]), body)


@pytest.mark.parametrize(
    "second",
    [
        {"reference": "urn:uuid:p", "type": "Patient"},
        {"reference": "Patient?identifier=urn:mrn|77"},
        {"reference": "https://h/Patient?identifier=urn:mrn|77"},
        {"type": "Patient", "identifier": MRN},
    ],
)
def test_a_second_patient_is_not_passed_over(second: dict[str, Any]) -> None:
    """Beside a plain reference, one of another kind is seen too: the quick look gives way to the whole one."""
    body = json.dumps({"resourceType": "Observation", "subject": {"reference": "Patient/5"}, "focus": [second]}).encode()
    assert len(set(patients_of_body(body))) == 2


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://h/fhir/Patient/9", {"9"}),
        ("https://h/fhir/Patient/9/$everything?start=2026", {"9"}),
        ("https://h/fhir/Observation?patient=9,8&code=x", {"9", "8"}),
        ("https://h/fhir/Observation?subject=Patient/9", {"9"}),
        ("https://h/fhir/Observation?subject:Patient=Patient/9", {"9"}),
        ("https://h/fhir/Patient?identifier=urn:mrn|77", {Identifier("77", "urn:mrn")}),
        ("https://h/fhir/Observation?subject=Group/9&performer=9", set()),
        ("https://h/fhir/Patient?family=x", set()),
    ],
)
def test_a_url_names_its_patients(url: str, wanted: set[Any]) -> None:
    """Whom the URL of a request names, in its path or its query."""
    assert set(patients_of_url(url)) == wanted


# ── who is meant ──


def test_names_are_learned_from_one_another() -> None:
    """ID, MRN, urn, a merged record and a message lead to one another, from whichever is given, in whatever order."""
    lines = [
        {"resourceType": "Patient", "id": "1", "identifier": [MRN], "link": [{"other": {"reference": "Patient/2"}}]},
        {"resourceType": "Patient", "id": "2", "identifier": [{"system": "urn:old", "value": "5"}]},
        {"resourceType": "Observation", "subject": {"reference": "urn:uuid:u", "identifier": MRN}},
        {"Meta": {}, "Patient": {"Identifiers": [{"ID": "5", "IDType": "MR"}, {"ID": "e", "IDType": "EHRID"}]}},
        {
            "Meta": {},
            "Patients": [
                {"Identifiers": [{"ID": "n", "IDType": "MR"}], "PreviousIdentifiers": [{"ID": "e", "IDType": "EHRID"}]}
            ],
        },
    ]
    bodies = [json.dumps(line).encode() for line in lines]
    other = json.dumps(
        {"resourceType": "Patient", "id": "3", "identifier": [{"system": "urn:other", "value": "77"}]}
    ).encode()
    for given_name in ("Patient/1", "urn:mrn|77", "Patient/2", "5", "e", "n", "https://h/fhir/Patient/1"):
        identities = closed([given_name], [other, *bodies])
        assert all(about(identities, body) for body in bodies), given_name
        assert not about(identities, other)
        assert identities.unmet == set()


def closed(names: list[str], bodies: list[bytes]) -> Identities:
    """Learn until nothing is new."""
    return learned(names, [mention for body in bodies for mention in mentions_of_body(body)])


def learned(names: list[str], mentions: list[Mention]) -> Identities:
    identities, before = Identities(names), -1
    while before != identities.size:
        before = identities.size
        for mention in mentions:
            identities.learn(mention)
    return identities


def about(identities: Identities, body: bytes) -> bool:
    return any(list(map(identities.knows, mentions_of_body(body))))


@pytest.mark.parametrize(
    "shared",
    [
        {"system": "http://hl7.org/fhir/sid/us-ssn", "value": "123-45-6789"},
        {"type": {"coding": [{"code": "SS"}]}, "system": "urn:x", "value": "123-45-6789"},
        {"system": "urn:mrn", "value": "999999999"},
        {"system": "urn:mrn", "value": "Unknown"},
    ],
)
def test_what_several_people_have_leads_to_nobody(shared: dict[str, Any]) -> None:
    """A number that a family shares, and a placeholder, are not learned; what the author gives counts."""
    first, second = ({"resourceType": "Patient", "id": one, "identifier": [shared]} for one in "12")
    bodies = [json.dumps(one).encode() for one in (first, second)]
    assert not about(closed(["Patient/1"], bodies), bodies[1])
    assert about(closed([shared["value"]], bodies), bodies[1])


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (("urn:a", ""), ("urn:b", ""), False),
        (("urn:a", ""), ("", ""), True),
        (("MR", ""), ("EHRID", ""), False),
        (("urn:a", "MR"), ("MR", ""), True),
        (("urn:a", "MR"), ("EHRID", ""), False),
        (("urn:a", ""), ("EHRID", ""), True),
    ],
)
def test_a_number_is_of_its_system(one: tuple[str, str], other: tuple[str, str], is_same: bool) -> None:  # noqa: FBT001
    """One number of two systems is two people's; a Data Model's type is held against a FHIR identifier's."""
    identities = Identities(["Patient/1"])
    identities.learn(Mention(("1", Identifier("55", *one))))
    assert identities.knows(Mention((Identifier("55", *other),))) is is_same


def test_a_row_that_nobody_has_is_told() -> None:
    """Names that lead to nobody are known."""
    body = json.dumps({"resourceType": "Patient", "id": "1", "identifier": [MRN]}).encode()
    identities = Identities(["Patient/8", "77", "Patient/1", "urn:mrn|78"])
    assert about(identities, body)
    assert identities.unmet == {"Patient/8", "urn:mrn|78"}


names = st.sampled_from(["1", "2", "3", *(Identifier(value, system) for value in "xyz" for system in ("urn:a", "urn:b"))])


@given(st.lists(st.lists(names, min_size=1, max_size=3), max_size=8), st.randoms())
def test_what_is_learned_hangs_on_no_order(groups: list[list[Any]], random: Any) -> None:
    """In whatever order files are read, the same people are meant: those that chains of names lead to, and no others."""
    mentions = [Mention(tuple(group)) for group in groups]
    reached = {"1"}
    for _ in mentions:
        reached |= {name for group in groups if reached & set(group) for name in group}
    shuffled = random.sample(mentions, len(mentions))
    identities = learned(["Patient/1"], shuffled)
    assert [identities.knows(one) for one in mentions] == [bool(reached & set(one.names)) for one in mentions]


# ── samples of others ──

needs_samples = pytest.mark.skipif(not (TEST_DATA / "synthea-r4").is_dir(), reason="no samples here")


@cache
def synthea() -> dict[str, list[dict[str, Any]]]:
    """Each patient's resources, by the patient's ID."""
    found = {}
    for path in sorted((TEST_DATA / "synthea-r4").glob("*.json")):
        resources = [entry["resource"] for entry in json.loads(path.read_text())["entry"]]
        (patient,) = (one for one in resources if one["resourceType"] == "Patient")
        found[patient["id"]] = resources
    return found


@needs_samples
@pytest.mark.parametrize("by", ["ID", "MRN", "system and MRN", "SSN"])
def test_each_resource_of_a_synthea_patient_is_found_and_no_other(by: str) -> None:
    """Line by line, as a pull stores them: all of the patient's own, none of the others', and no organization."""
    everyone = synthea()
    assert len(everyone) > 3
    places = mentioned()
    for owner, resources in everyone.items():
        (patient,) = (one for one in resources if one["resourceType"] == "Patient")
        mrn, ssn = patient["identifier"][1], patient["identifier"][2]
        given_name = {"ID": f"Patient/{owner}", "MRN": mrn["value"], "SSN": ssn["value"]}.get(
            by, f"{mrn['system']}|{mrn['value']}"
        )
        identities = learned([given_name], [one for listed in places.values() for found in listed for one in found])
        for other, listed in places.items():
            for resource, found in zip(everyone[other], listed, strict=True):
                is_shared = resource["resourceType"] in ("Organization", "Practitioner")
                wanted = other == owner and not is_shared
                assert any(identities.knows(one) for one in found) is wanted, (resource["resourceType"], by)


@cache
def mentioned() -> dict[str, list[list[Mention]]]:
    """What each of these resources names, by itself."""
    return {
        owner: [list(mentions_of_body(json.dumps(one).encode())) for one in resources]
        for owner, resources in synthea().items()
    }


def own_reading(value: Any) -> Iterator[str]:
    """Find references to patients in another way: every text below a key `reference`."""
    if isinstance(value, list):
        for one in value:
            yield from own_reading(one)
    elif isinstance(value, dict):
        if value.get("resourceType") == "Patient":
            yield value["id"]
        for name, part in value.items():
            if name == "reference" and (found := re.fullmatch(r"(?:.*/)?Patient/([^/]+)", part)):
                yield found[1]
            yield from own_reading(part)


@pytest.mark.skipif(not (TEST_DATA / "us-core-examples").is_dir(), reason="no samples here")
def test_patients_of_us_cores_examples_are_found() -> None:
    """Whom each of US Core's examples refers to is found, and nobody else."""
    paths = sorted((TEST_DATA / "us-core-examples").glob("*.json"))
    found = 0
    for path in paths:
        text = path.read_bytes()
        wanted = set(own_reading(json.loads(text)))
        assert set(patients_of_body(text)) == wanted, path.name
        found += bool(wanted)
    assert found > 100


@pytest.mark.skipif(not (TEST_DATA / "redox-data-models").is_dir(), reason="no samples here")
def test_patients_of_redoxs_samples_are_found() -> None:
    """Whoever has identifiers as `Patient` or in `Patients`, in each sample of a Data Model, is found."""
    paths = sorted(Path(TEST_DATA / "redox-data-models").glob("*.json"))
    found = 0
    for path in paths:
        sample = json.loads(path.read_text())
        header = sample.get("Header") if isinstance(sample.get("Header"), dict) else {}
        people = [sample.get("Patient"), header.get("Patient"), *(sample.get("Patients") or ())]
        wanted = {str(one["ID"]) for person in people if person for one in person.get("Identifiers") or () if one.get("ID")}
        seen = {one.value for one in patients_of_body(path.read_bytes()) if isinstance(one, Identifier)}
        assert wanted <= seen, path.name
        found += bool(wanted)
    assert found > 30
