"""RedoxFhirSearchOperator against a real server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.exceptions import RedoxDestinationError, RedoxProtocolError, RedoxSecurityError
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox

KEVA = {"given": "Keva", "family": "Green", "birthdate": "1995-08-26"}


def lines(url: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(url.removeprefix("file://")).read_text().splitlines()]


def files_below(output: str) -> list[str]:
    root = Path(output.removeprefix("file://"))
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def search(output: str, **arguments: Any) -> RedoxFhirSearchOperator:
    return RedoxFhirSearchOperator(
        task_id="pull",
        **{"resource_type": "Observation", "search_params": {"code": "4548-4"}, "output_path": output, **arguments},
    )


def test_every_resource_of_every_page_lands_in_a_file_by_type(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """Each resource that the server returns on any page is one line of the file of its type, once."""
    manifest = execute(search(output, search_params={"code": "4548-4", "_include": "Observation:subject"}, page_size=7))
    by_type = {entry["type"]: lines(entry["url"]) for entry in manifest["output"]}
    assert set(by_type) == {"Observation", "Patient"}
    assert {entry["type"]: entry["count"] for entry in manifest["output"]} == {k: len(v) for k, v in by_type.items()}
    ids = [resource["id"] for resource in by_type["Observation"]]
    assert len(ids) == len(set(ids)) == 162
    assert {line["subject"]["reference"] for line in by_type["Observation"]} == {
        f"Patient/{p['id']}" for p in by_type["Patient"]
    }
    assert manifest["extension"]["pages"] == len(sandbox.ledger("/Observation")) > 10


def test_checksums_in_the_manifest_are_those_of_the_files(execute: Callable[..., Any], output: str):
    """The manifest's sha256 is the file's."""
    (entry,) = execute(search(output))["output"]
    content = Path(entry["url"].removeprefix("file://")).read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    assert content.endswith(b"}\n")


def test_nothing_of_a_patient_is_in_the_manifest_or_in_a_url(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """The manifest and every URL that was asked hold no search parameter and no resource."""
    manifest = execute(search(output, resource_type="Patient", search_params=KEVA))
    assert "Keva" not in json.dumps(manifest)
    for entry in sandbox.ledger("/fhir"):
        assert "Keva" not in entry["path"] + entry["query"]
    assert "given=Keva" in sandbox.ledger("/fhir")[0]["body"]


def test_several_searches_write_one_result_and_a_shared_resource_once(execute: Callable[..., Any], output: str):
    """With a list of searches, a resource that two of them find is written once and counted as a duplicate."""
    manifest = execute(search(output, resource_type="Patient", search_params=[KEVA, KEVA]))
    assert [entry["count"] for entry in manifest["output"]] == [1]
    assert manifest["extension"]["duplicates"] == 1


def test_a_search_that_finds_nothing_has_an_empty_output(execute: Callable[..., Any], output: str):
    """No match is a manifest without files, not an error."""
    manifest = execute(search(output, search_params={"code": "no-such-code"}))
    assert manifest["output"] == []
    assert files_below(output)[0].endswith("/manifest.json")


@pytest.mark.parametrize("style", ["absolute", "relative", "post-only", "get-only"])
def test_next_links_are_followed_in_every_style(execute: Callable[..., Any], output: str, sandbox: Sandbox, style: str):
    """Absolute and relative links, and links that only GET or only POST answers, lead to the same complete result."""
    sandbox.settings(link_style=style, page_size=40)
    (entry,) = execute(search(output))["output"]
    assert entry["count"] == 162


@pytest.mark.parametrize("style", ["loop", "aba", "endless"])
def test_pages_without_an_end_are_an_error(execute: Callable[..., Any], output: str, sandbox: Sandbox, style: str):
    """A loop, an A-B-A loop and endless pages end in a RedoxProtocolError that names the page, and leave no file."""
    sandbox.settings(link_style=style, page_size=40)
    with pytest.raises(RedoxProtocolError) as caught:
        execute(search(output, max_pages=50))
    assert "page" in " ".join(caught.value.__notes__)
    assert files_below(output) == []


def test_a_link_to_another_host_is_refused_and_the_token_unsent(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A next link to another origin ends the search before anything is sent there."""
    with_other = Sandbox.start("--population", "1")
    try:
        sandbox.settings(link_style="foreign", foreign_origin=with_other.url, page_size=40)
        with pytest.raises(AirflowFailException) as caught:
            execute(search(output))
        assert isinstance(caught.value.__cause__, RedoxSecurityError)
        assert with_other.ledger() == []
        assert files_below(output) == []
    finally:
        with_other.stop()


def test_a_link_to_an_alias_is_rewritten_onto_our_own_host(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """A host in extra.link_host_aliases is a name for the connection's own host; the token goes nowhere else."""
    sandbox.settings(link_style="foreign", foreign_origin="https://fhir.hospital.example", page_size=40)
    connection = sandbox.with_extra(link_host_aliases="fhir.hospital.example")
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(connection))
    (entry,) = execute(search(output))["output"]
    assert entry["count"] == 162


