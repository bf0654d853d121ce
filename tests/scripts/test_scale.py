"""The arithmetic of scale, against what was really done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scale import Hospital, night, searched, table

from airflow_provider_redox.hooks.redox import RedoxHook
from tests.docs.pages import text
from tests.support.sandbox import Sandbox


def test_the_page_shows_what_the_script_prints() -> None:
    """The table on the page is the script's, line for line."""
    assert "\n".join(table()) in text("scale")


def test_requests_tokens_and_storage_are_those_of_a_real_search(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For a small case that is really done, the model has the same requests and tokens, and the storage within a tenth."""
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(sandbox.with_extra(cache_backend="memory")))
    hook = RedoxHook()
    lines = [
        json.dumps(resource, separators=(",", ":"))
        for _ in range(3)
        for resource in hook.fhir_search("Observation", {"code": "http://loinc.org|4548-4"})
    ]
    for _ in range(5):
        hook.post_data_model({"Meta": {"DataModel": "PatientAdmin", "EventType": "Arrival"}}, destination="general")
    hook.client.close()
    asked = [entry["path"] for entry in sandbox.ledger()]
    size = sum(map(len, lines)) // len(lines)
    done = Hospital(searches=3, matches=len(lines) // 3, page=50, size=size, messages=5, delivery=0)
    predicted = night(1, done)
    assert predicted.requests == sum(path != "/v2/auth/token" for path in asked)
    assert predicted.exchanges == asked.count("/v2/auth/token") == 1
    assert predicted.storage == pytest.approx(sum(map(len, lines)), rel=0.1)


def test_an_empty_search_is_a_request() -> None:
    """A search that finds nothing has a page all the same."""
    assert searched(Hospital(searches=3, matches=0)) == 3


def test_the_quota_bounds_a_thousand_hospitals() -> None:
    """More workers do not make a night of a thousand hospitals shorter."""
    few, many = night(1_000, workers=8), night(1_000, workers=800)
    assert few.at_quota == many.at_quota > few.task_time > many.task_time
