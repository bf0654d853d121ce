"""FHIR read and search: which parameters match what, and what is refused."""

from __future__ import annotations

import datetime
import http.client
from urllib.parse import parse_qs, urlsplit

import pytest

from .conftest import KEVA, Client

MRN = "urn:redox:general:MR"


def test_a_resource_is_read_by_its_id(redox: Client) -> None:
    """A read answers the resource with its version and its update time."""
    answer = redox.call("GET", redox.fhir(f"Patient/{KEVA}"))
    patient = answer.json()
    assert answer.headers["Content-Type"].startswith("application/fhir+json")
    assert (patient["resourceType"], patient["id"], patient["birthDate"]) == ("Patient", KEVA, "1995-08-26")
    assert patient["meta"]["versionId"] == "1"
    assert patient["meta"]["lastUpdated"].endswith("Z")


@pytest.mark.parametrize(
    "path",
    [
        "/fhir/R4/general-hospital/Development/Patient/no-such-id",
        f"/fhir/R4/unknown-clinic/Development/Patient/{KEVA}",
        f"/fhir/R4/general-hospital/development/Patient/{KEVA}",
        f"/fhir/R4/general-hospital/Development/patient/{KEVA}",
        f"/fhir/R4/general-hospital/Development/Patent/{KEVA}",
        "/fhir/R4/general-hospital/Development/Patient/x/y/z",
        "/fhir/R4/general-hospital/Development/Patient/a%2Fb",
        f"/fhir/R4/general-hospital/Development/../Development/Patient/{KEVA}",
    ],
)
def test_what_is_not_there_is_404_with_an_outcome(redox: Client, path: str) -> None:
    """An unknown ID, slug, environment or type, in the wrong case too, gets 404 with an OperationOutcome."""
    connection = http.client.HTTPConnection("127.0.0.1", redox.connection["port"], timeout=10)
    connection.request("GET", path, headers={"Authorization": f"Bearer {redox.token()}"})
    answer = connection.getresponse()
    assert (answer.status, b'"OperationOutcome"' in answer.read()) == (404, True)
    connection.close()


@pytest.mark.parametrize("environment", ["Development", "Staging", "Production"])
@pytest.mark.parametrize("slug", ["general-hospital", "lakeside-clinic"])
def test_every_destination_serves_every_environment(redox: Client, slug: str, environment: str) -> None:
    """Both slugs serve the same patients, in all three environments."""
    assert redox.call("GET", f"/fhir/R4/{slug}/{environment}/Patient/{KEVA}").status_code == 200


@pytest.mark.parametrize(
    "params",
    [
        {"_id": KEVA},
        {"identifier": f"{MRN}|0000000001"},
        {"identifier": "0000000001"},
        {"given": "keva", "family": "GRE", "birthdate": "1995-08-26"},
        {"given:exact": "Keva", "family:exact": "Green", "birthdate": "1995-08-26"},
        {"given": "Keva", "family": "Green", "birthdate": "1995", "gender": "female"},
        {"_id": KEVA, "name": "gre", "birthdate": "lt2000", "active": "true"},
    ],
)
def test_a_person_is_found(redox: Client, params: dict[str, str]) -> None:
    """Strings match by prefix in any case, tokens by code or system and code, dates by interval."""
    found = redox.search("Patient", params).json()
    assert [entry["resource"]["id"] for entry in found["entry"]] == [KEVA]
    assert found["total"] == 1
    assert found["entry"][0]["search"] == {"mode": "match"}
    assert found["entry"][0]["fullUrl"].endswith(f"/fhir/R4/general-hospital/Development/Patient/{KEVA}")


@pytest.mark.parametrize(
    "params",
    [
        {"_id": "nobody"},
        {"identifier": "urn:other|0000000001"},
        {"identifier": "|0000000001"},
        {"identifier": "000000000"},
        {"given:exact": "keva", "family": "Green", "birthdate": "1995-08-26"},
        {"given": "eva", "family": "Green", "birthdate": "1995-08-26"},
        {"given": "Keva", "family": "Green", "birthdate": "1995-08-27"},
        {"_id": KEVA, "gender": "male"},
        {"_id": KEVA, "gender:not": "female"},
        {"_id": KEVA, "birthdate:missing": "true"},
    ],
)
def test_nobody_is_found(redox: Client, params: dict[str, str]) -> None:
    """No match is an answer, not an error: 200, total 0, no entry at all."""
    answer = redox.search("Patient", params)
    assert (answer.status_code, answer.json()["total"]) == (200, 0)
    assert "entry" not in answer.json()


