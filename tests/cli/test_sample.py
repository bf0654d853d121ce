"""Samples for development: nothing of a person is in them, and a sandbox serves them."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_redox.cli.main import main
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.protocol.deidentify import Deidentifier
from tests.support.sandbox import Sandbox

CANARY = "Zyxwvu"


def everything(word: str) -> dict[str, Any]:
    """A resource with a person in every kind of element."""
    coding = {"system": f"urn:{word}", "code": word, "display": word}
    public = {"system": "http://loinc.org", "code": "4548-4", "display": f"HbA1c of {word}"}
    return {
        "resourceType": "Observation",
        "id": f"{word}-1",
        "meta": {"source": word, "lastUpdated": "2024-05-06T07:08:09Z", "tag": [coding]},
        "text": {"status": "generated", "div": f"<div>{word}</div>"},
        "contained": [{"resourceType": "Patient", "name": [{"family": word}]}],
        "extension": [{"url": f"http://{word}", "valueString": word}],
        "identifier": [{"system": f"urn:{word}", "value": word}],
        "status": "final",
        "_status": {"extension": [{"url": "x", "valueString": word}]},
        "category": [{"coding": [coding], "text": word}],
        "code": {"coding": [public, coding], "text": word},
        "subject": {"reference": f"Patient/{word}", "display": word, "identifier": {"value": word}},
        "performer": [{"display": word}, {"reference": f"https://{word}.example/Practitioner/{word}"}],
        "effectiveDateTime": "2024-05-06T07:08:09Z",
        "effectivePeriod": {"start": "2024-05-06", "end": word},
        "issued": word,
        "valueQuantity": {"value": 7.1, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"},
        "valueString": word,
        "note": [{"text": word, "authorString": word, "time": "2024-05-06"}],
        "component": [{"code": {"coding": [public], "text": word}, "valueString": word, "valueBoolean": True}],
        word: {"value": word, word: [word, {"code": word}]},
        "gender": f"{word} 1",
        "multipleBirthInteger": 3,
    }


def test_nothing_of_a_person_stays() -> None:
    """Whatever element a text stands in, it goes; codes of public terminologies, numbers, flags and years stay."""
    left = Deidentifier(b"k" * 32, 2026).resource(everything(CANARY))
    assert CANARY not in json.dumps({name: part for name, part in left.items() if name != CANARY})
    assert CANARY not in json.dumps(list(left.values()))
    assert left["code"] == {"coding": [{"system": "http://loinc.org", "code": "4548-4"}]}
    assert left["valueQuantity"] == {"system": "http://unitsofmeasure.org", "code": "%", "unit": "%", "value": 7.1}
    assert (left["status"], left["effectiveDateTime"], left["effectivePeriod"]) == ("final", "2024", {"start": "2024"})
    assert left["component"][0]["valueBoolean"] is True
    assert "multipleBirthInteger" not in left


@pytest.mark.parametrize(
    "part",
    [
        {"code": {"coding": [{"system": f"http://hl7.org/fhir/ {CANARY}, MRN 4711", "code": "4711"}]}},
        {"code": {"coding": [{"system": f"http://terminology.hl7.org/CodeSystem/{CANARY}", "code": "4711"}]}},
        {"valueQuantity": {"value": 1, "unit": f"{CANARY}.Doe/1950", "system": "http://unitsofmeasure.org", "code": "kg"}},
        {"valueQuantity": {"value": 1, "unit": f"{CANARY}"}},
        {"subject": {"reference": f"{CANARY}/1"}},
        {"subject": {"reference": f"https://{CANARY}.example/Patient/1"}},
        {"gender": CANARY * 4},
    ],
)
def test_nothing_hides_in_what_stays(part: dict[str, Any]) -> None:
    """Systems, units, types and words are those that are known, not whatever looks like one."""
    left = json.dumps(Deidentifier(b"k" * 32, 2026).resource({"resourceType": "Observation", "id": "1", **part}))
    assert CANARY not in left
    assert "4711" not in left


@pytest.mark.parametrize(
    "part",
    [
        {"onsetAge": {"value": 97, "unit": "a"}},
        {"ageAge": {"value": 97}},
        {"code": {"coding": [{"system": "http://loinc.org", "code": "30525-0"}]}, "valueQuantity": {"value": 97}},
        {"bornDate": "1929"},
        {"onsetRange": {"low": {"value": 97, "unit": "a"}}},
        {"deceasedRange": {"high": {"value": 97}}},
        {"valueQuantity": {"value": 97, "system": "http://unitsofmeasure.org", "code": "a"}},
        {"item": [{"answer": [{"valueInteger": 97}]}]},
        {"effectiveDateTime": "1929-05-06"},
    ],
)
def test_no_age_above_89_stays(part: dict[str, Any]) -> None:
    """Ages go, and no year is more than 89 years ago."""
    whole = Deidentifier(b"k" * 32, 2026).resource({"resourceType": "Condition", "id": "1", **part})
    left = json.dumps({name: one for name, one in whole.items() if name != "id"})
    assert "97" not in left
    assert "1929" not in left


@pytest.mark.parametrize("kind", ["/tmp/evil", CANARY, "../up", "Jane Doe, born 1950-02-03"])
def test_what_claims_another_type_is_left_out(kind: str, tmp_path: Path) -> None:
    """A type becomes the name of a file, so it is one of FHIR's, whatever a line says; an answer of a Data Model is none."""
    lines = [{"resourceType": kind, "id": "1"}, {"resourceType": "Patient", "id": "2", "Meta": {}}]
    (tmp_path / "file.ndjson").write_text("".join(json.dumps(one) + "\n" for one in lines))
    listed = {"type": "Patient", "url": f"file://{tmp_path}/file.ndjson"}
    (tmp_path / "manifest.json").write_text(json.dumps({"output": [listed], "error": []}))
    folder = tmp_path / "sample"
    assert main(["sample", "--manifest", str(tmp_path / "manifest.json"), "--folder", str(folder)]) == 0
    assert list(folder.iterdir()) == []
    assert not Path("/tmp/evil.ndjson").exists()


