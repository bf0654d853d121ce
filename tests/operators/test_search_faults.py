"""A search against a server that fails: on every page, in every way, once or for good.

What passes is healed within the task; what stays is an error that names the page by number. Nothing in between.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.client.slots import MemorySlot
from airflow_provider_redox.exceptions import RedoxError
from airflow_provider_redox.hooks.redox import RedoxAsyncHook, RedoxHook
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from tests.support.sandbox import Sandbox

QUICK = RetryPolicy(attempts=3, base=0.01, cap=0.02, rate_limit_floor=0.01)
SEARCH = {"code": "4548-4", "_include": "Observation:subject"}
SIZE, PAGES = 40, 5
DRIP = "slow drip"

CUT_JSON = '{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"Observation","id":"x'
FAULTS: dict[str, dict[str, Any]] = {
    "429 with Retry-After": {"kind": "status", "status": 429, "headers": {"Retry-After": "0"}},
    "429": {"kind": "status", "status": 429},
    "500": {"kind": "status", "status": 500},
    "502": {"kind": "status", "status": 502},
    "503": {"kind": "status", "status": 503},
    "504": {"kind": "status", "status": 504},
    "401": {"kind": "status", "status": 401},
    "reset before headers": {"kind": "reset"},
    "reset in the body": {"kind": "reset_in_body"},
    "truncated body": {"kind": "truncate"},
    "truncated body, its length right": {"kind": "body", "body": CUT_JSON},
    "Content-Length too large": {"kind": "wrong_length"},
    "Content-Length too small": {"kind": "wrong_length", "length": 700},
    "HTML with 200": {"kind": "html"},
    "OperationOutcome with 200": {"kind": "outcome"},
    DRIP: {"kind": "drip", "bytes_per_second": 100},
}
BRIEF = {"401": 1, DRIP: 1}
"""How often a fault comes that is not to come twice: a token is renewed once, and a drip takes its time."""


def impatient(client: Any, fault: str) -> None:
    """Give an answer 0.8 seconds where it drips: a timeout shorter than a connection may say."""
    if fault == DRIP:
        client.settings = replace(client.settings, timeout=0.4)


def patience(fault: str) -> RetryPolicy:
    """Give a drip one more try, and everything else two."""
    return replace(QUICK, attempts=2) if fault == DRIP else QUICK


@pytest.fixture
def connected(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The sandbox, and a connection to it with a pace of its own: all these requests are not to slow other tests down."""
    sandbox.settings(page_size=SIZE)
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(sandbox.with_extra(requests_per_5min=9999)))
    return sandbox


def run(output: str, fault: str = "") -> dict[str, Any]:
    """Execute the search as a worker would, but quick to try again."""
    task = RedoxFhirSearchOperator(task_id="pull", resource_type="Observation", search_params=SEARCH, output_path=output)
    task.hook = RedoxHook(retry=patience(fault))
    impatient(task.hook.client, fault)
    ti = SimpleNamespace(dag_id="pull", run_id="manual", task_id="pull", map_index=-1)
    manifest: dict[str, Any] = task.execute({"ti": ti})  # type: ignore[arg-type]
    return manifest


async def gathered(fault: str) -> list[dict[str, Any]]:
    """Give what RedoxAsyncHook finds."""
    async with RedoxAsyncHook(retry=patience(fault)) as hook:
        impatient(await hook.client(), fault)
        return [resource async for resource in hook.fhir_search("Observation", SEARCH)]


def visible(output: str) -> dict[str, bytes]:
    """Give the files that a reader of results would find, by path: all but the task's own workspace."""
    root = Path(output.removeprefix("file://"))
    found = {str(path.relative_to(root)): path for path in sorted(root.rglob("*")) if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in found.items()
        if "/_redox/" not in f"/{name}" or name.endswith("manifest.json")
    }


def results(output: str) -> dict[str, bytes]:
    """Return the files of resources; the number of the try that wrote them is left out of their names."""
    found = {name: content for name, content in visible(output).items() if name.endswith(".ndjson")}
    return {re.sub(r"\.\d{4}0(\d{5})\.ndjson$", r".\1.ndjson", name): content for name, content in found.items()}


