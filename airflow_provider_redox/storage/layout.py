"""Where things lie: partitioned paths with names that every store and Spark accept."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_redox.checks import given
from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.storage.configured import option

_LOCAL_EXECUTORS = {"LocalExecutor", "SequentialExecutor", "DebugExecutor", "InProcessExecutor"}


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose results these are: one task instance of one DAG run."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    @property
    def name(self) -> str:
        """The task instance as part of a file name. No task ID holds a `~`, so an index cannot look like a part of one."""
        task = safe_name(self.task_id)
        return task if self.map_index < 0 else f"{task}~{self.map_index}"

    @property
    def partition(self) -> str:
        """The DAG run as a part of a path."""
        return f"dag_id={safe_name(self.dag_id)}/run_id={safe_name(self.run_id)}"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one task's results below the output root."""

    root: str
    destination: str
    environment: str
    owner: Owner
    argument: str = "output_path"

    @property
    def base(self) -> str:
        """The folder of the destination and the environment: everything of this layout lies below it."""
        place = f"destination={safe_name(self.destination)}/environment={safe_name(self.environment)}"
        return f"{self.root.rstrip('/')}/{place}"

    @property
    def workspace(self) -> str:
        """The folder of the manifest and of staged parts. Its name begins with `_`, so Spark and Hive pass it over."""
        return f"{self.base}/_redox/{self.owner.partition}/{self.owner.name}"

    @property
    def manifest(self) -> str:
        """The manifest of this task's result."""
        return f"{self.workspace}/manifest.json"

    @property
    def tries(self) -> str:
        """Return the folder of the numbered tries of this result."""
        return f"{self.workspace}/tries"

    def attempted(self, attempt: int) -> str:
        """Return the file that marks the start of a try, by number; see `tries.py`."""
        return f"{self.tries}/{attempt:04d}.json"

    def staged_by(self, attempt: int) -> str:
        """Return the folder of the parts that a try has staged."""
        return f"{self.staging}/{attempt:04d}"

    def checkpoint(self, attempt: int) -> str:
        """Return the file of a try's checkpoint."""
        return f"{self.staged_by(attempt)}/checkpoint"

    def sent(self, number: int) -> str:
        """The line of something that this task sends at most once and that is no result of itself, by number."""
        return f"{self.workspace}/sent-{number:05d}.json"

    def attempt(self, number: int, attempt: int) -> str:
        """Return the file of an attempt to send, by number; see `send_attempts.py`."""
        name = f"{self.owner.name}.{number:05d}.{attempt:04d}.json"
        return f"{self.root.rstrip('/')}/_redox/sends/{self.owner.partition}/{name}"

    @property
    def outlives_workers(self) -> bool:
        """Return whether files here outlive the worker: on an object store, or on a disk that every worker mounts."""
        from airflow.providers.common.compat.sdk import conf

        on_disk = self.root.startswith(("file://", "local://"))
        return not on_disk or conf.getboolean("redox", "output_root_is_shared", fallback=False)

    def searches(self, attempt: int = 1) -> str:
        """The list of a task's searches: a line for each says what became of it."""
        return f"{self.workspace}/searches{f'.{attempt:04d}' if attempt > 1 else ''}.ndjson"

    def searches_so_far(self, attempt: int) -> str:
        """The same list while some of them have failed and the result is not there."""
        return f"{self.staged_by(attempt)}/searches.so-far.ndjson"

    def watermark(self, digest: str) -> str:
        """The place of the watermark of a task's searches; it belongs to no run."""
        dag = f"dag_id={safe_name(self.owner.dag_id)}"
        return f"{self.base}/_redox/watermarks/{dag}/{safe_name(self.owner.task_id)}.{digest}.json"

    @property
    def staging(self) -> str:
        """The folder of the files of a result that is not complete."""
        return f"{self.workspace}/staged"

    def staged(self, kind: str, number: int, attempt: int, suffix: str = "") -> str:
        """The place of a file of one kind while its result is not complete; each try has a folder of its own."""
        return f"{self.staged_by(attempt)}/{self._file(kind, f'{number:05d}')}{suffix}"

    def result(self, kind: str, number: int, suffix: str = "", *, attempt: int = 1) -> str:
        """The final place of a file of results of one kind. Two tries never write one name: see `attempt_of`."""
        numbered = f"{number:05d}" if attempt <= 1 else f"{attempt:04d}{number:06d}"
        return f"{self.base}/type={safe_name(kind)}/{self.owner.partition}/{self._file(kind, numbered)}{suffix}"

    @property
    def own_result(self) -> re.Pattern[str]:
        """Return a pattern for the URLs of all result files of this task: files of lines, and documents."""
        folder = f"{re.escape(self.base)}/type=[A-Za-z0-9._-]+/{re.escape(self.owner.partition)}"
        lines, document = r"[A-Za-z0-9_-]+\.\d{5,}\.ndjson(?:\.gz)?", r"DocumentFile\.\d{5,}\.[a-z]{1,6}"
        name = rf"{re.escape(self.owner.name)}\.(?:{lines}|{document})"
        return re.compile(f"{folder}/{name}")

    def _file(self, kind: str, numbered: str) -> str:
        return f"{self.owner.name}.{safe_name(kind)}.{numbered}.ndjson"


