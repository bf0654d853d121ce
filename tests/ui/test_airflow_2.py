"""The connection form in Airflow 2.11.2, which asks the hook's methods for it and draws it on the server.

Some tests hold what Airflow does, not what we would like. When one of those fails with another Airflow 2, mend the page
on the connection in the documentation.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from local_processes import HOST, Processes

from airflow_provider_redox.get_provider_info import get_provider_info
from tests.protocol.material import pkcs8
from tests.support.sandbox import Sandbox
from tests.ui.conftest import Visit, free_port
from tests.ui.forms import OldForm
from tests.ui.test_airflow_3 import key_lines

pytestmark = pytest.mark.slow

VENV = Path(__file__).parents[2] / ".venvs" / "airflow-2.11.2-python-3.12"
ADMIN = {"username": "admin", "password": secrets.token_urlsafe(12)}


class Airflow2:
    """A webserver with an administrator: all that the form needs."""

    def __init__(self, home: Path, processes: Processes) -> None:
        self.home, self.processes = home, processes
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.python = VENV / "bin" / "python"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        self.environment = inherited | {
            "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__WEBSERVER__SECRET_KEY": secrets.token_urlsafe(32),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "NO_PROXY": f"{HOST},localhost",
            "no_proxy": f"{HOST},localhost",
        }

    def start(self) -> None:
        self._run("db", "migrate")
        named = [f"--{name}={value}" for name, value in ADMIN.items()]
        self._run("users", "create", *named, "--role=Admin", "--email=a@example.org", "--firstname=A", "--lastname=B")
        command = self._airflow("webserver", f"--port={self.port}", f"--hostname={HOST}", "--workers=1")
        self.processes.start("webserver", command, log=self.home / "webserver.log", env=self.environment)
        deadline = time.monotonic() + 180
        while not self._is_healthy():
            self.processes.check()
            assert time.monotonic() < deadline
            time.sleep(0.5)

    def _is_healthy(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=30).ok
        except requests.RequestException:
            return False

    def _run(self, *arguments: str) -> None:
        log = self.home / f"{arguments[0]}.log"
        self.processes.run(arguments[0], self._airflow(*arguments), log=log, env=self.environment, timeout=180)

    def _airflow(self, *arguments: str) -> list[str]:
        return [str(self.python), "-m", "airflow", *arguments]

    def ask(self, *arguments: str) -> str:
        """Give what a command of Airflow's prints, its log left out."""
        command = self._airflow(*arguments)
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=180)
        return done.stdout

    def stored(self, connection_id: str) -> dict[str, Any]:
        """Give a connection with all its values, the extra as a dict."""
        file = self.home / "connections.json"
        self.ask("connections", "export", str(file), "--file-format", "json")
        connection = json.loads(file.read_text())[connection_id]
        return {**connection, "extra": json.loads(connection["extra"] or "{}")}


@pytest.fixture(scope="module")
def airflow(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow2]:
    """One Airflow 2 for this module, in the environment that the tests on several versions use."""
    if not (VENV / ".made-from").exists():
        pytest.skip(f"There is no {VENV.name} in {VENV.parent.name}: run `make test-versions`, which builds it")
    with Processes() as processes:
        running = Airflow2(tmp_path_factory.mktemp("airflow"), processes)
        running.start()
        yield running


@pytest.fixture
def signed_in(airflow: Airflow2, visit: Visit) -> Visit:
    """A page whose user has signed in."""
    visit.page.goto(f"{airflow.url}/login/")
    for name, value in ADMIN.items():
        visit.page.fill(f"#{name}", value)
    with visit.page.expect_navigation():
        visit.page.click("input[type=submit]")
    return visit


def filled(visit: Visit, airflow: Airflow2, sandbox: Sandbox, connection_id: str, *, key: str | None = None) -> OldForm:
    """Open the form and fill in what connects to the sandbox, without a port of its own."""
    extra = sandbox.connection["extra"]
    form = OldForm(visit.page, f"{airflow.url}/connection/add")
    form.choose_type()
    form.field("conn_id").fill(connection_id)
    form.field("host").fill(sandbox.url)
    form.paste_key(key or sandbox.connection["password"])
    for name in ("client_id", "kid", "environment", "destination"):
        form.extra(name).fill(extra[name])
    form.extra("destinations").fill(json.dumps(extra["destinations"]))
    form.extra("timeout").fill("45")
    return form