@pytest.fixture(scope="module")
def undisturbed(sandbox_process: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    """The files of a run in which nothing went wrong."""
    sandbox_process.reset()
    MemorySlot.forget_all()
    sandbox_process.settings(page_size=SIZE)
    output = f"file://{tmp_path_factory.mktemp('undisturbed')}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(sandbox_process.with_extra(requests_per_5min=9999)))
        assert run(output)["extension"]["pages"] == PAGES
        yield results(output)


def order(sandbox: Sandbox, fault: str, page: int, times: int | None) -> None:
    """Let a page fail so often."""
    sandbox.fault(match={"path": "/Observation"}, skip=page - 1, times=times, **FAULTS[fault])


def asked(sandbox: Sandbox) -> int:
    """Count the requests for pages."""
    return len(sandbox.ledger("/Observation"))


def told(error: BaseException) -> str:
    """Give what an error says, with its notes."""
    return " ".join((str(error), *getattr(error, "__notes__", ())))


def ids(files: dict[str, bytes]) -> list[tuple[str, str]]:
    """Give type and id of every line, in the order of the files."""
    lines = [json.loads(line) for content in files.values() for line in content.splitlines()]
    return [(line["resourceType"], line["id"]) for line in lines]


everywhere = pytest.mark.parametrize("page", [1, 3, PAGES], ids=["first", "middle", "last"])


@everywhere
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_is_healed_within_the_task(
    connected: Sandbox, undisturbed: dict[str, bytes], output: str, fault: str, page: int
):
    """Twice the same fault on any page, and the files are, byte for byte, those of a run in which nothing went wrong."""
    times = BRIEF.get(fault, 2)
    order(connected, fault, page, times)
    run(output, fault)
    assert results(output) == undisturbed
    assert asked(connected) == PAGES + times


@everywhere
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_names_its_page_and_leaves_no_result(connected: Sandbox, output: str, fault: str, page: int):
    """A page that cannot be had fails the task; the error tells its number, and neither a file nor a manifest is there."""
    order(connected, fault, page, None)
    with pytest.raises((RedoxError, AirflowFailException)) as caught:
        run(output, fault)
    assert f"stopped at page {page}." in told(caught.value)
    assert visible(output) == {}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_next_try_gives_what_an_undisturbed_one_would_have(
    connected: Sandbox, undisturbed: dict[str, bytes], output: str, fault: str
):
    """After a try that failed in the middle, the next one's files are those of a run in which nothing went wrong."""
    order(connected, fault, 3, None)
    with pytest.raises((RedoxError, AirflowFailException)):
        run(output, fault)
    connected.control("DELETE", "faults")
    run(output)
    assert results(output) == undisturbed


@everywhere
@pytest.mark.parametrize("fault", FAULTS)
def test_the_awaiting_hook_heals_what_passes(connected: Sandbox, undisturbed: dict[str, bytes], fault: str, page: int):
    """RedoxAsyncHook.fhir_search gives every resource once, too, whatever came twice on any page."""
    times = BRIEF.get(fault, 2)
    order(connected, fault, page, times)
    found = [(resource["resourceType"], resource["id"]) for resource in asyncio.run(gathered(fault))]
    assert sorted(found) == sorted(ids(undisturbed))
    assert asked(connected) == PAGES + times


@everywhere
@pytest.mark.parametrize("fault", FAULTS)
def test_the_awaiting_hook_names_the_page_that_stays_away(connected: Sandbox, fault: str, page: int):
    """RedoxAsyncHook.fhir_search raises an error that tells the number of the page."""
    order(connected, fault, page, None)
    with pytest.raises(RedoxError) as caught:
        asyncio.run(gathered(fault))
    assert f"stopped at page {page}." in told(caught.value)


def test_the_undisturbed_files_hold_every_resource_once(undisturbed: dict[str, bytes]):
    """What the others are compared with is whole: each observation once, and each patient that one is about."""
    found = ids(undisturbed)
    assert len(found) == len(set(found))
    observations = [json.loads(line) for content in undisturbed.values() for line in content.splitlines()]
    subjects = {one["subject"]["reference"] for one in observations if one["resourceType"] == "Observation"}
    assert {f"{kind}/{one}" for kind, one in found if kind == "Patient"} == subjects
    assert [kind for kind, _ in found].count("Observation") == 162
