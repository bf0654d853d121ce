"""What Redox can be asked, each call a flow. Written once; the hooks drive it, blocking or awaiting."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxProtocolError, RedoxSecurityError
from airflow_provider_redox.protocol import data_model, documents, fhir, message_header, pages, uploads
from airflow_provider_redox.protocol.allowance import EVERYTHING
from airflow_provider_redox.protocol.destinations import Destination, find_destination
from airflow_provider_redox.protocol.effects import Flow, Intake, RedoxResponse, Request
from airflow_provider_redox.protocol.exchange import Environment, exchange
from airflow_provider_redox.protocol.failures import meta_errors, raise_refusal
from airflow_provider_redox.protocol.paging import Walk, start_walk
from airflow_provider_redox.protocol.platform import log_request, read_log
from airflow_provider_redox.protocol.settings import Settings, checked_headers, origin
from airflow_provider_redox.protocol.terms import Terms

_DOT_SEGMENT = re.compile(r"(^|/|%2f|%5c)(\.|%2e){1,2}(/|\?|;|%2f|%5c|$)", re.IGNORECASE)
_SLUG_OF = re.compile(r"^/fhir/R4/([A-Za-z0-9._-]+)/")
_RESOURCE_OF = re.compile(r"/fhir/R4/[^/]+/[^/]+/([A-Z][A-Za-z]*)")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of one connection."""

    settings: Settings
    env: Environment

    def request(self, method: str, path: str, *, idempotent: bool | None = None, **parts: Any) -> Flow[RedoxResponse]:
        """Any method and path below the connection's host; for the parts see `prepared`. Raises for every status but 2xx."""
        return self.send(self.prepared(method, path, **parts), idempotent=idempotent)

    def prepared(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        form: Mapping[str, Any] | None = None,
        json: Any = None,
        data: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Request:
        """Make any request below the connection's host. Raises `RedoxConfigError` and `RedoxSecurityError`."""
        self.settings.allow.check("request")
        body, kind = _body(form=form, json=json, data=data)
        return self._request(method, path, params, body, {**kind, **(headers or {})})

    def send(self, request: Request, *, idempotent: bool | None = None) -> Flow[RedoxResponse]:
        """Send a request; by default its method, path and message say whether it may be repeated."""
        repeatable = may_repeat(request.method, request.url, request.body) if idempotent is None else idempotent
        return exchange(request, _whole, repeatable=repeatable, env=self.env)

    def answered(self, request: Request) -> Flow[RedoxResponse]:
        """Send a ready request and give whatever status comes back in the end; for those who judge it themselves.

        Redirects are errors here too, and an unsafe request whose outcome is unknown still is.
        """
        self.settings.allow.check("request")

        def final(response: RedoxResponse) -> RedoxResponse:
            return response if response.status >= 400 else raise_refusal(response)

        repeatable = may_repeat(request.method, request.url, request.body)
        return exchange(request, _whole, repeatable=repeatable, env=self.env, refused=final)

    def search(
        self,
        resource_type: str,
        params: Mapping[str, Any] | bytes,
        *,
        destination: str | None = None,
        environment: str | None = None,
        headers: Mapping[str, str] | None = None,
        terms: Terms | None = None,
        seen: set[int] | None = None,
    ) -> Walk:
        """Begin a FHIR search, by its parameters or the form made of them. Nothing is sent before a page is asked for."""
        self._check("search", resource_type)
        form = params if isinstance(params, bytes) else fhir.search_form(params)
        base = self.endpoint(destination, environment)
        return start_walk(base, resource_type, form, headers=self._headers(headers), env=self.env, terms=terms, seen=seen)

    def read(
        self,
        resource_type: str,
        resource_id: str,
        *,
        destination: str | None = None,
        environment: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Flow[RedoxResponse]:
        """Read one resource, and give the answer that holds it and no other: its digits, its headers."""
        self._check("read", resource_type)
        base = self.endpoint(destination, environment)
        request = base.read(resource_type, resource_id, self._headers(headers))

        def asked_for(response: RedoxResponse) -> RedoxResponse:
            resource = _resource(response)
            if (resource["resourceType"], resource.get("id", resource_id)) != (resource_type, resource_id):
                raise RedoxProtocolError(f"HTTP {response.status}, but the answer is another resource than was asked for")
            return response

        return exchange(request, asked_for, repeatable=True, env=self.env)

    def writeback(
        self, resource_type: str, operation: str, bundle: Mapping[str, Any], **options: Any
    ) -> Flow[RedoxResponse]:
        """Send a message Bundle to a writeback operation; for the options see `prepared_writeback`.

        Unsafe: never repeated where it may have been processed.
        """
        return self.write(self.prepared_writeback(resource_type, operation, bundle, **options))

    def prepared_writeback(
        self,
        resource_type: str,
        operation: str,
        bundle: Mapping[str, Any],
        *,
        destination: str | None = None,
        environment: str | None = None,
        headers: Mapping[str, str] | None = None,
        message_id: str | None = None,
    ) -> Request:
        """Make the request that writes a message Bundle back.

        A Bundle without a MessageHeader gets one, with this message ID or a new one; see `message_header.completed`.
        """
        self._check("writeback", resource_type)
        found = find_destination(self.settings.destinations, destination, default=self.settings.destination)
        self._check_places(found.fhir_slug())
        whole = message_header.completed(
            bundle,
            resource_type=fhir.checked_type(resource_type),
            operation=operation,
            message_id=message_id or message_header.new_message_id(self.env.new_jti()),
            source_id=self.settings.source_id,
            destination=found,
        )
        base = fhir.endpoint(self.settings, found.fhir_slug(), environment)
        body = data_model.encode(whole, where="bundle")
        return base.writeback(resource_type, operation, body, self._headers(headers))

    def write(self, request: Request, *, repeatable: bool = False) -> Flow[RedoxResponse]:
        """Send what `prepared_writeback` made."""
        return exchange(request, _written, repeatable=repeatable, env=self.env)

    def upload(self, file: uploads.File, *, headers: Mapping[str, str] | None = None, idempotent: bool = False) -> Flow[str]:
        """Upload a file to `extra.blob_url` and give its URI.

        Not repeated where it may have arrived, unless `idempotent`: a second copy that no message names does no harm.
        """
        self.settings.allow.check("upload")
        if self.settings.blob_url is None:
            raise RedoxConfigError("extra.blob_url: missing; host is not Redox's own, so say where its files are uploaded")
        boundary = message_header.new_message_id(self.env.new_jti())
        request = uploads.request(self.settings.blob_url, file, self._headers(headers), boundary=boundary)
        return exchange(request, uploads.read_uri, repeatable=idempotent, env=self.env)

    def document(
        self,
        attachment: documents.Attachment,
        into: Intake,
        *,
        destination: str | None = None,
        environment: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Flow[tuple[str, bytes | None]]:
        """Ask for a document; give its media type, and its bytes where they did not go `into` a file.

        Raises `RedoxSecurityError` for a URL that leads elsewhere, before anything is sent.
        """
        self.settings.allow.check("download")
        endpoint = lambda: self.endpoint(destination, environment)  # noqa: E731  (a file at blob_url needs none)
        request = documents.request(attachment, endpoint, self.settings.blob_url, self._headers(headers), into)
        self._check_document(request)
        return exchange(request, lambda answer: documents.read(answer, attachment), repeatable=True, env=self.env)

    def post_message(
        self, message: Mapping[str, Any], headers: Mapping[str, str] | None = None, *, repeatable: bool | None = None
    ) -> Flow[data_model.Accepted]:
        """Send a notification that `complete_message` made.

        Repeated only where it cannot have been processed, unless the author says that it is `repeatable`.
        """
        again = data_model.is_query(message) if repeatable is None else repeatable
        return self.post(self.prepared_message(message, headers), repeatable=again)

    def prepared_message(self, message: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Request:
        """Make the request that carries what `complete_message` made."""
        self._check_message(message)
        return data_model.request(self.settings, message, self._headers(headers))

    def post(self, request: Request, *, repeatable: bool = False) -> Flow[data_model.Accepted]:
        """Send what `prepared_message` made."""
        return exchange(request, data_model.read_accepted, repeatable=repeatable, env=self.env)

    def query(self, message: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Flow[RedoxResponse]:
        """Send a query that `complete_message` made and give the response that holds the answer: its digits, its headers."""
        if not data_model.is_query(message):
            raise RedoxConfigError(
                "payload: this data model and event type is not a known query; send it with the post operator"
            )
        request = self.prepared_message(message, headers)
        return exchange(request, _answering, repeatable=True, env=self.env)

    def complete_message(
        self,
        message: Mapping[str, Any],
        *,
        destination: str | None = None,
        destinations: Sequence[str] | None = None,
        environment: str | None = None,
        now: float | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Fill in what the message's Meta lacks; see `data_model.complete`.

        :param now: the message's own time.
        :param meta: fields for its Meta.
        """
        places = destinations if destinations is not None else None if destination is None else (destination,)
        moment = self.env.now() if now is None else now
        return data_model.complete(
            message, self.settings, destinations=places, environment=environment, now=moment, defaults=meta
        )

    def log(self, log_id: str, organization_id: str | None = None) -> Flow[dict[str, Any]]:
        """Look a log up in the Platform API (`GET v1/organizations/{organizationId}/logs/{logId}`)."""
        request = log_request(self.settings, log_id, organization_id=organization_id, headers=self._headers(None))
        return exchange(request, read_log, repeatable=True, env=self.env)

    def destinations(self, *, tag: str | None = None, data_model: str | None = None) -> list[Destination]:
        """Give the described destinations, all or those with a tag or with a UUID for a data model."""
        described = self.settings.destinations.values()
        tagged = [one for one in described if tag is None or tag in one.tags]
        return [one for one in tagged if data_model is None or one.has_id_for(data_model)]

    def endpoint(self, destination: str | None, environment: str | None) -> fhir.Endpoint:
        """Find the FHIR base of a destination's name or slug."""
        found = find_destination(self.settings.destinations, destination, default=self.settings.destination)
        self._check_places(found.fhir_slug())
        return fhir.endpoint(self.settings, found.fhir_slug(), environment)

    def _check(self, interaction: str, resource_type: str) -> None:
        self.settings.allow.check(interaction)
        self.settings.allow.check_type(resource_type)

    def _check_document(self, request: Request) -> None:
        """Refuse, where anything is held to a list, a URL of a document that is something else: a search, another type."""
        parts = urlsplit(request.url)
        kind = _RESOURCE_OF.search(parts.path)
        if self.settings.allow != EVERYTHING and kind is not None and (parts.query or kind[1] != "Binary"):
            self.settings.allow.check("search" if parts.query else "read")
            self.settings.allow.check_type(kind[1])

    def _check_message(self, message: Mapping[str, Any]) -> None:
        meta = message["Meta"]
        self.settings.allow.check("query" if data_model.is_query(message) else "post")
        self.settings.allow.check_model(str(meta.get("DataModel")), str(meta.get("EventType")))
        self._check_places(*(str(place.get("ID")) for place in meta.get("Destinations") or () if isinstance(place, Mapping)))

    def _check_places(self, *places: str) -> None:
        self.settings.allow.check_places(places, self.settings.destinations)

    def _headers(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        own = {"redox-source-id": self.settings.source_id} if self.settings.source_id else {}
        return {**own, **self.settings.headers, **checked_headers(headers or {}, where="headers")}

    def _request(
        self, method: str, path: str, params: Mapping[str, Any] | None, body: bytes | None, headers: Mapping[str, str]
    ) -> Request:
        if method.upper() not in _METHODS:
            raise RedoxConfigError(f"method: must be one of {', '.join(_METHODS)}")
        url = checked_url(self.settings.base_url, path)
        if params:
            url = f"{url}{'&' if '?' in url else '?'}{_query(params)}"
        destination = destination_of(self.settings.base_url, url)
        return Request(method.upper(), url, label_of(method, url), self._headers(headers), body, destination=destination)


def _query(params: Mapping[str, Any]) -> str:
    """Encode query parameters; a list is a repeated key. Raises `RedoxConfigError` for None, which would go as a word."""
    flat = [one for value in params.values() for one in (value if isinstance(value, list | tuple) else [value])]
    if any(one is None for one in flat):
        raise RedoxConfigError("params: a value is None; leave the parameter out, or give it text or a number")
    _check_text("params", *params, *flat)
    return urlencode(dict(params), doseq=True)


def _check_text(where: str, *values: Any) -> None:
    """Refuse half a character, which no encoding knows: Python's own error would hold the whole text."""
    if any(re.search(r"[\ud800-\udfff]", value) for value in values if isinstance(value, str)):
        raise RedoxConfigError(f"{where}: holds half of a character (a lone surrogate), which cannot be sent")


def checked_url(base_url: str, path: str) -> str:
    """Put a path, or an absolute URL of the same origin, onto the base. Raises `RedoxSecurityError` for any other."""
    if re.search(r"[^\x21-\x7e]|[\\#]", path) or _DOT_SEGMENT.search(path):
        raise RedoxSecurityError(
            "path: holds spaces, control characters, '#', a backslash, dot segments or what is not ASCII; "
            "encode or drop them"
        )
    url = path if "://" in path.split("?")[0] else f"{base_url}/{path.lstrip('/')}"
    home = urlsplit(base_url)
    try:
        parts = urlsplit(url)
        same = origin(parts) == origin(home) and parts.username is None
    except ValueError:
        same = False
    if not same or not (parts.path == home.path or parts.path.startswith(f"{home.path}/")):
        raise RedoxSecurityError("path: points outside the connection's host; the token is sent nowhere else")
    return url


def may_repeat(method: str, url: str, body: bytes | None) -> bool:
    """Say whether a request may be sent again: GET, HEAD, `_search` and Data Model queries; nothing else."""
    if method.upper() in ("GET", "HEAD"):
        return True
    path = urlsplit(url).path
    if method.upper() == "POST" and path.endswith("/_search"):
        return True
    return method.upper() == "POST" and path.endswith((data_model.PATH, "/query")) and data_model.is_query(_parsed(body))


def label_of(method: str, url: str) -> str:
    """Give what a log may say of a request: method and the first part of the path."""
    first = urlsplit(url).path.strip("/").split("/")[0]
    return f"{method.upper()} /{first if re.fullmatch(r'[A-Za-z0-9._-]{1,40}', first) else '…'}/…"


def destination_of(base_url: str, url: str) -> str | None:
    """Give the slug in a FHIR URL below a base; None for any other."""
    found = _SLUG_OF.search(urlsplit(url).path.removeprefix(urlsplit(base_url).path))
    return found.group(1) if found else None


def _parsed(body: bytes | None) -> Any:
    try:
        return msgspec.json.decode(body or b"null")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _body(*, form: Mapping[str, Any] | None, json: Any, data: bytes | str | None) -> tuple[bytes | None, dict[str, str]]:
    if sum(given is not None for given in (form, json, data)) > 1:
        raise RedoxConfigError("request: give one of form, json and data")
    if form is not None:
        return fhir.search_form(form), {"content-type": fhir.FORM}
    if json is not None:
        return data_model.encode(json), {"content-type": "application/json"}
    _check_text("data", data)
    return (data.encode() if isinstance(data, str) else data), {}


_FAILED = ("error", "fatal")


def _whole(response: RedoxResponse) -> RedoxResponse:
    return response


def _answering(response: RedoxResponse) -> RedoxResponse:
    data_model.read_answer(response)
    return response


def _resource(response: RedoxResponse) -> dict[str, Any]:
    resource = response.json()
    if not isinstance(resource, dict) or "resourceType" not in resource:
        raise RedoxProtocolError(f"HTTP {response.status}, but the answer is not a FHIR resource")
    if resource["resourceType"] == "OperationOutcome":
        raise pages.destination_error(response)
    return resource


def _written(response: RedoxResponse) -> RedoxResponse:
    """Take a writeback's answer: empty, or any JSON object that does not say that the destination failed.

    Redox does not document it. A login page with status 200 is no answer of Redox's.
    """
    if not response.body.strip():
        return response
    answer = response.json()
    if not isinstance(answer, dict):
        raise RedoxProtocolError(f"HTTP {response.status}, but the answer is not a JSON object")
    entries = answer.get("entry")
    entries = entries if isinstance(entries, list) else []
    inner = [entry.get("resource") for entry in entries if isinstance(entry, dict)]
    if meta_errors(answer) or any(_says_failed(resource) for resource in (answer, *inner)):
        raise pages.destination_error(response)
    return response


def _says_failed(resource: Any) -> bool:
    if not isinstance(resource, dict):
        return False
    issues, reply = resource.get("issue"), resource.get("response")
    failed = [issue for issue in issues if isinstance(issue, dict)] if isinstance(issues, list) else []
    refused = isinstance(reply, dict) and reply.get("code") in ("fatal-error", "transient-error")
    return refused or any(issue.get("severity") in _FAILED for issue in failed)
