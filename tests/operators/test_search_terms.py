"""What was asked and all of it: servers that ignore filters, miscount, or shift their pages, over real HTTP."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.exceptions import RedoxError, RedoxProtocolError, RedoxResponseError
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox

SEARCH = {"code": "4548-4"}
FILTERED = {**SEARCH, "status": "entered-in-error"}
MATCHES, SIZE = 162, 40


def search(output: str, **arguments: Any) -> RedoxFhirSearchOperator:
    told = {"resource_type": "Observation", "search_params": SEARCH, "page_size": SIZE, "output_path": output, **arguments}
    return RedoxFhirSearchOperator(task_id="pull", **told)


def content(manifest: dict[str, Any]) -> bytes:
    return b"".join(Path(entry["url"].removeprefix("file://")).read_bytes() for entry in manifest["output"])


def visible(output: str) -> list[str]:
    """Give the files that a reader of results would find."""
    root = Path(output.removeprefix("file://"))
    return [str(path) for pattern in ("type=*/**/*", "manifest.json") for path in root.rglob(pattern) if path.is_file()]


def failed(execute: Callable[..., Any], operator: RedoxFhirSearchOperator) -> RedoxError:
    """Run what has to fail; give our error, whether it came as it is or as the cause of Airflow's."""
    with pytest.raises((RedoxError, AirflowFailException)) as caught:
        execute(operator)
    error = caught.value if isinstance(caught.value, RedoxError) else caught.value.__cause__
    assert isinstance(error, RedoxError)
    return error


# ── pages that shift ──


