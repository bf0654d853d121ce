"""Download documents from URLs: check where a URL leads, and that the answer is the whole document.

A document is a Binary of the same server, or a file at `extra.blob_url`. A URL that leads anywhere else is refused before
anything is sent, as a `next` link is. An answer counts as the document only if its status, its end, and the size and hash
that the resource states all fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from airflow_provider_redox.exceptions import RedoxProtocolError, RedoxSecurityError
from airflow_provider_redox.protocol import pages
from airflow_provider_redox.protocol.attachments import Attachment
from airflow_provider_redox.protocol.contents import Coding, beyond_help, content_of
from airflow_provider_redox.protocol.effects import Intake, RedoxResponse, Request
from airflow_provider_redox.protocol.fhir import Endpoint, climbs
from airflow_provider_redox.protocol.integrity import Measured, shows_its_end
from airflow_provider_redox.protocol.media_types import WEB_PAGES, is_json, is_text, kind_of, media_type
from airflow_provider_redox.protocol.settings import origin

OnMismatch = Literal["fail", "warn"]

_UPLOADED = re.compile(r"(/blob)?/[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
"""What follows `extra.blob_url` in the URI of an uploaded file: an ID, as at Redox, or `/blob/` and an ID."""

_API = re.compile("/(endpoint|query|upload)", re.IGNORECASE)
"""Paths of Redox's API that look like an ID."""

_FROM_THE_ROOT = re.compile(r"/(?:[^/?#]+/){0,8}(Binary/[^/?#]+)(?:/_history/[^/?#]+)?/?(\?[^#]*)?")
_OTHER_SCHEME = re.compile(r"(?!https?:)[A-Za-z][A-Za-z0-9+.-]*:", re.IGNORECASE)
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<!doctype\s+html|<html[\s>])", re.IGNORECASE)
_FHIR_JSON = re.compile(rb"(?:\xef\xbb\xbf)?\s*\{.{0,800}?\"resourceType\"\s*:\s*\"(?:Binary|OperationOutcome)\"", re.DOTALL)
_FHIR_XML = re.compile(
    rb"""(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?<(?:Binary|OperationOutcome)\s[^>]*["']http://hl7.org/fhir["']"""
)


class DocumentIntake(Intake, Protocol):
    """Where a document is written while it is received; measures the received bytes."""

    @property
    def measured(self) -> Measured:
        """The size and the digests of what the last try received."""


class Document(NamedTuple):
    """A document that was downloaded.

    :param content: its bytes, where they did not go into a file.
    :param mismatch: why it may not be the whole document, where that is only a warning.
    """

    kind: str
    content: bytes | None = None
    mismatch: str = ""


def request(
    attachment: Attachment,
    endpoint: Callable[[], Endpoint],
    blob_url: str | None,
    headers: Mapping[str, str],
    into: Intake,
) -> Request:
    """Build the request for a document. Raises `RedoxSecurityError` for a URL that leads elsewhere, and nothing is sent."""
    url = attachment.url or ""
    if attachment.fault or not url:
        raise beyond_help(attachment.fault or "the resource does not say where the document lies")
    accept = f"{attachment.declared}, */*;q=0.1" if attachment.declared else "*/*"
    sent = {"accept": accept, **headers}
    if is_in_blobs(attachment, blob_url):
        return Request("GET", url, "GET (blob) {id}", sent, into=into)
    if _OTHER_SCHEME.match(url):
        raise RedoxSecurityError("the URL of a document is none of http or https, such as urn: or file:; it is not followed")
    base = endpoint()
    if blob_url and _lies_at(url, blob_url) and origin(urlsplit(blob_url)) != origin(urlsplit(base.base_url)):
        return Request("GET", url, "GET (blob) {id}", sent, into=into)  # a host of files only may have paths of any form
    found = base.follow(_below(base, url), what="the URL of a document")
    if urlsplit(found).path.rstrip("/") == urlsplit(base.url).path:
        raise RedoxSecurityError("the URL of a document names no document on the destination's server; it is not followed")
    return Request("GET", found, f"GET {base.label}/{{document}}", sent, into=into, destination=base.slug)


