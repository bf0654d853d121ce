"""Documents on storage: each a file of its own, written while it comes, beside the list that says what they are.

A file's name is made of the task, a number and a suffix from a list of ours. It is visible under its name when it is whole,
on a disk as on a store; that it is part of a result is what the list says.
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
    """What the list says of a document.

    :param source: the resource that it came from, by type and ID.
    :param part: where in that resource.
    :param size: its bytes, and `sha256` of these.
    :param mismatch: why it may not be the whole document, where the task keeps one all the same.
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
    """One document on its way into its file. An `Intake`, which a client begins anew with each try.

    :param limit: the bytes it may have.
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
