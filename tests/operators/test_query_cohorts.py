"""A question for each row of a list: complete, named, resumed, with the rows nowhere but in storage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.downstream import read_searches
from airflow_provider_redox.exceptions import RedoxIncompleteError
from airflow_provider_redox.operators.data_model import RedoxDataModelQueryOperator
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox

QUERY = {
    "Meta": {"DataModel": "PatientSearch", "EventType": "Query"},
    "Patient": {"Demographics": {"FirstName": "{given}", "LastName": "{family}", "DOB": "{born}"}},
}
KEVA = {"mrn": "K", "given": "Keva", "family": "Green", "born": "1995-08-26"}


def rows(count: int) -> list[dict[str, str]]:
    return [{**KEVA, "mrn": f"M-{number}", "given": f"Canary{number}"} for number in range(count - 1)] + [KEVA]


@pytest.fixture
def roster(tmp_path: Path) -> Callable[[list[dict[str, Any]]], str]:
    def write(content: list[dict[str, Any]]) -> str:
        path = tmp_path / "roster.ndjson"
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
        return str(path)

    return write


def ask(output: str, cohort: Any, **arguments: Any) -> RedoxDataModelQueryOperator:
    asked = {"payload": QUERY, "cohort_key": "mrn", "destination": "general", **arguments}
    return RedoxDataModelQueryOperator(task_id="ask", cohort=cohort, output_path=output, **asked)


def asked(sandbox: Sandbox) -> list[str]:
    bodies = [json.loads(entry["body"]) for entry in sandbox.ledger("/endpoint")]
    return [body["Patient"]["Demographics"]["FirstName"] for body in bodies]


def test_each_row_is_asked_for_once(execute: Callable[..., Any], output: str, roster: Callable[..., str], sandbox: Sandbox):
    """Each answer is a line that says whose it is, each row has a line with its log ID, and one token serves all."""
    manifest = execute(ask(output, roster(rows(12)), line_format="envelope"))
    assert sorted(asked(sandbox)) == sorted(row["given"] for row in rows(12))
    searches = list(read_searches(manifest))
    assert [(line["key"], line["status"], len(line["ids"])) for line in searches] == [
        (row["mrn"], "one", 1) for row in rows(12)
    ]
    (entry,) = manifest["output"]
    lines = [json.loads(line) for line in Path(entry["url"].removeprefix("file://")).read_text().splitlines()]
    found = {line["search"]: line["resource"].get("Patient") for line in lines}
    assert set(found) == {row["mrn"] for row in rows(12)}
    assert found["K"]["Demographics"]["LastName"] == "Green"
    assert {line["type"] for line in lines} == {"PatientSearch"}
    assert sandbox.stats()["tokens"] == 1
    assert "Canary" not in json.dumps(manifest)


def test_one_row_that_fails_does_not_lose_the_rest(
    execute: Callable[..., Any], output: str, roster: Callable[..., str], sandbox: Sandbox
):
    """The task fails at its end; the next try asks for that row alone."""
    sandbox.fault("status", status=400, times=None, match={"body": "Canary3"})
    with pytest.raises(AirflowFailException) as caught:
        execute(ask(output, roster(rows(6))))
    assert isinstance(caught.value.__cause__, RedoxIncompleteError)
    sandbox.control("DELETE", "faults")
    before = len(asked(sandbox))
    manifest = execute(ask(output, roster(rows(6))))
    assert asked(sandbox)[before:] == ["Canary3"]
    assert [line["status"] for line in read_searches(manifest)] == ["one"] * 6
    assert sum(entry["count"] for entry in manifest["output"]) == 6


def test_answers_with_errors_can_be_recorded(
    execute: Callable[..., Any], output: str, roster: Callable[..., str], sandbox: Sandbox
):
    """A destination that fails in a 200 is an error of that row."""
    sandbox.settings(destination_errors=[{"ID": 1, "Text": "Canary", "Type": "transmission", "Module": "Send"}])
    manifest = execute(ask(output, roster(rows(3)), on_error="record"))
    assert [line["error"] for line in read_searches(manifest)] == ["RedoxDestinationError"] * 3
    assert (manifest["output"], manifest["extension"]["failed"]) == ([], 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"payload": {**QUERY, "Patient": {}}}, "payload names no {field}"),
        ({"payload": {**QUERY, "Patient": {"Identifiers": [{"ID": "{nobody}"}]}}}, "row 1 has no nobody"),
        ({"payload": {**QUERY, "Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"}}}, "payload: this data"),
        ({"max_concurrency": 100}, "max_concurrency: must be a whole number from 1 to 64"),
        ({"on_error": "skip"}, "on_error: must be one of fail, record"),
    ],
)
def test_what_cannot_be_asked_is_named_before_the_first_request(
    execute: Callable[..., Any],
    output: str,
    roster: Callable[..., str],
    sandbox: Sandbox,
    change: dict[str, Any],
    said: str,
):
    """By the row's number, never by what it holds."""
    with refused(said) as told:
        execute(ask(output, roster(rows(3)), **change))
    assert "Canary" not in told[0]
    assert sandbox.ledger() == []
