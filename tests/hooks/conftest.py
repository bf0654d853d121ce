"""Connections in the environment, where a hook finds them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_redox.client.slots import MemorySlot
from airflow_provider_redox.protocol.outcomes import RetryPolicy

QUICK = RetryPolicy(attempts=2, base=0.01, cap=0.02, rate_limit_floor=0.01)
Connect = Callable[..., None]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Put a connection into the environment, as a dict or as a URI."""

    def put(connection: dict[str, Any] | str, conn_id: str = "redox_default") -> None:
        text = connection if isinstance(connection, str) else json.dumps(connection)
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", text)

    MemorySlot.forget_all()
    return put