def _below(base: Endpoint, url: str) -> str:
    """Put a Binary that a server names from its own root onto the destination's base, unless it is another destination's.

    https://github.com/smart-on-fhir/bulk-data-client/issues/11 tells of the forms in use.
    """
    path = urlsplit(base.base_url).path
    found = _FROM_THE_ROOT.fullmatch(url)
    if found is None or re.match(rf"{re.escape(path)}/fhir/R4/[^/]+/[^/]+/", unquote(url), re.IGNORECASE):
        return url
    return f"{found[1]}{found[2] or ''}"


def read(
    response: RedoxResponse, attachment: Attachment, measured: Measured, *, on_mismatch: OnMismatch = "fail"
) -> Document:
    """Read the whole document from an answer.

    Raises `RedoxProtocolError` for anything else in its place, and for a document that does not match its stated size, hash
    or media type, unless that is only a warning; `RedoxDestinationError` for an OperationOutcome.

    :param measured: the measured bytes of a document that was written to a file.
    """
    said = media_type(response.headers.get("content-type"))
    if is_json(said):
        kind, content = _in_json(response, attachment, said)
        return judged(kind, content, attachment, on_mismatch=on_mismatch)
    _refuse_other(said, attachment.declared, measured.head, response.status)
    kind = kind_of(said, attachment.declared)
    return Document(kind, None, _mismatch(measured, kind, on_mismatch, shows_end=shows_its_end(response.headers)))


def judged(kind: str, content: bytes, attachment: Attachment, *, on_mismatch: OnMismatch = "fail") -> Document:
    """Check a document that is already here, as `read` does."""
    measured = Measured(attachment.stated)
    measured.update(content)
    return Document(kind, content, _mismatch(measured, kind, on_mismatch, shows_end=True))


def _mismatch(measured: Measured, kind: str, on_mismatch: OnMismatch, *, shows_end: bool) -> str:
    if not measured.size:
        raise beyond_help("the document is empty")
    words = measured.mismatch(kind, shows_end=shows_end)
    if words and on_mismatch == "fail":
        error = RedoxProtocolError(f"{words}; on_mismatch='warn' keeps it")
        error.retryable = shows_end or measured.stated.is_proof  # where nothing shows the end, nothing will
        raise error
    return words


def _in_json(response: RedoxResponse, attachment: Attachment, said: str) -> tuple[str, bytes]:
    answer = response.json()
    kind = answer.get("resourceType") if isinstance(answer, dict) else None
    if kind == "OperationOutcome":
        raise pages.destination_error(response)
    if kind == "Binary":
        data = answer.get("data", answer.get("content"))  # STU3 calls it content
        content = content_of(data if isinstance(data, str) else "", Coding.BASE64)
        return kind_of(media_type(answer.get("contentType")), attachment.declared), content
    if kind_of("", attachment.declared) == attachment.declared and not is_json(attachment.declared):
        raise RedoxProtocolError(f"HTTP {response.status} with JSON, where the document is {attachment.declared}")
    return kind_of(said, attachment.declared), response.body


def _refuse_other(said: str, declared: str, head: bytes, status: int) -> None:
    """Raise `RedoxProtocolError` for a web page, or for FHIR around the document, in place of the document."""
    expected = declared or said
    if said in WEB_PAGES and declared not in ("", *WEB_PAGES):
        raise RedoxProtocolError(f"HTTP {status} with a web page, where the document is {declared}")
    if (
        _PAGE.match(head)
        and expected not in ("", *WEB_PAGES)
        and (kind_of("", expected) == expected)
        and not _is_plain(expected)
    ):
        raise RedoxProtocolError(f"HTTP {status} with a web page, where the document is {expected}")
    if ("json" not in f"{said} {declared}" and _FHIR_JSON.match(head)) or ("fhir" not in declared and _FHIR_XML.match(head)):
        raise RedoxProtocolError(
            f"HTTP {status} with a FHIR resource in place of the document, and not as FHIR JSON; "
            "set the task's headers to {'Accept': 'application/fhir+json'}"
        )
    if said.startswith("multipart/") and not declared.startswith("multipart/"):
        raise RedoxProtocolError(f"HTTP {status} with several parts ({said}) in place of the document")


def _is_plain(kind: str) -> bool:
    """Return whether a document of this media type may legitimately be HTML."""
    return is_text(kind) and not kind.endswith(("xml", "rtf"))


def is_in_blobs(attachment: Attachment, blob_url: str | None) -> bool:
    """Return whether a document lies where uploaded files do.

    Other paths below `extra.blob_url` may be the API's own, such as a log, if both are on one host.
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
