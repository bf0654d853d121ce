"""Taking patients out of what was pulled: their lines out of results, the documents that were theirs, and lists of them.

A line is a patient's when it is the Patient, refers to the Patient anywhere, or is an answer that names one of its
identifiers. What cannot be read line by line and may be about a patient goes whole: an unfinished result, an answer's body.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.disclosure import Identifier, patients_of_body
from airflow_provider_redox.storage.documents import DOCUMENTS
from airflow_provider_redox.storage.files import Files, Found
from airflow_provider_redox.storage.holdings import Holding
from airflow_provider_redox.storage.reading import Listed, lines
from airflow_provider_redox.storage.shapes import unwrapped

_NDJSON = re.compile(r"(.+\.)(\d{5,})(\.ndjson(?:\.gz)?)")
_DOCUMENT = re.compile(r".+\.DocumentFile\.\d{5,}\.[a-z]{1,4}")


class Change(NamedTuple):
    """What is done to a file."""

    what: str
    url: str
    size: int
    lines: int


class _Rest(NamedTuple):
    """What is left of a file: its lines, of which `gone` are missing."""

    kept: list[bytes]
    gone: int


class Erasure:
    """Takes patients out of holdings.

    :param patients: logical IDs, as `Patient/<id>` or without, and identifiers.
    """

    def __init__(self, files: Files, patients: Iterable[str]) -> None:
        self._files = files
        self._patients = {one.removeprefix("Patient/") for one in patients}
        self._theirs: set[str] = set()

    def run(self, holdings: list[Holding], *, do: bool) -> Iterator[Change]:
        """Take them out of all of it. Documents are known by the resources that point to them, so these are read first."""
        for holding in holdings:
            for one in _readable(holding):
                self._patients |= {found for line in self._lines(one) if (found := self._known_by_identifier(line))}
        for holding in holdings:
            for one in _readable(holding):
                self._theirs |= {_source(line) for line in self._lines(one) if self._is_theirs(line)}
        for holding in holdings:
            yield from self._out_of(holding, do=do)

    def _out_of(self, holding: Holding, *, do: bool) -> Iterator[Change]:
        manifest = self._manifest(holding)
        if manifest is None:
            yield from self._unfinished(holding, do=do)
            return
        named = {entry["url"]: entry for entry in (*manifest.get("output", ()), *manifest.get("error", ()))}
        changed = False
        superseded: list[str] = []
        removed: list[str] = []
        for one in _readable(holding):
            rest = self._rest(one, documents=f"/type={DOCUMENTS}/" in one.url, gone=removed)
            if not rest.gone:
                continue
            yield Change("rewritten" if one.url in named else "destroyed", one.url, one.size, rest.gone)
            if do and one.url in named:
                named[one.url].update(self._rewritten(one, rest.kept, holding))
                changed = True
            superseded.append(one.url)
        for one in self._bodies(holding, removed):
            yield Change("destroyed", one.url, one.size, 0)
            superseded.append(one.url)
        yield from self._lists(holding, do=do)
        if do:
            if changed:
                self._files.write(holding.manifest or "", msgspec.json.format(msgspec.json.encode(manifest), indent=2))
            for url in superseded:
                self._files.remove(url)

    def _unfinished(self, holding: Holding, *, do: bool) -> Iterator[Change]:
        """A result without a manifest is not visible and is begun anew: it goes whole, whomever it is about."""
        for one in (*holding.workspace, *holding.results):
            if do:
                self._files.remove(one.url)
            yield Change("destroyed", one.url, one.size, 0)

    def _manifest(self, holding: Holding) -> dict[str, Any] | None:
        found = jsontext.stored(self._files.read(holding.manifest), dict) if holding.manifest else None
        return found if isinstance(found, dict) else None

    def _rest(self, one: Found, *, documents: bool, gone: list[str]) -> _Rest:
        kept, missing = [], 0
        for line in self._lines(one):
            entry = jsontext.stored(line, dict) if documents else None
            if self._is_theirs(line) or (isinstance(entry, dict) and entry.get("source") in self._theirs):
                missing += 1
                if isinstance(entry, dict) and isinstance(entry.get("url"), str):
                    gone.append(entry["url"])
            else:
                kept.append(line)
        return _Rest(kept, missing)

    def _bodies(self, holding: Holding, removed: list[str]) -> Iterator[Found]:
        """Give the documents that are gone from a list, and bodies of answers that are about them."""
        for one in holding.results:
            if _NDJSON.fullmatch(one.url):
                continue
            if _DOCUMENT.fullmatch(one.url):
                if one.url in removed:
                    yield one
            elif self._is_theirs(self._files.read(one.url) or b""):
                yield one

    def _lists(self, holding: Holding, *, do: bool) -> Iterator[Change]:
        """Take their lines out of the lists of searches, whose keys may be theirs."""
        for one in holding.workspace:
            if not one.url.rpartition("/")[2].startswith("searches."):
                continue
            text = (self._files.read(one.url) or b"").splitlines(keepends=True)
            kept = [line for line in text if not self._lists_them(line)]
            if len(kept) < len(text):
                if do:
                    self._files.write(one.url, b"".join(kept))
                yield Change("rewritten", one.url, one.size, len(text) - len(kept))

    def _lists_them(self, line: bytes) -> bool:
        entry = jsontext.stored(line, dict)
        if not isinstance(entry, dict):
            return False
        ids = entry.get("ids")
        return entry.get("key") in self._patients or not self._patients.isdisjoint(ids if isinstance(ids, list) else ())

    def _rewritten(self, one: Found, kept: list[bytes], holding: Holding) -> dict[str, Any]:
        """Write what is left under the next free number, and give what the manifest is to say of it."""
        url = _next(one.url, holding.results)
        digest, compressed = hashlib.sha256(), url.endswith(".gz")
        text = b"".join(line + b"\n" for line in kept)
        text = gzip.compress(text, mtime=0) if compressed else text
        digest.update(text)
        self._files.write(url, text)
        holding.results.append(Found(url, len(text), 0.0))
        return {"url": url, "count": len(kept), "sha256": digest.hexdigest()}

    def _lines(self, one: Found) -> Iterator[bytes]:
        return lines("a file of the result", Listed("?", one.url))

    def _known_by_identifier(self, line: bytes) -> str | None:
        """Give the logical ID of a Patient that has one of the identifiers: others refer to it by that."""
        resource = jsontext.stored(_resource(line), dict) if b'"Patient"' in line else None
        if not isinstance(resource, dict) or resource.get("resourceType") != "Patient":
            return None
        listed = resource.get("identifier")
        values = {one.get("value") for one in listed or () if isinstance(one, dict)} if isinstance(listed, list) else set()
        return None if self._patients.isdisjoint(values) else resource.get("id")

    def _is_theirs(self, line: bytes) -> bool:
        for patient in patients_of_body(_resource(line)):
            if (patient.value if isinstance(patient, Identifier) else patient) in self._patients:
                return True
        return False


def _resource(line: bytes) -> bytes:
    return unwrapped(line) if line.startswith(b'{"destination":') else line


def _readable(holding: Holding) -> list[Found]:
    return [one for one in holding.results if _NDJSON.fullmatch(one.url)]


def _source(line: bytes) -> str:
    """Name a resource as the list of documents does."""
    resource = jsontext.stored(_resource(line), dict)
    return f"{resource.get('resourceType')}/{resource.get('id')}" if isinstance(resource, dict) else ""


def _next(url: str, among: Iterable[Found]) -> str:
    named = _NDJSON.fullmatch(url)
    if named is None:
        raise AssertionError(url)
    taken = [int(other[2]) for one in among if (other := _NDJSON.fullmatch(one.url)) and other[1] == named[1]]
    return f"{named[1]}{max(taken) + 1:05d}{named[3]}"
