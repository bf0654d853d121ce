"""The events of a task's assets hold where its result is."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow import __version__ as airflow_version

from airflow_provider_redox.downstream import read_resources
from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.operators.assets import event_extra, tell_assets
from tests.support.database import returned, rows
from tests.support.run_dags import run_dags

URL = "s3://lake@bucket/redox/_redox/dag_id=d/run_id=r/pull/manifest.json"


def manifest(files: int, *, types: int = 1) -> dict[str, Any]:
    output = [
        {"type": f"Type{number % types}", "url": f"s3://lake@bucket/{number:0300d}", "count": 2, "sha256": "0" * 64}
        for number in range(files)
    ]
    return {"transactionTime": "2026-01-01T00:00:00Z", "output": output, "error": [], "extension": {"watermark": None}}


def test_the_extra_tells_where_and_how_much():
    """The extra has the manifest's URL, counts by type, the number of files and their URLs."""
    assert event_extra(manifest(3, types=2), manifest_url=URL) == {
        "manifest_url": URL,
        "transaction_time": "2026-01-01T00:00:00Z",
        "watermark": None,
        "counts": {"Type0": 4, "Type1": 2},
        "resources": 6,
        "files": 3,
        "urls": [f"s3://lake@bucket/{number:0300d}" for number in range(3)],
    }


def test_the_extra_is_bounded():
    """A result of ten thousand files of a thousand types has an extra of less than 10 KB that still counts them all."""
    extra = event_extra(manifest(10_000, types=1_000), manifest_url=URL)
    assert len(json.dumps(extra)) < 10_000
    assert (extra["files"], extra["resources"]) == (10_000, 20_000)


def test_the_extra_cannot_be_taken_for_the_manifest():
    """Reading the extra itself, whose list of files may be cut, is an error and not a short read."""
    with pytest.raises(RedoxConfigError, match="output"):
        read_resources(event_extra(manifest(1), manifest_url=URL))


def test_assets_are_told_and_other_outlets_are_left_alone():
    """Each asset among the outlets is told; an alias is not; what the author put into an extra stays."""
    asset, alias = SimpleNamespace(uri="x://a"), SimpleNamespace(name="alias")

    class Events(dict[int, Any]):
        def __getitem__(self, outlet: Any) -> Any:
            return self.setdefault(id(outlet), SimpleNamespace(extra={"mine": 1}))

    events = Events()
    tell_assets({"outlets": [asset, alias], "outlet_events": events}, manifest(1), manifest_url=URL)
    assert set(events) == {id(asset)}
    assert events[asset].extra == {"mine": 1, **event_extra(manifest(1), manifest_url=URL)}


def test_without_outlets_nothing_happens():
    """A context without events, as in a plain call of `execute`, is no error."""
    tell_assets({}, manifest(1), manifest_url=URL)


DAGS = """
import json
from datetime import UTC, datetime
from pathlib import Path
from airflow.providers.common.compat.sdk import DAG, Asset, task
from airflow_provider_redox.downstream import read_resources
from airflow_provider_redox.operators.assets import tell_assets

FOLDER = Path(__file__).parent
URL = f"file://{FOLDER}/manifest.json"
patients = Asset(uri="redox://general/Patient")

with DAG("pull", schedule=None):
    @task(outlets=[patients])
    def pull(**context):
        (FOLDER / "p.ndjson").write_text('{"id": "a"}\\n{"id": "b"}\\n')
        entry = {"type": "Patient", "url": f"file://{FOLDER}/p.ndjson", "count": 2}
        manifest = {"transactionTime": "2026-01-01T00:00:00Z", "output": [entry], "error": [], "extension": {}}
        (FOLDER / "manifest.json").write_text(json.dumps(manifest))
        tell_assets(context, manifest, manifest_url=URL)
    pull()

with DAG("use", schedule=[patients], start_date=datetime(2026, 1, 1, tzinfo=UTC)):
    @task(inlets=[patients])
    def use(*, inlet_events):
        (*_, event) = inlet_events[patients]
        return sum(1 for _ in read_resources(event.extra["manifest_url"], "Patient"))
    use()
"""


@pytest.mark.airflow_run
@pytest.mark.skipif(
    airflow_version.startswith("2."), reason="Airflow 2 records events only of datasets a scheduler has seen"
)
def test_a_dag_on_the_asset_reads_the_result(tmp_path: Path):
    """Through Airflow: the event in the metadata database holds the extra, and a later DAG reads the files by it."""
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "both.py").write_text(DAGS)
    ended, printed = run_dags(tmp_path, folder, ["pull", "use"])
    assert ended == {"pull": "success", "use": "success"}, printed[-3000:]
    ((extra,),) = rows(tmp_path, "select extra from asset_event")
    told = json.loads(extra)
    assert (told["manifest_url"], told["counts"]) == (f"file://{folder}/manifest.json", {"Patient": 2})
    assert returned(tmp_path, "use") == {"use": 2}
