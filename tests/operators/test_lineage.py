"""What a search tells OpenLineage."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from airflow_provider_redox.operators.lineage import dataset_name, folders, search_lineage, sources

BASE = "s3://lake@bucket/redox/destination=general/environment=Development"


def entry(kind: str, number: int, count: int, **more: Any) -> dict[str, Any]:
    url = f"{BASE}/type={kind}/dag_id=nightly/run_id=r1/pull.{kind}.{number:05d}.ndjson"
    return {"type": kind, "url": url, "count": count, "sha256": "0" * 64, **more}


MANIFEST: dict[str, Any] = {
    "request": "https://api.redoxengine.com/fhir/R4/general-hospital/Development/Condition/_search",
    "output": [entry("Condition", 0, 5), entry("Condition", 1, 2), entry("Patient", 0, 3)],
    "error": [entry("OperationOutcome", 0, 1)],
}
READ = "fhir/R4/general-hospital/Development"
WRITTEN = "redox/destination=general/environment=Development"


def test_the_types_that_were_read_are_the_inputs():
    """The searched type is an input even when nothing was found, and so is each type that came with it, once."""
    origin = "https://api.redoxengine.com"
    assert list(sources(MANIFEST)) == [(origin, f"{READ}/Condition"), (origin, f"{READ}/Patient")]
    assert list(sources({**MANIFEST, "output": []})) == [(origin, f"{READ}/Condition")]


def test_files_of_a_folder_are_one_output_with_their_rows():
    """A folder is one dataset, the same for each run, with the rows and files of this one; outcomes are none."""
    found = [(one.namespace, one.name, one.rows, one.files) for one in folders(MANIFEST)]
    assert found == [
        ("s3://bucket", f"{WRITTEN}/type=Condition/dag_id=nightly", 7, 2),
        ("s3://bucket", f"{WRITTEN}/type=Patient/dag_id=nightly", 3, 1),
    ]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://lake@bucket/a/b", ("s3://bucket", "a/b")),
        ("s3a://bucket/a", ("s3://bucket", "a")),
        ("gs://bucket/a", ("gs://bucket", "a")),
        ("gcs://g@bucket/a", ("gs://bucket", "a")),
        ("abfs://conn@container/a", ("abfs://container", "a")),
        ("file:///data/a", ("file", "/data/a")),
    ],
)
def test_datasets_are_named_as_openlineage_names_them(url: str, name: tuple[str, str]):
    """Bucket in the namespace, key in the name, no connection ID in either; see OpenLineage's page on naming."""
    assert dataset_name(url) == name


@pytest.mark.parametrize("returned", [None, "text", {}, {"results_url": "s3://bucket/x"}])
def test_a_task_without_a_manifest_has_no_lineage(returned: Any):
    """What is not a manifest tells nothing, and is no error."""
    assert search_lineage(returned) is None


def test_without_openlineage_there_is_none(monkeypatch: pytest.MonkeyPatch):
    """Where the OpenLineage provider is not installed, the answer is None."""
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.extractors", None)
    assert search_lineage(MANIFEST) is None


def test_the_facets_are_those_of_openlineage():
    """With the provider installed, the lineage is made of its classes, serializes, and holds no URL of a run."""
    pytest.importorskip("airflow.providers.openlineage.extractors", reason="needs apache-airflow-providers-openlineage")
    from openlineage.client.serde import Serde

    lineage = search_lineage(MANIFEST)
    inputs, outputs = ([Serde.to_dict(one) for one in part] for part in (lineage.inputs, lineage.outputs))
    assert [one["name"] for one in inputs] == [f"{READ}/Condition", f"{READ}/Patient"]
    statistics = [one["outputFacets"]["outputStatistics"] for one in outputs]
    assert [(one["rowCount"], one["fileCount"]) for one in statistics] == [(7, 2), (3, 1)]
    assert "run_id" not in json.dumps([inputs, outputs])
