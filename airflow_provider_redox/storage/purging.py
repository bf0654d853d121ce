"""Destroying what was pulled: whole results by whose they are and how old, and a patient's lines out of all of them.

What says which messages were sent stays, reduced to hashes and outcomes, so that a task that is cleared later still sends
nothing twice. A manifest goes before the files that it names, and a file that loses lines is written anew under another name
before the manifest names it, so that a purge that is killed leaves nothing half and is taken up by the next.

Before the first file goes a certificate is written that says what is going to be destroyed; at the end, what was.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import msgspec

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.instants import utc
from airflow_provider_redox.storage.erasing import Erasure, carry_out
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.holdings import Holding, Selection, selected
from airflow_provider_redox.storage.rows import numbered_lines

DESTROYED, REDUCED, REWRITTEN = "destroyed", "reduced", "rewritten"

_KEPT_OF_A_SEND = (
    "index",
    "line",
    "what",
    "outcome",
    "at",
    "hash",
    "sent_at",
    "open_from",
    "open_until",
    "attempt",
    "facts",
    "log_ids",
)
"""What keeps a message from being sent twice, and its outcome from being lost."""


@dataclass(slots=True)
class Deed:
    """What is, or was, done to one file.

    :param lines: of a file that was rewritten, the lines that are gone.
    """

    what: str
    url: str
    size: int = 0
    lines: int = 0

    @property
    def told(self) -> dict[str, Any]:
        """What a certificate says of it."""
        facts = {"what": self.what, "url": self.url, "size": self.size}
        return {**facts, "lines": self.lines} if self.what == REWRITTEN else facts


class Work(NamedTuple):
    """What is to be done to what one task instance holds."""

    holding: Holding | None
    do: Callable[[], None]


@dataclass(slots=True)
class Purge:
    """A purge below one root.

    :param patients: logical IDs or identifiers; with them only what is about these goes.
    :param by: on whose behalf, for the certificate.
    """

    root: str
    selection: Selection
    patients: frozenset[str] | None = None
    by: dict[str, str] = field(default_factory=dict)
    younger: int = 0
    changed: int = 0
    _files: Files = field(init=False)
    _id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def __post_init__(self) -> None:
        self._files = Files(self.root)

    def planned(self) -> dict[str, Any]:
        """Say what would be done. Nothing is changed or written; the certificate's `url` is None."""
        return {**self._certificate([deed for _, deeds in self._works() for deed in deeds], ended=False), "url": None}

    def run(self) -> dict[str, Any]:
        """Do it, and give the certificate, with the URL under which it lies."""
        works = self._works()
        place = f"{self.root.rstrip('/')}/_redox/certificates/{self._id}"
        planned = [deed for _, deeds in works for deed in deeds]
        self._write(f"{place}.planned.json", self._certificate(planned, ended=False))
        done: list[Deed] = []
        for work, deeds in works:
            if work.holding is not None and self._has_changed(work.holding):
                self.changed += 1
                continue
            work.do()
            done += deeds
        certificate = self._certificate(done, ended=True)
        self._write(f"{place}.json", certificate)
        self._files.remove(f"{place}.planned.json")
        return {**certificate, "url": f"{place}.json"}

    def _works(self) -> list[tuple[Work, list[Deed]]]:
        """Plan the work on each task instance. Raises `RedoxConfigError` where it is not known what is whose."""
        meant, younger = selected(self._files, self.root, self.selection)
        self.younger = len(younger)
        if self.patients is None:
            return [self._whole(holding) for holding in meant]
        if not self.selection.destination:
            raise RedoxConfigError("destination: missing; logical IDs and identifiers of patients are a hospital's own")
        works = []
        for environment in dict.fromkeys(holding.environment for holding in meant):
            erasure = Erasure(self._files, self.patients)
            for book, changes in erasure.plan([one for one in meant if one.environment == environment]):
                deeds = [Deed(one.what, one.found.url, one.found.size, one.lines) for one in changes]
                if deeds:
                    works.append((Work(book.holding, partial(carry_out, book, changes)), deeds))
        return works

    def _has_changed(self, holding: Holding) -> bool:
        """Say whether somebody has written there since it was listed: a task that was cleared, and is at work again."""
        found = self._files.find(holding.workspace_of(self.root))
        return any(one.modified > holding.newest for one in found)

    def _whole(self, holding: Holding) -> tuple[Work, list[Deed]]:
        """Destroy all of a holding, the manifest first; what says what was sent is reduced."""
        first = sorted(holding.workspace, key=lambda one: not one.url.endswith("/manifest.json"))
        gone = [*first, *holding.results]
        reduced = [one for one in holding.sends if self._less(one.url) is not None]

        def do() -> None:
            for one in gone:
                self._files.remove_file(one.url)
            for one in reduced:  # read again: a task that was cleared may have sent since
                less = self._less(one.url)
                if less is not None:
                    self._files.write(one.url, less)

        deeds = [Deed(DESTROYED, one.url, one.size) for one in gone] + [Deed(REDUCED, one.url, one.size) for one in reduced]
        return Work(holding, do), deeds

    def _less(self, url: str) -> bytes | None:
        """Give what is to be left of lines of what was sent; None where they are as they should be."""
        text = self._files.read(url) or b""
        less = b"".join(_reduced(line) for line in text.splitlines() if line.strip())
        return less if less != text else None

    def _write(self, url: str, certificate: dict[str, Any]) -> None:
        self._files.write(url, msgspec.json.format(msgspec.json.encode(certificate), indent=2))

    def _certificate(self, deeds: Iterable[Deed], *, ended: bool) -> dict[str, Any]:
        """Say what is going to be done, or was."""
        listed = [deed.told for deed in deeds]
        return {
            "id": self._id,
            "status": "destroyed" if ended else "planned",
            "at": utc(datetime.now(UTC), timespec="seconds"),
            "by": self.by,
            "root": self.root,
            "selection": self._selected,
            "counts": {what: sum(one["what"] == what for one in listed) for what in (DESTROYED, REDUCED, REWRITTEN)},
            "bytes": sum(one["size"] for one in listed if one["what"] == DESTROYED),
            "left_because_younger": self.younger,
            "left_because_changed": self.changed,
            "files": listed,
        }

    @property
    def _selected(self) -> dict[str, Any]:
        told: dict[str, Any] = dict(self.selection.told)
        if self.selection.before is not None:
            told["before"] = datetime.fromtimestamp(self.selection.before, UTC).isoformat(timespec="seconds")
        if self.patients is not None:
            told["patients"] = len(self.patients)  # no hash of them: whoever knows a few MRNs could try them
        return told


