"""Check that a document is whole: compare the received bytes with the size, the hash and the media type that were stated.

An attachment may state `size` and `hash` (R4, Attachment): the bytes before base64, and the base64 of their SHA-1. An answer
shows its end by its length, by chunks or by gzip; one that ends when the connection closes may be truncated anywhere.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_HEX = re.compile(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}")
_ALGORITHMS = {20: "sha1", 32: "sha256"}
_HEAD = 1024
_BOM = re.compile(rb"(?:\xef\xbb\xbf)?\s*")
_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM", b"RIFF")


@dataclass(frozen=True, slots=True)
class Stated:
    """What a resource states about its document.

    :param size: in bytes; None if it is not stated.
    :param algorithm: of the digest, `sha1` or `sha256`; empty if no digest is stated.
    """

    size: int | None = None
    algorithm: str = ""
    digest: bytes = b""

    @classmethod
    def of(cls, attachment: Mapping[str, Any]) -> Stated:
        """Read `size` and `hash` of an attachment; a value of unknown form counts as not stated."""
        return cls(_size(attachment.get("size")), *_digest(attachment.get("hash")))

    @property
    def is_proof(self) -> bool:
        """Return whether a document that matches this is proved to be whole."""
        return self.size is not None or bool(self.algorithm)


NOTHING = Stated()


class Measured:
    """The size, the digests and the first bytes of a document, measured while it is received."""

    def __init__(self, stated: Stated = NOTHING) -> None:
        self.stated = stated
        self.size = 0
        self.head = b""
        self._sha256 = hashlib.sha256()
        self._sha1 = hashlib.sha1(usedforsecurity=False) if stated.algorithm == "sha1" else None

    def update(self, chunk: bytes) -> None:
        """Add the next bytes."""
        self.size += len(chunk)
        self._sha256.update(chunk)
        if self._sha1 is not None:
            self._sha1.update(chunk)
        if len(self.head) < _HEAD:
            self.head += chunk[: _HEAD - len(self.head)]

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the received bytes, in hexadecimal."""
        return self._sha256.hexdigest()

    def mismatch(self, kind: str, *, shows_end: bool) -> str:
        """Return why the received bytes may not be the whole document, or not of its media type; empty if nothing says so.

        :param shows_end: whether the answer shows where it ends.
        """
        stated = self.stated
        if not begins_as(kind, self.head):
            return f"the document should be {kind}, but does not begin like one"
        if stated.size is not None and stated.size != self.size:
            return f"the document has {self.size} bytes, and its resource states a size of {stated.size}"
        if stated.algorithm and stated.digest != (self._sha1 or self._sha256).digest():
            return f"the document is not the one whose hash its resource states ({stated.algorithm})"
        if not shows_end and not stated.is_proof:
            return "the answer does not say where it ends, so a part of the document would look like the whole"
        return ""


def begins_as(kind: str, head: bytes) -> bool:
    """Return whether the first bytes fit a media type; always True for a type that has no fixed beginning.

    Gateways send base64 in place of the bytes, and web pages in place of documents, under the document's own type. Which
    image type it is does not count: servers mix them up.
    """
    if kind == "application/pdf":
        return b"%PDF-" in head  # within the first 1,024 bytes, as readers take it
    if kind in ("application/rtf", "text/rtf"):
        return _BOM.sub(b"", head, count=1).startswith(b"{\\rtf")
    if kind in ("image/png", "image/jpeg", "image/jpg", "image/gif", "image/tiff", "image/bmp"):
        return head.startswith(_IMAGES)
    return True


def shows_its_end(headers: Mapping[str, str]) -> bool:
    """Return whether the framing of a received body proves that it is whole (RFC 9112 section 6.3, RFC 1952)."""
    lengths = {one.strip() for one in headers.get("content-length", "").split(",")}
    stated = len(lengths) == 1 and all(one.isascii() and one.isdigit() for one in lengths)
    chunked = headers.get("transfer-encoding", "").strip().lower() == "chunked"
    return stated or chunked or "gzip" in headers.get("content-encoding", "").lower()


def _size(value: Any) -> int | None:
    """Read a size. R5 writes it as text. A 0 states nothing: HAPI once wrote 0 for content that it stores elsewhere.

    https://github.com/hapifhir/hapi-fhir/issues/3109
    """
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _digest(value: Any) -> tuple[str, bytes]:
    """Read a hash: SHA-1 (R4) or SHA-256, in base64, in hexadecimal, or in base64 of hexadecimal, as XDS gateways do."""
    text = "".join(value.split()) if isinstance(value, str) and len(value) < 200 else ""
    if _HEX.fullmatch(text):
        return _named(bytes.fromhex(text))
    try:
        content = binascii.a2b_base64(text.encode("ascii") + b"=" * (-len(text) % 4), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        return "", b""
    if len(content) in (40, 64) and _HEX.fullmatch(content.decode("latin-1")):
        content = bytes.fromhex(content.decode("ascii"))
    return _named(content)


def _named(digest: bytes) -> tuple[str, bytes]:
    algorithm = _ALGORITHMS.get(len(digest), "")
    return algorithm, digest if algorithm else b""
