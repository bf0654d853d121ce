"""A real Airflow on this machine, for as long as a `with` block: what `airflow standalone` starts, under control.

`airflow standalone` leaves its scheduler and API server behind when it is ended. So the four commands behind it run
here as children of our own, each in its own session (see `local_processes`), on the embedded defaults: SQLite,
LocalExecutor, everybody an administrator. Everything else is asked of the public REST API.

    with LocalAirflow(home, dags_folder, port=8080) as airflow:
        airflow.wait_for_dags()
        run_id = airflow.trigger("redox_nightly_cohort")
        assert airflow.wait("redox_nightly_cohort", run_id, timeout=120) == "success"
        manifest = airflow.xcom("redox_nightly_cohort", run_id, "patients")

Settings of Airflow that the caller's environment holds are not inherited, so that a run here and a run elsewhere are
the same. They lie in `home/airflow.cfg`, keys made for this home included: `AIRFLOW_HOME=<home> airflow ...` in
another terminal speaks to this Airflow. Only for a machine that nobody else uses: the API has no password.
"""

from __future__ import annotations

import base64
import configparser
import fnmatch
import json
import os
import secrets
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import requests
from local_processes import HOST, Processes, check_port_free

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Phase = Callable[[str], AbstractContextManager[object]]

COMPONENTS = {
    # name: (command, its name in the health report). Task logs are read from the disk: no log servers, no more ports.
    "scheduler": (["scheduler", "--skip-serve-logs"], "scheduler"),
    "dag-processor": (["dag-processor"], "dag_processor"),
    "triggerer": (["triggerer", "--skip-serve-logs"], "triggerer"),
    "api-server": (["api-server"], "metadatabase"),
}
FINISHED = ("success", "failed")


class AirflowApiError(RuntimeError):
    """The REST API answered with an error."""

    def __init__(self, method: str, path: str, status: int, detail: str) -> None:
        super().__init__(method, path, status, detail)
        self.status = status

    def __str__(self) -> str:
        """Say what was asked and what came back."""
        method, path, status, detail = self.args
        return f"{method} {path} was answered with status {status}: {detail}"


class DagImportError(RuntimeError):
    """A file of the DAGs folder cannot be imported, or yields no DAG."""