def test_accents_do_not_matter_unless_exact(redox: Client) -> None:
    """Zoe O'Brien-Nunez finds Zoë O'Brien-Núñez; with :exact she does not."""
    plain = {"given": "zoe", "family": "o'brien-nunez", "birthdate": "1971-12-31"}
    assert len(redox.found("Patient", plain)) == 1
    assert redox.found("Patient", plain | {"family:exact": "O'Brien-Nunez"}) == []


def test_a_search_may_find_two_records_of_one_person(redox: Client) -> None:
    """Sam Rivers is registered twice: same name and birth date, two MRNs."""
    found = redox.found("Patient", {"given": "Sam", "family": "Rivers", "birthdate": "1980-02-29"})
    assert {patient["identifier"][0]["value"] for patient in found} == {"0000000002", "0000000003"}


def test_a_comma_is_or_and_a_repeated_key_is_and(redox: Client) -> None:
    """Values after a comma are alternatives; a key that comes again narrows the search."""
    either = {"identifier": "0000000001,0000000002"}
    assert len(redox.found("Patient", either)) == 2
    both = [("identifier", "0000000001"), ("identifier", "0000000002")]
    assert redox.found("Patient", both) == []
    assert len(redox.found("Patient", {"_id": f"{KEVA},{KEVA}"})) == 1


