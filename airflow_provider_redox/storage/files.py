"""Files on object storage: the few operations that results need, the same on local disk and on any fsspec store."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.storage import disk
from airflow_provider_redox.storage.stores import (
    COPIES_LATE,
    StoredFile,
    code_of,
    missing_driver,
    naming,
    with_options,
)
from airflow_provider_redox.storage.urls import check_place, place_of

UPLOAD_BLOCK = 8 * 1024 * 1024
"""Bytes that are held before a piece of an upload is sent. Drivers would take up to 50 MB for each open file."""

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_BLOCK = 4 * 1024 * 1024  # drivers' own defaults go up to 50 MB, several of which are held at once


PATTERN = frozenset("*?[]")
"""What stores' drivers take for a pattern in a name."""

_EXCLUSIVE: set[tuple[str, str, str]] = set()
"""The places where this process has checked that an exclusive create works: scheme, connection and bucket."""


class Found(NamedTuple):
    """A file as its store lists it.

    :param size: in bytes.
    :param modified: in seconds since the epoch.
    """

    url: str
    size: int
    modified: float


class Files:
    """The files below one root URL, such as `s3://conn_id@bucket/redox` or `file:///data/redox`.

    Paths given and returned are whole URLs. A file on local disk is written beside its place and renamed, and can be
    read by its owner only; an object store shows an object when its upload has ended.

    :param name: what errors call the place: the argument or the option that it comes from.

    Each call asks the store itself, never what a driver remembers: another process may have written in between. Errors
    of a store come as `stores.naming` says.

    `shows_writes` says whether what was written to a file that is still open can be read by others: on a disk, not on a
    store.
    """

    def __init__(self, root: str, *, name: str = "output_path") -> None:
        check_place(root, name=name)
        self._place, self._name = root, name
        try:
            self._fs, protocol = self._file_system(root)
        except (ImportError, ValueError) as error:
            raise missing_driver(root, error, name=name) from None
        self.shows_writes = self._local = protocol in ("file", "local", "")
        self._copies_late = protocol in COPIES_LATE
        self._lead = _lead(root)

    def _file_system(self, root: str) -> tuple[AbstractFileSystem, str]:
        """Give the file system of a root, with the credentials of the connection that it names, and its protocol."""
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        path = ObjectStoragePath(root)
        return with_options(path.fs, path.protocol), path.protocol

    @contextlib.contextmanager
    def writing(self, url: str) -> Iterator[IO[bytes]]:
        """Open a file to write. It is visible under its name when the block has ended, and never if it fails."""
        if not self._local:
            yield from self._uploading(url)
            return
        with disk.replacing(self._made(url)) as file:
            yield file

    def _uploading(self, url: str) -> Iterator[IO[bytes]]:
        file = self.create(url)
        try:
            yield file
        except BaseException:
            self.abandon(file)
            raise
        file.close()

    def create(self, url: str) -> IO[bytes]:
        """Open a new file for one writer, under its own name from the start; `abandon` gives it up.

        Each write reaches a disk's cache at once, so that it outlives this process.
        """
        if self._local:
            return open(self._made(url), "wb", buffering=0, opener=disk.private)
        return self._stored(url, "wb", UPLOAD_BLOCK)

    def abandon(self, file: IO[bytes] | StoredFile) -> None:
        """Give up a file that `create` opened. An object store then never shows it."""
        if isinstance(file, StoredFile):
            file.abandon()
        else:
            file.close()

    def write(self, url: str, content: bytes) -> None:
        """Write a whole file."""
        with self.writing(url) as file:
            file.write(content)

    def write_new(self, url: str, content: bytes) -> bool:
        """Create a small JSON file exclusively, and return whether this call created it. Of two concurrent calls, one does.

        The answer to an exclusive create can be lost. The driver then repeats the request, and is refused because of its own
        file (https://github.com/aws/aws-sdk-java-v2/issues/6580, https://github.com/GoogleCloudPlatform/gcsfuse/issues/927).
        So the object gets a member `nonce`, and the file is read back. Content that is not a JSON object must be unique for
        its writer. Raises the store's error if there is no file.
        """
        content = _with_nonce(content)
        try:
            created = self.create_new(url, content)
        except OSError:
            there = self.read(url)
            if there is None:
                raise
            return there == content
        if created:
            self._check_exclusive(url)
        return created or self.read(url) == content

    def create_new(self, url: str, content: bytes) -> bool:
        """Create a small file exclusively. False may also mean that a repeated request met its own file: see `write_new`."""
        if self._local:
            return disk.create(self._made(url), content)
        try:
            with self._asking() as fs:
                fs.pipe_file(self._path(url), content, mode="create")
        except FileExistsError:
            return False
        return True

    def _check_exclusive(self, url: str) -> None:
        """Refuse a store that lets an exclusive create overwrite a file; tried once for each place and process.

        Some S3-compatible stores ignore If-None-Match: https://github.com/stackshy/cloudemu/pull/657. With them, each of two
        tries would count as the first.
        """
        place = place_of(self._place)
        if self._local or (place.scheme, place.connection, place.bucket) in _EXCLUSIVE:
            return
        if self.create_new(url, _with_nonce(b"{}")):
            raise RedoxConfigError(
                f"{self._name}: {self._place}: the store overwrote a file that it was told to create only if new, so it "
                "cannot keep two tries apart. Use one that honours If-None-Match (S3) or its like"
            )
        _EXCLUSIVE.add((place.scheme, place.connection, place.bucket))

    def replace(self, url: str, content: bytes) -> None:
        """Write a whole file, small and often: it outlives this process, but not a power cut in the same second."""
        if not self._local:
            self.write(url, content)
            return
        with disk.replacing(self._made(url), lasting=False) as file:
            file.write(content)

    def open(self, url: str) -> IO[bytes]:
        """Open a file to read from its start, a few megabytes at a time. Raises `FileNotFoundError` when there is none."""
        if not self._local:
            return self._stored(url, "rb", _BLOCK)
        return Path(self._path(url)).open("rb")  # not in fsspec's own way, which logs the name

    def exists(self, url: str) -> bool:
        """Say whether there is such a file."""
        with self._asking() as fs:
            return bool(fs.exists(self._path(url)))

    def read(self, url: str) -> bytes | None:
        """Read a whole file; None when there is none."""
        try:
            if self._local:
                with self.open(url) as file:
                    return file.read()
            with self._asking() as fs:
                content: bytes = fs.cat_file(self._path(url))
        except FileNotFoundError:
            return None
        return content

    @property
    def names_encryption(self) -> bool:
        """Whether `[redox] storage_options` has every object of an S3 written with an encryption."""
        options = getattr(self._fs, "s3_additional_kwargs", None) or {}
        return "ServerSideEncryption" in options

    def ask_for_encryption(self, bucket: str) -> str:
        """Ask an S3 whether a bucket encrypts. Gives an empty text, or the store's word for why it does not say."""
        try:
            self._fs.call_s3("get_bucket_encryption", Bucket=bucket)
        except Exception as error:  # noqa: BLE001  (the driver raises whatever the store says)
            return code_of(error)
        return ""

    def keeps_versions(self, bucket: str) -> str:
        """Return whether an S3 bucket keeps earlier versions of removed objects: `yes`, `no`, or the store's error code."""
        try:
            told = self._fs.call_s3("get_bucket_versioning", Bucket=bucket)
        except Exception as error:  # noqa: BLE001  (the driver raises whatever the store says)
            return code_of(error)
        return "yes" if told.get("Status") in ("Enabled", "Suspended") else "no"  # a suspended one keeps those it has

    def find(self, url: str) -> list[Found]:
        """List the files in a folder and all folders in it, by name; none when there is no such folder."""
        folder = self._path(url)
        try:
            with self._asking() as fs:
                listed: dict[str, dict[str, Any]] = fs.find(folder, detail=True)
        except FileNotFoundError:
            return []
        new = time.time()  # what says nothing is as good as new
        return [
            Found(f"{self._lead}{path}", int(one.get("size") or 0), written_at(one, unknown=new))
            for path, one in sorted(listed.items())
        ]

    def names(self, url: str) -> list[str]:
        """Return the sorted names in a folder; none if the folder does not exist."""
        path = self._path(url)
        try:
            if self._local:
                return sorted(os.listdir(path))  # noqa: PTH208
            with self._asking() as fs:
                found = fs.ls(path, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for one in found if (name := str(one).rstrip("/").rpartition("/")[2]))

    def folders(self, url: str) -> list[str]:
        """List the names of the folders in a folder; none when there is no such folder."""
        try:
            with self._asking() as fs:
                listed = fs.ls(self._path(url), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(str(one["name"]).rstrip("/").rpartition("/")[2] for one in listed if one["type"] == "directory")

    def move(self, source: str, target: str) -> None:
        """Move a file, over another one if there is one: on a store a copy that the store makes, then a removal."""
        if self._local:
            os.replace(self._path(source), self._made(target))  # noqa: PTH105
            return
        if self._copies_late:
            self._carry(source, target)
        with self._asking() as fs:
            if not self._copies_late:
                fs.cp_file(self._path(source), self._path(target))
            fs.rm_file(self._path(source))

    def copy(self, source: str, target: str) -> None:
        """Copy a file that is no longer changed, replacing an existing one; an object store copies on the server."""
        if self._local:
            disk.link(self._path(source), self._made(target))
        elif self._copies_late:
            self._carry(source, target)
        else:
            with self._asking() as fs:
                fs.cp_file(self._path(source), self._path(target))

    def size(self, url: str) -> int | None:
        """Return the size of a file in bytes; None when there is none."""
        try:
            with self._asking() as fs:
                return int(fs.info(self._path(url))["size"])
        except FileNotFoundError:
            return None

    def _carry(self, source: str, target: str) -> None:
        with self.open(source) as from_file, self.writing(target) as file:
            while block := from_file.read(_BLOCK):
                file.write(block)

    def remove(self, url: str) -> None:
        """Remove a file or a folder with all in it; nothing happens when there is none."""
        path = self._path(url)
        with contextlib.suppress(FileNotFoundError), self._asking() as fs:
            if self._local:
                fs.rm(path, recursive=True)
            else:
                _remove(fs, path)

    def remove_file(self, url: str) -> None:
        """Remove one file, and never a folder; nothing happens when there is none."""
        path = self._path(url)
        with contextlib.suppress(FileNotFoundError), self._asking() as fs:
            if self._local:
                os.unlink(path)  # noqa: PTH108
            else:
                fs.rm_file(path)

    def remove_dead(self, url: str, begins: str) -> None:
        """Remove what killed processes left half written in a folder, of files whose names begin so. A store shows none."""
        if self._local:
            disk.remove_dead(self._path(url), begins)

    def _stored(self, url: str, mode: str, block_size: int) -> IO[bytes]:
        def open_it() -> Any:
            self._fs.invalidate_cache()
            return self._fs.open(self._path(url), mode, block_size=block_size)

        return cast("IO[bytes]", StoredFile(open_it, self._naming))

    def _naming(self) -> AbstractContextManager[None]:
        return naming(self._place, name=self._name)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[AbstractFileSystem]:
        """Give the file system, with nothing remembered of an earlier listing."""
        if self._local:
            yield self._fs
            return
        self._fs.invalidate_cache()
        with self._naming():
            yield self._fs

    def _made(self, url: str) -> str:
        """Give the path of a file on a disk, its folder made."""
        path = self._path(url)
        disk.make_private(Path(path).parent)
        return path

    def _path(self, url: str) -> str:
        if not url.startswith(self._lead):
            raise RedoxConfigError(f"{self._name}: a file of this result lies on another store; move it, or begin again")
        path: Any = self._fs._strip_protocol(url[len(self._lead) :])  # noqa: SLF001  (fsspec's own way to read a URL)
        return str(path)


def written_at(listed: Mapping[str, Any], *, unknown: float) -> float:
    """Give when a file was written, in seconds since the epoch, which each driver says in its own way."""
    for name in ("mtime", "LastModified", "last_modified", "updated"):
        told = listed.get(name)
        if isinstance(told, datetime):
            return told.timestamp()
        if isinstance(told, str):
            return datetime.fromisoformat(told).timestamp()
        if isinstance(told, int | float):
            return float(told)
    return unknown


def _remove(fs: AbstractFileSystem, path: str) -> None:
    """Remove what is there, and make sure of it: s3fs does not tell what its bulk removal was refused."""
    found = fs.find(path)
    if found == [path]:
        fs.rm_file(path)
    elif found:
        if PATTERN.isdisjoint("".join(found)):
            fs.rm(path, recursive=True)
        else:  # which the drivers would take for the names of other files
            for one in found:
                fs.rm_file(one)
        fs.invalidate_cache()
        if fs.find(path):
            raise PermissionError


def _lead(root: str) -> str:
    """Give what stands in a URL before what the store itself understands: the scheme, and a connection ID."""
    place = place_of(root)
    scheme = f"{place.scheme}://" if "://" in root else ""
    return f"{scheme}{place.connection}@" if place.connection else scheme


def _with_nonce(content: bytes) -> bytes:
    """Add a nonce to a JSON object, so that it is unique; return any other content as it is."""
    if not content.startswith(b"{"):
        return content
    rest = content[1:].lstrip()
    return b'{"nonce":"%s"%s%s' % (secrets.token_hex(8).encode(), b"" if rest.startswith(b"}") else b",", rest)
