"""Files on object storage: the few operations that results need, the same on local disk and on any fsspec store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_redox.exceptions import RedoxConfigError

UPLOAD_BLOCK = 8 * 1024 * 1024
"""Bytes that are held before a piece of an upload is sent. Drivers would take up to 50 MB for each open file."""

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_BLOCK = 4 * 1024 * 1024  # drivers' own defaults go up to 50 MB, several of which are held at once


class Files:
    """The files below one root URL, such as `s3://conn_id@bucket/redox` or `file:///data/redox`.

    Paths given and returned are whole URLs. A file on local disk is written beside its place and renamed, and can be
    read by its owner only; an object store shows an object when its upload has ended.

    `shows_writes` says whether what was written to a file that is still open can be read by others: on a disk, not on a
    store.
    """

    def __init__(self, root: str) -> None:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        try:
            path = ObjectStoragePath(root)
            self._fs: AbstractFileSystem = path.fs
        except (ImportError, ValueError) as error:
            scheme = root.partition("://")[0]
            raise RedoxConfigError(
                f"output_path: no driver for {scheme}:// is installed on this worker ({type(error).__name__}); "
                "install the Airflow provider or the fsspec package of that store"
            ) from None
        self.shows_writes = self._local = path.protocol in ("file", "local", "")
        self._lead = root[: len(root) - len(_bare(root))]

    @contextlib.contextmanager
    def writing(self, url: str) -> Iterator[IO[bytes]]:
        """Open a file to write. It is visible under its name when the block has ended, and never if it fails."""
        target = self._path(url)
        if not self._local:
            yield from self._uploading(target)
            return
        self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        partial = f"{target}.partial"
        try:
            with open(partial, "wb", opener=_private) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)  # noqa: PTH105
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)  # noqa: PTH108

    def create(self, url: str) -> IO[bytes]:
        """Open a new file for one writer, under its own name from the start; `abandon` gives it up.

        Each write reaches a disk's cache at once, so that it outlives this process.
        """
        target = self._path(url)
        if not self._local:
            file: IO[bytes] = self._fs.open(target, "wb", block_size=UPLOAD_BLOCK)
            return file
        self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        return open(target, "wb", buffering=0, opener=_private)

    def abandon(self, file: IO[bytes]) -> None:
        """Give up a file that `create` opened. An object store then never shows it."""
        if self._local:
            file.close()
            return
        with contextlib.suppress(Exception):
            file.discard()  # type: ignore[attr-defined]
        file.closed = True  # type: ignore[misc]  # else what was not flushed is uploaded when it is garbage collected

    def _uploading(self, target: str) -> Iterator[IO[bytes]]:
        file = self._fs.open(target, "wb")
        try:
            yield file
        except BaseException:
            self.abandon(file)
            raise
        file.close()

    def write(self, url: str, content: bytes) -> None:
        """Write a whole file."""
        with self.writing(url) as file:
            file.write(content)

    def replace(self, url: str, content: bytes) -> None:
        """Write a whole file, small and often: it outlives this process, but not a power cut in the same second."""
        if not self._local:
            self.write(url, content)
            return
        target = self._path(url)
        self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        partial = f"{target}.partial"
        with open(partial, "wb", buffering=0, opener=_private) as file:
            file.write(content)
        os.replace(partial, target)  # noqa: PTH105

    def open(self, url: str) -> IO[bytes]:
        """Open a file to read. Raises FileNotFoundError."""
        file: IO[bytes] = self._fs.open(self._path(url), "rb")
        return file

    def exists(self, url: str) -> bool:
        """Say whether there is such a file."""
        return bool(self._fs.exists(self._path(url)))

    def read(self, url: str) -> bytes | None:
        """Read a whole file; None when there is none."""
        try:
            content: bytes = self._fs.cat_file(self._path(url))
        except FileNotFoundError:
            return None
        return content

    def move(self, source: str, target: str) -> None:
        """Move a file, over another one if there is one."""
        path = self._path(target)
        if self._local:
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            os.replace(self._path(source), path)  # noqa: PTH105
            return
        self._fs.mv(self._path(source), path)

    def remove(self, url: str) -> None:
        """Remove a file or a folder with all in it; nothing happens when there is none."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(self._path(url), recursive=True)

    def reading(self, url: str) -> IO[bytes]:
        """Open a file to read from its start, a few megabytes at a time. Raises `FileNotFoundError` when there is none."""
        file: IO[bytes] = self._fs.open(self._path(url), "rb", block_size=_BLOCK)
        return file

    def _path(self, url: str) -> str:
        if not url.startswith(self._lead):
            raise RedoxConfigError("output_path: a file of this result lies on another store; move it or start anew")
        path: Any = self._fs._strip_protocol(url[len(self._lead) :])  # noqa: SLF001  (fsspec's own way to read a URL)
        return str(path)


def _bare(root: str) -> str:
    """Give the path part of a URL without scheme and connection ID: what the file system itself understands."""
    rest = root.partition("://")[2] or root
    return rest.partition("@")[2] if "@" in rest.partition("/")[0] else rest


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
