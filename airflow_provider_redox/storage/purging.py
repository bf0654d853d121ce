"""Destroy results: whole results by owner and age, or the lines of certain patients in all results.

The lines about sent messages stay, reduced to hashes and outcomes, so that a task that is cleared later still sends nothing
twice. A manifest is removed before the files that it names, and a file that loses lines is written under another name before
the manifest names it. So a killed purge leaves no half result, and the next purge resumes it.

A certificate states what was found and destroyed. If nothing fits the selection, a mistyped root or name is the likely
cause: that is an error, and nothing is written. Results that are only not old enough are no error.
"""

from __future__ import annotations

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
from airflow_provider_redox.storage.holdings import Holding, Selected, Selection, selected
from airflow_provider_redox.storage.purge_journal import DESTROYED, NOTHING, PLANNED, REDUCED, REWRITTEN, Deed, Journal
from airflow_provider_redox.storage.purge_misses import refuse_root, refuse_selection
from airflow_provider_redox.storage.rows import numbered_lines
from airflow_provider_redox.storage.urls import place_of

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


class Work(NamedTuple):
    """What is to be done to what one task instance holds."""

    holding: Holding
    deeds: list[Deed]
    do: Callable[[], None]


@dataclass(slots=True)
class Purge:
    """A purge below one root.

    :param patients: logical IDs or identifiers, with their rows in the author's file; only their data is removed.
    :param by: on whose behalf, for the certificate.
    :param on_empty: `fail` or `succeed` if nothing fits the selection.
    :param spelled: the names of the root and of the selection's fields in error messages, if they differ.
    """

    root: str
    selection: Selection
    patients: Mapping[str, int] | None = None
    by: dict[str, str] = field(default_factory=dict)
    on_empty: str = "fail"
    spelled: Mapping[str, str] = field(default_factory=dict)
    younger: int = 0
    changed: int = 0
    _files: Files = field(init=False)
    _journal: Journal = field(init=False)
    _unmet: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.on_empty not in ("fail", "succeed"):
            raise RedoxConfigError(f"{self._spelled('on_empty')}: must be fail or succeed")
        for name, value in self.selection.told.items():
            if not value.strip():
                raise RedoxConfigError(f"{self._spelled(name)}: is empty; leave it out where all are meant")
        if self.patients is not None and not self.selection.destination:
            raise RedoxConfigError(
                f"{self._spelled('destination')}: missing; logical IDs and identifiers of patients are a hospital's own"
            )
        self._files = Files(self.root)
        self._journal = Journal(self._files, self.root)

    def planned(self) -> dict[str, Any]:
        """Return the certificate of what would be done. Nothing is changed or written; its `url` is None.

        Raises `RedoxConfigError` if nothing fits the selection.
        """
        deeds = [deed for work in self._works() for deed in work.deeds]
        return {**self._certificate(PLANNED if deeds else NOTHING, deeds), "url": None}

    def run(self) -> dict[str, Any]:
        """Destroy, and return the certificate; its `url` is None if there was nothing to destroy.

        Raises `RedoxConfigError` if nothing fits the selection, or if a store keeps files that it was told to remove.
        """
        works = self._works()
        deeds = [deed for work in works for deed in work.deeds]
        earlier = self._journal.taken_up(self._certificate(PLANNED, deeds))
        if not deeds and not earlier.deeds:
            self._journal.close(earlier)
            return {**self._certificate(NOTHING, []), "url": None}
        self._journal.plan(self._certificate(PLANNED, deeds))
        done = list(earlier.deeds)
        for work in works:
            if self._has_changed(work.holding):
                self.changed += 1
                continue
            work.do()
            done += work.deeds
        self._refuse_kept(done)
        certificate = self._certificate(DESTROYED if done else NOTHING, done) | earlier.told | self._versions()
        url = self._journal.certify(certificate)
        self._journal.close(earlier)
        return {**certificate, "url": url}

    def _works(self) -> list[Work]:
        """Plan the work on each task instance. Raises `RedoxConfigError` where it is not known what is whose."""
        found = selected(self._files, self.root, self.selection)
        self.younger = len(found.younger)
        if not found.meant and not found.younger:
            self._refuse_nothing(found)
        if self.patients is None:
            return [work for work in map(self._whole, found.meant) if work.deeds]
        works = self._erased(found.meant)
        if len(self._unmet) == len(self.patients):
            self._refuse_nobody()
        return works

    def _erased(self, meant: list[Holding]) -> list[Work]:
        """Plan the erasure of patients. Names that are learned in one environment count only there."""
        works: list[Work] = []
        self._unmet = set(self.patients or ())
        for environment in dict.fromkeys(holding.environment for holding in meant):
            erasure = Erasure(self._files, self.patients or ())
            for book, changes in erasure.plan([one for one in meant if one.environment == environment]):
                deeds = [Deed(one.what, one.found.url, one.found.size, one.lines, one.found.modified) for one in changes]
                if deeds:
                    works.append(Work(book.holding, deeds, partial(carry_out, book, changes)))
            self._unmet &= erasure.unmet
        return works

    def _refuse_nothing(self, found: Selected) -> None:
        """Raise if nothing fits the selection, unless an earlier certificate or plan has the same selection."""
        if self.on_empty == "succeed" or self._journal.has_done(self._certificate(PLANNED, [])):
            return
        if not found.others:
            refuse_root(self._files, self.root, where=self._spelled("output_path"), cure=self._cure)
        refuse_selection(found.others, self.selection, spelled=self._spelled, cure=self._cure)

    def _refuse_nobody(self) -> None:
        """Raise if no file names any of the patients, unless this task has erased them before."""
        if self.on_empty == "succeed" or self._journal.has_done(self._certificate(PLANNED, []), by=self.by):
            return
        young = f"what {self.younger} tasks wrote is younger and was not read; " if self.younger else ""
        raise RedoxConfigError(
            f"{self._spelled('patients_path')}: nothing names any of its {len(self.patients or ())} patients; {young}below "
            f"{self.root} a logical ID is written Patient/<id>, any other text is an identifier as the hospital spells it. "
            f"{self._cure}"
        )

    @property
    def _cure(self) -> str:
        return f"Nothing was destroyed; {self._spelled('on_empty')} 'succeed' accepts that"

    def _spelled(self, name: str) -> str:
        return self.spelled.get(name, name)

    def _has_changed(self, holding: Holding) -> bool:
        """Return whether something was written there since it was listed: a cleared task may be running again."""
        return any(one.modified > holding.newest for one in self._files.find(holding.place))

    def _versions(self) -> dict[str, str]:
        """Return the certificate's statement on earlier versions of the removed files, which a bucket may keep.

        It is never `no` unless the bucket answered so: https://docs.aws.amazon.com/AmazonS3/latest/userguide/Versioning.html
        """
        place = place_of(self.root)
        return {"bucket_keeps_versions": self._files.keeps_versions(place.bucket)} if place.kind == "s3" else {}

    def _refuse_kept(self, done: list[Deed]) -> None:
        """Raise if a store keeps files that it was told to remove, so that no certificate is written."""
        there = {one.url: one.modified for one in self._files.find(self.root)}
        removed = (deed for deed in done if deed.what == DESTROYED or deed.is_replaced)
        kept = [deed for deed in removed if there.get(deed.url, deed.modified + 1) <= deed.modified]
        if kept:
            raise RedoxConfigError(
                f"{self._spelled('output_path')}: {len(kept)} files still exist after the store was told to remove "
                "them; no certificate was written. Check that the worker may remove files there, and retention rules"
            )

    def _whole(self, holding: Holding) -> Work:
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

        deeds = [Deed(DESTROYED, one.url, one.size, modified=one.modified) for one in gone]
        return Work(holding, deeds + [Deed(REDUCED, one.url, one.size) for one in reduced], do)

    def _less(self, url: str) -> bytes | None:
        """Give what is to be left of lines of what was sent; None where they are as they should be."""
        text = self._files.read(url) or b""
        less = b"".join(_reduced(line) for line in text.splitlines() if line.strip())
        return less if less != text else None

    def _certificate(self, status: str, deeds: Iterable[Deed]) -> dict[str, Any]:
        """Build the plan, or the certificate."""
        listed = [deed.told for deed in deeds]
        unmet = sorted(row for name, row in (self.patients or {}).items() if name in self._unmet)
        return {
            "id": self._journal.id,
            "status": status,
            "at": utc(datetime.now(UTC), timespec="seconds"),
            "by": self.by,
            "root": self.root,
            "selection": self._selected,
            "counts": {what: sum(one["what"] == what for one in listed) for what in (DESTROYED, REDUCED, REWRITTEN)},
            "bytes": sum(one["size"] for one in listed if one["what"] == DESTROYED),
            "left_because_younger": self.younger,
            "left_because_changed": self.changed,
            "rows_that_name_nobody": unmet,
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


def patients_in(place: Any, *, where: str) -> dict[str, int]:
    """Read a file of patients, one a line, and return their rows. Raises `RedoxConfigError`."""
    found: dict[str, int] = {}
    for row, line in numbered_lines(place, where=where, limit=1000):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            raise RedoxConfigError(f"{where}: row {row} is not UTF-8 text; save the file as UTF-8. Nothing was destroyed")
        found.setdefault(text, row)
    if not found:
        raise RedoxConfigError(f"{where}: names no patient; nothing was destroyed")
    return found


def summary(certificate: Mapping[str, Any]) -> str:
    """Summarize a certificate in a few sentences."""
    counts, status = certificate["counts"], certificate["status"]
    words = ("Destroyed", "reduced", "took") if status == DESTROYED else ("Would destroy", "reduce", "take")
    where = f" The certificate is {certificate['url']}." if certificate.get("url") else ""
    younger = certificate["left_because_younger"]
    left = f" Left alone, as it is younger: what {younger} tasks wrote." if younger else ""
    changed = certificate["left_because_changed"]
    left += f" Left alone, as it changed meanwhile: what {changed} tasks wrote." if changed else ""
    if certificate.get("bucket_keeps_versions", "no") != "no":
        left += " The bucket may keep earlier versions of them, which are the bucket's to destroy."
    rows = certificate["rows_that_name_nobody"]
    left += f" Nothing names the patients of {len(rows)} rows: {', '.join(map(str, rows[:20]))}." if rows else ""
    if status == NOTHING:
        return f"There was nothing to destroy below {certificate['root']}.{left}{where}"
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
