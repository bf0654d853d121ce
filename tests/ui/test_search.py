"""What Airflow 3's pages show of a search: its manifest, readable, and no patient."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.sandbox import Sandbox
from tests.ui.conftest import Picture, Visit, airflow_with

if TYPE_CHECKING:
    from local_airflow import LocalAirflow

pytestmark = pytest.mark.slow

DAG, TASK = "redox_minimal_fhir_search", "patients"


@pytest.fixture(scope="module")
def airflow(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    folder = tmp_path_factory.mktemp("search")
    with (
        tempfile.TemporaryDirectory(prefix="redox-") as results,  # a short name, as the picture shows it
        airflow_with(f"{DAG}.py", folder, AIRFLOW__REDOX__OUTPUT_ROOT=f"file://{results}") as running,
    ):
        yield running


def test_the_manifest_is_readable_and_holds_no_patient(
    airflow: LocalAirflow, sandbox: Sandbox, visit: Visit, picture: Picture
) -> None:
    """URLs, counts and checksums, under the names that the documentation uses; and what is asked for is nowhere."""
    airflow.add_connection("redox_default", sandbox.connection)
    run = airflow.trigger(DAG)
    assert airflow.wait(DAG, run, timeout=120) == "success"
    manifest = airflow.xcom(DAG, run, TASK)
    visit.page.goto(f"{airflow.url}/dags/{DAG}/runs/{run}")
    visit.page.get_by_text(TASK, exact=True).first.wait_for()
    visit.page.wait_for_timeout(1500)  # the graph is laid out after it is there
    picture(visit.page, "dag-run")
    visit.page.goto(f"{airflow.url}/dags/{DAG}/runs/{run}/tasks/{TASK}/xcom")
    visit.page.wait_for_load_state("networkidle")
    visit.page.get_by_role("button", name="Expand").first.click()
    visit.page.locator(".view-line").filter(has_text="transactionTime").first.wait_for()
    visit.page.wait_for_timeout(1500)  # the editor that shows JSON paints its lines one after another
    picture(visit.page, "search-manifest")
    shown = "".join(visit.page.inner_text("body").split())  # it breaks long lines, and fills with hard spaces
    (file,) = manifest["output"]
    assert file["count"] == 1
    assert file["url"].rpartition("/")[2] in shown
    received = visit.answers()
    assert any(file["sha256"] in body for body in received.values())
    patient = json.loads(Path(file["url"].removeprefix("file://")).read_text())
    secrets = ("Keva", "1995-08-26", patient["id"])
    assert not [where for where, body in received.items() if any(one in body for one in secrets)]
