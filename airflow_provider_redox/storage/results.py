"""The result of a search: NDJSON by resource type, visible only when it is whole.

Pages are written to staged files in the task's workspace. `commit` moves them to their places and writes the
manifest last: the manifest is what says that a result is there. A task that fails leaves no result, and what an
earlier try staged is removed when the next one begins.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import secrets
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, Any

import msgspec

from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.layout import Layout

OUTCOMES = "OperationOutcome"

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Part:
    """One file on its way."""

    kind: str
    file: IO[bytes]
    count: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def write(self, lines: list[bytes]) -> None:
        block = b"\n".join(lines) + b"\n"
        self.file.write(block)
        self.digest.update(block)
        self.count += len(lines)


class Results:
    """A result being written. A context manager: what is not committed inside it is discarded."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._files = Files(layout.root)
        self._parts: dict[str, _Part] = {}
        self._open = contextlib.ExitStack()
        self._attempt = secrets.token_hex(4)

    def __enter__(self) -> Results:
        self._files.remove(f"{self._layout.workspace}/staged")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.__exit__(kind, error, trace)
        self._files.remove(f"{self._layout.workspace}/staged")

    def write(self, kind: str, lines: list[bytes]) -> None:
        """Add lines, each one JSON document, to the file of a kind (a resource type or a data model)."""
        if lines:
            self._part(kind).write(lines)

    def commit(self, *, transaction_time: str, request: str, extension: dict[str, Any]) -> dict[str, Any]:
        """Make the result visible and give its manifest, in the shape of a FHIR Bulk Data manifest."""
        self._open.close()
        earlier = self._earlier_urls()
        self._files.remove(self._layout.manifest)
        entries = {kind: self._publish(part) for kind, part in self._parts.items()}
        manifest = {
            "transactionTime": transaction_time,
            "request": request,
            "requiresAccessToken": False,
            "output": [entries[kind] for kind in sorted(entries) if kind != OUTCOMES],
            "error": [entries[kind] for kind in sorted(entries) if kind == OUTCOMES],
            "extension": extension,
        }
        self._files.write(self._layout.manifest, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        self._remove_obsolete(earlier - {entry["url"] for entry in entries.values()})
        return manifest

    def _remove_obsolete(self, urls: set[str]) -> None:
        """Remove files of the earlier result. The new one stands already, so a file that cannot be removed is only told."""
        for url in urls:
            try:
                self._files.remove(url)
            except Exception as error:  # noqa: BLE001  (each store has errors of its own)
                _log.warning("A file of an earlier result could not be removed (%s): %s", type(error).__name__, url)

    def _part(self, kind: str) -> _Part:
        if kind not in self._parts:
            file = self._open.enter_context(self._files.writing(self._layout.staged(kind, 0, self._attempt)))
            self._parts[kind] = _Part(kind, file)
        return self._parts[kind]

    def _publish(self, part: _Part) -> dict[str, Any]:
        place = self._layout.result(part.kind, 0)
        self._files.move(self._layout.staged(part.kind, 0, self._attempt), place)
        return {"type": part.kind, "url": place, "count": part.count, "sha256": part.digest.hexdigest()}

    def _earlier_urls(self) -> set[str]:
        """Give the files of an earlier result of the same task, so that none of them outlives this one."""
        text = self._files.read(self._layout.manifest)
        try:
            manifest = msgspec.json.decode(text or b"{}", type=_Manifest)
        except msgspec.MsgspecError:
            return set()
        found = {entry.url for entry in (*manifest.output, *manifest.error)}
        return {url for url in found if url.startswith(f"{self._layout.base}/type=")}


class _File(msgspec.Struct):
    url: str


class _Manifest(msgspec.Struct):
    output: list[_File] = []
    error: list[_File] = []
