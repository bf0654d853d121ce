"""Fixtures that the whole suite shares: a sandbox process, a clean Airflow home, the connection in the environment."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

# Airflow reads its home at import: give this process one of its own before anything imports Airflow.
_HOME = tempfile.TemporaryDirectory(prefix="redox-airflow-home-")
os.environ["AIRFLOW_HOME"] = _HOME.name
os.environ.update(
    {
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__CORE__FERNET_KEY": "cmVkb3gtcmVkb3gtcmVkb3gtcmVkb3gtcmVkb3gtMTI=",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
)

import pytest  # noqa: E402  (after the environment, see above)

from tests.support.sandbox import Sandbox  # noqa: E402

if find_spec("hypothesis"):  # the fleet's environment has none
    import hypothesis

    # The same examples each time, so that no change is blamed for what another brought. FUZZ=1000 looks further, at random.
    hypothesis.settings.register_profile("steady", derandomize="FUZZ" not in os.environ)
    hypothesis.settings.load_profile("steady")

pytest_plugins = ("pytester", "tests.support.s3", "tests.support.kms", "tests.support.freezing")


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[Sandbox]:
    """One sandbox for the whole run."""
    with Sandbox.start() as running:
        yield running


@pytest.fixture(autouse=True)
def no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk take its time: no test of this process cuts the power, and waiting for the disk is most of some."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(autouse=True)
def fresh_paces() -> None:
    """Let no test use up the share or the retries of another."""
    from airflow_provider_redox.client.pacing import forget

    forget()


@pytest.fixture
def sandbox(sandbox_process: Sandbox) -> Sandbox:
    """The sandbox at its start, and no token left in this process."""
    from airflow_provider_redox.client.slots import MemorySlot

    sandbox_process.reset()
    MemorySlot.forget_all()
    return sandbox_process


@pytest.fixture
def redox_connection(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """`redox_default` in the environment, pointing at the sandbox."""
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", sandbox.connection_json)
    return sandbox


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """This process's Airflow home."""
    return Path(_HOME.name)
