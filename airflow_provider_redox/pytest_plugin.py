"""Fixtures for the tests of your own DAGs: `redox_sandbox`, a local Redox.

pytest loads this module in every run where the package is installed, so it imports nothing but pytest; Airflow and the
server are the fixture's business. The extra `[pytest]` brings what the server needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_provider_redox.testing import RedoxSandbox


@pytest.fixture(scope="session")
def redox_sandbox_arguments() -> Sequence[str]:
    """Give the arguments of the sandbox's command. Override it in your conftest.py: `["--data", "tests/hospital"]`."""
    return ()


@pytest.fixture(scope="session")
def redox_sandbox_process(redox_sandbox_arguments: Sequence[str]) -> Iterator[RedoxSandbox]:
    """Run one sandbox for the session, on a free port. Take `redox_sandbox`, which begins anew with each test."""
    from airflow_provider_redox.testing import RedoxSandbox, SandboxDidNotStartError

    try:
        running = RedoxSandbox.start(*redox_sandbox_arguments)
    except SandboxDidNotStartError as error:
        pytest.fail(f"redox_sandbox did not start: {error}", pytrace=False)
    with running:
        # Within the process: a token that an earlier test left in a Variable would be refused, and the database unneeded.
        running.connection = running.with_extra(cache_backend="memory")
        yield running


@pytest.fixture
def redox_sandbox(redox_sandbox_process: RedoxSandbox, monkeypatch: pytest.MonkeyPatch) -> RedoxSandbox:
    """Give a local Redox at its start, behind the connection `redox_default` for the time of the test.

    No ledger, no messages, no faults, no token and no quota used up by an earlier test.
    """
    from airflow_provider_redox.client.pacing import forget
    from airflow_provider_redox.client.slots import MemorySlot

    redox_sandbox_process.reset()
    MemorySlot.forget_all()
    forget()
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", redox_sandbox_process.connection_json)
    return redox_sandbox_process