@pytest.mark.parametrize(
    "params",
    [
        {"name": "Green"},
        {"given": "Keva", "family": "Green"},
        {"birthdate": "1995-08-26"},
        {"_lastUpdated": "ge2020-01-01"},
        {"given": "Keva", "family": "Green", "birthdate:missing": "false"},
    ],
)
def test_a_patient_search_has_to_identify_a_person(redox: Client, params: dict[str, str]) -> None:
    """Redox wants _id, identifier, or given and family and birthdate; patient_search_rule turns that off."""
    refused = redox.search("Patient", params)
    assert (refused.status_code, refused.json()["resourceType"]) == (400, "OperationOutcome")
    redox.settings(patient_search_rule=False)
    assert redox.search("Patient", params).json()["total"] >= 1


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"_id": KEVA, "favourite-colour": "canary"}, "favourite-colour"),
        ({"_id": KEVA, "general-practitioner.name": "canary"}, "general-practitioner.name"),
        ({"_id": KEVA, "family:soundex": "canary"}, "family"),
        ({"_id": KEVA, "birthdate": "canary"}, "birthdate"),
        ({"_id": KEVA, "birthdate": "ap2000"}, "birthdate"),
        ({"_id": KEVA, "family": ""}, "family"),
        ({"_id": KEVA, "_count": "canary"}, "_count"),
        ({"_id": KEVA, "_sort": "canary"}, "_sort"),
        ({"_id": KEVA, "_include": "Patient:canary"}, "_include"),
        ({"_id": KEVA, "_summary": "canary"}, "_summary"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(redox: Client, params: dict[str, str], named: str) -> None:
    """An unknown parameter, modifier, prefix or value gets 400; its name is told, its value is not."""
    answer = redox.search("Patient", params)
    text = answer.json()["issue"][0]["diagnostics"]
    assert answer.status_code == 400
    assert named in text
    assert "canary" not in text


def test_a_search_is_a_form(redox: Client) -> None:
    """JSON is no search: 415. Bytes that are not UTF-8 are 400."""
    assert redox.call("POST", redox.fhir("Patient/_search"), json={"_id": KEVA}).status_code == 415
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert redox.call("POST", redox.fhir("Patient/_search"), data=b"_id=%ff", headers=form).status_code == 400


def test_a_first_search_by_get_is_refused(redox: Client) -> None:
    """Parameters do not belong in a URL: 405, unless get_search is on."""
    assert redox.call("GET", redox.fhir(f"Patient?_id={KEVA}")).status_code == 405
    redox.settings(get_search=True)
    assert redox.call("GET", redox.fhir(f"Patient?_id={KEVA}")).json()["total"] == 1


@pytest.mark.parametrize("params", [{"patient": KEVA}, {"subject": f"Patient/{KEVA}"}, {"subject:Patient": KEVA}])
def test_clinical_resources_are_found_by_their_patient(redox: Client, params: dict[str, str]) -> None:
    """A patient is named by an ID, or by a type and an ID."""
    found = redox.found("Condition", params)
    assert [condition["code"]["coding"][0]["code"] for condition in found] == ["44054006"]


def test_codes_and_categories_are_tokens(redox: Client) -> None:
    """A code with its system, a code alone and a system alone all match; a wrong system does not."""
    by_code = redox.found("Observation", {"code": "http://loinc.org|4548-4", "_count": "1000"})
    assert by_code
    assert {observation["category"][0]["coding"][0]["code"] for observation in by_code} == {"laboratory"}
    assert len(redox.found("Observation", {"code": "4548-4", "_count": "1000"})) == len(by_code)
    assert redox.search("Observation", {"code": "http://snomed.info/sct|4548-4"}).json()["total"] == 0
    vitals = redox.search("Observation", {"category": "vital-signs", "_summary": "count"}).json()["total"]
    all_of_them = redox.search("Observation", {"status": "final", "_summary": "count"}).json()["total"]
    assert vitals + len(by_code) == all_of_them


def test_a_count_has_no_entries(redox: Client) -> None:
    """_summary=count and _count=0 answer the total and nothing else."""
    for params in ({"_summary": "count"}, {"_count": "0"}):
        bundle = redox.search("Encounter", params).json()
        assert bundle["total"] > 200
        assert "entry" not in bundle
        assert [link["relation"] for link in bundle["link"]] == ["self"]


def test_elements_are_what_was_asked_for(redox: Client) -> None:
    """_elements leaves the named elements, ID, and meta with the SUBSETTED tag."""
    (patient,) = redox.found("Patient", {"_id": KEVA, "_elements": "gender,birthDate"})
    assert set(patient) == {"resourceType", "id", "meta", "gender", "birthDate"}
    assert patient["meta"]["tag"][0]["code"] == "SUBSETTED"


def test_summaries_are_parts(redox: Client) -> None:
    """_summary=true leaves FHIR's summary elements, data all but the narrative, text the narrative and what is mandatory."""
    query = {"patient": KEVA, "_count": "1"}
    (whole,) = redox.found("Observation", query)
    summary, data, text = ({**query, "_summary": kind} for kind in ("true", "data", "text"))
    (short,) = redox.found("Observation", summary)
    assert {"resourceType", "id", "meta", "status", "code", "subject"} <= set(short) < set(whole)
    assert "category" not in short
    assert set(redox.found("Observation", data)[0]) == set(whole) - {"text"}
    assert set(redox.found("Observation", text)[0]) - {"text"} == {"resourceType", "id", "meta", "status", "code"}
    for part in (summary, data, text):
        assert redox.found("Observation", part)[0]["meta"]["tag"][0]["code"] == "SUBSETTED"


@pytest.mark.parametrize("sort", ["_id", "-_id", "_lastUpdated", "-_lastUpdated"])
def test_results_are_sorted_on_request(redox: Client, sort: str) -> None:
    """_sort orders by ID or update time, with a minus the other way round."""
    found = redox.found("Encounter", {"_sort": sort, "_count": "1000"})
    keys = [row["id"] if sort.endswith("_id") else row["meta"]["lastUpdated"] for row in found]
    assert keys == sorted(keys, reverse=sort.startswith("-"))


def test_included_resources_come_beside_the_matches(redox: Client) -> None:
    """_include brings what matches point at, once; it counts neither in the total nor in the page size."""
    params = {"patient": KEVA, "code": "8867-4", "_include": "Observation:subject"}
    bundle = redox.search("Observation", params).json()
    modes = [(entry["search"]["mode"], entry["resource"]["resourceType"]) for entry in bundle["entry"]]
    assert modes.count(("include", "Patient")) == 1
    assert modes.count(("match", "Observation")) == bundle["total"]


def test_what_points_at_the_matches_can_be_included(redox: Client) -> None:
    """_revinclude brings the resources that refer to a match; several may be asked for."""
    params = [("_id", KEVA), ("_revinclude", "Condition:patient"), ("_revinclude", "Encounter:subject")]
    bundle = redox.search("Patient", params).json()
    included = [entry["resource"] for entry in bundle["entry"] if entry["search"]["mode"] == "include"]
    assert bundle["total"] == 1
    assert {resource["resourceType"] for resource in included} == {"Condition", "Encounter"}
    assert {resource["subject"]["reference"] for resource in included} == {f"Patient/{KEVA}"}


def test_the_self_link_tells_what_was_searched(redox: Client) -> None:
    """The self link repeats the parameters that were honoured, in their order."""
    bundle = redox.search("Patient", [("family", "Green"), ("given", "Keva"), ("birthdate", "1995-08-26")]).json()
    assert bundle["link"][0]["relation"] == "self"
    assert bundle["link"][0]["url"].endswith("/Patient?family=Green&given=Keva&birthdate=1995-08-26")


ASKED = {"patient": KEVA, "status": "entered-in-error", "_count": "1000"}


def test_a_parameter_can_be_ignored(redox: Client) -> None:
    """A parameter named in ignored_parameters filters nothing and is not in the self link, the others do and are."""
    redox.settings(ignored_parameters=["status", "favourite-colour"])
    everything = {"patient": KEVA, "_count": "1000"}
    for asked in (ASKED, everything | {"status:not": "finished"}, everything | {"favourite-colour": "x"}):
        bundle = redox.search("Observation", asked).json()
        assert bundle["total"] == len(redox.found("Observation", everything)) > 0
        assert set(parse_qs(urlsplit(bundle["link"][0]["url"]).query)) == set(everything)


@pytest.mark.parametrize("wish", ["handling=strict", 'return=minimal, Handling = "strict"; wait=5'])
def test_a_strict_search_is_refused_where_that_is_supported(redox: Client, wish: str) -> None:
    """With strict_supported, a search that prefers strict handling gets 400 for a parameter that would be ignored."""
    redox.settings(ignored_parameters=["status"])
    assert redox.search("Observation", ASKED, headers={"Prefer": wish}).status_code == 200
    redox.settings(strict_supported=True)
    refused = redox.search("Observation", ASKED, headers={"Prefer": wish})
    assert refused.status_code == 400
    assert "status" in refused.json()["issue"][0]["details"]["text"]
    assert redox.search("Observation", ASKED, headers={"Prefer": "handling=lenient"}).status_code == 200
    assert redox.search("Observation", {"patient": KEVA}, headers={"Prefer": wish}).status_code == 200


def test_a_search_for_last_night_finds_something(redox: Client) -> None:
    """Updates are spread over the thirty days before the start, so a window of a day holds some, not all."""
    today = datetime.datetime.now(datetime.UTC).date()
    window = [("_lastUpdated", f"ge{today - datetime.timedelta(days=1)}"), ("_lastUpdated", f"lt{today}")]
    total = redox.search("Observation", [*window, ("_summary", "count")]).json()["total"]
    assert 10 < total < 400
    month = [("_lastUpdated", f"ge{today - datetime.timedelta(days=31)}"), ("_summary", "count")]
    everything = redox.control("GET", "stats").json()["resources_by_type"]["Observation"]
    assert redox.search("Observation", month).json()["total"] == everything


def test_a_document_leads_to_its_bytes(redox: Client) -> None:
    """A DocumentReference points at a Binary, whose bytes are read as they are, or as FHIR JSON on request."""
    (document,) = redox.found("DocumentReference", {"patient": KEVA})
    path = redox.fhir(document["content"][0]["attachment"]["url"])
    plain = redox.call("GET", path)
    assert (plain.headers["Content-Type"], b"Keva Green" in plain.content) == ("text/plain", True)
    assert redox.call("GET", path, headers={"Accept": "application/fhir+json"}).json()["resourceType"] == "Binary"


def test_a_source_has_to_be_named_where_there_are_several(redox: Client) -> None:
    """With a source_id, a request without the header Redox-Source-Id, or with another, is refused."""
    source = "7ce6f387-c33c-417d-8682-81e83628cbd9"
    redox.settings(source_id=source)
    assert redox.search("Patient", {"_id": KEVA}).status_code == 400
    assert redox.search("Patient", {"_id": KEVA}, headers={"Redox-Source-Id": "other"}).status_code == 400
    assert redox.search("Patient", {"_id": KEVA}, headers={"redox-source-id": source}).status_code == 200
