"""Files to be sent: found on any store, checked before anything leaves, and never named in a complaint."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.uploads import MAX_BYTES
from airflow_provider_redox.storage.inputs import file_to_upload, read_json


def refusal(place: Any) -> str:
    with pytest.raises(RedoxConfigError) as raised:
        file_to_upload(place, where="paths[1]")
    assert "quillfeather" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("form", ["{}", "file://{}", Path])
def test_a_file_is_a_path_or_a_url(tmp_path: Path, form: Any) -> None:
    """An absolute path, a URL and a pathlib path name the same file; each opening begins at its start."""
    (tmp_path / "scan.PDF").write_bytes(b"abc")
    place = form(tmp_path / "scan.PDF") if form is Path else form.format(tmp_path / "scan.PDF")
    found = file_to_upload(place, where="path")
    assert (found.size, found.suffix) == (3, "PDF")
    for _ in range(2):
        with found.open() as file:
            assert file.read() == b"abc"


def test_a_file_on_a_store() -> None:
    """Any store that fsspec knows will do."""
    from fsspec.implementations.memory import MemoryFileSystem

    try:
        from airflow.sdk.io import attach
    except ImportError:
        from airflow.io.store import attach
    attach("memory", fs=MemoryFileSystem())
    MemoryFileSystem().pipe("/inputs/scan", b"abcd")
    found = file_to_upload("memory://inputs/scan", where="path")
    assert (found.size, found.suffix) == (4, "")
    with found.open() as file:
        assert file.read() == b"abcd"


def test_bytes_are_a_file() -> None:
    """What is in memory already needs no storage."""
    found = file_to_upload(b"abc", where="file")
    with found.open() as file:
        assert (found.size, file.read()) == (3, b"abc")


def test_what_cannot_be_sent_is_named(tmp_path: Path) -> None:
    """A file that is gone, empty or too large, a folder, and what is no path at all."""
    (tmp_path / "quillfeather").touch()
    with (tmp_path / "quillfeather.large").open("wb") as large:
        large.truncate(MAX_BYTES + 1)
    assert "there is no file at this place" in refusal(f"{tmp_path}/quillfeather.gone")
    assert "there is no file at this place" in refusal(f"{tmp_path}/quillfeather/below")
    assert "there is no file at this place" in refusal(str(tmp_path))
    assert refusal(f"{tmp_path}/quillfeather") == "paths[1]: the file is empty"
    assert refusal(f"{tmp_path}/quillfeather.large") == "paths[1]: the file has 31457281 bytes, and Redox takes 31457280"
    missing = refusal("nosuch://x/quillfeather")
    assert missing.startswith("paths[1]: no driver for nosuch:// is installed on this worker")
    assert "quillfeather" not in missing
    assert "absolute path or a URL" in refusal("quillfeather/scan")
    for nothing in ("", None, 7, ["/quillfeather"]):
        assert refusal(nothing) == "paths[1]: must be the path or URL of a file"
    assert refusal(b"") == "paths[1]: the file is empty"


def test_json_is_read_digit_for_digit(tmp_path: Path) -> None:
    """What is read and sent again has the digits of the file."""
    text = b'{"a":1.10,"b":[1E+2,0.10000000000000000001,12345678901234567890123]}'
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf" + text)
    found = read_json(f"{tmp_path}/x.json", where="bundle_path", limit=1000)
    assert found.value["a"] == Decimal("1.10")
    assert found.text.encode() == text


@pytest.mark.parametrize("content", [b"", b"Quillfeather", b'{"x": "Quillfeather"', b'\xff"', b"[" * 100_000])
def test_what_is_no_json_is_named_without_its_text(tmp_path: Path, content: bytes) -> None:
    """The complaint says where, never what."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(
        RedoxConfigError, match=r"^bundle_path: (must be a JSON object|not JSON|not UTF-8|nested too deeply)"
    ) as raised:
        read_json(f"{tmp_path}/x", where="bundle_path", limit=1_000_000)
    assert "Quillfeather" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_json_above_the_limit_is_not_read(tmp_path: Path) -> None:
    """Its size is known before."""
    (tmp_path / "x").write_text(json.dumps("x" * 100))
    with pytest.raises(RedoxConfigError, match="102 bytes, and Redox takes 50"):
        read_json(f"{tmp_path}/x", where="bundle_path", limit=50)
