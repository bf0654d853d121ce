"""Every example DAG runs through Airflow, and does what its docstring says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.database import returned
from tests.support.examples import AIRFLOW_3, DAG_IDS, FOLDER, surroundings
from tests.support.run_dags import run_dags
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.airflow_run


class Run:
    """One run of all example DAGs against one sandbox."""

    def __init__(self, home: Path, sandbox: Sandbox, ended: dict[str, str], printed: str) -> None:
        self.home = home
        self.sandbox = sandbox
        self.ended = ended
        self.printed = printed

    def returned(self, dag_id: str) -> dict[str, Any]:
        return returned(self.home, dag_id)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    home = tmp_path_factory.mktemp("airflow")
    sandbox = Sandbox.start()
    try:
        ended, printed = run_dags(home, FOLDER, DAG_IDS, **surroundings(home, sandbox))
        yield Run(home, sandbox, ended, printed)
    finally:
        sandbox.stop()


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_every_example_runs(run: Run, dag_id: str):
    """The example DAG's run succeeds. A DAG's file is named as its ID."""
    assert run.ended[dag_id] == "success", run.printed[-3000:]


def test_all_examples_together_cost_one_token(run: Run):
    """One access token serves every task of every DAG; the check of the connection asks for its own, on purpose."""
    assert run.sandbox.stats()["tokens"] == 2


def test_the_roster_is_matched(run: Run):
    """Of its two patients one is known; the task's result holds counts alone."""
    assert run.returned("redox_match_roster")["count"] == {"none": 1, "one": 1}


def test_the_cohort_is_pulled(run: Run):
    """The nightly pull finds the diabetics, their patients and their HbA1c; each file has as many lines as it says."""
    results = run.returned("redox_nightly_cohort")
    counted = {file["type"]: file["count"] for task in ("diabetics", "hba1c") for file in results[task]["output"]}
    assert counted == results["summary"]
    conditions = {one["id"]: one["subject"]["reference"] for one in coded(run, "Condition", "44054006")}
    values = {one["id"]: one["subject"]["reference"] for one in coded(run, "Observation", "4548-4")}
    theirs = {name for name, patient in values.items() if patient in conditions.values()}
    assert pulled(results["diabetics"], "Condition") == set(conditions)
    assert pulled(results["diabetics"], "Patient") == {one.removeprefix("Patient/") for one in conditions.values()}
    assert pulled(results["hba1c"], "Observation") == theirs != set(values)
    for task in ("diabetics", "hba1c"):
        for file in results[task]["output"]:
            content = Path(file["url"].removeprefix("file://")).read_text().splitlines()
            assert len(content) == file["count"]
            assert {json.loads(line)["resourceType"] for line in content} == {file["type"]}


def coded(run: Run, resource_type: str, code: str) -> list[dict[str, Any]]:
    """Return what the sandbox holds of a code: all of it lies within the thirty days that the nightly pull asks for."""
    return [one for one in run.sandbox.resources(resource_type) if code in json.dumps(one["code"])]


def pulled(manifest: dict[str, Any], resource_type: str) -> set[str]:
    """Return the IDs of what lies in a result's files of a type."""
    files = [file for file in manifest["output"] if file["type"] == resource_type]
    texts = [Path(file["url"].removeprefix("file://")).read_text() for file in files]
    return {json.loads(line)["id"] for text in texts for line in text.splitlines()}


def test_results_are_read_downstream(run: Run):
    """The next task counts the patients that have diabetes, by their gender."""
    diabetics = {one["subject"]["reference"].removeprefix("Patient/") for one in coded(run, "Condition", "44054006")}
    truth = Counter(one["gender"] for one in run.sandbox.patients() if one["id"] in diabetics)
    assert run.returned("redox_read_results")["count_by_gender"] == dict(truth)
    assert sum(truth.values()) > 10


def test_the_smallest_examples_find_whom_they_ask_for(run: Run):
    """The search finds Keva Green and nobody else; the query has an answer that names her."""
    (keva,) = [
        one for one in run.sandbox.patients() if (one["birthDate"], one["name"][0]["family"]) == ("1995-08-26", "Green")
    ]
    assert pulled(run.returned("redox_minimal_fhir_search")["patients"], "Patient") == {keva["id"]}
    (answer,) = run.returned("redox_minimal_data_model_query")["find_patient"]["output"]
    text = Path(answer["url"].removeprefix("file://")).read_text()
    assert json.loads(text)["Patient"]["Demographics"]["LastName"] == "Green"


def test_many_hospitals_are_one_result(run: Run):
    """Each hospital of the connection is pulled by a task of its own, and what follows reads the results of all."""
    counted = run.returned("redox_many_hospitals")["count"]
    diabetics = len(coded(run, "Condition", "44054006"))
    assert counted == {"hospitals": 2, "conditions": 2 * diabetics}


def test_an_inbox_is_read(run: Run):
    """The sensor hands on what has arrived, and the next task reads it; with no event, the other DAG has nothing to do."""
    assert run.returned("redox_inbox_sensor")["count"] == {"Results^New": 3, "Order^New": 1}
    if AIRFLOW_3:
        assert run.returned("redox_inbox_results")["load"] == {"messages": 0, "rows": 0, "dead": 0}


def test_messages_arrive_once(run: Run):
    """Each post is accepted, and the server holds each message once, with a rendered template in it."""
    results = run.returned("redox_post_messages")
    assert [result["accepted"] for result in results.values()] == [1, 1]
    sent = [json.loads(entry["body"]) for entry in run.sandbox.ledger("/endpoint")]
    flowsheets = [message for message in sent if message["Meta"]["DataModel"] == "Flowsheet"]
    assert len(flowsheets) == 1
    assert flowsheets[0]["Visit"]["VisitNumber"].startswith("manual__")


def test_a_file_of_messages_arrives(run: Run):
    """Every message of the file is accepted, and those of each patient have arrived in their order."""
    (summary,) = (one for one in run.returned("redox_send_batch").values() if isinstance(one, dict))
    assert (summary["accepted"], len(summary["log_ids"])) == (200, 50)
    sent = [message["body"] for message in run.sandbox.control("GET", "messages")]
    booked = [message for message in sent if message["Meta"]["DataModel"] == "Scheduling"]
    events: dict[str, list[str]] = {}
    for message in booked:
        events.setdefault(message["Patient"]["Identifiers"][0]["ID"], []).append(message["Meta"]["EventType"])
    assert len(booked) == 200
    assert set(map(tuple, events.values())) == {("New", "Reschedule")}


def test_messages_are_delivered(run: Run):
    """Both ways to wait end when Redox has delivered, and nobody is alerted."""
    results = run.returned("redox_wait_for_delivery")
    assert results["delivered"]["delivered"] == 1
    assert (results["send_and_wait"]["accepted"], results["send_and_wait"]["delivered"]) == (1, 1)
    assert "alert" not in results
    waited = run.returned("redox_wait_for_results")
    values = {one["id"] for one in coded(run, "Observation", "4548-4")}
    assert waited["there"] == len(values) >= 5
    assert pulled(waited["results"], "Observation") == values


def test_http_operator_is_signed_in(run: Run):
    """HttpOperator gets its answer, and XCom only what the response_filter let through."""
    count = len(coded(run, "Condition", "44054006"))
    assert run.returned("redox_http_operator") == {"count_diabetics": count}
