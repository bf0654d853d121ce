"""RedoxCheckConnectionOperator against a real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.operators.connection import RedoxCheckConnectionOperator
from tests.support.sandbox import Sandbox


def test_a_worker_says_what_the_test_button_would(execute: Callable[..., Any], sandbox: Sandbox):
    """A working connection gives the token URL, the key and until when the token holds; one token request, nothing else."""
    report = execute(RedoxCheckConnectionOperator(task_id="check"))
    extra = sandbox.connection["extra"]
    assert report["ok"]
    assert report["token_url"] == f"{sandbox.url}/v2/auth/token"
    assert (report["client_id"], report["key_ids"]) == (extra["client_id"], [extra["kid"]])
    assert abs(report["clock_offset"]) < 2
    assert report["token_until"].endswith("Z")
    assert [entry["path"] for entry in sandbox.ledger()] == ["/v2/auth/token"]


def test_the_clock_offset_is_told(execute: Callable[..., Any], sandbox: Sandbox):
    """A server whose clock is nine seconds ahead is still fine, and the report says so."""
    sandbox.settings(clock_offset=9)
    assert 8 <= execute(RedoxCheckConnectionOperator(task_id="check"))["clock_offset"] <= 10


def test_what_does_not_work_fails_with_what_to_mend(
    execute: Callable[..., Any], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """A connection that does not work fails the task for good, with the words of the Test button."""
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(sandbox.with_extra(kid="another")))
    with pytest.raises(AirflowFailException, match=r"kid: not registered.*extra\.kid"):
        execute(RedoxCheckConnectionOperator(task_id="check"))


def test_a_wrong_field_is_named_before_any_request(
    execute: Callable[..., Any], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """A field that is missing fails the task without a request."""
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(sandbox.with_extra(client_id=None)))
    with pytest.raises(AirflowFailException, match=r"extra\.client_id"):
        execute(RedoxCheckConnectionOperator(task_id="check"))
    assert sandbox.ledger() == []