def test_what_shifting_pages_repeat_is_written_once(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """Resources that come again on the next page are counted and left out: the file is that of pages that stand still."""
    still = content(execute(search(f"{output}/still")))
    sandbox.settings(shift=3)
    manifest = execute(search(f"{output}/shifting"))
    assert content(manifest) == still
    assert manifest["extension"]["duplicates"] == 3 * (manifest["extension"]["pages"] - 1) > 0


def test_what_shifting_pages_hide_fails_the_search(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """Resources that fell between two pages are missed by the total: an error that says how many, and no result."""
    sandbox.settings(shift=-1)
    error = failed(execute, search(output))
    assert isinstance(error, RedoxProtocolError)
    assert "3 are missing" in str(error)  # one behind each page but the last of four
    assert visible(output) == []


def test_duplicates_do_not_make_up_for_what_is_missing(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A total is held against the distinct matches, not against the entries."""
    sandbox.settings(shift=3, total_offset=1)
    assert "1 are missing" in str(failed(execute, search(output)))


def test_what_was_included_does_not_make_up_for_what_is_missing(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """Included resources are no matches."""
    sandbox.settings(total_offset=1)
    including = search(output, search_params={**SEARCH, "_include": "Observation:subject"})
    assert "1 are missing" in str(failed(execute, including))


# ── totals ──


def test_a_total_that_is_too_large_can_be_a_warning(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
):
    """With on_total_mismatch warn, all that came is written; the manifest and the log tell how much may be missing."""
    sandbox.settings(total_offset=7)
    with caplog.at_level(logging.WARNING):
        manifest = execute(search(output, on_total_mismatch="warn"))
    assert manifest["output"][0]["count"] == MATCHES
    assert manifest["extension"]["total_mismatch"] == 7
    assert "7 may be missing" in caplog.text


def test_a_total_that_is_too_small_is_no_error(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """Resources may be added while a search is paged."""
    sandbox.settings(total_offset=-7)
    manifest = execute(search(output))
    assert manifest["output"][0]["count"] == MATCHES
    assert "total_mismatch" not in manifest["extension"]


def test_a_total_that_changes_does_not_hide_what_is_missing(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A server whose total jumps on the last page is believed no more than one whose total stays."""
    last = {"resourceType": "Bundle", "type": "searchset", "total": 999}
    sandbox.fault("body", body=last, match={"path": "/Observation"}, skip=2)
    assert f"went from {MATCHES} to 999" in str(failed(execute, search(output)))
    sandbox.fault("body", body=last, match={"path": "/Observation"}, skip=2)
    manifest = execute(search(output, on_total_mismatch="warn"))
    assert manifest["output"][0]["count"] == 2 * SIZE
    assert manifest["extension"]["total_mismatch"] == MATCHES - 2 * SIZE


def test_searches_that_find_the_same_are_each_complete(execute: Callable[..., Any], output: str):
    """A resource that another search of the task found is a match of this one too."""
    manifest = execute(search(output, search_params=[SEARCH, SEARCH]))
    assert manifest["output"][0]["count"] == MATCHES
    assert manifest["extension"]["duplicates"] == MATCHES


@pytest.mark.parametrize("asked", [{"_summary": "count"}, {"_count": "0"}])
def test_a_search_for_a_number_is_no_mismatch(execute: Callable[..., Any], output: str, asked: dict[str, str]):
    """Where only the total was asked for, no resource is missed."""
    assert execute(search(output, search_params={**SEARCH, **asked}, page_size=None))["output"] == []


# ── filters ──


def test_a_filter_that_the_server_ignored_fails_the_search(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """Other people's records are not what was asked for: an error names the parameter, not its value; nothing is written."""
    sandbox.settings(ignored_parameters=["status"])
    error = failed(execute, search(output, search_params=FILTERED))
    assert isinstance(error, RedoxProtocolError)
    assert "the parameter status" in str(error)
    assert "entered-in-error" not in str(error)
    assert visible(output) == []
    assert len(sandbox.ledger("/Observation")) == 1


def test_a_filter_that_the_server_ignored_can_be_a_warning(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
):
    """With handling lenient, the search goes on, and the log tells the parameter's name."""
    sandbox.settings(ignored_parameters=["status"])
    with caplog.at_level(logging.WARNING):
        manifest = execute(search(output, search_params=FILTERED, handling="lenient"))
    assert manifest["output"][0]["count"] == MATCHES
    assert "the parameter status" in caplog.text
    assert "entered-in-error" not in caplog.text


def strange(**more: Any) -> dict[str, Any]:
    """Make a page of two observations, one of them about somebody who was not asked for, that says nothing of filters."""
    entries = [
        {"resource": {"resourceType": "Observation", "id": one, "subject": {"reference": f"Patient/{one}"}}} for one in "pq"
    ]
    return {"resourceType": "Bundle", "type": "searchset", "entry": entries, **more}


def test_somebody_elses_resource_fails_the_search(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A server that says nothing of the filters is held to what it sends; nothing of that is written or quoted."""
    sandbox.fault("body", body=strange(), match={"path": "/Observation"})
    error = failed(execute, search(output, search_params={"patient": "p"}))
    assert isinstance(error, RedoxProtocolError)
    assert str(error).startswith("1 resources of page 1 do not match the parameter patient:")
    assert visible(output) == []


def test_somebody_elses_resource_can_be_a_warning(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
):
    """With handling lenient all that came is written; the log tells how many do not meet which parameter."""
    sandbox.fault("body", body=strange(), match={"path": "/Observation"})
    with caplog.at_level(logging.WARNING):
        manifest = execute(search(output, search_params={"patient": "p"}, handling="lenient"))
    assert manifest["output"][0]["count"] == 2
    assert "the parameter patient" in caplog.text
    assert "1 resources in all" in caplog.text


def test_somebody_elses_resource_fails_that_search_of_a_cohort(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, tmp_path: Path
):
    """Each search of a cohort is held to its own patient; what the others found is kept for the next try."""
    cohort = tmp_path / "cohort.ndjson"
    cohort.write_text('{"id": "p"}\n{"id": "no-such-patient"}\n')
    sandbox.fault("body", body=strange(), match={"path": "/Observation", "body": "patient=p"}, times=1)
    asking = search(output, search_params={"patient": "{id}"}, cohort=str(cohort), on_error="record")
    manifest = execute(asking)
    assert (manifest["extension"]["failed"], [entry for entry in manifest["output"] if entry["count"]]) == (1, [])


def test_what_a_server_says_that_it_did_not_use_fails_the_search(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """An outcome that says not-supported is believed, whatever severity it has; the error names our parameter only."""
    issue = {"severity": "information", "code": "not-supported", "diagnostics": "patient (Canary) was not used"}
    outcome = {"resource": {"resourceType": "OperationOutcome", "issue": [issue]}, "search": {"mode": "outcome"}}
    sandbox.fault("body", body={**strange(), "entry": [outcome]}, match={"path": "/Observation"})
    error = failed(execute, search(output, search_params={"patient": "p"}))
    assert "does not support the parameter patient" in str(error)
    assert "Canary" not in str(error)


@pytest.mark.parametrize("handling", ["strict", "lenient"])
def test_the_preference_is_sent(execute: Callable[..., Any], output: str, sandbox: Sandbox, handling: str):
    """The first request asks for strict or lenient handling."""
    execute(search(output, handling=handling))
    headers = {name.lower(): value for name, value in dict(sandbox.ledger("/Observation")[0]["headers"]).items()}
    assert headers["prefer"] == f"handling={handling}"


def test_a_server_that_is_strict_refuses_by_name(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A server that honours the preference answers 400; the error names the parameter."""
    sandbox.settings(ignored_parameters=["status"], strict_supported=True)
    error = failed(execute, search(output, search_params=FILTERED))
    assert isinstance(error, RedoxResponseError)
    assert error.status == 400
    assert "the parameter status" in " ".join(error.__notes__)


@pytest.mark.parametrize("wrong", [{"handling": "loose"}, {"on_total_mismatch": "ignore"}])
def test_a_term_that_makes_no_sense_is_refused(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, wrong: dict[str, str]
):
    """A wrong value is named before anything is sent."""
    with refused(f"{next(iter(wrong))}: must be one of "):
        execute(search(output, **wrong))
    assert sandbox.ledger() == []


def test_the_hook_insists_on_the_same_terms(redox_connection: Sandbox):
    """RedoxHook.fhir_search fails for an ignored filter and for a total too large, and takes the same arguments."""
    redox_connection.settings(ignored_parameters=["status"], total_offset=1)
    hook = RedoxHook()
    with pytest.raises(RedoxProtocolError, match="the parameter status"):
        list(hook.fhir_search("Observation", FILTERED))
    with pytest.raises(RedoxProtocolError, match="1 are missing"):
        list(hook.fhir_search("Observation", SEARCH))
    redox_connection.fault("body", body=strange(), match={"path": "/Observation"})
    with pytest.raises(RedoxProtocolError, match="do not match the parameter patient"):
        list(hook.fhir_search("Observation", {"patient": "p"}))
    found = list(hook.fhir_search("Observation", FILTERED, handling="lenient", on_total_mismatch="warn"))
    assert len({json.dumps(resource) for resource in found}) == MATCHES
