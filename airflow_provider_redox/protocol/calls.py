"""What Redox can be asked, each call a flow. Written once; the hooks drive it, blocking or awaiting."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_redox.checks import given
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxProtocolError
from airflow_provider_redox.protocol import answers, data_model, documents, fhir, message_header, raw, uploads
from airflow_provider_redox.protocol.acceptance import Question, read_accepted, read_answered
from airflow_provider_redox.protocol.allowance import EVERYTHING
from airflow_provider_redox.protocol.attachments import Attachment
from airflow_provider_redox.protocol.destinations import Destination, find_destination
from airflow_provider_redox.protocol.effects import Flow, RedoxResponse, Request
from airflow_provider_redox.protocol.exchange import Environment, ask, exchange
from airflow_provider_redox.protocol.failures import raise_refusal
from airflow_provider_redox.protocol.integrity import shows_its_end
from airflow_provider_redox.protocol.jsonsource import Source
from airflow_provider_redox.protocol.media_types import is_json, media_type
from airflow_provider_redox.protocol.paging import Walk, start_walk
from airflow_provider_redox.protocol.platform import log_request, read_log
from airflow_provider_redox.protocol.settings import Settings, checked_headers
from airflow_provider_redox.protocol.terms import Terms

_RESOURCE_OF = re.compile(r"/fhir/R4/[^/]+/[^/]+/([A-Z][A-Za-z]*)")


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
        body, kind = raw.body_of(form=form, json=json, data=data)
        whole = self._headers({**kind, **(headers or {})})
        return raw.request(self.settings.base_url, method, path, whole, body, params=params)

    def send(self, request: Request, *, idempotent: bool | None = None) -> Flow[RedoxResponse]:
        """Send a request; by default its method, path and message say whether it may be repeated."""
        asks = raw.may_repeat(request.method, request.url, request.body)
        read = _ended if asks else lambda response: answers.read_taken(response, request)
        return exchange(request, read, repeatable=asks if idempotent is None else idempotent, env=self.env)

    def answered(self, request: Request) -> Flow[RedoxResponse]:
        """Send a ready request and give whatever status comes back in the end; for those who judge it themselves.

        Redirects are errors here too, and an unsafe request whose outcome is unknown still is.
        """
        self.settings.allow.check("request")

        def final(response: RedoxResponse) -> RedoxResponse:
            return response if response.status >= 400 else raise_refusal(response)

        repeatable = raw.may_repeat(request.method, request.url, request.body)
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
            return answers.read_resource(response, resource_type, resource_id)

        return ask(request, asked_for, env=self.env)

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
        bundle: Mapping[str, Any] | Source,
        *,
        destination: str | None = None,
        environment: str | None = None,
        headers: Mapping[str, str] | None = None,
        message_id: str | None = None,
    ) -> Request:
        """Build the request that writes a message Bundle back.

        A Bundle without a MessageHeader gets one, with this message ID or a new one; see `message_header.completed`. The
        text of a Bundle that was read from a file is sent as it is.
        """
        self._check("writeback", resource_type)
        found = find_destination(self.settings.destinations, destination, default=self.settings.destination)
        self._check_places(found.fhir_slug())
        whole = message_header.completed(
            bundle.value if isinstance(bundle, Source) else bundle,
            resource_type=fhir.checked_type(resource_type),
            operation=operation,
            message_id=message_id or message_header.new_message_id(self.env.new_jti()),
            source_id=self.settings.source_id,
            destination=found,
        )
        base = fhir.endpoint(self.settings, found.fhir_slug(), environment)
        text = message_header.written(bundle, whole) if isinstance(bundle, Source) else None
        body = data_model.encode(whole, where="bundle") if text is None else data_model.checked_size(text, where="bundle")
        return base.writeback(resource_type, operation, body, self._headers(headers))

    def write(self, request: Request, *, repeatable: bool = False) -> Flow[RedoxResponse]:
        """Send what `prepared_writeback` made."""
        return exchange(request, lambda one: answers.read_written(one, request), repeatable=repeatable, env=self.env)

    def upload(self, file: uploads.File, *, headers: Mapping[str, str] | None = None, idempotent: bool = False) -> Flow[str]:
        """Upload a file to `extra.blob_url` and give its URI.

        Not repeated where it may have arrived, unless `idempotent`: a second copy that no message names does no harm.
        """
        self.settings.allow.check("upload")
        if self.settings.blob_url is None:
            raise RedoxConfigError(
                "extra.blob_url: missing; for this host it is not known where files are uploaded, so say it"
            )
        boundary = message_header.new_message_id(self.env.new_jti())
        request = uploads.request(self.settings.blob_url, file, self._headers(headers), boundary=boundary)
        return exchange(request, lambda one: uploads.read_uri(one, request.url), repeatable=idempotent, env=self.env)

    def document(
        self,
        attachment: Attachment,
        into: documents.DocumentIntake,
        *,
        destination: str | None = None,
        environment: str | None = None,
        headers: Mapping[str, str] | None = None,
        on_mismatch: documents.OnMismatch = "fail",
    ) -> Flow[documents.Document]:
        """Ask for a document; return its media type, and its bytes where they did not go `into` a file.

        Raises `RedoxSecurityError` for a URL that leads elsewhere, before anything is sent.
        """
        self.settings.allow.check("download")
        endpoint = lambda: self.endpoint(destination, environment)  # noqa: E731  (a file at blob_url needs none)
        request = documents.request(attachment, endpoint, self.settings.blob_url, self._headers(headers), into)
        self._check_document(request)

        def read(answer: RedoxResponse) -> documents.Document:
            return documents.read(answer, attachment, into.measured, on_mismatch=on_mismatch)

        return ask(request, read, env=self.env)

    def post_message(
        self, message: Mapping[str, Any], headers: Mapping[str, str] | None = None, *, repeatable: bool | None = None
    ) -> Flow[data_model.Accepted]:
        """Send a notification that `complete_message` made.

        Repeated only where it cannot have been processed, unless the author says that it is `repeatable`.
        """
        again = data_model.is_query(message) if repeatable is None else repeatable
        return self.post(self.prepared_message(message, headers), Question.of(message), repeatable=again)

    def prepared_message(
        self, message: Mapping[str, Any], headers: Mapping[str, str] | None = None, *, source: Source | None = None
    ) -> Request:
        """Build the request for a message of `complete_message`; a message from a file is sent as its `source` text."""
        self._check_message(message)
        return data_model.request(self.settings, message, self._headers(headers), source=source)

    def post(self, request: Request, question: Question, *, repeatable: bool = False) -> Flow[data_model.Accepted]:
        """Send the request of `prepared_message`, and check its answer against the message's `question`."""
        return exchange(request, lambda one: read_accepted(one, question), repeatable=repeatable, env=self.env)

    def query(
        self,
        message: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        *,
        on_incomplete: str = "fail",
    ) -> Flow[RedoxResponse]:
        """Send a query that `complete_message` made, and return the whole response, with its headers and its own digits.

        :param on_incomplete: `fail`, or `warn` to accept an answer that is marked as incomplete.
        """
        if not data_model.is_query(message):
            raise RedoxConfigError(
                "payload: this data model and event type is not a known query; send it with the post operator"
                f"{data_model.meant_query(message)}"
            )
        question, incomplete = Question.of(message), _checked(on_incomplete) == "warn"

        def answering(response: RedoxResponse) -> RedoxResponse:
            return read_answered(response, question, incomplete=incomplete)

        return ask(self.prepared_message(message, headers), answering, env=self.env)

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
        return ask(request, read_log, env=self.env)

    def destinations(self, *, tag: str | None = None, data_model: str | None = None) -> list[Destination]:
        """Give the described destinations, all or those with a tag or with a UUID for a data model."""
        tag, data_model = given(tag, None, name="tag"), given(data_model, None, name="data_model")
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
        return {**own, **self.settings.headers, **checked_headers({} if headers is None else headers, where="headers")}


def _checked(on_incomplete: str) -> str:
    if on_incomplete not in ("fail", "warn"):
        raise RedoxConfigError("on_incomplete: must be fail or warn")
    return on_incomplete


def _whole(response: RedoxResponse) -> RedoxResponse:
    return response


def _ended(response: RedoxResponse) -> RedoxResponse:
    """Return the answer to a read, unless it may be truncated: JSON shows where it ends, other bodies do not."""
    if not response.body or shows_its_end(response.headers):
        return response
    kind = media_type(response.headers.get("content-type"))
    if is_json(kind) or (not kind and response.body[:1] in (b"{", b"[")):
        response.json()
        return response
    raise RedoxProtocolError(
        f"HTTP {response.status}, but the answer does not say where it ends, so a part of it would look like the whole"
    )