@pytest.mark.parametrize(
    "fault", [{"kind": "status", "status": 503}, {"kind": "drop"}, {"kind": "reset_in_body"}, {"kind": "html"}]
)
def test_a_fault_that_passes_is_healed_within_the_task(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, fault: dict[str, Any]
):
    """One bad answer on the third page costs a retry, not a resource."""
    sandbox.settings(page_size=40)
    sandbox.fault(match={"path": "Observation"}, skip=2, times=1, **fault)
    (entry,) = execute(search(output))["output"]
    assert entry["count"] == 162


def test_an_outcome_with_an_error_on_a_page_fails_the_search(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """HTTP 200 with an OperationOutcome of severity error that cannot pass is a failure, and no file is left."""
    sandbox.settings(page_size=40)
    refused = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "forbidden"}]}
    sandbox.fault("outcome", body=refused, match={"path": "Observation"}, skip=1, times=9)
    with pytest.raises(AirflowFailException) as caught:
        execute(search(output))
    assert isinstance(caught.value.__cause__, RedoxDestinationError)
    assert "page 2" in str(caught.value)
    assert files_below(output) == []


def test_a_token_that_is_revoked_midway_is_renewed(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A 401 in the middle of the pages costs one more token, and nothing is lost."""
    sandbox.settings(page_size=40)
    sandbox.fault("status", status=401, match={"path": "Observation"}, skip=2, times=1)
    (entry,) = execute(search(output))["output"]
    assert entry["count"] == 162
    assert len(sandbox.ledger("/v2/auth/token")) == 2


def test_too_many_pages_fail_and_are_never_cut_short(execute: Callable[..., Any], output: str):
    """max_pages is a limit above which the search fails, with no file left."""
    with pytest.raises(RedoxProtocolError, match="max_pages"):
        execute(search(output, page_size=10, max_pages=3))
    assert files_below(output) == []


def test_a_rerun_replaces_the_earlier_result(execute: Callable[..., Any], output: str):
    """The same task instance run again leaves only the files of its newer manifest."""
    execute(search(output, search_params={"code": "4548-4", "_include": "Observation:subject"}))
    manifest = execute(search(output))
    assert [entry["type"] for entry in manifest["output"]] == ["Observation"]
    assert [path for path in files_below(output) if path.endswith(".ndjson")] == [
        manifest["output"][0]["url"].removeprefix(f"{output}/")
    ]


def test_results_are_readable_by_their_owner_only(execute: Callable[..., Any], output: str):
    """Files on local disk have mode 600."""
    (entry,) = execute(search(output))["output"]
    assert Path(entry["url"].removeprefix("file://")).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"resource_type": "../Patient"}, "resource_type"),
        ({"search_params": {"_id": None}}, "search_params: _id"),
        ({"search_params": {"identifier": []}}, "search_params: identifier"),
        ({"search_params": "family=Green"}, "search_params"),
        ({"search_params": []}, "search_params"),
        ({"search_params": {}}, "search_params"),
        ({"search_params": [{"code": "1"}, {}]}, "search_params"),
        ({"search_params": "{{ none }}"}, "search_params"),
        ({"page_size": 0}, "page_size"),
        ({"page_size": True}, "page_size"),
        ({"max_pages": "5"}, "max_pages"),
        ({"destination": "no such/place"}, "destination"),
        ({"environment": "production"}, "environment"),
        ({"headers": {"Authorization": "Bearer mine"}}, "headers"),
        ({"output_path": "relative/path"}, "output_path"),
        ({"output_path": "gopher://x/y"}, "output_path"),
    ],
)
def test_bad_input_is_named_before_anything_is_sent(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, arguments: dict[str, Any], words: str
):
    """A wrong argument is a RedoxConfigError that names it, with no request sent."""
    with refused(words):
        execute(search(output, **arguments))
    assert sandbox.ledger() == []


def test_a_local_path_is_refused_with_an_executor_that_is_not_local(
    execute: Callable[..., Any], output: str, monkeypatch: pytest.MonkeyPatch
):
    """A file:// output path with CeleryExecutor is refused, with what to set; output_root_is_shared lifts it."""
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    with pytest.raises(AirflowFailException, match="output_root_is_shared"):
        execute(search(output))
    monkeypatch.setenv("AIRFLOW__REDOX__OUTPUT_ROOT_IS_SHARED", "True")
    assert execute(search(output))["output"]


def test_the_watermark_is_the_latest_change_seen(execute: Callable[..., Any], output: str):
    """The manifest's watermark is the greatest meta.lastUpdated of the resources, in UTC."""
    manifest = execute(search(output))
    latest = max(line["meta"]["lastUpdated"] for line in lines(manifest["output"][0]["url"]))
    assert manifest["extension"]["watermark"][:19] == latest[:19]
    assert manifest["extension"]["watermark"] <= manifest["transactionTime"]


def test_a_parameter_that_the_server_does_not_know_is_named(execute: Callable[..., Any], output: str):
    """A refusal names the author's own parameter that the answer mentions, and not its value."""
    with pytest.raises(AirflowFailException) as caught:
        execute(search(output, search_params={"code": "4548-4", "favourite-colour": "Periwinkle"}))
    assert "the parameter favourite-colour" in str(caught.value)
    assert "Periwinkle" not in str(caught.value)
