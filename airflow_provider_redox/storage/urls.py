"""The URL of a place on a store, taken apart: one reading for all who ask what is in it."""

from __future__ import annotations

from typing import NamedTuple

from airflow_provider_redox.exceptions import RedoxConfigError

KINDS = {
    "s3": ("s3", "s3a", "s3n"),
    "gcs": ("gs", "gcs"),
    "azure": ("abfs", "abfss", "adl"),
    "file": ("file", "local"),
}
"""Kinds of stores, with the schemes that name them."""


class Place(NamedTuple):
    """A URL's parts; an `@` in the key is a part of the key.

    :param connection: the connection ID before the `@`; empty where there is none.
    :param bucket: empty on a disk.
    :param key: what comes after the bucket, without the slash between.
    """

    scheme: str
    connection: str
    bucket: str
    key: str

    @property
    def kind(self) -> str:
        """The kind of store, whichever spelling its scheme has; the scheme itself for one that is not known."""
        return next((kind for kind, schemes in KINDS.items() if self.scheme in schemes), self.scheme)

    @property
    def path(self) -> str:
        """Bucket and key: what the store itself understands."""
        return f"{self.bucket}/{self.key}" if self.key else self.bucket


def place_of(url: str) -> Place:
    """Take a URL apart; a path is one on a disk."""
    scheme, found, rest = url.partition("://")
    scheme, rest = (scheme, rest) if found else ("file", url)
    authority, _, key = rest.partition("/")
    connection, _, bucket = authority.rpartition("@")
    return Place(scheme, connection, bucket, key)


def check_place(root: str, *, name: str = "output_path") -> None:
    """Refuse a key where a connection ID belongs: a path is shown in many places. Raises `RedoxConfigError`."""
    if ":" in place_of(root).connection:
        raise RedoxConfigError(f"{name}: what stands before the @ must be a connection ID; keys belong in the connection")
