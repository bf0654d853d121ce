"""The calls of a hook, each put on record: what asks before its answer is given, what sends before it leaves.

Flows around the flows of `Calls`, so that both hooks account alike. Operators put whole results on record, by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from airflow_provider_redox.protocol.calls import Calls
from airflow_provider_redox.protocol.data_model import Accepted, encode
from airflow_provider_redox.protocol.disclosure import CREATE, OPERATION, READ, REFUSED, SEARCH, Disclosure
from airflow_provider_redox.protocol.effects import Disclose, Flow, RedoxResponse, Request
from airflow_provider_redox.protocol.fhir import Endpoint
from airflow_provider_redox.protocol.pages import Page
from airflow_provider_redox.protocol.paging import Walk
from airflow_provider_redox.protocol.patients import patients_of_body, patients_of_content, patients_of_url
from airflow_provider_redox.protocol.uploads import File

T = TypeVar("T")

_ENVIRONMENT = re.compile(r"/fhir/R4/[^/?]+/(Development|Staging|Production)/")


def recorded(flow: Flow[T], disclosure: Disclosure, learn: Callable[[T], None]) -> Flow[T]:
    """Put what a flow does on record.

    :param learn: takes down whom the answer is about, and the IDs that it carries.
    """
    if disclosure.interaction.is_sending:
        yield Disclose(disclosure, done=False)
    try:
        answer = yield from flow
    except Exception as error:
        disclosure.answered(trace_id=getattr(error, "trace_id", None), log_ids=getattr(error, "log_ids", ()))
        yield Disclose(disclosure, error=error)
        raise
    learn(answer)
    yield Disclose(disclosure)
    return answer


@dataclass(frozen=True, slots=True)
class Accounted:
    """The calls of one connection, on record."""

    calls: Calls

    def request(self, method: str, path: str, *, idempotent: bool | None = None, **parts: Any) -> Flow[RedoxResponse]:
        """Send any request; see `Calls.request`."""
        request = self.calls.prepared(method, path, **parts)
        return self.send(request, self.calls.send(request, idempotent=idempotent))

    def send(self, request: Request, flow: Flow[RedoxResponse]) -> Flow[RedoxResponse]:
        """Do what sends a request that was made from outside."""
        disclosure = of_request(request, self.calls.settings.base_url)

        def learn(response: RedoxResponse) -> None:
            disclosure.saw(patients_of_body(response.body))
            disclosure.answered(trace_id=response.trace_id)
            disclosure.outcome = REFUSED if response.status >= 400 else ""

        return recorded(flow, disclosure, learn)

    def pages(self, resource_type: str, params: Mapping[str, Any] | bytes, **options: Any) -> Iterator[Flow[Page]]:
        """Give the flows that fetch the pages of a search, one after the other; see `Calls.search`."""
        return _pages(self.calls.search(resource_type, params, **options))

    def read(self, resource_type: str, resource_id: str, **options: Any) -> Flow[RedoxResponse]:
        """Read one resource, and give the answer that holds it; see `Calls.read`."""
        flow = self.calls.read(resource_type, resource_id, **options)
        endpoint = self.calls.endpoint(options.get("destination"), options.get("environment"))
        asked = {"id": resource_id.encode()}
        disclosure = Disclosure(READ, resource_type, endpoint.url, endpoint.slug, endpoint.environment, asked)

        def learn(response: RedoxResponse) -> None:
            disclosure.answered(trace_id=response.trace_id)
            itself = (resource_id,) if resource_type == "Patient" else ()
            disclosure.saw((*itself, *patients_of_body(response.body)))

        return recorded(flow, disclosure, learn)

    def writeback(
        self, resource_type: str, operation: str, bundle: Mapping[str, Any], **options: Any
    ) -> Flow[RedoxResponse]:
        """Send a message Bundle; see `Calls.writeback`."""
        flow = self.calls.writeback(resource_type, operation, bundle, **options)
        endpoint = self.calls.endpoint(options.get("destination"), options.get("environment"))
        disclosure = of_writeback(f"{resource_type}/{operation}", bundle, endpoint)

        def learn(response: RedoxResponse) -> None:
            disclosure.answered(trace_id=response.trace_id)
            disclosure.also(patients_of_body(response.body))

        return recorded(flow, disclosure, learn)

    def post(self, message: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Flow[Accepted]:
        """Send a complete Data Model message; see `Calls.post_message`."""
        disclosure = of_message(message, self.calls.settings.base_url)

        def learn(accepted: Accepted) -> None:
            disclosure.answered(trace_id=accepted.trace_id, log_ids=accepted.log_ids)

        return recorded(self.calls.post_message(message, headers), disclosure, learn)

    def query(
        self, message: Mapping[str, Any], headers: Mapping[str, str] | None = None, *, on_incomplete: str = "fail"
    ) -> Flow[RedoxResponse]:
        """Send a complete Data Model query, and return the answer; see `Calls.query`."""
        disclosure = of_query([message], self.calls.settings.base_url)

        def learn(response: RedoxResponse) -> None:
            disclosure.saw(patients_of_content(response.json()))
            disclosure.answered(trace_id=response.trace_id)

        return recorded(self.calls.query(message, headers, on_incomplete=on_incomplete), disclosure, learn)

    def upload(self, file: File, **options: Any) -> Flow[str]:
        """Upload a file; see `Calls.upload`."""
        return self.uploaded(self.calls.upload(file, **options))

    def uploaded(self, flow: Flow[str]) -> Flow[str]:
        """Do what uploads a file."""
        return recorded(flow, of_upload(self.calls.settings.blob_url), lambda _: None)


def of_search(walk: Walk, forms: Iterable[bytes]) -> Disclosure:
    """Begin the record of searches of one type at one destination."""
    asked: dict[str, list[str]] = {}
    for form in forms:
        for name, value in parse_qsl(form.decode(), keep_blank_values=True):
            asked.setdefault(name, []).append(value)
    parts = {name: "\n".join(values).encode() for name, values in sorted(asked.items())}
    there = walk.endpoint
    return Disclosure(SEARCH, walk.resource_type, there.url, there.slug, there.environment, parts)


def of_query(messages: Iterable[Mapping[str, Any]], server: str) -> Disclosure:
    """Begin the record of Data Model queries of one kind."""
    whole: Mapping[str, Any] = {}
    asked: dict[str, bytes] = {}
    for message in messages:
        whole = whole or message
        for name, part in message.items():
            if name != "Meta":
                asked[name] = asked.get(name, b"") + encode(part)
    return Disclosure(SEARCH, _kind(whole), server, _places(whole), environment_of(whole), asked)


def of_message(message: Mapping[str, Any], server: str) -> Disclosure:
    """Begin the record of a Data Model message that is to be sent."""
    content = {name: part for name, part in message.items() if name != "Meta"}
    asked = {"hash": encode(content)}
    disclosure = Disclosure(CREATE, _kind(message), server, _places(message), environment_of(message), asked)
    disclosure.saw(patients_of_content(content))
    return disclosure


def of_upload(server: str | None) -> Disclosure:
    """Begin the record of a file that is to be uploaded. Whom it is about only the message tells that will name it."""
    return Disclosure(CREATE, "a file", server or "", unnamed=1)


def of_writeback(what: str, bundle: Mapping[str, Any], endpoint: Endpoint) -> Disclosure:
    """Begin the record of a message Bundle that is to be sent."""
    content = encode(bundle, where="bundle")
    disclosure = Disclosure(CREATE, what, endpoint.url, endpoint.slug, endpoint.environment, {"hash": content})
    disclosure.saw(patients_of_content(bundle))
    return disclosure


def of_request(request: Request, server: str) -> Disclosure:
    """Begin the record of a request that was made from outside. GET, HEAD and `_search` ask, whatever else may send."""
    searches = request.url.partition("?")[0].endswith("/_search")
    interaction = READ if request.method in ("GET", "HEAD") else SEARCH if searches else OPERATION
    asked = {"hash": b"\0".join((request.url.encode(), request.body or b""))}
    where = _ENVIRONMENT.search(request.url)
    disclosure = Disclosure(interaction, request.label, server, request.destination or "", where[1] if where else "", asked)
    disclosure.also((*patients_of_url(request.url), *patients_of_body(request.body or b"")))
    return disclosure


def _pages(walk: Walk) -> Iterator[Flow[Page]]:
    while not walk.position.ended:
        yield _page(walk)


def _page(walk: Walk) -> Flow[Page]:
    disclosure = of_search(walk, [walk.form])

    def learn(page: Page | None) -> None:
        for resource in page.resources if page is not None else ():
            disclosure.saw(patients_of_body(resource.line))
        disclosure.answered(trace_id=page.trace_id if page is not None else None)

    page = yield from recorded(walk.next_page(), disclosure, learn)
    return page or Page([], [])


def environment_of(message: Mapping[str, Any]) -> str:
    """Give the environment that a message is for, as far as it says so: what is no test is Production."""
    meta = message.get("Meta")
    return "Production" if isinstance(meta, Mapping) and meta.get("Test") is False else ""


def _kind(message: Mapping[str, Any]) -> str:
    meta = message.get("Meta")
    return f"{meta.get('DataModel')} {meta.get('EventType')}" if isinstance(meta, Mapping) else "a message"


def _places(message: Mapping[str, Any]) -> str:
    meta = message.get("Meta")
    places = meta.get("Destinations") if isinstance(meta, Mapping) else None
    return ",".join(str(one.get("ID")) for one in places or () if isinstance(one, Mapping))
