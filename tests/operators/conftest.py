"""Run an operator as a worker would, in this process: a DAG, a task instance, and what Airflow hands to `execute`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_redox.operators.sends import batching, posting
from airflow_provider_redox.storage import send_marker
from airflow_provider_redox.storage.send_marker import Mark
from tests.support.sandbox import Sandbox


@pytest.fixture
def output(tmp_path: Path) -> str:
    """A fresh output root."""
    return f"file://{tmp_path}/out"


@pytest.fixture
def markers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Mark]:
    """The metadata database's markers, for tests that run outside of Airflow: what `marker_of` gives keeps them here."""
    kept: dict[str, Mark] = {}

    def marker_of(ti: Any, number: int = 0) -> SimpleNamespace:
        name = f"{ti.run_id}/{ti.task_id}" + (f"/{number}" if number else "")
        return SimpleNamespace(
            read=lambda: kept.get(name), write=lambda mark: kept.update({name: mark}), clear=lambda: kept.pop(name, None)
        )

    for module in (send_marker, posting, batching):
        monkeypatch.setattr(module, "marker_of", marker_of)
    return kept


@pytest.fixture
def shared_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say that the output root outlives the worker, so that no marker of what was accepted has to stay."""
    monkeypatch.setenv("AIRFLOW__REDOX__OUTPUT_ROOT_IS_SHARED", "True")


@pytest.fixture
def execute(redox_connection: Sandbox) -> Callable[..., Any]:
    """Execute an operator against the sandbox, with the context that its code reads."""

    def run(operator: Any, **facts: Any) -> Any:
        where = {
            "dag_id": "pull",
            "run_id": "manual__2026-11-23T10:00:00+00:00",
            "task_id": operator.task_id,
            "map_index": -1,
        }
        return operator.execute({"ti": SimpleNamespace(**where, **facts)})

    return run
