"""The bytes of a document that stands in JSON: base64 in any of its spellings, a `data:` URI, or text.

Base64 that may be truncated is refused: it ends within a byte, or has no padding and its unused bits are not zero.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
from urllib.parse import unquote_to_bytes

from airflow_provider_redox.exceptions import RedoxProtocolError
from airflow_provider_redox.protocol.media_types import is_text, media_type

_DATA_URI = re.compile(r"data:[^\s,]{0,500},", re.IGNORECASE)
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_HEX_ESCAPES = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0e-\x1f]")


class Coding(enum.Enum):
    """How a document is encoded in a JSON string."""

    BASE64 = "base64"
    TEXT = "text"
    UNTOLD = "untold"


def beyond_help(words: str) -> RedoxProtocolError:
    """Return an error that no retry can heal."""
    error = RedoxProtocolError(words)
    error.retryable = False
    return error


def content_of(text: str, coding: Coding, kind: str = "") -> bytes:
    """Return the bytes of a document. Raises `RedoxProtocolError` if they cannot be decoded, or if there are none.

    :param kind: its media type, if known; it decides how to decode a document whose coding is not stated.
    """
    if coding is Coding.TEXT:
        return _encoded(text)
    if is_data_uri(text):
        return data_uri(text)[1]
    if coding is Coding.UNTOLD and is_text(kind) and not _is_coded_text(text):
        return _encoded(text)
    return from_base64(text)


def from_base64(text: str) -> bytes:
    """Decode base64: padded or not, of either alphabet (RFC 4648, sections 4 and 5), with line breaks and spaces.

    Raises `RedoxProtocolError` if it is not base64, is empty, or may be truncated.
    """
    content = _decoded(text)
    if not content:
        raise beyond_help("the document in the resource is empty, or not base64, or its base64 is not whole")
    return content


def _decoded(text: str) -> bytes | None:
    if not text.isascii():
        return None
    letters = b"".join(text.encode("ascii").split())
    body = letters.rstrip(b"=")
    missing = -len(body) % 4
    if missing == 3 or len(letters) - len(body) not in (0, missing):
        return None
    if b"-" in body or b"_" in body:
        if b"+" in body or b"/" in body:
            return None
        body = body.translate(_URL_SAFE)
    try:
        content = binascii.a2b_base64(body + b"=" * missing, strict_mode=True)
    except binascii.Error:
        return None
    if not missing or len(letters) > len(body):
        return content
    # Without padding nothing shows the end, but an encoder leaves the bits behind the last byte zero, and a cut seldom does.
    return content if base64.b64encode(content[missing - 3 :]).rstrip(b"=") == body[missing - 4 :] else None


def _is_coded_text(text: str) -> bool:
    """Return whether a string holds a text document as base64: its decoded bytes are text, which plain words never yield."""
    content = _decoded(text)
    if not content:
        return False
    try:
        return not _UNPRINTABLE.search(content.decode("utf-8"))
    except UnicodeDecodeError:
        return False


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise beyond_help("the document in the resource holds half of a character, so it is damaged") from None


def is_data_uri(text: str) -> bool:
    """Return whether it is a URI that holds the document itself (RFC 2397)."""
    return bool(_DATA_URI.match(text))


def data_uri(text: str) -> tuple[str, bytes]:
    """Return the media type and the bytes that a `data:` URI holds. Raises `RedoxProtocolError` where it is damaged."""
    head, _, data = text[5:].partition(",")
    kind, *options = head.split(";")
    if options and options[-1].strip().lower() == "base64":
        content = from_base64(_unquoted(data).decode("latin-1"))
    else:
        content = _unquoted(data)
    if not content:
        raise beyond_help("the document's data: URI is empty")
    return media_type(kind) or "text/plain", content


def _unquoted(data: str) -> bytes:
    if _HEX_ESCAPES.search(data):
        raise beyond_help("the document's data: URI holds a '%' that is no escape, so it is damaged")
    return unquote_to_bytes(_encoded(data))
