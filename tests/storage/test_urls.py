"""A URL of a store is read in one way, by all who ask what is in it."""

from __future__ import annotations

import pytest

from airflow_provider_redox.storage.urls import place_of


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://bucket/a/b", ("s3", "", "bucket", "a/b")),
        ("s3://conn@bucket/a/b", ("s3", "conn", "bucket", "a/b")),
        ("s3a://bucket/team@acme/x", ("s3a", "", "bucket", "team@acme/x")),
        ("gs://conn@bucket/team@acme", ("gs", "conn", "bucket", "team@acme")),
        ("abfs://bucket", ("abfs", "", "bucket", "")),
        ("s3://key:secret@bucket/x", ("s3", "key:secret", "bucket", "x")),
        ("file:///data/a@b/c", ("file", "", "", "data/a@b/c")),
        ("/data/redox", ("file", "", "", "data/redox")),
    ],
)
def test_parts(url: str, parts: tuple[str, ...]) -> None:
    """An `@` belongs to a connection only before the first slash."""
    assert place_of(url) == parts


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("s3n://b", "s3"),
        ("gcs://b", "gcs"),
        ("adl://b", "azure"),
        ("local:///x", "file"),
        ("/x", "file"),
        ("x://h", "x"),
    ],
)
def test_kind(url: str, kind: str) -> None:
    """A kind of store has several spellings."""
    assert place_of(url).kind == kind


@pytest.mark.parametrize(("url", "path"), [("file:///data/x", "/data/x"), ("s3://c@b/k", "b/k"), ("s3://c@b", "b")])
def test_path(url: str, path: str) -> None:
    """What the store itself understands."""
    assert place_of(url).path == path
