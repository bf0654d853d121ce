"""Write the certificates of purges, and plans for purges that are under way or were killed.

A plan is written before the first file is removed, and a certificate when all are removed, below the root in
`_redox/certificates`. A plan without a certificate was left by a killed purge: the next try of the same task resumes it, and
its certificate includes what the killed try removed. The plan of another task stays, and the certificate names it.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.storage.files import Files

DESTROYED, REDUCED, REWRITTEN = "destroyed", "reduced", "rewritten"
PLANNED, NOTHING = "planned", "nothing"

_PLAN = ".planned.json"


@dataclass(slots=True)
class Deed:
    """What a purge does to one file.

    :param lines: for a file that is rewritten, the number of removed lines.
    :param modified: when it was written, in seconds since the epoch.
    """

    what: str
    url: str
    size: int = 0
    lines: int = 0
    modified: float = 0.0

    @property
    def is_replaced(self) -> bool:
        """Return whether the remaining lines move to another file, so that this one is removed.

        A list is rewritten in its place.
        """
        return self.what == REWRITTEN and not self.url.endswith("/searches.ndjson")

    @property
    def told(self) -> dict[str, Any]:
        """Return its entry in a certificate."""
        facts = {"what": self.what, "url": self.url, "size": self.size}
        return {**facts, "lines": self.lines} if self.what == REWRITTEN else facts


@dataclass(slots=True)
class Earlier:
    """What killed purges left.

    :param deeds: what an earlier try of this task did, without what has to be done again.
    :param plans: the plans of those tries, which the certificate replaces; `others` are the plans of other tasks.
    """

    deeds: list[Deed] = field(default_factory=list)
    plans: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def told(self) -> dict[str, Any]:
        """Return their entries in a certificate."""
        facts = {"plans_taken_up": self.plans, "plans_of_others": self.others}
        return {name: urls for name, urls in facts.items() if urls}


@dataclass(slots=True)
class Journal:
    """The plans and certificates below one root.

    :param id: the ID of this purge.
    """

    files: Files
    root: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def _place(self) -> str:
        return f"{self.root.rstrip('/')}/_redox/certificates"

    def plan(self, certificate: Mapping[str, Any]) -> None:
        """Write the plan."""
        self._write(f"{self._place}/{self.id}{_PLAN}", certificate)

    def certify(self, certificate: Mapping[str, Any]) -> str:
        """Write the certificate, and return its URL."""
        url = f"{self._place}/{self.id}.json"
        self._write(url, certificate)
        return url

    def close(self, earlier: Earlier) -> None:
        """Remove the plans that a certificate has replaced."""
        for url in (f"{self._place}/{self.id}{_PLAN}", *earlier.plans):
            self.files.remove_file(url)

    def has_done(self, asked: Mapping[str, Any], *, by: Mapping[str, str] | None = None) -> bool:
        """Return whether an earlier purge destroyed something of the same selection, whatever its `older_than` was.

        :param by: on whose behalf. Certificates do not name patients, so for a purge of patients only the same task counts.
        """
        return any(
            _includes(asked, told)
            and by in (None, told.get("by"))
            and (told.get("status") == DESTROYED or url.endswith(_PLAN))
            for url, told in self._told(".json")
        )

    def taken_up(self, plan: Mapping[str, Any]) -> Earlier:
        """Read the plans of killed purges: for this task what was done, for other tasks only that there is a plan."""
        earlier = Earlier()
        plans = list(self._told(_PLAN))
        there = {one.url: one.modified for one in self.files.find(self.root)} if plans else {}
        to_do = {one["url"] for one in plan["files"]}
        for url, told in plans:
            if _same(plan, told) and told.get("by") == plan["by"]:
                earlier.plans.append(url)
                begun = _instant(told.get("at"))
                own = (one for one in _deeds(told) if one.url.startswith(f"{self.root.rstrip('/')}/"))
                earlier.deeds += [one for one in own if one.url not in to_do and _is_done(one, there, begun)]
            else:
                earlier.others.append(url)
        return earlier

    def _told(self, ending: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each readable plan, or each readable plan and certificate."""
        for one in self.files.find(self._place):
            told = jsontext.stored(self.files.read(one.url) if one.url.endswith(ending) else None, dict)
            if isinstance(told, dict):
                yield one.url, told

    def _write(self, url: str, certificate: Mapping[str, Any]) -> None:
        self.files.write(url, msgspec.json.format(msgspec.json.encode(certificate), indent=2))


def _same(plan: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    """Return whether two purges have the same selection, ignoring the age, which differs with each run."""
    return _whatever_age(plan.get("selection")) == _whatever_age(told.get("selection"))


def _includes(plan: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    """Return whether one selection includes another: it is the same, or it selects everything."""
    return not _whatever_age(plan.get("selection")) or _same(plan, told)


def _whatever_age(selection: Any) -> dict[str, Any]:
    return {name: value for name, value in selection.items() if name != "before"} if isinstance(selection, dict) else {}


def _deeds(told: Mapping[str, Any]) -> Iterator[Deed]:
    files = told.get("files")
    for one in files if isinstance(files, list) else ():
        if isinstance(one, dict) and isinstance(one.get("url"), str) and isinstance(one.get("what"), str):
            size, lines = (one[name] if isinstance(one.get(name), int) else 0 for name in ("size", "lines"))
            yield Deed(one["what"], one["url"], size, lines)


def _is_done(deed: Deed, there: Mapping[str, float], begun: float) -> bool:
    """Return whether a planned change was made: the file is gone, or newer than the plan if it is rewritten in place."""
    if deed.url not in there:
        return True
    return deed.what != DESTROYED and there[deed.url] >= begun


def _instant(text: Any) -> float:
    """Return when a plan was written, in whole seconds; infinity if the plan does not state it."""
    with contextlib.suppress(TypeError, ValueError):
        return datetime.fromisoformat(text).timestamp()
    return float("inf")
