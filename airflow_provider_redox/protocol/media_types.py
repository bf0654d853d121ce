"""Media types: as headers and resources state them, as Redox's messages abbreviate them, and as suffixes of files.

No word of a server becomes part of a file's name: the suffix comes from a fixed list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

UNKNOWN = "application/octet-stream"

SUFFIXES: Mapping[str, str] = {
    "application/pdf": "pdf",
    "application/json": "json",
    "application/ndjson": "jsonl",
    "application/x-ndjson": "jsonl",
    "application/fhir+ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/rtf": "rtf",
    "application/zip": "zip",
    "application/dicom": "dcm",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/xhtml+xml": "html",
    "audio/wav": "wav",
    "image/bmp": "bmp",
    "image/jpeg": "jpg",
    "image/jpg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "image/tiff": "tif",
    "text/html": "html",
    "text/plain": "txt",
    "text/rtf": "rtf",
    "text/csv": "csv",
}
"""The suffix of a file, by its media type. XML and JSON of any kind are `xml` and `json`, the rest is `bin`.

One to five small letters: by that form, a purge and a second run of a task know the files of documents.
"""

WEB_PAGES = ("text/html", "application/xhtml+xml")

_WORDS: Mapping[str, str] = {
    "bmp": "image/bmp",
    "ccd": "text/xml",
    "ccda": "text/xml",
    "cda": "text/xml",
    "csv": "text/csv",
    "dcm": "application/dicom",
    "dicom": "application/dicom",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "gif": "image/gif",
    "htm": "text/html",
    "html": "text/html",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "pdf": "application/pdf",
    "plaintext": "text/plain",
    "png": "image/png",
    "rtf": "application/rtf",
    "text": "text/plain",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "txt": "text/plain",
    "wav": "audio/wav",
    "xhtml": "application/xhtml+xml",
    "xml": "text/xml",
    "zip": "application/zip",
}
"""The words that `FileType` and `ContentType` of Redox's messages hold in place of a media type."""

_FORM = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
_ALSO_JSON = ("application/json", "text/json", "application/x-json", "text/x-json", "application/json+fhir")


def media_type(text: Any) -> str:
    """Return the media type of a Content-Type, in lower case, without parameters; empty for anything that is none."""
    found = text.partition(";")[0].strip().lower() if isinstance(text, str) else ""
    return found if _FORM.fullmatch(found) else ""


def of_word(text: Any) -> str:
    """Return the media type of a word such as `PDF`, `.jpg` or `C-CDA`, or of a media type; empty for any other."""
    return media_type(text) or _WORDS.get(plain(text), "")


def plain(text: Any) -> str:
    """Return a word as lower-case letters and digits, the form in which words are compared: `Plain Text` is `PlainText`."""
    return re.sub(r"[^a-z0-9]", "", text[:80].lower()) if isinstance(text, str) else ""


def is_json(kind: str) -> bool:
    """Return whether a media type is that of one JSON text. NDJSON is none: it is a file of many."""
    return kind in _ALSO_JSON or kind.endswith("+json")


def is_text(kind: str) -> bool:
    """Return whether what has this media type is text that a JSON string can hold as it is."""
    return kind.startswith("text/") or kind.endswith(("/xml", "+xml", "/rtf", "json"))


def kind_of(answered: str, declared: str) -> str:
    """Choose between the media types of the answer and of the resource. `octet-stream` counts as not stated."""
    return next((kind for kind in (answered, declared) if kind not in ("", UNKNOWN, "binary/octet-stream")), UNKNOWN)


def suffix(kind: str) -> str:
    """Return the file suffix for a media type, without the dot."""
    if kind in SUFFIXES:
        return SUFFIXES[kind]
    if kind.endswith(("/xml", "+xml")):
        return "xml"
    return "json" if is_json(kind) else "bin"
