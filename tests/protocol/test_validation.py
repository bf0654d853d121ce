"""Validation reports what does not fit a model: place and code, no value, and the line stays as it is."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.validation import Finding, Report, Validator, outcome, report_of
from tests.support.samples import TEST_DATA

pytest.importorskip("fhir.resources.R4B", reason="needs the extra [fhir]")

SHARED = TEST_DATA / "synthea-bulk-ndjson"


@pytest.fixture(scope="module")
def validator() -> Validator:
    return Validator("Patient")


def patient(**content: object) -> bytes:
    return json.dumps({"resourceType": "Patient", "id": "p1", **content}).encode()


def test_a_resource_that_fits_its_model_has_no_finding(validator: Validator):
    """Any type that has a model is checked by it, whatever type was searched."""
    assert validator.check(patient(birthDate="1990-01-31", name=[{"family": "Green", "given": ["Keva"]}])) == []
    assert validator.check(b'{"resourceType":"Organization","id":"o","name":"General"}') == []


@pytest.mark.parametrize(
    ("line", "path", "code"),
    [
        (patient(birthDate="Keva"), "Patient.birthDate", "value_error"),
        (patient(name=[{"given": ["Keva"]}, {"given": [{}]}]), "Patient.name[1].given[0]", "string_type"),
        (patient(mrn="Keva"), "Patient.mrn", "extra_forbidden"),
        (patient(contact=[{"Keva Green": 1}]), "Patient.contact[0].?", "extra_forbidden"),
        (patient(contained=[{"resourceType": "Keva"}]), "Patient", "unreadable"),
        (b'{"resourceType":"Observation","id":"p1","status":"final"}', "Observation.code", "missing"),
        (b'{"resourceType":"Keva","id":"p1"}', "Keva", "unknown_type"),
    ],
)
def test_a_finding_names_the_place_and_the_kind_of_fault(validator: Validator, line: bytes, path: str, code: str):
    """The place is a FHIRPath, the code a word of pydantic's or ours; a key that is no name of FHIR is a question mark."""
    kind = path.partition(".")[0]
    assert validator.check(line) == [Finding(kind, "p1", path, code)]


@pytest.mark.parametrize("line", [b"Keva", b"[]", b'"Keva"', b'{"resourceType":1}', b"\xff{", b"[" * 100_000])
def test_a_line_that_is_no_resource_is_a_finding(validator: Validator, line: bytes):
    """Whatever a line holds, checking it gives a finding and never fails."""
    assert validator.check(line) == [Finding("?", "?", "?", "unreadable")]


@given(st.text(min_size=1))
def test_no_value_is_repeated(value: str):
    """Whatever a wrong value is, the report holds the codes, the place, the type and an ID that FHIR allows, no more."""
    line = patient(birthDate=f"Keva{value}", gender=[f"Keva{value}"], id=f"Keva {value}")
    (told,) = Report(Validator("Patient")).lines([line])
    assert b"Keva" not in told


def test_a_type_without_a_model_is_refused_before_the_search():
    """A type that was asked for and has no model cannot be validated: an argument's error, at the beginning."""
    with pytest.raises(RedoxConfigError, match=r"resource_type: fhir\.resources has no model"):
        Validator("Patiennt")


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch):
    """Where fhir.resources is not installed, the error says what to install."""
    monkeypatch.setitem(sys.modules, "fhir.resources.R4B", None)
    with pytest.raises(RedoxConfigError, match=r"pip install 'airflow-provider-redox\[fhir\]'"):
        Validator("Patient")


def test_a_report_has_one_outcome_for_each_resource_with_findings(validator: Validator):
    """The lines are OperationOutcomes that name the resource and each place; resources without findings have none."""
    report = Report(validator)
    lines = report.lines([patient(), patient(mrn=1, birthDate="x"), patient(id="p2", active="?")])
    told = [json.loads(line) for line in lines]
    assert [one["issue"][0]["details"]["text"] for one in told] == ["Patient/p1", "Patient/p2"]
    assert told[0] == {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": "error",
                "code": code,
                "details": {"text": "Patient/p1"},
                "diagnostics": diagnostics,
                "expression": [path],
            }
            for code, diagnostics, path in [
                ("value", "value_error", "Patient.birthDate"),
                ("structure", "extra_forbidden", "Patient.mrn"),
            ]
        ],
    }


def test_the_outcomes_are_fhir(validator: Validator):
    """What is reported fits the model of OperationOutcome itself."""
    report = Report(validator)
    lines = report.lines([patient(mrn=1, name=[{"given": 1}] * 60), b"x", b'{"resourceType":"Zork"}'])
    assert len(lines) == 3
    assert [finding for line in lines for finding in Validator("OperationOutcome").check(line)] == []


def test_an_outcome_is_bounded():
    """A resource with thousands of faults has an outcome of 50 issues and one that tells how many are left out."""
    issues = outcome([Finding("Patient", "p", "Patient", "x")] * 5000)["issue"]
    assert len(issues) == 51
    assert (issues[-1]["severity"], issues[-1]["diagnostics"]) == ("information", "4950 more")


