"""What of a search can be held against the resources that came, and what proves nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.protocol.datespans import bound_of, span_of, span_of_value
from airflow_provider_redox.protocol.evidence import Evidence
from airflow_provider_redox.protocol.pages import Resource, read_line

MRN = "urn:oid:1.2.3"
LOINC = "http://loinc.org"


def strays(
    resource: dict[str, Any], asked: Any, *, mode: str | None = "match", confirmed: bool = False, **more: Any
) -> list[str]:
    """Name the parameters that a resource does not meet."""
    kind = more.pop("kind", resource["resourceType"])
    one = read_line(json.dumps({"id": "1", **resource}).encode())
    marked = Resource(one.type, one.id, one.version, one.last_updated, one.line, mode)
    form = urlencode(asked, doseq=True).encode()
    return Evidence.of(form, kind).strays([marked], confirmed=confirmed, **more).parameters


def observation(**members: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", **members}


def about(reference: Any) -> dict[str, Any]:
    return observation(subject={"reference": reference} if isinstance(reference, str) else reference)


# ── the subject ──


@pytest.mark.parametrize("wanted", ["p1", "Patient/p1", "https://ehr.example/r4/Patient/p1", "p0,p1", "P1", "a\\,b,p1"])
@pytest.mark.parametrize(
    "reference",
    ["Patient/p1", "https://other.example/x/Patient/p1", "Patient/p1/_history/3", "p1"],
)
def test_a_reference_to_the_same_patient_is_the_same_in_every_spelling(wanted: str, reference: str) -> None:
    """Relative, absolute, bare or with a version, one of several, in capitals: a reference is compared by type and ID."""
    assert strays(about(reference), {"patient": wanted}) == []


@pytest.mark.parametrize("name", ["patient", "subject", "subject:Patient", "patient:Patient", "Patient"])
@pytest.mark.parametrize("reference", ["Patient/p2", "https://ehr.example/r4/Patient/p2", "Patient/p1x"])
def test_a_reference_to_somebody_else_is_found_out(name: str, reference: str) -> None:
    """A resource about another patient was not asked for, whatever the self link says, and however its entry is marked."""
    for confirmed in (True, False):
        for mode in ("match", None):
            assert strays(about(reference), {name: "Patient/p1"}, confirmed=confirmed, mode=mode) == [name]


@pytest.mark.parametrize(
    "subject",
    [
        {"identifier": {"value": "MRN-2"}},
        {"display": "Keva Green"},
        {"reference": "#contained"},
        {"reference": "urn:uuid:7b1f0a3c-0000-4000-8000-000000000000"},
        {"reference": "Patient?identifier=MRN-2"},
        {"reference": 17},
        "text instead",
        None,
        [],
        [{"reference": "Patient/p2"}, {"reference": "Patient/p1"}],
    ],
)
def test_a_subject_that_cannot_be_compared_proves_nothing(subject: Any) -> None:
    """A reference by identifier, into the resource, or of another shape may be anybody's; of several one is enough."""
    assert strays(observation(subject=subject), {"patient": "p1"}) == []


@pytest.mark.parametrize(
    "name", ["patient:identifier", "subject:missing", "patient.name", "subject:Patient.name", "patient:not"]
)
def test_modifiers_and_chains_are_not_understood(name: str) -> None:
    """What asks in another way than by reference is not held against references."""
    assert strays(about("Patient/p2"), {name: "p1"}) == []


@pytest.mark.parametrize(
    ("kind", "member"),
    [("Coverage", "beneficiary"), ("Task", "for"), ("ResearchSubject", "individual"), ("Immunization", "patient")],
)
def test_the_subject_has_other_names_too(kind: str, member: str) -> None:
    """A patient is the beneficiary of a Coverage, and what a Task is for."""
    resource = {"resourceType": kind, member: {"reference": "Patient/p2"}}
    assert strays(resource, {"patient": "p1"}) == ["patient"]
    assert strays(resource, {"patient": "p2"}) == []


def test_a_type_that_names_its_patient_elsewhere_is_passed_over() -> None:
    """An Appointment's patient is a participant."""
    resource = {"resourceType": "Appointment", "participant": [{"actor": {"reference": "Patient/p2"}}]}
    assert strays(resource, {"patient": "p1"}) == []


# ── type, ID, identifier ──


def test_another_type_is_found_out() -> None:
    """A match of another type was not asked for; what was included is no match, and includes may be marked as anything."""
    patient = {"resourceType": "Patient"}
    assert strays(patient, {}, kind="Observation") == ["resource_type"]
    assert strays(patient, {}, kind="Observation", confirmed=True) == ["resource_type"]
    assert strays(patient, {}, kind="Observation", mode=None) == ["resource_type"]
    assert strays(patient, {}, kind="Observation", mode=None, confirmed=True) == []
    assert strays(patient, {}, kind="Observation", mode="include") == []
    assert strays(patient, {"_include": "Observation:subject"}, kind="Observation") == []


