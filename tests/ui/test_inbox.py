"""What Airflow 3's pages show of an inbox: the asset, its events, the runs that they started, and no patient."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.inbox.boxes import Box
from tests.ui.conftest import Picture, Visit, airflow_with

if TYPE_CHECKING:
    from local_airflow import LocalAirflow


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inbox")


@pytest.fixture(scope="module")
def airflow(inbox: Path) -> Iterator[LocalAirflow]:
    env = {
        "REDOX_INBOX": f"{inbox}/results",
        "REDOX_TABLE": f"{inbox}/table",
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
    }
    with airflow_with("redox_inbox_results.py", inbox, **env) as running:
        yield running


def test_the_asset_shows_its_events_and_no_patient(
    airflow: LocalAirflow, inbox: Path, visit: Visit, picture: Picture
) -> None:
    """Log IDs and URLs are all that the pages, and what they are made of, hold of a message."""
    Box(f"file://{inbox}/results").put("d9f5d293-7110-461e-a875-3beb089e79f3", "6c1b2f9e-5a0c-4a57-8b3e-1f0c7a9d2b44")
    deadline = time.monotonic() + 120
    while not (events := airflow.request("GET", "/assets/events")["asset_events"]):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    visit.page.goto(f"{airflow.url}/assets/{events[0]['asset_id']}")
    visit.page.get_by_text("redox_inbox_results").first.wait_for()
    visit.page.wait_for_load_state("networkidle")
    picture(visit.page, "inbox-asset")
    received = visit.answers()
    assert any("d9f5d293-7110-461e-a875-3beb089e79f3" in body for body in received.values())
    assert not [where for where, body in received.items() if "Quillfeather" in body or "Ashgrove" in body]
