"""What the page on versions says of the installed Airflow is so."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Callable
from importlib.util import find_spec

import pytest
from airflow import providers_manager
from airflow.plugins_manager import AirflowPlugin
from airflow.triggers import base
from airflow.triggers.base import BaseTrigger
from packaging.version import Version

from airflow_provider_redox.operators.assets import _is_asset
from airflow_provider_redox.triggers.inbox import RedoxInboxTrigger
from tests.docs.pages import DOCS


def watches() -> str:
    events = getattr(base, "BaseEventTrigger", None)
    assert issubclass(RedoxInboxTrigger, events or BaseTrigger)
    return "no" if events is None else "yes"


def mounts() -> str:
    return "yes" if hasattr(AirflowPlugin, "fastapi_apps") else "no"


def shares() -> str:
    """On Airflow 3 what is no task has no way to the database."""
    return "no" if find_spec("airflow.sdk") else "yes"


def is_called() -> str:
    try:
        from airflow.sdk import Asset as Told
    except ImportError:
        from airflow.datasets import Dataset as Told
    assert _is_asset(Told("s3://bucket/x"))
    return Told.__name__.lower()


def form_comes_from() -> str:
    """As of 3.2 Airflow reads the fields that a provider's metadata declares."""
    return "the metadata" if "conn-fields definition" in inspect.getsource(providers_manager) else "the hook"


PROBES: dict[str, Callable[[], str]] = {
    "An asset watcher starts DAGs on new messages": watches,
    "The receiver runs inside Airflow's server": mounts,
    "Outside of a task, the token is shared through a Variable": shares,
    "What is told of a result is called": is_called,
    "The connection's form is read from": form_comes_from,
}


def rows() -> dict[str, str]:
    """What each row says of the installed Airflow: the first word of its cell."""
    page = (DOCS / "versioning.md").read_text().partition("## What an older Airflow lacks")[2].partition("\n## ")[0]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")]
    version = Version(importlib.metadata.version("apache-airflow"))
    column = 1 if version < Version("3") else 2 if version < Version("3.2") else 3
    return {row[0]: row[column].partition(":")[0] for row in table[2:]}


def test_the_table_is_whole() -> None:
    """Each row has a probe."""
    assert set(rows()) == set(PROBES)


@pytest.mark.parametrize("row", PROBES)
def test_the_installed_airflow_is_as_the_table_says(row: str) -> None:
    """What it lacks is what the page says, no more and no less."""
    assert PROBES[row]() == rows()[row]