def test_what_was_included_is_not_held() -> None:
    """An included resource of the same type may be about anybody, also where its server marks nothing."""
    assert strays(about("Patient/p2"), {"patient": "p1"}, mode="include") == []
    assert strays(about("Patient/p2"), {"patient": "p1", "_include": "Observation:has-member"}, mode=None) == []
    assert strays(about("Patient/p2"), {"patient": "p1", "_include": "Observation:has-member"}) == ["patient"]


def test_another_id_is_found_out() -> None:
    """`_id` is held on every page."""
    assert strays({"resourceType": "Patient", "id": "b"}, {"_id": "a,c"}, confirmed=True) == ["_id"]
    assert strays({"resourceType": "Patient", "id": "c"}, {"_id": "a,c"}) == []
    assert strays({"resourceType": "Patient", "id": "c"}, {"_id": "Patient/c"}) == []


def test_a_merged_patient_is_not_held() -> None:
    """The survivor of a merge has another ID and another number; its `link` tells."""
    merged = {
        "resourceType": "Patient",
        "id": "new",
        "identifier": [{"system": MRN, "value": "2"}],
        "link": [{"type": "replaces", "other": {"reference": "Patient/old"}}],
    }
    assert strays(merged, {"_id": "old"}) == []
    assert strays(merged, {"identifier": f"{MRN}|1"}) == []


def person(*identifiers: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "identifier": list(identifiers)}


@pytest.mark.parametrize(
    ("identifiers", "wanted", "stray"),
    [
        ([{"system": MRN, "value": "2"}], f"{MRN}|1", True),
        ([{"system": MRN, "value": "2"}], f"{MRN}|1,{MRN}|3", True),
        ([{"system": MRN, "value": "2"}], f"{MRN}|1,{MRN}|2", False),
        ([{"system": MRN, "value": "2"}], "1", True),
        ([{"system": MRN, "value": "0042"}], f"{MRN}|42", False),
        ([{"system": MRN, "value": "AB-1"}], f"{MRN}|ab-1", False),
        ([{"system": "urn:other", "value": "2"}], f"{MRN}|1", False),
        ([{"system": "urn:other", "value": "1"}], f"{MRN}|1", False),
        ([{"system": MRN, "value": "2"}, {"system": MRN, "value": "***"}], f"{MRN}|1", False),
        ([{"system": MRN, "value": "xxx-xx-1234"}], f"{MRN}|999-99-1234", False),
        ([{"system": MRN}], f"{MRN}|1", False),
        ([{"system": MRN, "value": 2}], f"{MRN}|1", False),
        ([], f"{MRN}|1", False),
        ([{"system": MRN, "value": "2"}], f"{MRN}|", False),
        (["text"], "1", False),
    ],
)
def test_an_identifier_is_held_within_its_system(identifiers: list[Any], wanted: str, *, stray: bool) -> None:
    """Another value of the same system is somebody else's; a masked one, or one of another system, proves nothing."""
    assert strays(person(*identifiers), {"identifier": wanted}) == (["identifier"] if stray else [])
    assert strays(person(*identifiers), {"identifier": wanted}, confirmed=True) == []


# ── codes ──


def coded(*codings: Any) -> dict[str, Any]:
    return observation(code={"coding": list(codings), "text": "Heart rate"})


