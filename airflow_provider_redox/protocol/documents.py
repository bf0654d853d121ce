"""Documents behind references: where FHIR resources and Data Model answers hold them, and how one is asked for.

A document lies in a resource as base64, or behind a URL: a Binary of the same server, or a file at `extra.blob_url`. A URL
that leads anywhere else is refused before anything is sent, as a `next` link is. Nothing that a server says becomes a part
of a file's name: its ending comes from a list of ours.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from airflow_provider_redox.exceptions import RedoxProtocolError, RedoxSecurityError
from airflow_provider_redox.protocol import pages
from airflow_provider_redox.protocol.effects import Intake, RedoxResponse, Request
from airflow_provider_redox.protocol.fhir import Endpoint, climbs
from airflow_provider_redox.protocol.patients import Patient
from airflow_provider_redox.protocol.settings import origin

ENDINGS: Mapping[str, str] = {
    "application/pdf": "pdf",
    "application/json": "json",
    "application/rtf": "rtf",
    "application/zip": "zip",
    "application/dicom": "dcm",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "image/tiff": "tif",
    "text/html": "html",
    "text/plain": "txt",
    "text/rtf": "rtf",
    "text/csv": "csv",
}
"""What a file's name ends with, by media type. XML and JSON of any kind are `xml` and `json`, the rest is `bin`."""