def saved_as(airflow: Airflow2, visit: Visit, connection_id: str) -> OldForm:
    """Open a stored connection from the list."""
    visit.page.goto(f"{airflow.url}/connection/list/")
    row = visit.page.get_by_role("row").filter(has=visit.page.get_by_role("cell", name=connection_id, exact=True))
    link = row.locator("a[href*='/connection/edit/']").first.get_attribute("href")
    return OldForm(visit.page, f"{airflow.url}{link}")


def test_a_pasted_key_connects_and_is_stored(signed_in: Visit, airflow: Airflow2, sandbox: Sandbox) -> None:
    """Paste a PEM, fill in the fields that matter, test before saving: the page says that Redox accepts the key.

    No port is needed here. The key is stored in one line, and works from the command line as it did in the form.
    """
    form = filled(signed_in, airflow, sandbox, "pasted")
    tested = form.test()
    assert "Redox accepts the key" in tested.shown
    assert tested.answer["status"] is True
    form.save()
    stored = airflow.stored("pasted")
    assert stored["password"] == sandbox.connection["password"].strip().replace("\n", " ")
    assert stored["extra"]["timeout"] == 45
    assert "Connection success!" in airflow.ask("connections", "test", "pasted")


def test_the_stored_key_is_seen_by_nobody_and_survives_an_edit(
    signed_in: Visit, airflow: Airflow2, sandbox: Sandbox
) -> None:
    """Who opens a stored connection finds the key's field empty; saving it empty leaves the key as it was.

    Nothing that the browser received holds a line of the key. The button of this page tests what stands in the form, and
    so asks for the key.
    """
    filled(signed_in, airflow, sandbox, "edited").save()
    form = saved_as(airflow, signed_in, "edited")
    assert (form.field("password").get_attribute("type"), form.field("password").input_value()) == ("password", "")
    tested = form.test()
    assert "password: paste the private key here" in tested.shown
    assert tested.answer["status"] is False
    form.field("description").fill("read by the nightly cohort")
    form.save()
    saved_as(airflow, signed_in, "edited")
    answers = signed_in.answers()
    assert any("read by the nightly cohort" in text for text in answers.values())
    secret = key_lines(sandbox.connection["password"])
    assert not [name for name, text in answers.items() if any(line in text for line in secret)]
    assert "Connection success!" in airflow.ask("connections", "test", "edited")


def test_a_wrong_key_is_told_in_words(signed_in: Visit, airflow: Airflow2, sandbox: Sandbox) -> None:
    """The page shows our message, in the colour of success: Airflow 2 looks at the HTTP status only.

    So the words themselves have to say that it failed.
    """
    tested = filled(signed_in, airflow, sandbox, "wrong", key=pkcs8("RSA 2048")).test()
    assert tested.answer["status"] is False
    assert "invalid_client" in tested.shown
    assert "extra.kid and the private key belong to the public key" in tested.shown
    assert "alert-success" in tested.colour


def test_an_object_stays_an_object_of_json(signed_in: Visit, airflow: Airflow2, sandbox: Sandbox) -> None:
    """Destinations that came as an object, by the command line, are shown as JSON, and saved as JSON."""
    airflow.ask("connections", "add", "described", "--conn-json", json.dumps(sandbox.connection))
    form = saved_as(airflow, signed_in, "described")
    destinations = sandbox.connection["extra"]["destinations"]
    assert json.loads(form.extra("destinations").input_value()) == destinations
    form.field("description").fill("seen again")
    form.save()
    assert "Connection success!" in airflow.ask("connections", "test", "described")


def test_the_form_says_what_to_type(signed_in: Visit, airflow: Airflow2) -> None:
    """Every field has its label and description; where later versions have a drop-down, the choices are named."""
    form = OldForm(signed_in.page, f"{airflow.url}/connection/add")
    form.choose_type()
    (described,) = get_provider_info()["connection-types"]
    for name, one in described["conn-fields"].items():
        assert form.label(f"extra__redox__{name}") == one["label"]
        assert one["description"] in form.hint(name)
        assert all(choice in form.hint(name) for choice in one["schema"].get("enum", []))
    assert {name: form.label(name) for name in ("password", "host")} == {"password": "Private key", "host": "API base URL"}
    assert form.field("port").get_attribute("placeholder").startswith("443")
    assert not form.field("login").is_visible()
    assert not form.field("schema").is_visible()
