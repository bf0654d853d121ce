"""Certificates of purges, and the plans that stand for those that are under way or were killed.

A plan is written before the first file goes, and a certificate when all have gone, below the root in `_redox/certificates`.
A plan that no certificate followed is what a killed purge left: the next try of the same task takes it up, and its
certificate says what is gone of it. The plan of another task is left, and named.
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
    """What is, or was, done to one file.

    :param lines: of a file that was rewritten, the lines that are gone.
    :param modified: when it was written, in seconds since the epoch.
    """

    what: str
    url: str
    size: int = 0
    lines: int = 0
    modified: float = 0.0

    @property
    def is_replaced(self) -> bool:
        """Whether what is left of the file stands in another one, so that this one goes. A list is written in its place."""
        return self.what == REWRITTEN and not self.url.endswith("/searches.ndjson")

    @property
    def told(self) -> dict[str, Any]:
        """What a certificate says of it."""
        facts = {"what": self.what, "url": self.url, "size": self.size}
        return {**facts, "lines": self.lines} if self.what == REWRITTEN else facts


@dataclass(slots=True)
class Earlier:
    """What killed purges left.

    :param deeds: what an earlier try of this task had done, as far as it is not to be done again.
    :param plans: the plans that told so, which the certificate takes the place of; `others` are those of other tasks.
    """

    deeds: list[Deed] = field(default_factory=list)
    plans: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def told(self) -> dict[str, Any]:
        """What a certificate says of them."""
        facts = {"plans_taken_up": self.plans, "plans_of_others": self.others}
        return {name: urls for name, urls in facts.items() if urls}


@dataclass(slots=True)
class Journal:
    """The plans and certificates below one root.

    :param id: that of this purge.
    """

    files: Files
    root: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def _place(self) -> str:
        return f"{self.root.rstrip('/')}/_redox/certificates"

    def plan(self, certificate: Mapping[str, Any]) -> None:
        """Write what is going to be done."""
        self._write(f"{self._place}/{self.id}{_PLAN}", certificate)

    def certify(self, certificate: Mapping[str, Any]) -> str:
        """Write what was done, and return the URL."""
        url = f"{self._place}/{self.id}.json"
        self._write(url, certificate)
        return url

    def close(self, earlier: Earlier) -> None:
        """Remove the plans that a certificate has taken the place of."""
        for url in (f"{self._place}/{self.id}{_PLAN}", *earlier.plans):
            self.files.remove_file(url)

    def has_done(self, asked: Mapping[str, Any], *, by: Mapping[str, str] | None = None) -> bool:
        """Return whether something was destroyed before of what is selected, whatever its age was to be.

        :param by: on whose behalf: where patients are meant, whom a certificate does not name, only the same task counts.
        """
        return any(
            _includes(asked, told)
            and by in (None, told.get("by"))
            and (told.get("status") == DESTROYED or url.endswith(_PLAN))
            for url, told in self._told(".json")
        )

    def taken_up(self, plan: Mapping[str, Any]) -> Earlier:
        """Read what killed purges left: of this task what they had done, of others that there is something."""
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
        """Yield each plan, or each plan and certificate, that can be read."""
        for one in self.files.find(self._place):
            told = jsontext.stored(self.files.read(one.url) if one.url.endswith(ending) else None, dict)
            if isinstance(told, dict):
                yield one.url, told

    def _write(self, url: str, certificate: Mapping[str, Any]) -> None:
        self.files.write(url, msgspec.json.format(msgspec.json.encode(certificate), indent=2))


def _same(plan: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    """Return whether two purges select the same, but for the age, which is another one with each run."""
    return _whatever_age(plan.get("selection")) == _whatever_age(told.get("selection"))


def _includes(plan: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    """Return whether what a purge did is of what another one selects: the same, or anything where that selects all."""
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
    """Return whether a file of a plan is gone or, where it was to be written anew in its place, was since the plan."""
    if deed.url not in there:
        return True
    return deed.what != DESTROYED and there[deed.url] >= begun


def _instant(text: Any) -> float:
    """Return when a plan was written, in whole seconds; never, where it does not say so."""
    with contextlib.suppress(TypeError, ValueError):
        return datetime.fromisoformat(text).timestamp()
    return float("inf")
