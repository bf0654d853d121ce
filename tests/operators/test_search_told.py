"""What a search tells beside its files: validation, assets, the link, lineage."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow import __version__ as airflow_version

from airflow_provider_redox.downstream import read_resources
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from tests.support.database import returned, rows
from tests.support.refusals import refused
from tests.support.run_dags import run_dags
from tests.support.sandbox import Sandbox

WHERE = {"dag_id": "pull", "run_id": "r", "task_id": "pull", "map_index": -1}


def search(output: str, **arguments: Any) -> RedoxFhirSearchOperator:
    return RedoxFhirSearchOperator(
        task_id="pull",
        **{"resource_type": "Condition", "search_params": {"code": "44054006"}, "output_path": output, **arguments},
    )


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A server of three conditions, two of which do not fit the model."""
    from airflow_provider_redox.client.slots import MemorySlot

    code, subject = {"coding": [{"code": "44054006"}]}, {"reference": "Patient/p"}
    conditions = [
        {"resourceType": "Condition", "id": "c1", "code": code, "subject": subject},
        {"resourceType": "Condition", "id": "c2", "code": code},
        {"resourceType": "Condition", "id": "c3", "code": code, "subject": subject, "recordedDate": "Keva Green"},
    ]
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "c.ndjson").write_text("\n".join(map(json.dumps, conditions)))
    running = Sandbox.start("--data", str(folder))
    MemorySlot.forget_all()
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", running.connection_json)
    yield running
    running.stop()


def test_a_report_lies_beside_the_resources(faulty: Sandbox, output: str):
    """With `report`, every resource is written as it came; what does not fit is told in files of its own, without values."""
    pytest.importorskip("fhir.resources.R4B", reason="needs the extra [fhir]")
    manifest = search(output, validate="report").execute({"ti": SimpleNamespace(**WHERE)})
    assert [(entry["type"], entry["count"]) for entry in manifest["output"]] == [("Condition", 3)]
    assert [(entry["type"], entry["count"]) for entry in manifest["error"]] == [("ValidationOutcome", 2)]
    told = list(read_resources(manifest, "ValidationOutcome"))
    assert [one["issue"][0]["expression"] for one in told] == [["Condition.subject"], ["Condition.recordedDate"]]
    assert "Keva" not in json.dumps(told)


def test_without_it_nothing_is_checked(faulty: Sandbox, output: str):
    """By default no resource is validated and no report is written."""
    assert search(output).execute({"ti": SimpleNamespace(**WHERE)})["error"] == []


def test_what_cannot_be_validated_is_told_before_the_search(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """An unknown word for `validate` is refused when the DAG is read, and no request is sent."""
    with refused("validate: must be one of off, report"):
        execute(search(output, validate="strict"))
    assert sandbox.ledger("/fhir") == []


def test_an_asset_is_told_of_the_result(execute: Callable[..., Any], output: str, redox_connection: Sandbox):
    """The event of each asset among the outlets holds the URL of the manifest, which can be read."""
    asset = SimpleNamespace(uri="redox://general/x")
    event = SimpleNamespace(extra={})

    class Events:
        def __getitem__(self, outlet: Any) -> Any:
            assert outlet is asset
            return event

    context = {"ti": SimpleNamespace(**WHERE), "outlets": [asset], "outlet_events": Events()}
    manifest = search(output).execute(context)
    assert len(list(read_resources(event.extra["manifest_url"]))) == manifest["output"][0]["count"] > 10


def test_lineage_is_that_of_the_search(execute: Callable[..., Any], output: str):
    """OpenLineage hears of the endpoint's type and of the folder; of nothing before the search has ended."""
    pytest.importorskip("airflow.providers.openlineage.extractors", reason="needs apache-airflow-providers-openlineage")
    operator = search(output)
    assert operator.get_openlineage_facets_on_complete(None) is None
    execute(operator)
    lineage = operator.get_openlineage_facets_on_complete(None)
    assert lineage.inputs[0].name.endswith("/Condition")
    assert lineage.outputs[0].namespace == "file"


DAG = """
from airflow.providers.common.compat.sdk import DAG, Asset
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator

with DAG("pull", schedule=None):
    RedoxFhirSearchOperator(
        task_id="pull", resource_type="Condition", search_params={"code": "44054006"},
        output_path="file:///tmp/x", outlets=[Asset(uri="redox://general/diabetics")],
    )
"""


@pytest.mark.airflow_run
def test_airflow_runs_a_search_with_outlets_and_link(sandbox_process: Sandbox, tmp_path: Path):
    """Through Airflow: the run succeeds, the link of a local result is empty, the asset's event names the manifest."""
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "pull.py").write_text(DAG.replace("/tmp/x", f"{tmp_path}/out"))
    ended, printed = run_dags(tmp_path, folder, ["pull"], AIRFLOW_CONN_REDOX_DEFAULT=sandbox_process.connection_json)
    assert ended == {"pull": "success"}, printed[-3000:]
    assert "Failed to push an xcom" not in printed
    assert "get_openlineage" not in printed
    if not airflow_version.startswith("2."):
        ((extra,),) = rows(tmp_path, "select extra from asset_event")
        count = returned(tmp_path, "pull")["pull"]["output"][0]["count"]
        assert len(list(read_resources(json.loads(extra)["manifest_url"]))) == count
