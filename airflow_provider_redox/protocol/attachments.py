"""Where FHIR resources and Data Model messages hold documents, or point to them.

Each pointer becomes an `Attachment`, even if it leads nowhere, so that no document is lost silently.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_redox.protocol import ids, media_types
from airflow_provider_redox.protocol.contents import Coding, is_data_uri
from airflow_provider_redox.protocol.integrity import NOTHING, Stated
from airflow_provider_redox.protocol.media_types import media_type, plain
from airflow_provider_redox.protocol.patients import Patient

NOWHERE = "the resource does not say where the document lies"
EMPTY = "the message names a file and holds none"
ONLY_LISTED = "a DocumentQuery only lists it: ask for it with a DocumentGet query, and download that query's result"
NO_ELEMENT = "the resource has no element for its document; a search with _summary or _elements leaves it out"
NOT_CONTAINED = "the resource points to a Binary inside itself, and that is not there"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]+")
_WEB_URI = re.compile(r"https?://[\x21-\x7e]+", re.IGNORECASE)
_DEEPEST = 40

_CODINGS: Mapping[str, tuple[Coding, str]] = {
    "plaintext": (Coding.TEXT, "text/plain"),
    "text": (Coding.TEXT, "text/plain"),
    "rtf": (Coding.TEXT, "application/rtf"),
    "html": (Coding.TEXT, "text/html"),
    "base64encoded": (Coding.BASE64, ""),
    "base64": (Coding.BASE64, ""),
}
"""The values of `ContentType` beside `FileContents`: the encoding, and the media type (data models Notes and Media)."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A document as a resource holds it.

    :param source: the resource, `DocumentReference/<id>`; for a Data Model answer, `Media.QueryResponse/<log ID>`.
    :param part: where in the resource, such as `content[0].attachment`.
    :param url: the document's URL; None if the document is in the resource itself.
    :param data: the document itself, encoded as `coding` says; None if it is at a URL.
    :param declared: the media type that the resource states; empty if it states none.
    :param patients: the patients that the resource is about.
    :param stated: the size and the hash that the resource states.
    :param fault: why the document cannot be downloaded; empty if it can be tried.
    """

    source: str
    part: str
    url: str | None = field(default=None, repr=False)
    data: str | None = field(default=None, repr=False)
    declared: str = ""
    patients: tuple[Patient, ...] = field(default=(), repr=False)
    coding: Coding = Coding.BASE64
    stated: Stated = field(default=NOTHING, repr=False)
    fault: str = ""


def attachments_of(resource: Mapping[str, Any]) -> Iterator[Attachment]:
    """Return the documents that a resource, or a Data Model answer, holds or points to; none for other JSON."""
    if isinstance(resource.get("Meta"), Mapping):
        return _of_message(resource, resource["Meta"])
    return _of_resource(resource, resource.get("resourceType"), ids.named(resource))


def at(source: str, part: str, url: str) -> Attachment:
    """Return the document at a URL, or the one that a `data:` URI holds."""
    return _pointed(source, part, url, {}, {})


# FHIR


def _of_resource(resource: Mapping[str, Any], kind: Any, source: str) -> Iterator[Attachment]:
    if kind == "Binary":
        yield _binary(resource, source)
    elif kind == "DocumentReference":
        contents = resource.get("content")
        for number, content in enumerate(contents if isinstance(contents, list) and contents else [None]):
            attachment = content.get("attachment") if isinstance(content, Mapping) else None
            yield from _required(source, f"content[{number}].attachment", attachment, resource)
    elif kind == "DiagnosticReport":
        forms = resource.get("presentedForm")
        for number, form in enumerate(forms if isinstance(forms, list) else []):
            yield from _given(source, f"presentedForm[{number}]", form, resource)
    elif kind == "Media":
        yield from _required(source, "content", resource.get("content"), resource)


def _binary(resource: Mapping[str, Any], source: str) -> Attachment:
    """Return the document of a Binary: its data, or its own URL if the ID can be part of one."""
    declared = media_type(resource.get("contentType"))
    data = resource.get("data", resource.get("content"))  # STU3 calls it content
    if isinstance(data, str) and data:
        return Attachment(source, "data", data=data, declared=declared)
    segment = ids.path_segment(resource.get("id"))
    fault = NOWHERE if segment is None else ""
    return Attachment(source, "data", url=None if segment is None else f"Binary/{segment}", declared=declared, fault=fault)


def _required(source: str, part: str, attachment: Any, resource: Mapping[str, Any]) -> Iterator[Attachment]:
    if isinstance(attachment, Mapping) and attachment:
        return _given(source, part, attachment, resource)
    return iter([Attachment(source, part, fault=NO_ELEMENT)])


def _given(source: str, part: str, attachment: Any, resource: Mapping[str, Any]) -> Iterator[Attachment]:
    """Yield the document of an attachment. One with a title or a type alone states that there is none (R4, Attachment)."""
    if not isinstance(attachment, Mapping):
        yield Attachment(source, part, fault=NO_ELEMENT)
        return
    data, url = attachment.get("data"), attachment.get("url")
    stated = Stated.of(attachment)
    if isinstance(data, str) and data:
        yield Attachment(source, part, data=data, declared=media_type(attachment.get("contentType")), stated=stated)
    elif isinstance(url, str) and url:
        yield _pointed(source, part, url, attachment, resource)
    elif stated.is_proof or any(attachment.get(name) is not None for name in ("data", "url", "_data", "_url")):
        yield Attachment(source, part, fault=NOWHERE)


def _pointed(source: str, part: str, url: str, attachment: Mapping[str, Any], resource: Mapping[str, Any]) -> Attachment:
    declared, stated = media_type(attachment.get("contentType")), Stated.of(attachment)
    if is_data_uri(url):
        kind = declared or media_type(url[5:].partition(",")[0]) or "text/plain"
        return Attachment(source, part, data=url, declared=kind, stated=stated)
    if url.startswith("#"):
        return _contained(source, part, url[1:], declared, stated, resource)
    return Attachment(source, part, url=url, declared=declared, stated=stated)


def _contained(source: str, part: str, name: str, declared: str, stated: Stated, resource: Mapping[str, Any]) -> Attachment:
    """Find a Binary that the resource itself contains (R4, contained resources)."""
    listed = resource.get("contained")
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, Mapping) and one.get("resourceType") == "Binary" and one.get("id") in (name, f"#{name}"):
            data = one.get("data")
            if isinstance(data, str) and data:
                kind = declared or media_type(one.get("contentType"))
                return Attachment(source, part, data=data, declared=kind, stated=stated)
    return Attachment(source, part, fault=NOT_CONTAINED)


# Redox's Data Models


def _of_message(message: Mapping[str, Any], meta: Mapping[str, Any]) -> Iterator[Attachment]:
    source = ids.named(message)
    event = plain(meta.get("EventType"))
    if event == "documentgetresponse" or (event == "documentget" and "Data" in message):
        yield _file(source, "Data", message.get("Data"), message)
    listed = message.get("Documents")
    if event.startswith("documentquery") and isinstance(listed, list):
        yield from (Attachment(source, f"Documents[{number}]", fault=ONLY_LISTED) for number, _ in enumerate(listed))
    yield from _in_message(message, source, "", 0)


def _in_message(value: Any, source: str, part: str, depth: int) -> Iterator[Attachment]:
    """Find the files of a message: `FileContents` anywhere, and the `Value` of a result that is `Encapsulated Data`."""
    if depth > _DEEPEST:
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            where = f"{part}.{_word(name)}" if part else _word(name)
            encapsulated = name == "Value" and plain(value.get("ValueType")) == "encapsulateddata"
            if encapsulated or (name == "FileContents" and inner is not None):
                yield _file(source, where, inner, value)
            else:
                yield from _in_message(inner, source, where, depth + 1)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _in_message(inner, source, f"{part}[{number}]", depth + 1)


def _file(source: str, part: str, text: Any, beside: Mapping[str, Any]) -> Attachment:
    """Read the fields beside a file in a message: `ContentType` states how it is encoded there, `FileType` what it is."""
    if not isinstance(text, str) or not text.strip():
        return Attachment(source, part, fault=EMPTY)
    coding, kind = _CODINGS.get(plain(beside.get("ContentType")), (Coding.UNTOLD, ""))
    declared = media_types.of_word(beside.get("FileType")) or kind or media_types.of_word(beside.get("ContentType"))
    if coding is Coding.TEXT and not media_types.is_text(declared):
        coding = Coding.UNTOLD  # a PDF that calls itself plain text is base64, or nothing that can be told
    if coding is not Coding.TEXT and is_data_uri(text):
        return _pointed(source, part, text, {"contentType": declared}, {})
    if (_WEB_URI if coding is Coding.TEXT else _URI).fullmatch(text.strip()):
        return Attachment(source, part, url=text.strip(), declared=declared)
    return Attachment(source, part, data=text, declared=declared, coding=coding)


def _word(name: Any) -> str:
    return name if isinstance(name, str) and _NAME.fullmatch(name) else "?"
