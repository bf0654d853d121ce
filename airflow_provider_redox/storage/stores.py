"""What object stores and their drivers need to be told or asked differently: missing drivers, errors, uploads that fail.

An error names the place, what kind of failure it was, and what to do. It never repeats a store's own text.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxError
from airflow_provider_redox.storage.configured import option
from airflow_provider_redox.storage.urls import KINDS, place_of

EXTRAS = ("s3", "gcs", "azure")
"""Kinds of stores for which we have an extra of the same name, which brings a driver."""

COPIES_LATE = KINDS["azure"]
"""Stores that say that a copy is begun, not that it is there: removing its source then could lose it."""


def missing_driver(root: str, error: Exception, *, name: str = "output_path") -> RedoxConfigError:
    """Say which driver is missing, and how to get it."""
    place = place_of(root)
    remedy = (
        f"pip install 'airflow-provider-redox[{place.kind}]' brings it"
        if place.kind in EXTRAS
        else "install the Airflow provider or the fsspec package of that store"
    )
    return RedoxConfigError(
        f"{name}: no driver for {place.scheme}:// is installed on this worker ({type(error).__name__}); {remedy}"
    )


def with_options(fs: Any, scheme: str) -> Any:
    """Give a driver with the options that `[redox] storage_options` has for its scheme, such as server-side encryption.

    Airflow's own way to a driver takes no such options. Raises `RedoxConfigError` for what the driver does not take.
    """
    options = _configured_options().get(scheme)
    if not options:
        return fs
    try:
        return type(fs)(*fs.storage_args, **{**fs.storage_options, **options})
    except TypeError:
        raise RedoxConfigError(
            f"[redox] storage_options: the driver of {scheme}:// does not take one of its options; remove it"
        ) from None


def _configured_options() -> dict[str, dict[str, Any]]:
    stated = option("storage_options") or "{}"
    try:
        options = json.loads(stated)
    except ValueError:
        options = None  # the complaint is made outside: a JSONDecodeError holds the whole text
    if not isinstance(options, dict) or not all(isinstance(one, dict) for one in options.values()):
        raise RedoxConfigError('[redox] storage_options: must be JSON such as {"s3": {"s3_additional_kwargs": {...}}}')
    return options


@contextlib.contextmanager
def naming(place: str, *, name: str = "output_path") -> Iterator[None]:
    """Turn what a driver raises into an error that names the place.

    Raises `FileNotFoundError` and `FileExistsError` as they came, `RedoxConfigError` when there is no such bucket,
    `PermissionError`, and `OSError` for the rest: a store's bad day is a matter for a retry.
    """
    try:
        yield
    except RedoxError:
        raise
    except Exception as error:
        if not _is_of_a_store(error):
            raise
        code = code_of(error)
        if code == "NoSuchBucket":
            raise RedoxConfigError(f"{name}: {place}: there is no such bucket; correct it, or create it") from None
        if isinstance(error, FileNotFoundError | FileExistsError):
            raise
        if isinstance(error, PermissionError):
            raise PermissionError(
                f"{place}: the store refused access ({code}). The task must be allowed to list the bucket, and to read, "
                "write and delete below this place"
            ) from None
        raise OSError(f"{place}: the store could not be used ({code})") from None


class StoredFile:
    """An open file of a store. What is written is visible when it has been closed, and never if that fails."""

    def __init__(self, open_it: Callable[[], Any], named: Callable[[], AbstractContextManager[None]]) -> None:
        self._named = named
        with named():
            self._file = open_it()
        self._ended = False

    def __enter__(self) -> StoredFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes, or fewer at the end."""
        with self._named():
            content: bytes = self._file.read(size)
            return content

    def write(self, block: Any) -> int:
        """Write a block, all of it."""
        with self._named():
            return int(self._file.write(block))

    def close(self) -> None:
        """End it. An upload that cannot be ended is given up."""
        if self._ended:
            return
        try:
            with self._named():
                self._file.close()
        except BaseException:
            self.abandon()
            raise
        self._ended = True

    def abandon(self) -> None:
        """Give up what has not been ended: no piece of it stays on the store, where its driver can take them back."""
        if self._ended:
            return
        with contextlib.suppress(Exception):
            self._file.discard()
        self._file.closed = True  # else what was not flushed is uploaded when it is garbage collected
        self._ended = True


def _is_of_a_store(error: Exception) -> bool:
    """Tell a store's or a driver's error from a mistake in code, which should show itself as it is."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] not in ("builtins", "airflow")


def code_of(error: Exception) -> str:
    """Give the store's word for an error, such as AccessDenied; else the class of the error."""
    for one in (error, error.__cause__):
        response = getattr(one, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
        if isinstance(code, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9.]{0,60}", code):
            return code
    return type(error).__name__
