"""One search for each row of a list: complete, named, resumed, with the rows nowhere but in storage."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.downstream import read_resources, read_searches
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxIncompleteError
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from airflow_provider_redox.operators.pulls import drain as drains
from airflow_provider_redox.operators.pulls.searching import Searching
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox

BY_NAME = {"family": "{family}", "given": "{given}", "birthdate": "{birthDate}"}


@pytest.fixture(scope="session")
def people(sandbox_process: Sandbox) -> list[dict[str, str]]:
    """The sandbox's patients, as a roster knows them."""
    found = []
    sandbox_process.settings(patient_search_rule=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", sandbox_process.connection_json)
        for patient in RedoxHook().fhir_search("Patient", {"birthdate": "gt1900"}, destination="general"):
            name = patient["name"][0]
            found.append(
                {
                    "id": patient["id"],
                    "mrn": patient["identifier"][0]["value"],
                    "family": name["family"],
                    "given": name["given"][0],
                    "birthDate": patient["birthDate"],
                }
            )
    sandbox_process.settings(patient_search_rule=True)
    return sorted(found, key=lambda one: one["id"])


@pytest.fixture
def roster(tmp_path: Path) -> Callable[[list[dict[str, Any]]], str]:
    def write(rows: list[dict[str, Any]]) -> str:
        path = tmp_path / "roster.ndjson"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


def cohort(output: str, rows: Any, **arguments: Any) -> RedoxFhirSearchOperator:
    asked = {"resource_type": "Patient", "search_params": BY_NAME, "cohort_key": "mrn", **arguments}
    return RedoxFhirSearchOperator(task_id="match", cohort=rows, output_path=output, **asked)


def asked(sandbox: Sandbox, path: str = "/Patient/_search") -> list[dict[str, list[str]]]:
    return [parse_qs(entry["body"]) for entry in sandbox.ledger(path)]


def test_a_roster_is_matched_to_fhir_ids(
    execute: Callable[..., Any], output: str, roster: Callable[..., str], people: list[dict[str, str]], sandbox: Sandbox
):
    """Each row has a line with its key: none, one or many, how many, and their IDs; the resources are the result."""
    stranger = {"mrn": "S-1", "family": "Nobody", "given": "At all", "birthDate": "1990-01-01"}
    rows = [*people[:30], stranger]
    manifest = execute(cohort(output, roster(rows)))
    searches = list(read_searches(manifest))
    assert [line["key"] for line in searches] == [row["mrn"] for row in rows]
    assert [line["index"] for line in searches] == list(range(31))
    assert [line["ids"] for line in searches] == [[row["id"]] for row in people[:30]] + [[]]
    assert [line["status"] for line in searches] == ["one"] * 30 + ["none"]
    assert {patient["id"] for patient in read_resources(manifest)} == {row["id"] for row in people[:30]}
    assert len(asked(sandbox)) == manifest["extension"]["requests"] == 31
    assert sandbox.stats()["tokens"] == 1


def test_no_row_is_in_xcom_or_in_a_name(
    execute: Callable[..., Any], output: str, roster: Callable[..., str], people: list[dict[str, str]]
):
    """The manifest holds URLs and counts; the keys are in the list of searches alone."""
    manifest = execute(cohort(output, roster(people[:5])))
    shown = json.dumps(manifest)
    paths = " ".join(str(path) for path in Path(output.removeprefix("file://")).rglob("*"))
    for row in people[:5]:
        for value in row.values():
            assert value not in shown
            assert value not in paths


def test_many_have_their_number_and_up_to_a_hundred_ids(
    execute: Callable[..., Any], output: str, roster: Callable[..., str], sandbox: Sandbox
):
    """A search that finds a crowd says how many, over all its pages."""
    sandbox.settings(page_size=60, patient_search_rule=False)
    manifest = execute(
        cohort(output, roster([{"g": "female"}, {"g": "male"}]), search_params={"gender": "{g}"}, cohort_key="g")
    )
    searches = list(read_searches(manifest))
    assert sum(line["count"] for line in searches) == manifest["output"][0]["count"] == 200
    assert all(line["status"] == "many" for line in searches)
    assert [len(line["ids"]) for line in searches] == [min(line["count"], 100) for line in searches]


def test_a_csv_file_is_a_cohort(execute: Callable[..., Any], output: str, tmp_path: Path, people: list[dict[str, str]]):
    """By its name's end."""
    path = tmp_path / "roster.csv"
    lines = [",".join(people[0]), *(",".join(row.values()) for row in people[:3])]
    path.write_text("\r\n".join(lines))
    manifest = execute(cohort(output, str(path)))
    assert [line["ids"] for line in read_searches(manifest)] == [[row["id"]] for row in people[:3]]


def test_a_spreadsheet_is_a_cohort(execute: Callable[..., Any], output: str, tmp_path: Path, people: list[dict[str, str]]):
    """With semicolons, in UTF-16, with columns in other letters and blank ones behind."""
    path = tmp_path / "Roster.CSV"
    table = [[name.upper() for name in people[0]], *(list(row.values()) for row in people[:3]), [""] * len(people[0])]
    path.write_text("\r\n".join(";".join([*row, ""]) for row in table), encoding="utf-16")
    manifest = execute(cohort(output, str(path)))
    assert [line["ids"] for line in read_searches(manifest)] == [[row["id"]] for row in people[:3]]


@pytest.mark.parametrize("layout", ["array", "lines"])
def test_a_json_file_is_a_cohort(
    execute: Callable[..., Any], output: str, tmp_path: Path, people: list[dict[str, str]], layout: str
):
    """An array of objects, or an object on each line, whatever its name ends with."""
    path = tmp_path / "roster.json"
    text = json.dumps(people[:3], indent=2) if layout == "array" else "\n".join(map(json.dumps, people[:3]))
    path.write_text(text, encoding="utf-8-sig")
    manifest = execute(cohort(output, str(path)))
    assert [line["ids"] for line in read_searches(manifest)] == [[row["id"]] for row in people[:3]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            '[{"mrn":"1"},"Canary"]',
            "cohort: the file is no array of JSON objects: of another shape: Expected `object`, got `str` - at ",
        ),
        (
            '[{"mrn":"1"},{"mrn":"1","mrn":"2"}]',
            "cohort: the file is no array of JSON objects: the member .1..mrn stands twice",
        ),
        ('[{"mrn":"1"}', "cohort: the file is no array of JSON objects: Input data was truncated"),
        ("[]", "cohort: there is no row in it"),
        ('{"output": "Canary"}', "manifest: not what a search returns"),
        ('{\n"mrn": "Canary"\n}', "cohort: row 1 cannot be read: not JSON"),
    ],
)
def test_a_json_file_of_another_shape_is_refused(
    execute: Callable[..., Any], output: str, tmp_path: Path, content: str, said: str
):
    """By what is wrong with it, and not because it is no manifest."""
    path = tmp_path / "roster.json"
    path.write_text(content)
    with pytest.raises(AirflowFailException, match=said) as caught:
        execute(cohort(output, str(path)))
    assert "Canary" not in str(caught.value)


