"""docker-compose.yaml, run without Docker: each service's own command, in its own environment, on its own file system.

The real docker-compose reads the file, so that nothing of it is repeated here. A service becomes a process (see
`local_processes`) in a mount namespace, where its volumes lie at their places; all share a network namespace in which
only they live and the names of services are known. What an image would do before the command is done here for PostgreSQL:
its directory is made.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests
from local_airflow import AirflowApiError, LocalAirflow
from local_processes import Child, Processes, live_processes

ROOT = Path(__file__).resolve().parents[2]
HOME = "/opt/airflow"
FIRST = ("postgres", "redis", "redox", "s3")
AFTER = ("api-server", "scheduler", "dag-processor", "triggerer", "worker-1", "worker-2")
BESIDE = ("receiver", "tls")
"""The services of the profile `inbox`, which no other needs."""


def rendered(env_file: Path) -> dict[str, Any]:
    """Give docker-compose.yaml as the real docker-compose understands it. Raises CalledProcessError when it does not."""
    import compose

    binary = Path(compose.__file__).with_name("docker-compose")
    file = ["-f", ROOT / "docker-compose.yaml", "--env-file", env_file]
    command = [binary, *file, "--profile", "inbox", "config", "--format", "json"]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True, cwd=ROOT)
    config: dict[str, Any] = json.loads(done.stdout.replace("$$", "$"))
    return config


class Restarted(Processes):
    """Starts what has ended again, where docker-compose.yaml says so: `restart: unless-stopped`."""

    def __init__(self) -> None:
        super().__init__()
        self.services: Services | None = None

    def check(self, *, ignoring: Child | None = None) -> None:
        """Look after each service."""
        for child in list(self.children):
            services = self.services
            if services and child.process.poll() is not None and services.config[child.name]["restart"] == "unless-stopped":
                self._end([child], grace=0)
                services.start(child.name)
        super().check(ignoring=ignoring)


class Services:
    """The services of docker-compose.yaml, below a folder of their own.

    :param folder: for volumes, homes, logs, `.env`.
    :param dags: DAG files that lie beside those of `dags/`.
    :param extra: environment that all services of Airflow get on top.
    """

    def __init__(self, folder: Path, *, dags: Path, extra: dict[str, str] | None = None) -> None:
        self.folder, self.logs, self.processes = folder, folder / "output", Restarted()
        self.processes.services = self
        self.env_file = folder / "env"
        subprocess.run([sys.executable, ROOT / "scripts/make_env.py", self.env_file], check=True, capture_output=True)
        whole = rendered(self.env_file)
        self.config, self._configs = whole["services"], whole.get("configs") or {}
        self.extra = extra or {}
        self.children: dict[str, Child] = {}
        self.mount_points: list[Path] = []
        self._dags = folder / "dags"
        shutil.copytree(ROOT / "dags", self._dags, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(dags, self._dags, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        folder.chmod(0o755)  # PostgreSQL runs as somebody else
        (folder / "hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in ("localhost", *self.config)))
        subprocess.run(["mount", "--bind", folder / "hosts", "/etc/hosts"], check=True)

    def up(self) -> None:
        """Start everything in its order, and return when every service's own health check is content."""
        assert {*FIRST, *AFTER, *BESIDE, "init"} == set(self.config)
        for names in (FIRST, ("init",), AFTER):
            for name in names:
                self.start(name)
            if names == ("init",):
                assert self.children.pop("init").process.wait(timeout=180) == 0, (self.logs / "init.log").read_text()[-3000:]
                self.processes.children = [child for child in self.processes.children if child.name != "init"]
                continue
            for name in names:
                self.wait_healthy(name)

    def down(self) -> None:
        """End everything, and take back what was made outside of the folder."""
        self.processes.stop()
        for path in reversed(self.mount_points):
            path.rmdir() if path.is_dir() else path.unlink()
        self.mount_points.clear()

    def start(self, name: str) -> None:
        """Start a service."""
        if name == "postgres":
            self._make_database()
        command = self.command(name, self.config[name]["command"])
        self.children[name] = self.processes.start(name, command, log=self.logs / f"{name}.log", env=self.environment(name))

    def kill(self, name: str, *, number: int = signal.SIGKILL) -> None:
        """Send a signal to a service's process and all that it has started, and wait for its end."""
        child = self.children.pop(name)
        self.processes.children.remove(child)
        sessions = {child.process.pid}
        for pid, session in live_processes():
            if session in sessions and (number == signal.SIGKILL or pid == session):
                os.kill(pid, number)
        child.process.wait(timeout=60)

    def restart(self, name: str, *, number: int = signal.SIGTERM) -> None:
        """End a service and start it again, as `docker compose restart` does."""
        self.kill(name, number=number)
        self.start(name)
        self.wait_healthy(name)

    def run(self, name: str, *command: str, **env: str) -> str:
        """Run a command as `docker compose run` would: in this service's file system and environment."""
        done = subprocess.run(
            self.command(name, list(command)),
            env=self.environment(name) | env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    def wait_healthy(self, name: str, *, timeout: float = 240) -> None:
        """Ask the service's own health check until it is content."""
        test = self.config[name]["healthcheck"]["test"]
        command = ["sh", "-c", test[1]] if test[0] == "CMD-SHELL" else test[1:]
        deadline = time.monotonic() + timeout
        while True:
            self.processes.check()
            done = subprocess.run(
                self.command(name, command),
                env=self.environment(name),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=timeout,
                check=False,
            )
            if done.returncode == 0:
                return
            assert time.monotonic() < deadline, f"{name}: {done.stderr[-2000:]}"
            time.sleep(1)

    def environment(self, name: str) -> dict[str, str]:
        """Give what the container would have, and where the programs are on this machine."""
        places = [str(Path(sys.executable).parent), *map(str, Path("/usr/lib/postgresql").glob("*/bin")), "/usr/bin", "/bin"]
        known: dict[str, str] = self.config[name].get("environment") or {}
        extra = self.extra if "AIRFLOW_HOME" in known else {"XDG_DATA_HOME": str(self.folder / "data" / name)}
        return {"PATH": os.pathsep.join(places), "HOME": "/tmp", "LANG": "C.UTF-8", **known, **extra}

    def command(self, name: str, command: list[str]) -> list[str]:
        """Wrap a command so that it sees the service's file system."""
        mounts = [f"mount --bind {source} {target}" for source, target in self._mounts(name)]
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if name == "postgres" else []
        script = "; ".join([*mounts, 'exec "$@"'])
        return ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh", *user, *command]

    def _mounts(self, name: str) -> list[tuple[Path, Path]]:
        mounts = []
        if "AIRFLOW_HOME" in (self.config[name].get("environment") or {}):
            home = self.folder / "homes" / name
            for inner in ("dags", "logs"):
                (home / inner).mkdir(parents=True, exist_ok=True)
            mounts.append((home, Path(HOME)))
        for volume in self.config[name].get("volumes") or []:
            source = self._dags if volume["type"] == "bind" else self.folder / "volumes" / volume["source"]
            source.mkdir(parents=True, exist_ok=True)
            mounts.append((source, Path(volume["target"])))
        for config in self.config[name].get("configs") or []:
            source = self.folder / "configs" / config["source"]
            source.parent.mkdir(exist_ok=True)
            source.write_text(self._configs[config["source"]]["content"])
            mounts.append((source, Path(config["target"])))
        for source, target in mounts:
            if not target.is_relative_to(HOME) or target == Path(HOME):
                self._make_mount_point(target, is_file=source.is_file())
        return mounts

    def _make_mount_point(self, target: Path, *, is_file: bool) -> None:
        for path in (*reversed(target.parents), target):
            if not path.exists():
                path.touch() if is_file and path == target else path.mkdir()
                self.mount_points.append(path)

    def _make_database(self) -> None:
        """Do what PostgreSQL's image does before its command: make the directory, the user, the database."""
        known = self.environment("postgres")
        data = self.folder / "volumes" / "postgres"
        if data.exists():
            return
        data.mkdir(parents=True)
        shutil.chown(data, "postgres", "postgres")
        words = self.folder / "words"
        words.write_text(known["POSTGRES_PASSWORD"])
        shutil.chown(words, "postgres", "postgres")
        self.run("postgres", "initdb", "--username", known["POSTGRES_USER"], "--pwfile", str(words), "--auth=scram-sha-256")
        words.unlink()
        sql = f"CREATE DATABASE {known['POSTGRES_DB']};\n"
        single = self.command("postgres", ["postgres", "--single", "-D", known["PGDATA"], "postgres"])
        subprocess.run(single, env=known, input=sql, text=True, check=True, capture_output=True)


class Fleet(LocalAirflow):
    """The REST API of the fleet's Airflow, and its sandbox."""

    def __init__(self, services: Services) -> None:
        super().__init__(services.folder, services.folder / "dags", 8080, processes=services.processes)
        self.services = services
        self.url = "http://api-server:8080"
        self.secrets = dict(re.findall(r"(?m)^(\w+)='(.*)'$", services.env_file.read_text()))
        self.logs = services.logs

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Sign in with the password of `.env`, then ask the public API."""
        if "Authorization" not in self._http.headers:
            login = {"username": "admin", "password": self.secrets["AIRFLOW_ADMIN_PASSWORD"]}
            token = self._send("POST", "/auth/token", json=login)["access_token"]
            self._http.headers["Authorization"] = f"Bearer {token}"
        for attempt in range(20):
            try:
                return self._send(method, f"/api/v2{path}", **arguments)
            except (requests.RequestException, AirflowApiError) as error:
                # While the database restarts the API answers 500: that is what is tested, and not with this client.
                if attempt == 19 or (isinstance(error, AirflowApiError) and error.status < 500):
                    raise
                time.sleep(1)
        raise AssertionError

    def unpause(self, dag_id: str) -> None:
        """Let a DAG run."""
        self.request("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def begin(self, dag_id: str, **conf: Any) -> str:
        """Unpause and trigger a DAG; give the run's ID."""
        self.unpause(dag_id)
        return self.trigger(dag_id, conf)

    def states(self, dag_id: str, run_id: str) -> dict[str, int]:
        """Count a run's task instances by their state."""
        counts: dict[str, int] = {}
        for task in self.task_instances(dag_id, run_id):
            counts[str(task["state"])] = counts.get(str(task["state"]), 0) + 1
        return counts

    def until(self, condition: Any, timeout: float, what: str) -> None:
        """Wait for something."""
        self._until(condition, timeout, what)

    def redox(self, method: str, path: str, body: Any = None) -> Any:
        """Speak to the sandbox's control plane."""
        answer = self._http.request(method, f"http://redox:8089/_sandbox/{path}", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def complaints(self, dag_id: str) -> list[str]:
        """Give what the logs of a DAG's tasks have as errors."""
        lines = []
        for path in sorted((self.services.folder / "volumes" / "logs" / f"dag_id={dag_id}").rglob("*.log")):
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                if entry.get("level") == "error":
                    details = [f"{one['exc_type']}: {one['exc_value'][:300]}" for one in entry.get("error_detail") or []]
                    lines.append(f"{'/'.join(path.parts[-3:])}: {entry.get('event')} {details}")
        return lines[-20:]

    def succeeds(self, dag_id: str, run_id: str, *, timeout: float) -> None:
        """Wait for the end of a run, which has to be a good one."""
        assert self.wait(dag_id, run_id, timeout=timeout) == "success", "\n".join(self.complaints(dag_id))

    def notes(self, name: str) -> list[dict[str, Any]]:
        """Read what tasks wrote into a file of the shared folder of logs."""
        path = self.services.folder / "volumes" / "logs" / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
