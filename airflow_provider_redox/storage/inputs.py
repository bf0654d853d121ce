"""Files that an author names to be sent: on local disk or on any store, checked before anything leaves.

A complaint names the argument, never the path: a file's name may be a patient's.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike, fspath
from typing import IO, Any, TypeVar

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.jsonsource import Source, parse_object
from airflow_provider_redox.protocol.uploads import File, check_size
from airflow_provider_redox.storage.files import Files

T = TypeVar("T")

_LONGEST_KEY = 64 * 1024
"""The most bytes of a file that may be a private key."""
_PRIVATE_KEY = re.compile(
    rb"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY"  # PEM
    rb"|LS0tLS1CRUdJTi[A-Za-z0-9+/=\s]{0,60}UFJJVkFURSBLRV|LS0tLS1CRUdJTiBQUklWQVRFIEtFWS"  # PEM in base64
    rb'|"d"\s*:\s*"[A-Za-z0-9_-]{40,}=*"'  # JWK (RFC 7517): the private number
)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that is there."""

    files: Files
    url: str
    size: int
    where: str

    def open(self) -> IO[bytes]:
        """Open it to read from its start. Raises `RedoxConfigError` when it is gone, `OSError` when its store is away."""
        return _unnamed(lambda: self.files.open(self.url), self.where)


def file_to_upload(place: Any, *, where: str) -> File:
    """Find a file to upload, or take bytes as one.

    Raises `RedoxConfigError` when it is gone, empty, a folder, larger than Redox takes, or a private key.
    """
    if isinstance(place, bytes):
        check_size(len(place), where=where)
        _check_no_key(place, where)
        return File(len(place), lambda: io.BytesIO(place))
    found = found_file(place, where)
    check_size(found.size, where=where)
    if found.size <= _LONGEST_KEY:
        with found.open() as opened:
            _check_no_key(opened.read(), where)
    name = found.url.rpartition("/")[2]
    suffix = name.rpartition(".")[2] if "." in name else ""
    return File(found.size, found.open, suffix)  # type: ignore[arg-type]


def digest_of_file(file: File) -> bytes:
    """Return a hash of a file's content, which is read a piece at a time."""
    digest = hashlib.sha256()
    with file.open() as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.digest()


def _check_no_key(content: bytes, where: str) -> None:
    """Refuse a private key, such as the connection's own key file: there is no reason to upload one."""
    if len(content) <= _LONGEST_KEY and _PRIVATE_KEY.search(content):
        raise RedoxConfigError(f"{where}: the file is a private key, which is never uploaded; correct the path")


def read_json(place: Any, *, where: str, limit: int) -> Source:
    """Read a file with a JSON object. Raises `RedoxConfigError` if it is missing, too large, or not a JSON object."""
    found = found_file(place, where)
    if found.size > limit:
        raise RedoxConfigError(f"{where}: the file has {found.size} bytes, and Redox takes {limit}")
    text = _unnamed(lambda: found.files.read(found.url), where)
    try:
        return parse_object(text or b"")
    except ValueError as error:
        raise RedoxConfigError(f"{where}: {error}") from None


def found_file(place: Any, where: str) -> FoundFile:
    """Find a file by its path or URL. Raises `RedoxConfigError` when there is none."""
    if not isinstance(place, str | PathLike) or not fspath(place):
        raise RedoxConfigError(f"{where}: must be the path or URL of a file")
    url = str(place)
    if "://" not in url:
        if not url.startswith("/"):
            raise RedoxConfigError(f"{where}: must be an absolute path or a URL such as s3://conn_id@bucket/key")
        url = f"file://{url}"
    files = _Sized(url, name=where)
    size = _unnamed(lambda: files.size(url), where)
    if size is None:
        raise _gone(where)
    return FoundFile(files, url, size, where)


def _unnamed(ask: Callable[[], T], where: str) -> T:
    """Ask a store, and tell of its errors without the path that they name."""
    error: Exception
    try:
        return ask()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, RedoxConfigError):  # the last: no such bucket
        error = _gone(where)
    except PermissionError:
        error = RedoxConfigError(f"{where}: this worker may not read the file; let it")
    except OSError as raised:
        error = OSError(f"{where}: the store of the file could not be used ({type(raised).__name__})")
    raise error


def _gone(where: str) -> RedoxConfigError:
    return RedoxConfigError(f"{where}: there is no file at this place, or none that this worker can see; correct it")


class _Sized(Files):
    """Files whose size can be asked for."""

    def size(self, url: str) -> int | None:
        """Give the bytes of a file; None when there is none, or a folder."""
        try:
            with self._asking() as fs:
                facts = fs.info(self._path(url))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return int(facts["size"]) if facts.get("type") == "file" and facts.get("size") is not None else None
