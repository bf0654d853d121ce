"""The button "Results" leads to the folder of the files."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from airflow import __version__ as airflow_version

from airflow_provider_redox.get_provider_info import get_provider_info
from airflow_provider_redox.links.logs import LogLink
from airflow_provider_redox.links.results import ResultsLink, console_url, result_urls
from tests.support.database import rows
from tests.support.run_dags import run_dags

RUN = "dag_id=d/run_id=r/pull"


@pytest.mark.parametrize(
    ("urls", "link"),
    [
        (
            [f"s3://lake@bucket/x y/type=Patient/{RUN}.Patient.00000.ndjson"],
            "https://console.aws.amazon.com/s3/buckets/bucket?prefix=x%20y%2Ftype%3DPatient%2Fdag_id%3Dd%2Frun_id%3Dr%2F",
        ),
        (
            [f"s3://bucket/x/type=Patient/{RUN}.a", f"s3://bucket/x/type=Procedure/{RUN}.b"],
            "https://console.aws.amazon.com/s3/buckets/bucket?prefix=x%2F",
        ),
        ([f"gs://bucket/x/{RUN}.a"], "https://console.cloud.google.com/storage/browser/bucket/x/dag_id%3Dd/run_id%3Dr"),
        (["gs://bucket/a.ndjson"], "https://console.cloud.google.com/storage/browser/bucket/"),
    ],
)
def test_the_link_is_the_folder_of_all_files(urls: list[str], link: str):
    """The deepest folder that holds all files, in the console of its cloud; the connection ID is no part of it."""
    assert console_url(urls) == link


@pytest.mark.parametrize(
    "urls",
    [[], ["file:///data/x/a"], ["abfs://container/x/a"], ["/data/x"], ["s3://one/a", "s3://two/a"], ["s3:///a"], ["x"]],
)
def test_no_console_no_link(urls: list[str]):
    """Local paths, other stores, and files that lie apart have no link."""
    assert console_url(urls) == ""


@pytest.mark.parametrize(
    ("returned", "urls"),
    [
        ({"output": [{"url": "s3://b/1"}], "error": [{"url": "s3://b/2"}]}, ["s3://b/1", "s3://b/2"]),
        ({"accepted": 1, "results_url": "s3://b/3"}, ["s3://b/3"]),
        ({"accepted": 1, "results_url": None}, []),
        ({"output": [1, {"url": 2}]}, []),
        (None, []),
        ("text", []),
    ],
)
def test_urls_are_those_of_a_manifest_or_a_summary(returned: Any, urls: list[str]):
    """Whatever a task returned, the link takes URLs from where they stand, or none."""
    assert result_urls(returned) == urls


def test_airflow_is_told_of_the_links():
    """The provider info names the classes, as Airflow wants of each link that an operator carries."""
    named = [name.rpartition(".") for name in get_provider_info()["extra-links"]]
    assert {getattr(import_module(module), attribute) for module, _, attribute in named} == {LogLink, ResultsLink}


DAG = """
from airflow.providers.common.compat.sdk import DAG, BaseOperator
from airflow_provider_redox.links.results import ResultsLink

class Pull(BaseOperator):
    operator_extra_links = (ResultsLink(),)
    def execute(self, context):
        return {"output": [{"url": "s3://lake@bucket/x/type=Patient/a.ndjson"}]}

with DAG("pull", schedule=None):
    Pull(task_id="pull")
"""


@pytest.mark.airflow_run
def test_airflow_keeps_the_link(tmp_path: Path):
    """A run leaves the link where the UI looks for it: on Airflow 3 in an XCom; on Airflow 2 it is made at the click."""
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "pull.py").write_text(DAG)
    ended, printed = run_dags(tmp_path, folder, ["pull"])
    assert ended == {"pull": "success"}, printed[-3000:]
    kept = rows(tmp_path, "select value from xcom where key = '_link_ResultsLink'")
    if not airflow_version.startswith("2."):
        assert [str(value).strip('"') for (value,) in kept] == [
            "https://console.aws.amazon.com/s3/buckets/bucket?prefix=x%2Ftype%3DPatient%2F"
        ]