def test_a_report_counts(validator: Validator):
    """What is logged at the end is numbers and codes."""
    report = Report(validator)
    assert report.summary == "Validated: 0, with findings: 0"
    report.lines([patient(), patient(mrn=1, birthDate="x"), patient(mrn=1)])
    assert report.summary == "Validated: 3, with findings: 2 (2 extra_forbidden, 1 value_error)"


def test_the_argument_is_off_or_report():
    """`off` loads nothing and asks for no extra; anything but the two words is an argument's error."""
    assert report_of("off", "Zork") is None
    assert isinstance(report_of("report", "Patient"), Report)
    with pytest.raises(RedoxConfigError, match="validate: must be one of off, report"):
        report_of("strict", "Patient")


def test_types_that_have_no_model_are_not_remembered(validator: Validator):
    """A server that invents types does not fill the memory."""
    before = len(validator._models)
    for number in range(100):
        validator.check(b'{"resourceType":"Zork%d"}' % number)
    assert len(validator._models) == before


@pytest.mark.skipif(not SHARED.is_dir(), reason="no sample resources in TEST_DATA")
def test_real_resources_of_r4_have_no_findings(validator: Validator):
    """Synthea's R4 resources, nine types, fit the models of R4B."""
    lines = [
        line for path in SHARED.glob("*.ndjson") if path.name != "log.ndjson" for line in path.read_bytes().splitlines()[:50]
    ]
    assert len(lines) > 200
    assert Report(validator).lines(lines) == []


ABSENT = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}
_DEEP = "._valueString.extension[0]._valueCode.id"
COMPANIONS = ["String", "Code", "Boolean", "Date", "DateTime", "Decimal", "Integer", "Uri", "Instant", "PositiveInt"]


@pytest.mark.parametrize("kind", COMPANIONS)
@pytest.mark.parametrize("holder", ["extension", "modifierExtension"])
def test_a_primitive_of_an_extension_may_have_a_companion(validator: Validator, kind: str, holder: str):
    """`_valueString` beside `valueString`, or alone, is FHIR, which the model of Extension does not know (its issue 204)."""
    companion = {"url": "http://x.example/e", f"_value{kind}": {"id": "a", **ABSENT}}
    nested = {"url": "http://x.example/n", "extension": [companion]}
    assert (
        validator.check(patient(**{holder: [companion, nested]}, birthDate="1990", _birthDate={"extension": [nested]})) == []
    )


@pytest.mark.parametrize(
    ("extension", "path", "code"),
    [
        ({"_valueString": {"mrn": 1}}, "._valueString.mrn", "extra_forbidden"),
        ({"_valueString": {"extension": [{"_valueCode": {"id": {}}}]}}, _DEEP, "string_type"),
        ({"_valueString": "Keva"}, "._valueString", "model_type"),
        ({"_valueQuantity": ABSENT}, "._valueQuantity", "extra_forbidden"),
        ({"_valueKeva": ABSENT}, "._valueKeva", "extra_forbidden"),
        ({"valueCode": "a", "_valueString": ABSENT}, "._valueString", "extra_forbidden"),
    ],
)  # fmt: skip
def test_what_no_companion_may_hold_is_found(validator: Validator, extension: dict[str, object], path: str, code: str):
    """Set apart is what FHIR allows there, and that is checked by itself."""
    found = validator.check(patient(extension=[{"url": "http://x.example/e", **extension}]))
    assert Finding("Patient", "p1", f"Patient.extension[0]{path}", code) in found


def test_a_companion_hides_no_other_fault(validator: Validator):
    """What is wrong elsewhere in the resource is found all the same."""
    line = patient(extension=[{"url": "x", "_valueString": ABSENT}], birthDate="Keva", name=[{"_valueString": ABSENT}])
    assert {(one.path, one.code) for one in validator.check(line)} == {
        ("Patient.name[0]._valueString", "extra_forbidden"),
        ("Patient.birthDate", "value_error"),
    }


def us_core() -> list[Path]:
    return sorted((TEST_DATA / "us-core-examples").glob("*.json"))


@pytest.mark.skipif(not us_core(), reason="needs TEST_DATA")
def test_the_examples_of_us_core_have_no_false_alarm(validator: Validator):
    """Of 230 one has a finding, and rightly: its narrative has a status and no text (R4, Narrative.div is 1..1).

    With a companion in each extension that has a primitive value, they have no more.
    """
    found: set[tuple[str, str]] = set()
    with_companions = 0
    for path in us_core():
        text = path.read_bytes()
        filled = re.sub(rb'("value(?:String|Code|Boolean|DateTime|Decimal)" *: *(?:"[^"]*"|[^",}\s]+))', _companion, text)
        with_companions += filled != text
        found |= {(path.name, one.path) for line in (text, filled) for one in validator.check(line)}
    assert found == {("diagnosticreport-cbc.json", "DiagnosticReport.text.div")}
    assert with_companions > 40


def _companion(found: re.Match[bytes]) -> bytes:
    name = found.group().split(b'"')[1]
    return found.group() + b',"_' + name + b'":{"id":"a"}'