def patients_in(place: Any, *, where: str) -> frozenset[str]:
    """Read a file of patients, one a line. Raises `RedoxConfigError`."""
    found = frozenset(text.decode("utf-8", "replace").strip() for _, text in numbered_lines(place, where=where, limit=1000))
    if not found:
        raise RedoxConfigError(f"{where}: names no patient; nothing was destroyed")
    return found


def summary(certificate: Mapping[str, Any]) -> str:
    """Say in a sentence what a certificate says."""
    counts = certificate["counts"]
    done = certificate["status"] == "destroyed"
    words = ("Destroyed", "reduced", "took") if done else ("Would destroy", "reduce", "take")
    where = f" The certificate is {certificate['url']}." if certificate.get("url") else ""
    younger = certificate["left_because_younger"]
    left = f" Left alone, as it is younger: what {younger} tasks wrote." if younger else ""
    changed = certificate["left_because_changed"]
    left += f" Left alone, as it changed meanwhile: what {changed} tasks wrote." if changed else ""
    return (
        f"{words[0]} {counts[DESTROYED]} files ({certificate['bytes']} bytes), {words[1]} {counts[REDUCED]}, {words[2]} "
        f"lines out of {counts[REWRITTEN]}.{left}{where}"
    )


def _reduced(line: bytes) -> bytes:
    """Leave of a line what keeps its message from being sent twice; nothing of one that says nothing of a message."""
    found = jsontext.stored(line, dict)
    if not isinstance(found, dict):
        return b""
    kept = {name: found[name] for name in _KEPT_OF_A_SEND if name in found}
    if kept.get("outcome") == "accepted":
        kept.pop("log_ids", None)  # of one that was refused they say that another destination has it
    if isinstance(kept.get("facts"), dict):
        kept["facts"] = {name: value for name, value in kept["facts"].items() if name != "results_url"}
    return msgspec.json.encode(kept) + b"\n"