def test_references_hold_together() -> None:
    """The same resource has the same new ID wherever it is named, and another key gives others."""
    first, other = Deidentifier(b"a" * 32, 2026), Deidentifier(b"b" * 32, 2026)
    patient = {"resourceType": "Patient", "id": "1", "birthDate": "1900-03-04"}
    subject = first.resource({"resourceType": "Observation", "id": "2", "subject": {"reference": "https://h/Patient/1"}})
    assert subject["subject"]["reference"] == f"Patient/{first.resource(patient)['id']}"
    assert first.resource(patient)["id"] != other.resource(patient)["id"]
    assert first.resource(patient)["birthDate"] == "1937"  # 89 years are the oldest


@pytest.fixture
def manifests(redox_connection: Sandbox, tmp_path: Path) -> list[str]:
    """What a search of all patients' results and one of patients left."""
    found = {"Patient": list(RedoxHook().fhir_search("Observation", {"code": "4548-4", "_include": "Observation:subject"}))}
    (tmp_path / "Observation.ndjson").write_text("".join(json.dumps(one) + "\n" for one in found["Patient"]))
    listed = {"type": "Observation", "url": f"file://{tmp_path}/Observation.ndjson"}
    (tmp_path / "manifest.json").write_text(json.dumps({"output": [listed], "error": []}))
    return ["--manifest", str(tmp_path / "manifest.json")]


@pytest.fixture
def served(manifests: list[str], tmp_path: Path) -> Iterator[tuple[Path, Sandbox]]:
    """A sample, and a sandbox that serves it."""
    folder = tmp_path / "sample"
    assert main(["sample", *manifests, "--folder", str(folder), "--patients", "5"]) == 0
    sandbox = Sandbox.start("--data", str(folder))
    yield folder, sandbox
    sandbox.stop()


def test_a_sandbox_serves_a_sample(
    served: tuple[Path, Sandbox], manifests: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample holds a few patients whole, no name or number of theirs, and can be searched as Redox can."""
    folder, sandbox = served
    real = [json.loads(line) for line in (tmp_path / "Observation.ndjson").read_text().splitlines()]
    people = [one for one in real if one["resourceType"] == "Patient"]
    text = "".join(path.read_text() for path in folder.iterdir())
    for person in people:
        assert person["id"] not in text
        assert person["birthDate"] not in text
        assert all(f'"{name["family"]}"' not in text for name in person["name"])
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_SAMPLE", sandbox.connection_json)
    found = list(RedoxHook("redox_sample").fhir_search("Observation", {"code": "http://loinc.org|4548-4"}))
    assert len({one["subject"]["reference"] for one in found}) == 5


def test_nothing_is_overwritten(manifests: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that holds something is refused."""
    assert main(["sample", *manifests, "--folder", str(tmp_path)]) == 2
    assert "--folder: is not empty" in capsys.readouterr().err