@pytest.mark.parametrize(
    ("resource", "asked", "stray"),
    [
        (coded({"system": LOINC, "code": "4548-4"}), {"code": f"{LOINC}|8867-4"}, True),
        (coded({"system": LOINC, "code": "4548-4"}), {"code": "8867-4"}, True),
        (coded({"system": LOINC, "code": "4548-4"}), {"code": f"{LOINC}|8867-4,{LOINC}|4548-4"}, False),
        (coded({"system": "urn:local", "code": "HR"}), {"code": f"{LOINC}|8867-4"}, False),
        (
            coded({"system": "urn:local", "code": "HR"}, {"system": LOINC, "code": "8867-4"}),
            {"code": f"{LOINC}|8867-4"},
            False,
        ),
        (coded(), {"code": f"{LOINC}|8867-4"}, False),
        (coded({"display": "x"}), {"code": "8867-4"}, False),
        (observation(code={"text": "x"}), {"code": "8867-4"}, False),
        (observation(code="x"), {"code": "8867-4"}, False),
        (coded({"system": LOINC, "code": "4548-4"}), {"code:in": "http://example.org/vs"}, False),
        (coded({"system": LOINC, "code": "4548-4"}), {"code:not": f"{LOINC}|8867-4"}, False),
        (observation(category=[{"coding": [{"code": "laboratory"}]}]), {"category": "vital-signs"}, True),
        (
            observation(category=[{"coding": [{"code": "laboratory"}]}, {"coding": [{"code": "vital-signs"}]}]),
            {"category": "vital-signs"},
            False,
        ),
        (observation(status="final"), {"status": "final,amended"}, False),
        (observation(status="entered-in-error"), {"status": "final,amended"}, True),
        ({"resourceType": "AllergyIntolerance", "code": {"coding": [{"code": "x"}]}}, {"code": "y"}, False),
        ({"resourceType": "Patient", "gender": "male"}, {"gender": "female"}, True),
    ],
)
def test_a_code_is_held_within_its_system(resource: dict[str, Any], asked: dict[str, str], *, stray: bool) -> None:
    """Another code of the same system was not asked for; text, local codes and modifiers prove nothing."""
    assert strays(resource, asked) == (sorted(asked) if stray else [])
    assert strays(resource, asked, confirmed=True) == []


# ── dates ──


@pytest.mark.parametrize(
    ("value", "wanted", "stray"),
    [
        ("2026-01-05", "ge2026-01-05", False),
        ("2026-01-04", "ge2026-01-05", True),
        ("2026-01", "ge2026-01-05", False),
        ("2025", "ge2026", True),
        ("2026-01-04T23:59:59Z", "ge2026-01-05T00:00:00Z", True),
        ("2026-01-05T01:30:00+02:00", "ge2026-01-05T00:00:00Z", True),
        ("2026-01-04T23:59:59Z", "ge2026-01-05", False),
        ("2026-01-04T09:00:00Z", "ge2026-01-05", True),
        ("2026-01-05", "gt2026-01-05", False),
        ("2026-01-05", "lt2026-01-05", False),
        ("2026-01-06", "lt2026-01-05", True),
        ("2026-01-05", "le2026-01-05", False),
        ("2026-01-05T00:00:00Z", "lt2026-01-05T00:00:00Z", False),
        ("2026-01-05T00:00:01Z", "lt2026-01-05T00:00:00Z", True),
        ("2026-01-05", "2026-01-05", False),
        ("2026-01-05", "2026", False),
        ("2026-01-06", "eq2026-01-05", True),
        ("2026-01-06", "2026-01-05,2026-01-06", False),
        ("2026-01-06", "ne2026-01-06", False),
        ("2026-01-06", "ap2026-01-05", False),
        ("2026-01-06", "sa2026-01-07", True),
        ("2026-01-06", "eb2026-01-05", True),
        ("2026-13-45", "ge2027", False),
        ("tomorrow", "ge2027", False),
        ("2026-01-06", "soon", False),
    ],
)
def test_a_date_is_held_where_no_zone_could_make_it_fit(value: str, wanted: str, *, stray: bool) -> None:
    """Spans that lie apart are a contradiction; spans that overlap, in some zone, prove nothing."""
    assert strays(observation(effectiveDateTime=value), {"date": wanted}) == (["date"] if stray else [])


@pytest.mark.parametrize(
    ("period", "wanted", "stray"),
    [
        ({"start": "2026-01-01", "end": "2026-01-03"}, "ge2026-01-04", True),
        ({"start": "2026-01-01"}, "ge2026-01-04", False),
        ({"end": "2026-01-03"}, "lt2025", False),
        ({"start": "2026-01-02"}, "lt2026-01-01", True),
        ({"start": 5}, "lt2026-01-01", False),
        ({}, "lt2026-01-01", False),
    ],
)
def test_a_period_is_a_span(period: dict[str, Any], wanted: str, *, stray: bool) -> None:
    """A Period without an end goes on."""
    resource = {"resourceType": "Encounter", "period": period}
    assert strays(resource, {"date": wanted}) == (["date"] if stray else [])


def test_each_bound_of_a_window_is_held() -> None:
    """Of two values of one parameter both have to be met."""
    asked = {"date": ["ge2026-01-01", "lt2026-02-01"]}
    found = [strays(observation(effectiveDateTime=day), asked) for day in ("2025-12-31", "2026-01-31", "2026-02-02")]
    assert found == [["date"], [], ["date"]]


def test_a_birth_date_has_no_zone() -> None:
    """Two days are two days."""
    assert strays({"resourceType": "Patient", "birthDate": "1980-01-02"}, {"birthdate": "1980-01-01"}) == ["birthdate"]


