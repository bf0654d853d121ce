"""List the files below an output root, and the task instance that each belongs to: results, workspaces and leftovers.

No file is opened: the store's listing has names, sizes and times. Results may be in folders below the root, as an
`output_path` with a template (`.../night={{ ds }}`) puts them: each of these folders is a root of its own.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from airflow_provider_redox.storage.disk import PARTIAL
from airflow_provider_redox.storage.files import PATTERN, Files, Found
from airflow_provider_redox.storage.layout import safe_name

_RESULT = re.compile(r"(.+)\.([A-Za-z0-9_-]+)\.\d{5,}\.[a-z]{1,6}")
"""A file of a result, without `.gz`: the task instance, the kind, a number, an ending."""

_LAYOUT = re.compile(r"(?:.*?/)??(?=destination=[^/]+/environment=[^/]+/(?:_redox|type=[^/]+)/dag_id=)")
"""The part of a path before the part that the layout creates."""

_SENT = re.compile(r"sent-\d{5}\.json|batch/\d{4}/\d{6}\.\d{2}\.results\.ndjson")
_PLANNED = re.compile(r"batch/\d{4}/(?:plan\.json|\d{6}\.\d{2}\.intents\.json)")
_SENDS = "DataModelPost"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which task instances are meant: all that fit every one that is given.

    :param before: those alone whose newest file is older, in seconds since the epoch.
    """

    destination: str | None = None
    environment: str | None = None
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    before: float | None = None

    @property
    def told(self) -> dict[str, str]:
        """What a certificate says of it."""
        named = {name: getattr(self, name) for name in ("destination", "environment", "dag_id", "run_id", "task_id")}
        return {name: value for name, value in named.items() if value is not None}

    def takes(self, holding: Holding) -> bool:
        """Return whether a task instance's holding is selected."""
        fits = all(safe_name(name) == holding.named[of] for of, name in self.told.items())
        return fits and (self.before is None or holding.newest < self.before)


@dataclass(slots=True)
class Holding:
    """What one task instance has left below one destination and environment.

    :param root: the root that it is below, which may be a folder below the searched root.
    :param task: the task instance, as its file names have it: the task ID, for a mapped task with `~` and its index.
    :param results: files of its result, whether or not a manifest names them.
    :param workspace: its manifest, checkpoint, staged parts and lists.
    :param sends: lines about its sends, which hold codes, IDs and keyed hashes.
    :param plans: plans and intents of batches, which hold numbers and keyed hashes.
    """

    root: str
    destination: str
    environment: str
    dag: str
    run: str
    task: str
    results: list[Found] = field(default_factory=list)
    workspace: list[Found] = field(default_factory=list)
    sends: list[Found] = field(default_factory=list)
    plans: list[Found] = field(default_factory=list)

    @property
    def named(self) -> dict[str, str]:
        """Return the fields that a selection compares, by name."""
        task = self.task.partition("~")[0]
        whose = {"dag_id": self.dag, "run_id": self.run, "task_id": task}
        return {"destination": self.destination, "environment": self.environment, **whose}

    @property
    def newest(self) -> float:
        """When the newest of its files was written, in seconds since the epoch."""
        return max(one.modified for one in (*self.results, *self.workspace, *self.sends, *self.plans))

    @property
    def place(self) -> str:
        """Return the URL of its workspace, which each try writes to first and last."""
        place = f"{self.root}/destination={self.destination}/environment={self.environment}"
        return f"{place}/_redox/dag_id={self.dag}/run_id={self.run}/{self.task}"

    @property
    def manifest(self) -> str | None:
        """The URL of its manifest."""
        return next((one.url for one in self.workspace if one.url.endswith("/manifest.json")), None)


def holdings(files: Files, root: str) -> Iterator[Holding]:
    """Yield the holding of each task instance below a root, without watermarks, ledgers, inboxes and certificates."""
    found: dict[tuple[str, ...], Holding] = {}
    base = root.rstrip("/")
    for one in files.find(root):
        path = one.url[len(base) + 1 :]
        outer = _LAYOUT.match(path)
        whose = _owner_of(path[outer.end() :]) if outer and PATTERN.isdisjoint(path) else None  # no name of ours holds these
        if outer and whose is not None:
            owner, kind = whose
            place = f"{base}/{outer[0]}".rstrip("/")
            getattr(found.setdefault((place, *owner), Holding(place, *owner)), kind).append(one)
    yield from (found[owner] for owner in sorted(found))


def _owner_of(path: str) -> tuple[tuple[str, str, str, str, str], str] | None:
    """Return the owner of a file, by its path below the root, and the list that it belongs to; None if it has no owner."""
    destination, _, rest = path.partition("/")
    environment, _, rest = rest.partition("/")
    place, _, rest = rest.partition("/")
    dag, _, rest = rest.partition("/")
    run, _, rest = rest.partition("/")
    values = _values(destination=destination, environment=environment, dag_id=dag, run_id=run)
    if len(values) < 4 or not rest:
        return None
    names = (values[0], values[1], values[2], values[3])
    if place == "_redox":
        task, _, inner = rest.partition("/")
        kind = "sends" if _SENT.fullmatch(inner) else "plans" if _PLANNED.fullmatch(inner) else "workspace"
        return ((*names, task), kind) if inner else None
    named = _RESULT.fullmatch(_unhidden(rest).removesuffix(".gz"))
    if named is None or not place.startswith("type="):
        return None
    is_send = named[2] == _SENDS and not rest.endswith(PARTIAL)  # a partial line does not prevent a second send
    return (*names, named[1]), "sends" if is_send else "results"


def _unhidden(name: str) -> str:
    """Give the name that a file was going to have, of one whose writer was killed."""
    return re.sub(r"^\.(.+)\.[0-9a-f]{8}\.partial$", r"\1", name)


def _values(**parts: str) -> tuple[str, ...]:
    return tuple(part.removeprefix(f"{name}=") for name, part in parts.items() if part.startswith(f"{name}="))


@dataclass(frozen=True, slots=True)
class Selected:
    """The holdings below a root, divided by a selection.

    :param meant: selected and old enough; `younger`: selected, but not old enough; `others`: not selected.
    """

    meant: list[Holding]
    younger: list[Holding]
    others: list[Holding]


def selected(files: Files, root: str, selection: Selection) -> Selected:
    """List a root, and divide its holdings by a selection."""
    whenever = dataclasses.replace(selection, before=None)
    parted = Selected([], [], [])
    for one in holdings(files, root):
        (parted.others if not whenever.takes(one) else parted.meant if selection.takes(one) else parted.younger).append(one)
    return parted
