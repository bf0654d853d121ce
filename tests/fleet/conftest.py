"""The fleet, started once for all tests of this folder, and a report of what was measured."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .services import Fleet, Services

FIGURES: list[str] = []

QUIET = {
    # Runs are what the tests trigger, and files do not change: the cores are for the tasks.
    "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
}


@pytest.fixture(scope="session")
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Every service of docker-compose.yaml, healthy, and all DAGs loaded. The folder stays when a test fails."""
    folder = Path(tempfile.mkdtemp(prefix="redox-fleet-"))
    services = Services(folder, dags=Path(__file__).parent / "dags", extra=QUIET)
    try:
        services.up()
        running = Fleet(services)
        running.wait_for_dags(timeout=120)
        yield running
    finally:
        services.down()
        if not request.session.testsfailed:
            shutil.rmtree(folder)


def figure(text: str) -> None:
    """Add a line to the report."""
    FIGURES.append(text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was measured."""
    if FIGURES:
        terminalreporter.section("measured")
        for line in FIGURES:
            terminalreporter.write_line(line)
