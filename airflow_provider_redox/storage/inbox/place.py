"""Where an inbox lies, and what its files need beside what results need. Airflow is asked only for a named connection."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_redox.checks import empty, is_empty
from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.storage import disk
from airflow_provider_redox.storage.files import Files, written_at
from airflow_provider_redox.storage.urls import place_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_T = TypeVar("_T")


class InboxFiles(Files):
    """The files of one inbox.

    :param root: a URL or an absolute path. With a connection ID before an `@`, Airflow is asked for its credentials; else
        the driver finds them by itself, as in its environment.
    :param options: what the driver is to be given, such as `endpoint_url`; only without a connection ID.
    """

    def __init__(self, root: str, options: Mapping[str, Any] | None = None, *, name: str = "inbox_path") -> None:
        self._options = dict(options or {})
        super().__init__(root, name=name)

    def _file_system(self, root: str) -> tuple[AbstractFileSystem, str]:
        if place_of(root).connection:
            return super()._file_system(root)
        from fsspec.core import url_to_fs

        fs, _ = url_to_fs(root, **self._options)
        return fs, root.partition("://")[0]

    def keep_new(self, url: str, content: bytes) -> bool:
        """Write a file if there is none, and say whether it was; then it outlives a power cut. Of two at once, one does."""
        if not self._local:
            return self.create_new(url, content)
        return self._in_folder(self._path(url), lambda path: disk.create(path, content))

    def mark(self, url: str) -> None:
        """Write an empty file; then it outlives a power cut."""
        if not self._local:
            with self._asking() as fs:
                fs.pipe_file(self._path(url), b"")
            return
        self._in_folder(self._path(url), _touch)

    def _in_folder(self, path: str, write: Callable[[str], _T]) -> _T:
        """Write a file of a disk, and make its folder where it is missing: to look each time would be most of the work."""
        folder = path.rpartition("/")[0]
        try:
            done = write(path)
        except FileNotFoundError:
            self._fs.makedirs(folder, exist_ok=True)
            done = write(path)
            for parent in list(Path(folder).parents)[:4]:
                disk.settle_folder(f"{parent}/")
        return done

    def changed(self, url: str) -> float | None:
        """Give when a file was last written, in seconds since 1970 by the store's clock; None when there is none."""
        try:
            with self._asking() as fs:
                return written_at(fs.info(self._path(url)), unknown=0.0)
        except FileNotFoundError:
            return None

    def below(self, url: str) -> list[tuple[float, str]]:
        """Give all files below a folder: when each was written, and its URL."""
        path = self._path(url).rstrip("/")
        try:
            with self._asking() as fs:
                found = fs.find(path, detail=True)
        except FileNotFoundError:
            return []
        return [
            (written_at(facts, unknown=0.0), f"{url.rstrip('/')}{str(one).removeprefix(path)}")
            for one, facts in found.items()
        ]


def inbox_root(place: Any, *, name: str = "inbox_path") -> str:
    """Give the URL of an inbox or of its state. Raises `RedoxConfigError` for what is neither a URL nor an absolute path."""
    if is_empty(place):
        raise RedoxConfigError(empty(name))
    root = str(place or "").rstrip("/")
    if "://" not in root:
        if not root.startswith("/"):
            raise RedoxConfigError(
                f"{name}: must be an absolute path or a URL such as s3://conn_id@bucket/redox-inbox/results"
            )
        root = f"file://{root}"
    if any(char in root for char in "*?[]"):
        raise RedoxConfigError(f"{name}: must not hold any of * ? [ ]; stores take them for patterns")
    return root


def message_url(root: str, key: str) -> str:
    """Give the place of a message. Stores slow down where all keys begin alike, and disks where all are in one folder."""
    return f"{root}/messages/{spread(key)}/{key}.json"


def spread(key: str) -> str:
    """Give one of 256 folder names for a key."""
    return hashlib.sha256(key.encode()).hexdigest()[:2]


def _touch(path: str) -> None:
    os.close(disk.private(path, os.O_CREAT | os.O_WRONLY))
    disk.settle_folder(path)
