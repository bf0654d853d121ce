"""What a resource states of its document, held against what came."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.protocol.integrity import Measured, Stated, begins_as, shows_its_end

CONTENT = b"%PDF-1.7 and more"
SHA1 = hashlib.sha1(CONTENT, usedforsecurity=False)
SHA256 = hashlib.sha256(CONTENT)
HASHES = {
    "base64 of SHA-1 (R4)": base64.b64encode(SHA1.digest()).decode(),
    "unpadded": base64.b64encode(SHA1.digest()).decode().rstrip("="),
    "hexadecimal": SHA1.hexdigest(),
    "hexadecimal in capitals": SHA1.hexdigest().upper(),
    "base64 of hexadecimal (XDS gateways)": base64.b64encode(SHA1.hexdigest().encode()).decode(),
    "SHA-256": base64.b64encode(SHA256.digest()).decode(),
    "SHA-256 in hexadecimal": SHA256.hexdigest(),
}


def mismatch(content: bytes, *, shows_end: bool = True, **attachment: Any) -> str:
    measured = Measured(Stated.of(attachment))
    for start in range(0, len(content), 3):
        measured.update(content[start : start + 3])
    return measured.mismatch("application/pdf", shows_end=shows_end)


@pytest.mark.parametrize("stated", HASHES.values(), ids=HASHES)
def test_a_hash_in_any_spelling_is_held_against_the_bytes(stated: str) -> None:
    """The hash is of the bytes before base64; another content is seen, the same is proof."""
    assert mismatch(CONTENT, hash=stated) == mismatch(CONTENT, hash=stated, shows_end=False) == ""
    assert "hash" in mismatch(CONTENT[:-1], hash=stated)


@pytest.mark.parametrize("size", [len(CONTENT), str(len(CONTENT))])
def test_a_size_is_held_against_the_bytes(size: Any) -> None:
    """A size as a number (R4) or as text (R5)."""
    assert mismatch(CONTENT, size=size) == mismatch(CONTENT, size=size, shows_end=False) == ""
    assert "17" in mismatch(CONTENT[:-1], size=size)


@pytest.mark.parametrize("value", [None, 0, "0", -1, 1.5, True, "many", [], {}, "9" * 40])
def test_what_is_no_size_states_nothing(value: Any) -> None:
    """A size of 0, as some servers write it for what they keep elsewhere, is no size; nor is what is no number."""
    assert mismatch(CONTENT, size=value) == ""
    assert mismatch(CONTENT, size=value, shows_end=False) != ""


@pytest.mark.parametrize("value", [None, "", "abc", 7, base64.b64encode(b"x" * 16).decode(), "é" * 20, "=" * 28])
def test_what_is_no_known_hash_states_nothing(value: Any) -> None:
    """A digest of another length cannot be checked, so it proves nothing."""
    assert mismatch(CONTENT, hash=value) == ""
    assert mismatch(CONTENT, hash=value, shows_end=False) != ""


BASE64 = base64.b64encode(CONTENT)


@pytest.mark.parametrize(
    ("kind", "head", "expected"),
    [
        ("application/pdf", CONTENT, True),
        ("application/pdf", b"junk of a mail gateway\r\n" + CONTENT, True),
        ("application/pdf", BASE64, False),
        ("application/pdf", b"<html>Sign in", False),
        ("image/png", b"\x89PNG\r\n\x1a\n", True),
        ("image/jpeg", b"\x89PNG\r\n\x1a\n", True),
        ("image/jpeg", base64.b64encode(b"\xff\xd8\xff\xe0"), False),
        ("image/tiff", b"MM\0*", True),
        ("application/rtf", b"\xef\xbb\xbf\n{\\rtf1", True),
        ("text/rtf", b"plain", False),
        ("text/plain", b"anything", True),
        ("application/octet-stream", b"anything", True),
        ("application/dicom", b"anything", True),
    ],
)
def test_how_a_document_begins(kind: str, head: bytes, expected: bool) -> None:  # noqa: FBT001
    """A PDF, RTF or an image is known by its first bytes: base64 or a page in its place is none."""
    assert begins_as(kind, head) is expected


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_only_the_same_bytes_match_their_hash(content: bytes, other: bytes) -> None:
    """A document passes where it is the one that was hashed, and only there."""
    stated = base64.b64encode(hashlib.sha1(CONTENT + other, usedforsecurity=False).digest()).decode()
    assert (mismatch(CONTENT + content, hash=stated) == "") is (content == other)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"content-length": "10"}, True),
        ({"content-length": "10, 10"}, True),
        ({"content-length": "10, 11"}, False),
        ({"content-length": "-1"}, False),
        ({"content-length": "1_0"}, False),
        ({"content-length": "²"}, False),
        ({"content-length": ""}, False),
        ({"transfer-encoding": "Chunked"}, True),
        ({"transfer-encoding": "identity"}, False),
        ({"content-encoding": "gzip"}, True),
        ({"content-encoding": "identity"}, False),
    ],
)
def test_what_shows_the_end_of_a_body(headers: dict[str, str], expected: bool) -> None:  # noqa: FBT001
    """A length, chunks and gzip do; a connection that ends does not."""
    assert shows_its_end(headers) is expected