def test_several_manifests_are_a_cohort(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """What mapped tasks returned: the resources of all of them are the rows, numbered through."""
    sandbox.settings(patient_search_rule=False)

    def people_who_are(gender: str) -> RedoxFhirSearchOperator:
        params = {"gender": gender}
        return RedoxFhirSearchOperator(task_id=gender, resource_type="Patient", search_params=params, output_path=output)

    found = [execute(people_who_are(gender)) for gender in ("female", "male")]
    observed = {"resource_type": "Observation", "search_params": {"patient": "{id}", "code": "4548-4"}}
    manifest = execute(cohort(output, found, **observed, cohort_key="id"))
    assert len(list(read_searches(manifest))) == 200
    with pytest.raises(AirflowFailException, match="cohort: is a list, and its item 1 is no manifest"):
        execute(cohort(output, [found[0], {"mrn": "Canary"}], **observed, cohort_key="id"))
    with refused("cohort: is empty"):
        cohort(output, [], **observed, cohort_key="id")


def test_an_earlier_manifest_is_a_cohort(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """The resources of an earlier search are the rows of the next, in whatever shape their lines are."""
    sandbox.settings(patient_search_rule=False)
    first = RedoxFhirSearchOperator(
        task_id="people",
        resource_type="Patient",
        search_params={"family": "Green"},
        output_path=output,
        line_format="envelope",
    )
    patients = execute(first)
    ids = [patient["id"] for patient in read_resources(patients)]
    manifest = execute(
        cohort(
            output,
            patients,
            resource_type="Observation",
            search_params={"patient": "{id}", "code": "4548-4"},
            cohort_key="id",
        )
    )
    assert [line["key"] for line in read_searches(manifest)] == ids
    assert {one["subject"]["reference"] for one in read_resources(manifest)} <= {f"Patient/{one}" for one in ids}
    assert len(asked(sandbox, "/Observation")) == manifest["extension"]["requests"]


def test_a_resource_that_several_searches_find_is_written_once(
    execute: Callable[..., Any], output: str, roster: Callable[..., str], people: list[dict[str, str]]
):
    """Each search counts it; the files hold it once."""
    rows = [{"key": str(number), "id": people[0]["id"]} for number in range(12)]
    manifest = execute(cohort(output, roster(rows), search_params={"_id": "{id}"}, cohort_key="key"))
    assert [line["count"] for line in read_searches(manifest)] == [1] * 12
    assert [entry["count"] for entry in manifest["output"]] == [1]
    assert manifest["extension"]["duplicates"] == 11


def fail_for(sandbox: Sandbox, row: dict[str, str], **order: Any) -> None:
    sandbox.fault("status", **{"status": 400, "times": None, "match": {"body": f"birthdate={row['birthDate']}"}, **order})


def test_one_bad_row_does_not_lose_the_rest(
    execute: Callable[..., Any], output: str, roster: Callable[..., str], people: list[dict[str, str]], sandbox: Sandbox
):
    """The task fails at its end, with a number and the list; the next try asks for the failed row alone."""
    fail_for(sandbox, people[7])
    with pytest.raises(AirflowFailException) as caught:
        execute(cohort(output, roster(people[:20])))
    error = caught.value.__cause__
    assert isinstance(error, RedoxIncompleteError)
    assert (error.failed, error.total) == (1, 20)
    so_far = [json.loads(line) for line in Path(str(error.url).removeprefix("file://")).read_text().splitlines()]
    assert [line["index"] for line in so_far if line["status"] == "error"] == [7]
    assert len(so_far) == 20
    assert list(Path(output.removeprefix("file://")).rglob("type=*")) == []
    sandbox.control("DELETE", "faults")
    before = len(asked(sandbox))
    manifest = execute(cohort(output, roster(people[:20])))
    assert asked(sandbox)[before:] == [
        {"family": [people[7]["family"]], "given": [people[7]["given"]], "birthdate": [people[7]["birthDate"]]}
    ]
    assert [line["ids"] for line in read_searches(manifest)] == [[row["id"]] for row in people[:20]]
    assert not Path(str(error.url).removeprefix("file://")).exists()


def test_errors_can_be_recorded_instead(
    execute: Callable[..., Any], output: str, roster: Callable[..., str], people: list[dict[str, str]], sandbox: Sandbox
):
    """on_error="record": the rest is the result, and the row's line says what went wrong, without what it asked."""
    fail_for(sandbox, people[3])
    manifest = execute(cohort(output, roster(people[:6]), on_error="record"))
    assert manifest["extension"]["failed"] == 1
    (line,) = [line for line in read_searches(manifest) if line["status"] == "error"]
    assert (line["index"], line["error"]) == (3, "RedoxResponseError")
    assert "HTTP 400" in line["said"]
    assert people[3]["family"] not in line["said"]
    assert {patient["id"] for patient in read_resources(manifest)} == {row["id"] for row in people[:6]} - {people[3]["id"]}


def test_a_failure_that_passes_is_tried_again_by_airflow(
    execute: Callable[..., Any], output: str, roster: Callable[..., str], people: list[dict[str, str]], sandbox: Sandbox
):
    """A row that failed for a reason that passes leaves the task to Airflow's retries."""
    fail_for(sandbox, people[1], status=503)
    operator = cohort(output, roster(people[:4]))
    operator.hook.client._sleep = lambda _: None
    with pytest.raises(RedoxIncompleteError):
        execute(operator)


def test_a_server_that_is_down_is_not_asked_for_every_row(
    execute: Callable[..., Any],
    output: str,
    roster: Callable[..., str],
    people: list[dict[str, str]],
    sandbox: Sandbox,
):
    """After 25 failures in a row the others are left for the next try, which takes up what was done."""
    sandbox.fault("status", status=503, times=None, skip=10, match={"path": "/Patient"})
    operator = cohort(output, roster(people), max_concurrency=4)
    operator.hook.client._sleep = lambda _: None
    with pytest.raises(Exception, match="503") as caught:
        execute(operator)
    assert "10 of 200 searches were over" in " ".join(caught.value.__notes__)
    sandbox.control("DELETE", "faults")
    before = len(asked(sandbox))
    manifest = execute(cohort(output, roster(people)))
    assert len(asked(sandbox)) - before == 190
    assert all(row["id"] in line["ids"] for row, line in zip(people, read_searches(manifest), strict=True))


class KilledError(BaseException):
    pass


@pytest.mark.parametrize("seed", range(6))
def test_rows_that_are_done_are_not_asked_again(
    execute: Callable[..., Any],
    output: str,
    roster: Callable[..., str],
    people: list[dict[str, str]],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
):
    """Killed anywhere, again and again: each kill costs at most the rows that were under way, and the result is whole."""
    chance = random.Random(seed)
    monkeypatch.setattr(drains, "PAGES_OF_A_PART_OF_MANY", 17)
    real = drains.Results.write_page
    left = [0]

    def mortal(*arguments: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KilledError
        real(*arguments)

    monkeypatch.setattr(drains.Results, "write_page", mortal)
    place, kills, manifest = roster(people[:90]), 0, None
    while manifest is None:
        left[0] = chance.randint(5, 60)
        try:
            manifest = execute(cohort(output, place, max_concurrency=4))
        except KilledError:
            kills += 1
    assert kills >= 1
    assert 90 <= len(asked(sandbox)) <= 90 + kills * 9
    assert [line["ids"] for line in read_searches(manifest)] == [[row["id"]] for row in people[:90]]
    assert sorted(patient["id"] for patient in read_resources(manifest)) == sorted(row["id"] for row in people[:90])


def complaint(execute: Callable[..., Any], operator: RedoxFhirSearchOperator, sandbox: Sandbox) -> str:
    with pytest.raises(AirflowFailException) as caught:
        execute(operator)
    assert isinstance(caught.value.__cause__, RedoxConfigError)
    assert sandbox.ledger() == []
    assert "Canary" not in str(caught.value)
    return str(caught.value)


CANARY = {"mrn": "Canary", "family": "Canary", "given": "Canary", "birthDate": "1990-01-01"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "cohort: there is no row in it"),
        ([CANARY, {**CANARY, "mrn": "x", "family": ""}], "cohort: row 2 has no family, which the template names"),
        ([CANARY, {"mrn": "y"}], "cohort: row 2 has no family"),
        ([CANARY, {**CANARY, "mrn": None}], "cohort: row 2 has no mrn, which cohort_key names"),
        ([CANARY, {**CANARY, "mrn": "z"}, CANARY], "cohort: row 3 has the same mrn as row 1"),
        ([CANARY, {**CANARY, "mrn": "m", "note": "Canary" * 200_000}], "cohort: row 2 has more than 1048576 bytes"),
        ([{**CANARY, "family": {"of": "Canary"}}], "cohort: row 1 holds an object or a list as family"),
    ],
)
def test_a_bad_row_is_named_before_the_first_request(
    execute: Callable[..., Any], output: str, roster: Callable[..., str], sandbox: Sandbox, rows: list[Any], said: str
):
    """By its number and the field, never by what it holds."""
    assert said in complaint(execute, cohort(output, roster(rows)), sandbox)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"cohort": "/nowhere/Canary.ndjson"}, "cohort: there is no file at this place"),
        ({"cohort": 5}, "cohort: must be the path or URL of a file"),
        ({"search_params": {"family": "Green"}}, "names no {field} of its rows"),
        ({"search_params": [BY_NAME, BY_NAME]}, "needs search_params that are one mapping"),
        ({"since": "last_success"}, "since, cohort: not together"),
        ({"window_parts": 2, "window": ("2026-01-01", "2026-01-02")}, "window_parts: needs a window, and no cohort"),
        ({"max_concurrency": 0}, "max_concurrency: must be a whole number from 1 to 64"),
        ({"on_error": "ignore"}, "on_error: must be one of fail, record"),
        ({"cohort": None}, "cohort_key: needs a cohort"),
        ({"line_format": "csv"}, "line_format: must be one of raw, envelope"),
        ({"max_file_bytes": 10}, "max_file_bytes: must be a whole number from 1048576"),
    ],
)
def test_arguments_that_do_not_fit_are_named_before_the_first_request(
    execute: Callable[..., Any], output: str, roster: Callable[..., str], sandbox: Sandbox, arguments: Any, said: str
):
    """Each with the argument and what to do."""
    rows = arguments.pop("cohort", roster([CANARY]))
    with refused(said):
        execute(cohort(output, rows, **arguments))
    assert sandbox.ledger() == []


def test_a_manifest_of_several_types_is_no_cohort(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """Which of them are the rows has to be said."""
    both = RedoxFhirSearchOperator(
        task_id="both",
        resource_type="Observation",
        search_params={"code": "4548-4", "_include": "Observation:subject"},
        output_path=output,
    )
    manifest = execute(both)
    with pytest.raises(AirflowFailException, match="lists several types"):
        execute(cohort(output, manifest, search_params={"_id": "{id}"}, cohort_key="id"))


@pytest.mark.parametrize(("asked_for", "threads"), [(6, 2), (1, 1)])
def test_no_more_than_so_many_are_under_way(
    output: str,
    roster: Callable[..., str],
    redox_connection: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    asked_for: int,
    threads: int,
):
    """max_concurrency, and what the destination itself allows, whichever is less."""
    described = {"general": {"slug": "general-hospital", "max_concurrency": 2}}
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(redox_connection.with_extra(destinations=described)))
    operator = cohort(output, roster([CANARY]), destination="general", max_concurrency=asked_for)
    ti = SimpleNamespace(dag_id="pull", run_id="r", task_id="match", map_index=-1)
    assert Searching.prepare(operator, {"ti": ti}).drain.threads == threads
