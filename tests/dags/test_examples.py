"""Every example DAG runs through Airflow, and does what its docstring says."""

from __future__ import annotations

import json
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
    assert counted["Condition"] == counted["Patient"] > 10
    assert counted["Observation"] > 10
    for task in ("diabetics", "hba1c"):
        for file in results[task]["output"]:
            content = Path(file["url"].removeprefix("file://")).read_text().splitlines()
            assert len(content) == file["count"]
            assert {json.loads(line)["resourceType"] for line in content} == {file["type"]}


def test_results_are_read_downstream(run: Run):
    """The next task reads every patient that the search found."""
    results = run.returned("redox_read_results")
    patients = sum(file["count"] for file in results["diabetics"]["output"] if file["type"] == "Patient")
    assert sum(results["count_by_gender"].values()) == patients > 10


def test_many_hospitals_are_one_result(run: Run):
    """Each hospital of the connection is pulled by a task of its own, and what follows reads the results of all."""
    counted = run.returned("redox_many_hospitals")["count"]
    diabetics = run.returned("redox_nightly_cohort")["summary"]["Condition"]
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
    assert run.returned("redox_wait_for_results")["there"] >= 5


def test_http_operator_is_signed_in(run: Run):
    """HttpOperator gets its answer, and XCom only what the response_filter let through."""
    count = run.returned("redox_nightly_cohort")["summary"]["Condition"]
    assert run.returned("redox_http_operator") == {"count_diabetics": count}