class LocalAirflow:
    """Airflow on the embedded default, started on entry and gone on exit. `start` and `stop` do the same by hand.

    `home` becomes AIRFLOW_HOME (made if missing); the components' logs go to `logs`, by default `home/logs/components`.
    `env` adds to the components' environment; its entries `AIRFLOW__SECTION__KEY` go to airflow.cfg. `processes` lets
    other programs be watched and ended together with Airflow. `phase(text)` wraps each step of the start, to show it.
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        port: int = 8080,
        *,
        env: Mapping[str, str] | None = None,
        logs: Path | None = None,
        processes: Processes | None = None,
        phase: Phase = nullcontext,
    ) -> None:
        self.home, self.dags_folder, self.port = home.resolve(), dags_folder.resolve(), port
        self.url = f"http://{HOST}:{port}"
        self.logs = (logs or self.home / "logs" / "components").resolve()
        self.processes = processes or Processes()
        self._env = dict(env or {})
        self._phase = phase
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy and no netrc between us and the loopback interface

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Starting and stopping

    def start(self, *, timeout: float = 180.0) -> None:
        """Make the database, start the components, and return when each reports itself healthy.

        Raises `PortTakenError` before anything is started, `ProcessDiedError` as soon as a component ends, and
        `TimeoutError`; whatever was started by then is stopped.
        """
        check_port_free(self.port, "Airflow")
        try:
            with self._phase("Creating Airflow's database"):
                self._write_config()
                environment = self._environment()
                command, log = self._airflow("db", "migrate"), self.logs / "db-migrate.log"
                self.processes.run("airflow db migrate", command, log=log, env=environment, timeout=timeout)
            with self._phase("Starting Airflow"):
                for name, (arguments, _) in COMPONENTS.items():
                    log = self.logs / f"{name}.log"
                    self.processes.start(f"Airflow's {name}", self._airflow(*arguments), log=log, env=self._environment())
                self._until(self._is_healthy, timeout, "Airflow is healthy")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every component and every task, and whatever else shares `processes`; safe to call twice."""
        self._http.close()
        self.processes.stop()

    # The DAGs folder

    def wait_for_dags(self, *, timeout: float = 60.0) -> None:
        """Return when every file of the DAGs folder has become DAGs; a file that cannot be is a `DagImportError`.

        Files that are not for Airflow are left out as Airflow does: by .airflowignore, or no mention of both words.
        """
        try:
            self._until(lambda: not self._unread_files(), timeout, "every DAG is loaded")
        except TimeoutError:
            files = ", ".join(sorted(self._unread_files()))
            hint = "If it is not meant to hold one, name it in .airflowignore."
            raise DagImportError(f"No DAG came from {files} within {timeout:.0f} s. {hint}") from None

    def dag_ids(self, *, tag: str | None = None) -> list[str]:
        """Give the IDs of all DAGs that are not paused, sorted."""
        params = {"paused": "false"} | ({"tags": tag} if tag else {})
        return sorted(dag["dag_id"] for dag in self._pages("/dags", "dags", params))

    def _unread_files(self) -> set[str]:
        for error in self._pages("/importErrors", "import_errors"):
            last_lines = "\n".join(error["stack_trace"].splitlines()[-8:])
            raise DagImportError(f"{error['filename']} cannot be imported:\n{last_lines}")
        return set(dag_files(self.dags_folder)) - {dag["relative_fileloc"] for dag in self._pages("/dags", "dags")}

    # DAG runs

    def add_connection(self, connection_id: str, connection: Mapping[str, Any]) -> None:
        """Store a connection, given in the JSON form of `AIRFLOW_CONN_*`; it shows in the UI."""
        body = {"connection_id": connection_id, **connection}
        if not isinstance(body.get("extra"), str | None):
            body["extra"] = json.dumps(body["extra"])
        self.request("POST", "/connections", json=body)

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, *, run_id: str | None = None) -> str:
        """Start a run that is dated now, as the UI's button does, and give its run ID, made by Airflow if not given."""
        body = {"dag_run_id": run_id, "logical_date": datetime.now(UTC).isoformat(), "conf": dict(conf or {})}
        triggered: str = self.request("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"]
        return triggered

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Give `queued`, `running`, `success` or `failed`."""
        state: str = self.request("GET", run_path(dag_id, run_id))["state"]
        return state

    def wait(self, dag_id: str, run_id: str, timeout: float) -> str:
        """Wait for the end of a run and give its state; `TimeoutError` says what each unfinished task was doing."""
        try:
            self._until(lambda: self.run_state(dag_id, run_id) in FINISHED, timeout, f"{dag_id} ends")
        except TimeoutError as error:
            states = {task["task_id"]: task["state"] for task in self.task_instances(dag_id, run_id)}
            raise TimeoutError(f"{error} Its tasks: {states}") from None
        return self.run_state(dag_id, run_id)

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Give the run's task instances as the API has them: `task_id`, `map_index`, `state`, `try_number` and more."""
        return list(self._pages(f"{run_path(dag_id, run_id)}/taskInstances", "task_instances"))

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", *, map_index: int = -1) -> Any:
        """Give the value of one XCom."""
        path = f"{run_path(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{quote(key, safe='')}"
        return self.request("GET", path, params={"map_index": map_index})["value"]

    def xcoms(self, dag_id: str, run_id: str) -> list[tuple[str, str, Any]]:
        """Give task ID, key and value of every XCom of a run."""
        entries = self._pages(f"{run_path(dag_id, run_id)}/taskInstances/~/xcomEntries", "xcom_entries")
        return [
            (e["task_id"], e["key"], self.xcom(dag_id, run_id, e["task_id"], e["key"], map_index=e["map_index"]))
            for e in entries
        ]

    def task_log(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1) -> list[str]:
        """Give the lines of a task's log, an exception as its type and message."""
        path = f"{run_path(dag_id, run_id)}/taskInstances/{task_id}/logs/{try_number}"
        content = self.request("GET", path, params={"map_index": map_index, "full_content": "true"})["content"]
        return [line for entry in content for line in log_lines(entry)]

    # The REST API

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request to the public API, `path` below /api/v2, and give the JSON of the answer."""
        if "Authorization" not in self._http.headers:
            token = self._send("GET", "/auth/token")["access_token"]
            self._http.headers["Authorization"] = f"Bearer {token}"
        return self._send(method, f"/api/v2{path}", **arguments)

    def _send(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            response = self._http.request(method, self.url + path, timeout=30, **arguments)
        except requests.ConnectionError:
            time.sleep(0.5)  # a dying server closes its port before it is gone
            self.processes.check()
            raise
        if not response.ok:
            raise AirflowApiError(method, path, response.status_code, response.text[:1000])
        return response.json() if response.content else None

    def _pages(self, path: str, key: str, params: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        seen = 0
        while True:
            page = self.request("GET", path, params={**(params or {}), "limit": 100, "offset": seen})
            yield from page[key]
            seen += len(page[key])
            if not page[key] or seen >= page["total_entries"]:
                return

    def _until(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            self.processes.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"Waited {timeout:.0f} s in vain until {what}. Airflow's logs: {self.logs}")
            time.sleep(0.5)

    def _is_healthy(self) -> bool:
        try:
            # The first call builds the API that tasks speak to, some seconds of work: now, not while tasks wait.
            self._http.get(f"{self.url}/execution/health", timeout=60).raise_for_status()
            report = self._http.get(f"{self.url}/api/v2/monitor/health", timeout=60).json()
        except (requests.RequestException, ValueError):
            return False
        return all(report.get(name, {}).get("status") == "healthy" for _, name in COMPONENTS.values())

    # Configuration

    def _airflow(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "airflow", *arguments]

    def _write_config(self) -> None:
        config = configparser.RawConfigParser()
        config.read_dict(self._settings())
        for name, value in self._env.items():
            if name.startswith("AIRFLOW__"):
                section, key = name.removeprefix("AIRFLOW__").lower().split("__", 1)
                config.read_dict({section: {key: value.replace("%", "%%")}})
        self.home.mkdir(parents=True, exist_ok=True)
        path = self.home / "airflow.cfg"
        path.touch(mode=0o600)
        with path.open("w") as file:
            config.write(file)

    def _settings(self) -> dict[str, dict[str, str]]:
        def escaped(path: Path) -> str:
            return str(path).replace("%", "%%")

        return {
            "core": {
                "dags_folder": escaped(self.dags_folder),
                "dags_are_paused_at_creation": "False",
                "load_examples": "False",
                "executor": "LocalExecutor",
                "parallelism": "8",
                "fernet_key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
                "simple_auth_manager_all_admins": "True",
                "test_connection": "Enabled",
                "execution_api_server_url": f"{self.url}/execution/",
            },
            # On a busy machine SQLite's own patience with another writer (5 s) runs out, and the API answers 500.
            "database": {"sql_alchemy_conn": f"sqlite:///{escaped(self.home / 'airflow.db')}?timeout=60"},
            "logging": {"base_log_folder": escaped(self.home / "logs")},
            "api": {
                "host": HOST,
                "port": str(self.port),
                "base_url": self.url,
                "workers": "1",
                "secret_key": secrets.token_urlsafe(32),
            },
            "api_auth": {"jwt_secret": secrets.token_urlsafe(64)},
            "usage_data_collection": {"enabled": "False"},
            # Runs are what the caller triggers: no scheduled one starts beside them, now or at midnight.
            "scheduler": {"use_job_schedule": "False"},
            # At the default heartbeat a deferring task is seen to have exited some 5 s late; a trigger that fires
            # earlier then fails it ("finished with state success, but ... queued").
            "workers": {"min_heartbeat_interval": "1", "execution_api_timeout": "60"},
        }

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        own = {name: value for name, value in self._env.items() if not name.startswith("AIRFLOW__")}
        loopback = f"{HOST},localhost"
        unproxied = {name: f"{inherited[name]},{loopback}" if inherited.get(name) else loopback for name in NO_PROXY}
        path = f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', os.defpath)}"
        return inherited | unproxied | {"PATH": path, "AIRFLOW_HOME": str(self.home)} | own


NO_PROXY = ("no_proxy", "NO_PROXY")


def run_path(dag_id: str, run_id: str) -> str:
    """Give the path of a run in the API."""
    return f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"


def dag_files(folder: Path) -> Iterator[str]:
    """Give the files of a DAGs folder that Airflow would look into, relative to it."""
    ignore_file = folder / ".airflowignore"
    patterns = ignore_file.read_text().split() if ignore_file.exists() else []
    for path in sorted(folder.rglob("*.py")):
        name, text = str(path.relative_to(folder)), path.read_bytes().lower()
        if b"dag" in text and b"airflow" in text and not any(ignores(pattern, name) for pattern in patterns):
            yield name


def ignores(pattern: str, name: str) -> bool:
    """Tell whether a pattern of .airflowignore covers a file or a folder above it: names and `*`, nothing finer."""
    wanted = pattern.strip("/")
    return any(fnmatch.fnmatch(part, wanted) for part in (name, *Path(name).parts))


def log_lines(entry: str | Mapping[str, Any]) -> Iterable[str]:
    """Give one entry of a task's log as lines of text."""
    if isinstance(entry, str):
        return [entry]
    if str(entry["event"]).startswith(("::group::", "::endgroup::")):
        return []
    level = f"{entry['level'].upper()} " if "level" in entry else ""
    errors = [f"{error_place(error)}{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or []]
    return "\n".join([f"{level}{entry['event']}", *errors]).splitlines()


def error_place(error: Mapping[str, Any]) -> str:
    """Say where an exception was raised: `dags/cohort.py:12: `."""
    frames = error.get("frames") or []
    return f"{frames[-1]['filename']}:{frames[-1]['lineno']}: " if frames else ""