def attempt_of(url: str) -> int:
    """Return the number of the try that wrote a result file: every try but the first puts it before the file's number."""
    found = re.search(r"\.(\d{5,})\.[a-z]{1,6}(?:\.gz)?$", url)
    return int(found[1][:-6]) if found and len(found[1]) >= 10 else 1


def safe_name(name: str) -> str:
    """Give a name of letters, digits, '.', '_' and '-' that differs where the original differs."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._") or "-"
    if safe == name and len(safe) <= 100:
        return safe
    return f"{safe[:90]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def output_root(output_path: str | None, *, name: str = "output_path") -> str:
    """Give the author's path, or `[redox] output_root`, or `file://$AIRFLOW_HOME/redox`.

    Raises `RedoxConfigError` for a place that the other workers cannot see: a `file://` root with an executor that is
    not local, unless `[redox] output_root_is_shared` says that every worker mounts it.
    """
    root = option("output_root") or _home_root()
    return checked_root(str(given(output_path, root, name=name)), name=name)


def checked_root(root: str, *, name: str = "output_path") -> str:
    """Give a root as a URL. Raises `RedoxConfigError` as `output_root` does, with the name of what is wrong."""
    from airflow.providers.common.compat.sdk import conf

    if "://" not in root:
        if not root.startswith("/"):
            raise RedoxConfigError(f"{name}: must be an absolute path or a URL such as s3://bucket/prefix")
        root = f"file://{root}"
    scheme, _, rest = root.partition("://")
    root = f"{scheme.lower()}://{rest}"
    if "::" in root:
        raise RedoxConfigError(f"{name}: must be the URL of one store; a chain of them (::) is not one")
    if not {".", ".."}.isdisjoint(rest.split("/")):
        raise RedoxConfigError(f"{name}: must not hold the segments . or ..; write the place as it is")
    if re.search(r"[*?\[\]]", root):
        raise RedoxConfigError(f"{name}: must not hold any of * ? [ ]; stores take them for patterns")
    if root.startswith(("file://", "local://")) and not conf.getboolean("redox", "output_root_is_shared", fallback=False):
        _refuse_unshared(name, conf.get("core", "executor", fallback="LocalExecutor"))
    return root


def _refuse_unshared(name: str, executors: str) -> None:
    names = [entry.strip().rpartition(":")[2].rpartition(".")[2] for entry in executors.split(",")]
    fleet = [name for name in names if name not in _LOCAL_EXECUTORS]
    if fleet:
        option = ", or [redox] output_root," if name in ("output_path", "results_path") else ""
        raise RedoxConfigError(
            f"{name}: a file:// path is on one machine only; set {name}{option} to object storage such as "
            f"s3://bucket/redox. The executor is {fleet[0]}. If every worker mounts this path, set [redox] "
            "output_root_is_shared to True"
        )


def _home_root() -> str:
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser().absolute()
    return f"file://{home}/redox"
