"""The invented patients, and files of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_redox.sandbox import cli, population
from tests.support.samples import TEST_DATA

from .conftest import KEVA, Running

TODAY = 1_767_225_600.0


def without_meta(resources: list[dict[str, Any]]) -> str:
    return json.dumps([{key: value for key, value in row.items() if key != "meta"} for row in resources])


def test_the_same_seed_invents_the_same_patients() -> None:
    """On any day, a seed gives the same clinical content to the byte; another seed gives other content."""
    one = population.generate(30, seed=7, today=TODAY)
    later = population.generate(30, seed=7, today=TODAY + 86_400 * 400)
    assert without_meta(one) == without_meta(later)
    assert without_meta(one) != without_meta(population.generate(30, seed=8, today=TODAY))
    assert one == population.generate(30, seed=7, today=TODAY)


def test_updates_lie_in_the_thirty_days_before_the_start() -> None:
    """Every resource was updated within thirty days before midnight of the start, and on most of these days."""
    resources = population.generate(50, seed=1, today=TODAY)
    days = {row["meta"]["lastUpdated"][:10] for row in resources}
    assert min(days) >= "2025-12-02"
    assert max(days) <= "2025-12-31"
    assert len(days) == 30


def test_a_patient_is_complete() -> None:
    """Every patient has a name, an MRN of their own, a birth date, an address and a phone."""
    patients = [row for row in population.generate(60, seed=1, today=TODAY) if row["resourceType"] == "Patient"]
    assert len(patients) == 60
    assert len({row["identifier"][0]["value"] for row in patients}) == 60
    for row in patients:
        assert row["name"][0]["family"]
        assert row["name"][0]["given"][0]
        assert row["address"][0]["city"]
        assert row["telecom"][0]["value"].startswith("+1")
        assert len(row["birthDate"]) == 10


def test_every_reference_leads_somewhere() -> None:
    """Whatever a resource refers to exists, and no ID is used twice within a type."""
    resources = population.generate(40, seed=3, today=TODAY)
    names = [f"{row['resourceType']}/{row['id']}" for row in resources]
    assert len(names) == len(set(names))
    for row in resources:
        for reference in (row.get("subject"), row.get("encounter")):
            assert reference is None or reference["reference"] in names


def test_there_are_diabetics_with_their_values() -> None:
    """Some patients have diabetes (SNOMED CT 44054006), and each of them an HbA1c (LOINC 4548-4) of 6.5 or more."""
    resources = population.generate(80, seed=1, today=TODAY)

    def subjects(kind: str, code: str) -> dict[str, dict[str, Any]]:
        rows = [row for row in resources if row["resourceType"] == kind]
        return {row["subject"]["reference"]: row for row in rows if row["code"]["coding"][0]["code"] == code}

    diabetics, values = subjects("Condition", "44054006"), subjects("Observation", "4548-4")
    assert 5 < len(diabetics) < 60
    assert set(diabetics) < set(values)
    assert all(values[subject]["valueQuantity"]["value"] >= 6.5 for subject in diabetics)


def test_keva_green_is_always_there() -> None:
    """The documented patient comes first, with any seed."""
    first = population.generate(1, seed=99, today=TODAY)[0]
    assert (first["id"], first["name"][0]["family"], first["birthDate"]) == (KEVA, "Green", "1995-08-26")


def write(folder: Path, name: str, *values: Any) -> None:
    (folder / name).write_text("\n".join(json.dumps(value) for value in values))


def test_a_folder_of_files_replaces_the_population(start: Callable[..., Running], tmp_path: Path) -> None:
    """Bundles, single resources and NDJSON are loaded; what lacks an ID, a version or a time gets one."""
    person = {"resourceType": "Patient", "identifier": [{"system": "urn:x", "value": "1"}]}
    condition = {"resourceType": "Condition", "subject": {"reference": "urn:uuid:aaaa"}}
    entries = [{"fullUrl": "urn:uuid:aaaa", "resource": person}, {"resource": condition}, {"response": {"status": "200"}}]
    write(tmp_path, "bundle.json", {"resourceType": "Bundle", "type": "transaction", "entry": entries})
    write(tmp_path, "one.json", {"resourceType": "Device", "id": "d1", "meta": {"versionId": "4"}})
    write(tmp_path, "many.ndjson", {"resourceType": "Group", "id": "g1"}, {"resourceType": "Group", "id": "g2"})
    client = start("--data", str(tmp_path)).client
    counts = client.control("GET", "stats").json()["resources_by_type"]
    assert counts == {"Patient": 1, "Condition": 1, "Group": 2, "Device": 1}
    (found,) = client.found("Patient", {"identifier": "urn:x|1"})
    assert (found["id"], found["meta"]["versionId"]) == ("aaaa", "1")
    assert len(client.found("Condition", {"patient": found["id"]})) == 1
    assert client.call("GET", client.fhir("Device/d1")).json()["meta"]["versionId"] == "4"


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("a.ndjson", '{"resourceType":"Group"}\n\n{"resourceType":', "a.ndjson, line 3"),
        ("a.ndjson", '{"resourceType":"Group"}\n{"id":"1"}', "a.ndjson, line 2"),
        ("a.json", '{\n"resourceType": "Patient",\n: 1}', "a.json, line 3"),
        ("a.json", '{"resourceType":"Bundle","entry":[{"resource":7}]}', "a.json, line 1"),
        ("a.json", '{"resourceType":"Patient","id":"1","id":"2"}', "a.json, line 1: not strict JSON (a key stands twice"),
        ("a.json", '{"resourceType":"Patient","a":NaN}', "a.json, line 1: not strict JSON (NaN)"),
        ("a.txt", "", "holds no .json or .ndjson file"),
    ],
)
def test_a_broken_file_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, place: str
) -> None:
    """A file that cannot be loaded ends the command with code 2; the sentence names the file and the line."""
    (tmp_path / name).write_text(text)
    assert cli.main(["--port", "0", "--data", str(tmp_path)]) == 2
    assert place in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["synthea-r4", "synthea-bulk-ndjson", "us-core-examples"])
def test_known_sample_data_loads(start: Callable[..., Running], folder: str) -> None:
    """Synthea's and US Core's examples load as they are, and their patients are found by ID."""
    if not (TEST_DATA / folder).is_dir():
        pytest.skip("no sample data in TEST_DATA")
    client = start("--data", str(TEST_DATA / folder)).client
    client.settings(patient_search_rule=False)
    patients = client.found("Patient", {"_count": "5"})
    assert patients
    assert client.found("Patient", {"_id": patients[0]["id"]}) == [patients[0]]