def test_the_last_change_may_be_later_than_asked() -> None:
    """What was changed while the pages were read has a later `lastUpdated`; an earlier one was never asked for."""
    found = [
        strays(
            observation(meta={"lastUpdated": f"2026-0{month}-01T00:00:00Z"}), {"_lastUpdated": ["ge2026-02", "lt2026-03"]}
        )
        for month in (1, 2, 3)
    ]
    assert found == [["_lastUpdated"], [], []]


def test_what_was_changed_since_the_search_began_may_have_met_it_before() -> None:
    """A status that changes between two pages is no fault of the server's; a subject does not change."""
    resource = {**about("Patient/p2"), "status": "amended", "meta": {"lastUpdated": "2026-01-01T12:00:00Z"}}
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
    assert strays(resource, {"status": "final"}, began=noon) == []
    assert strays(resource, {"status": "final"}, began=noon + 2) == ["status"]
    assert strays(resource, {"status": "final", "patient": "p1"}, began=noon) == ["patient", "status"]


moments = st.integers(631_152_000, 2_840_140_800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@given(
    moments, moments, st.integers(-14, 14), st.integers(-14, 14), st.sampled_from([4, 7, 10, 19]), st.sampled_from([10, 19])
)
def test_what_a_server_of_any_zone_could_return_is_no_contradiction(
    held: datetime, asked: datetime, zone: int, theirs: int, digits: int, precision: int
) -> None:
    """Whatever the zones and the precision: where the true instants fit `ge` or `le`, nothing is claimed."""
    written = _written(held, zone, digits)
    bound = _written(asked, theirs, precision)
    span = span_of_value(written)
    assert span is not None
    for prefix, fits in (("ge", held >= asked), ("le", held <= asked)):
        one = bound_of(prefix + bound)
        assert one is not None
        if fits and (zone == theirs or digits == precision == 19):
            assert not one.excludes(span)


def _written(moment: datetime, zone: int, digits: int) -> str:
    local = (moment + timedelta(hours=zone)).isoformat(timespec="seconds")[:digits]
    return f"{local}{'+' if zone >= 0 else '-'}{abs(zone):02d}:00" if digits == 19 else local


@given(st.text(max_size=12) | st.from_regex(r"\d{4}(-\d\d(-\d\d(T\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?)?)?)?", fullmatch=True))
def test_any_text_is_a_span_or_none(text: str) -> None:
    """Whatever stands for a date is read or passed over."""
    span = span_of(text)
    assert span is None or span.start < span.end


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["reference", "coding", "code", "system", "value", "start", "end"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    )
)
def test_any_shape_of_a_resource_is_judged_without_a_crash(value: Any) -> None:
    """Members of any shape prove something or nothing, and are no error."""
    asked = {
        "patient": "p1",
        "identifier": "a|1",
        "code": "x",
        "category": "x",
        "status": "x",
        "date": "ge2026",
        "birthdate": "2026",
    }
    names = (
        "subject",
        "patient",
        "identifier",
        "code",
        "category",
        "status",
        "effectiveDateTime",
        "effectivePeriod",
        "birthDate",
    )
    strays(observation(**dict.fromkeys(names, value)), asked)


subjects = st.sampled_from(
    [
        {"reference": "Patient/p1"},
        {"reference": "Patient/p1", "display": "x"},
        {"reference": "Patient/p2"},
        {"identifier": {"value": "1"}, "reference": "Patient/p2"},
        {"identifier": {"value": "1"}},
        None,
    ]
)


@given(st.lists(st.fixed_dictionaries({}, optional={"subject": subjects, "patient": subjects, "contained": subjects})))
def test_what_was_found_before_changes_no_answer(members: list[dict[str, Any]]) -> None:
    """A page is judged as each of its resources alone, whatever came before and wherever else a subject stands."""
    resources = []
    for held in members:
        inner = held.pop("contained", None)
        contained = {"contained": [{"resourceType": "Condition", "subject": inner}]} if inner else {}
        line = json.dumps(observation(id="1", **contained, **held)).encode()
        resources.append(Resource("Observation", "1", None, None, line, "match"))
    alone = [Evidence.of(b"patient=p1", "Observation").strays([one], confirmed=True).number for one in resources]
    together = Evidence.of(b"patient=p1", "Observation").strays(resources, confirmed=True)
    assert together.number == sum(alone)


def test_nothing_is_read_where_nothing_can_be_held() -> None:
    """A search that only shapes its answer, or asks by what cannot be compared, reads no resource."""
    for asked in ({}, {"_count": "5"}, {"name": "Green"}, {"_has:Observation:patient:code": "x"}, {"_tag": "x"}):
        assert Evidence.of(urlencode(asked).encode(), "Patient").checks == ()
