"""Write documents to storage, each to a file of its own while it is received, with a list that describes them.

A file's name consists of the task, a number and a suffix from a fixed list. The file is visible under its name only when it
is complete, on a disk as on a store; only the list makes it part of a result.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import IO

import msgspec

from airflow_provider_redox.protocol.attachments import Attachment
from airflow_provider_redox.protocol.contents import beyond_help
from airflow_provider_redox.protocol.integrity import Measured
from airflow_provider_redox.protocol.jsontext import stored
from airflow_provider_redox.protocol.media_types import kind_of, media_type, suffix
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.layout import Layout

DOCUMENTS = "Document"
"""The kind of the lines that say what the documents are."""

_FILES = "DocumentFile"


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A document's line in the list.

    :param source: the resource that it came from, by type and ID.
    :param part: where in that resource.
    :param size: in bytes; `sha256` is of the same bytes.
    :param mismatch: why it may not be the whole document, if the task keeps it all the same.
    """

    url: str
    contentType: str  # noqa: N815  (FHIR's name)
    size: int
    sha256: str
    source: str
    part: str
    mismatch: str = ""
    type: str = msgspec.field(default=DOCUMENTS)
    count: int = 1

    @property
    def line(self) -> bytes:
        """The entry as a line."""
        return msgspec.json.encode({"type": self.type, "count": self.count, **msgspec.to_builtins(self)})


class Incoming:
    """A document that is being written to its file. An `Intake`: a client restarts it for each try.

    :param limit: the most bytes that it may have.
    :param attempt: the try that writes it; see `tries.py`.
    """

    def __init__(
        self, files: Files, layout: Layout, number: int, attachment: Attachment, *, limit: int, attempt: int
    ) -> None:
        self._files, self._attachment = files, attachment
        self._stem = layout.result(_FILES, number, attempt=attempt).removesuffix(".ndjson")
        self.limit = limit
        self.measured = Measured(attachment.stated)
        self._open = contextlib.ExitStack()
        self._file: IO[bytes] | None = None

    def begin(self, headers: Mapping[str, str]) -> None:
        """Begin with a body whose headers these are."""
        self.begin_as(kind_of(media_type(headers.get("content-type")), self._attachment.declared))

    def begin_as(self, kind: str) -> None:
        """Begin with a document of this media type; what an earlier try wrote is dropped."""
        self.drop()
        self._kind, self.measured = kind, Measured(self._attachment.stated)
        self.url = f"{self._stem}.{suffix(kind)}"
        self._open = contextlib.ExitStack()
        self._file = self._open.enter_context(self._files.writing(self.url))

    def write(self, chunk: bytes) -> None:
        """Take what comes next."""
        if self._file is None:
            raise AssertionError
        self.measured.update(chunk)
        view = memoryview(chunk)
        while view:  # a file may take less than all
            view = view[self._file.write(view) :]

    def whole(self, kind: str, content: bytes, mismatch: str = "") -> Entry:
        """Write a document that is here. Raises `RedoxProtocolError` when it is larger than it may be."""
        if len(content) > self.limit:
            raise beyond_help(f"the document has more than {self.limit} bytes")
        self.begin_as(kind)
        self.write(content)
        return self.keep(mismatch)

    def keep(self, mismatch: str = "") -> Entry:
        """Make the file visible. Raises `RedoxProtocolError` for an empty one."""
        if self._file is None or not self.measured.size:
            self.drop()
            raise beyond_help("the document is empty")
        self._file = None
        self._open.close()
        one = self._attachment
        return Entry(self.url, self._kind, self.measured.size, self.measured.sha256, one.source, one.part, mismatch)

    def drop(self) -> None:
        """Give up what was begun: no file is left of it."""
        if self._file is not None:
            self._file = None
            error = _DroppedError()
            with contextlib.suppress(_DroppedError):
                self._open.__exit__(_DroppedError, error, None)


class _DroppedError(Exception):
    pass


def documents_in(files: Files, url: str) -> set[str]:
    """Return the URLs of the documents that a list of a result names."""
    entries = (stored(line, Entry) for line in (files.read(url) or b"").splitlines())
    return {entry.url for entry in entries if entry is not None}
