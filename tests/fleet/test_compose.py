"""docker-compose.yaml, as the real docker-compose reads it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .services import AFTER, BESIDE, FIRST, ROOT, rendered

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compose") / "env"
    subprocess.run([sys.executable, ROOT / "scripts/make_env.py", path], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def services(env_file: Path) -> dict[str, Any]:
    found: dict[str, Any] = rendered(env_file)["services"]
    return found


def test_without_env_there_is_no_default(tmp_path: Path) -> None:
    """Without `.env` the file is refused, and the error says how to make one."""
    (tmp_path / "empty").touch()
    with pytest.raises(subprocess.CalledProcessError) as refused:
        rendered(tmp_path / "empty")
    assert "run `make env`" in refused.value.stderr


def test_no_secret_on_a_command_line(services: dict[str, Any], env_file: Path) -> None:
    """No secret stands in a command or a health check, which every process of the machine can read."""
    secrets = re.findall(r"(?m)^\w+='(.*)'$", env_file.read_text())
    for name, service in services.items():
        commands = json.dumps([service.get("command"), service.get("healthcheck")])
        assert not [secret for secret in secrets if secret in commands], name


def test_the_key_is_where_tasks_and_triggers_run(services: dict[str, Any]) -> None:
    """Only the workers and the triggerer are given the key that signs for Redox."""
    given = {
        name for name, service in services.items() if "AIRFLOW_CONN_REDOX_DEFAULT" in (service.get("environment") or {})
    }
    assert given == {"triggerer", "worker-1", "worker-2"}


def test_only_the_page_is_published(services: dict[str, Any]) -> None:
    """Nothing but Airflow's page, and the inbox by TLS, is reachable from the machine, and that from nowhere else."""
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert sorted(published) == ["api-server", "tls"]
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}


def test_whatever_stays_has_a_health_check(services: dict[str, Any]) -> None:
    """Every service that stays has a health check, and is started again when it ends."""
    assert {name for name, service in services.items() if service.get("healthcheck")} == {*FIRST, *AFTER, *BESIDE}
    assert all(services[name]["restart"] == "unless-stopped" for name in (*FIRST, *AFTER, *BESIDE))


def test_the_inbox_is_wanted_by_name(services: dict[str, Any]) -> None:
    """The receiver and its proxy start with the profile `inbox` alone."""
    assert {name for name, service in services.items() if service.get("profiles")} == set(BESIDE)


def test_the_image_runs_as_nobody_special() -> None:
    """The image's last user is not root, and is given by number so that Kubernetes can tell."""
    users = re.findall(r"(?m)^USER (\S+)$", (ROOT / "Dockerfile").read_text())
    assert users[-1] == "50000:0"