_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,59}/[a-z0-9][a-z0-9!#$&^_.+-]{0,59}")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_UNKNOWN = "application/octet-stream"
_DEEPEST = 40
_UPLOADED = re.compile(r"(/blob)?/[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
"""What follows `extra.blob_url` in the URI of an uploaded file: an ID, as at Redox, or `/blob/` and an ID."""

_API = re.compile("/(endpoint|query|upload)", re.IGNORECASE)
"""Paths of Redox's API that look like an ID."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A document as a resource holds it.

    :param source: the resource, `DocumentReference/<id>`; of a Data Model answer, its model and event.
    :param part: where in the resource, such as `content[0].attachment`.
    :param url: where it lies; None when it is in the resource.
    :param data: itself, as base64; None when it lies elsewhere.
    :param declared: its media type as the resource says, empty when it does not.
    :param patients: whom the resource is about.
    """

    source: str
    part: str
    url: str | None = field(default=None, repr=False)
    data: str | None = field(default=None, repr=False)
    declared: str = ""
    patients: tuple[Patient, ...] = field(default=(), repr=False)


def attachments_of(resource: Mapping[str, Any]) -> Iterator[Attachment]:
    """Give the documents that a resource, or a Data Model answer, holds or points to; none for any other."""
    if isinstance(resource.get("Meta"), Mapping):
        meta = resource["Meta"]
        source = " ".join(_word(meta.get(name)) for name in ("DataModel", "EventType"))
        return _of_message(resource, source, "", 0)
    kind = resource.get("resourceType")
    identifier = resource.get("id")
    source = f"{_word(kind)}/{identifier if isinstance(identifier, str) and _ID.fullmatch(identifier) else '?'}"
    if kind == "Binary":
        return iter([_attachment(source, "data", {"url": source, **resource})])
    return _of_resource(resource, kind, source)


def media_type(text: Any) -> str:
    """Give the media type of a Content-Type, in lower case, without parameters; empty for anything that is none."""
    found = text.partition(";")[0].strip().lower() if isinstance(text, str) else ""
    return found if _MEDIA_TYPE.fullmatch(found) else ""


def kind_of(answered: str, declared: str) -> str:
    """Choose between what the answer says of a document and what the resource says. `octet-stream` says nothing."""
    return next((kind for kind in (answered, declared) if kind not in ("", _UNKNOWN)), _UNKNOWN)


def ending(kind: str) -> str:
    """Give what the name of a file of this media type ends with, without the dot."""
    if kind.endswith(("/xml", "+xml")):
        return "xml"
    return "json" if kind.endswith("+json") else ENDINGS.get(kind, "bin")


def decoded(data: str) -> bytes:
    """Undo the base64 of a document, line breaks and all. Raises `RedoxProtocolError` when it is none, or empty."""
    try:
        content = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not content:
        raise beyond_help("the document in the resource is empty, or not base64")
    return content


def beyond_help(words: str) -> RedoxProtocolError:
    """Make the error for a document that will be no better the next time."""
    error = RedoxProtocolError(words)
    error.retryable = False
    return error


def request(
    attachment: Attachment,
    endpoint: Callable[[], Endpoint],
    blob_url: str | None,
    headers: Mapping[str, str],
    into: Intake,
) -> Request:
    """Make the request for a document. Raises `RedoxSecurityError` for a URL that leads elsewhere, and nothing is sent."""
    url = attachment.url or ""
    if not url:
        raise beyond_help("the resource does not say where the document lies")
    accept = f"{attachment.declared}, */*;q=0.1" if attachment.declared else "*/*"
    sent = {**headers, "accept": accept}
    if is_in_blobs(attachment, blob_url):
        return Request("GET", url, "GET (blob) {id}", sent, into=into)
    base = endpoint()
    if blob_url and _lies_at(url, blob_url) and origin(urlsplit(blob_url)) != origin(urlsplit(base.base_url)):
        return Request("GET", url, "GET (blob) {id}", sent, into=into)  # a host of files only may have paths of any form
    found = base.follow(url, what="the URL of a document")
    return Request("GET", found, f"GET {base.label}/{{document}}", sent, into=into, destination=base.slug)


def read(response: RedoxResponse, attachment: Attachment) -> tuple[str, bytes | None]:
    """Judge an answer: give the document's media type, and its bytes where they did not go into a file.

    Raises `RedoxProtocolError` for a web page in place of another document, and what `decoded` raises;
    `RedoxDestinationError` for an OperationOutcome.
    """
    said = media_type(response.headers.get("content-type"))
    if said == "text/html" and attachment.declared not in ("", "text/html", "application/xhtml+xml"):
        raise RedoxProtocolError(f"HTTP {response.status} with a web page, where the document is {attachment.declared}")
    if not said.endswith("json"):
        return kind_of(said, attachment.declared), None
    answer = response.json()
    kind = answer.get("resourceType") if isinstance(answer, dict) else None
    if kind == "OperationOutcome":
        raise pages.destination_error(response)
    if kind == "Binary":
        data = answer.get("data")
        return kind_of(media_type(answer.get("contentType")), attachment.declared), decoded(
            data if isinstance(data, str) else ""
        )
    return kind_of(said, attachment.declared), response.body


def _of_resource(resource: Mapping[str, Any], kind: Any, source: str) -> Iterator[Attachment]:
    if kind == "DocumentReference":
        for number, content in enumerate(_list(resource.get("content"))):
            if isinstance(content, Mapping):
                yield from _given(source, f"content[{number}].attachment", content.get("attachment"))
    elif kind == "DiagnosticReport":
        for number, form in enumerate(_list(resource.get("presentedForm"))):
            yield from _given(source, f"presentedForm[{number}]", form)
    elif kind == "Media":
        yield from _given(source, "content", resource.get("content"))


def _given(source: str, part: str, attachment: Any) -> Iterator[Attachment]:
    """Give an attachment that holds or names anything: one with a title alone is no document (R4, att-1)."""
    if isinstance(attachment, Mapping) and (attachment.get("data") or attachment.get("url")):
        yield _attachment(source, part, attachment)


def _attachment(source: str, part: str, value: Mapping[str, Any]) -> Attachment:
    data, url = value.get("data"), value.get("url")
    declared = media_type(value.get("contentType"))
    if isinstance(data, str) and data:
        return Attachment(source, part, data=data, declared=declared)
    return Attachment(source, part, url=url if isinstance(url, str) else "", declared=declared)


def _of_message(value: Any, source: str, part: str, depth: int) -> Iterator[Attachment]:
    """Find the files of a message: `FileContents` anywhere, and the `Value` of a result that is `Encapsulated Data`."""
    if depth > _DEEPEST:
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            where = f"{part}.{_word(name)}" if part else _word(name)
            encapsulated = name == "Value" and value.get("ValueType") == "Encapsulated Data"
            if (name == "FileContents" or encapsulated) and isinstance(inner, str) and inner:
                yield _file(source, where, inner, media_type(value.get("FileType")))
            else:
                yield from _of_message(inner, source, where, depth + 1)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _of_message(inner, source, f"{part}[{number}]", depth + 1)


def _file(source: str, part: str, text: str, declared: str) -> Attachment:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text):
        return Attachment(source, part, url=text, declared=declared)
    return Attachment(source, part, data=text, declared=declared)


def is_in_blobs(attachment: Attachment, blob_url: str | None) -> bool:
    """Say whether a document lies where uploaded files do.

    Whatever else lies at `extra.blob_url` may be the API's own, such as a log, where they share a host.
    """
    if blob_url is None or attachment.url is None or not _lies_at(attachment.url, blob_url):
        return False
    path, home = (unquote(urlsplit(one).path) for one in (attachment.url, blob_url))
    below = path.removeprefix(home.rstrip("/"))
    return bool(_UPLOADED.fullmatch(below)) and not _API.fullmatch(below)


def _lies_at(url: str, base: str) -> bool:
    if re.search(r"[^\x21-\x7e]|[\\#]", url):
        return False
    try:
        parts, home = urlsplit(url), urlsplit(base)
        same = origin(parts) == origin(home) and parts.username is None
    except ValueError:
        return False
    inside = parts.path.startswith(f"{home.path.rstrip('/')}/")
    if same and inside and climbs(parts.path):
        raise RedoxSecurityError("the URL of a document climbs out of extra.blob_url; it is not followed")
    return same and inside and "/fhir/R4/" not in unquote(parts.path)


def _word(name: Any) -> str:
    return name if isinstance(name, str) and _NAME.fullmatch(name) else "?"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
