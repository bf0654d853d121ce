"""The pages of one search, walked to the end: every resource that the server returned, once, or an exception.

A duplicate (same type, id and version) is counted and left out. A loop, endless paging and too many pages end in a
`RedoxProtocolError` that names the page by number. FHIR says that a `next` link is followed by GET. A server that answers
405 to that is asked by POST to `_search` with the link's query as a form, and so from then on; one that answers 403 or 404
to the very first link too, and then with the search's own parameters as well, so that it cannot answer with other people's
records; a page that then comes a second time is an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from airflow_provider_redox.exceptions import RedoxError, RedoxProtocolError, RedoxResponseError
from airflow_provider_redox.protocol.effects import Flow, RedoxResponse, Request
from airflow_provider_redox.protocol.exchange import Environment, exchange
from airflow_provider_redox.protocol.failures import mentioned_names, refusal
from airflow_provider_redox.protocol.fhir import (
    FHIR_JSON,
    FORM,
    Endpoint,
    Page,
    Resource,
    checked_type,
    link_as_form,
    read_page,
)

PAGES_AT_MOST = 100_000
"""Pages of one search when the author sets no limit: far above any real search, far below forever."""

BARREN_PAGES_AT_MOST = 20
"""Pages in a row that bring nothing new. Some servers send empty pages while they filter; none sends them for long."""


@dataclass(slots=True)
class Walk:
    """One search on its way. `next_page()` is a flow that gives the next page, or None after the last.

    :param seen: the identities of resources already given; shared by searches whose results go to one place.
    """

    endpoint: Endpoint
    resource_type: str
    form: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    env: Environment = field(repr=False)
    max_pages: int | None = None
    seen: set[bytes] = field(default_factory=set, repr=False)
    pages: int = 0
    requests: int = 0
    duplicates: int = 0
    date: str | None = None
    _link: str | None = field(default=None, repr=False)
    _ended: bool = False
    _by_post: bytes | None = None
    _links: set[str] = field(default_factory=set, repr=False)
    _prints: set[bytes] = field(default_factory=set, repr=False)
    _barren: int = 0

    def next_page(self) -> Flow[Page | None]:
        """Fetch and check the next page."""
        if self._ended:
            return None
        try:
            page = yield from self._fetch()
            self._note(page)
            self._link = self._checked_next(page)
        except RedoxError as error:
            error.add_note(f"The search for {self.resource_type} stopped at page {self.pages + 1}.")
            raise
        self._ended = self._link is None
        self.pages += 1
        return Page([one for one in page.resources if self._is_new(one)], page.outcomes, page.total, page.next_link)

    def _fetch(self) -> Flow[Page]:
        if self._link is None:
            return (yield from self._get_page(self.endpoint.search(self.resource_type, self.form, self.headers)))
        if self._by_post is not None:
            return (yield from self._get_page(self._continued_by_post(self._link)))
        try:
            return (yield from self._get_page(self._continued_by_get(self._link)))
        except RedoxResponseError as refused:
            if refused.status not in self._refusals_of_get():
                raise
            self._by_post = b"" if refused.status == 405 else self.form
        return (yield from self._get_page(self._continued_by_post(self._link)))

    def _refusals_of_get(self) -> tuple[int, ...]:
        """Give the statuses that may mean "ask by POST". After the second page a 403 or 404 means that the link is dead."""
        return (403, 404, 405) if self.pages == 1 else (405,)

    def _get_page(self, request: Request) -> Flow[Page]:
        self.requests += 1
        return (yield from exchange(request, self._read, repeatable=True, env=self.env, refused=self._refused))

    def _refused(self, response: RedoxResponse) -> Page:
        """Raise the error for an error status, with the author's parameter names that the answer mentions."""
        error = refusal(response)
        names = mentioned_names(response, (name for name, _ in parse_qsl(self.form.decode())))
        if names:
            error.add_note(f"The answer mentions the parameter {', '.join(names)}.")
        raise error

    def _read(self, response: RedoxResponse) -> Page:
        page = read_page(response)
        self.date = self.date or response.headers.get("date")
        return page

    def _continued_by_get(self, url: str) -> Request:
        label = f"GET {self.endpoint.label}/{self.resource_type}?(next page)"
        return Request("GET", url, label, {**self.headers, "accept": FHIR_JSON})

    def _continued_by_post(self, url: str) -> Request:
        path = urlsplit(url).path
        target = path if path.endswith("/_search") else f"{urlsplit(self.endpoint.url).path}/{self.resource_type}/_search"
        address = urlsplit(self.endpoint.url)._replace(path=target).geturl()
        label = f"POST {self.endpoint.label}/{self.resource_type}/_search (next page)"
        headers = {**self.headers, "content-type": FORM, "accept": FHIR_JSON}
        return Request("POST", address, label, headers, link_as_form(url, self._by_post or b""))

    def _checked_next(self, page: Page) -> str | None:
        if page.next_link is None:
            return None
        url = self.endpoint.follow(page.next_link)
        if url in self._links:
            raise RedoxProtocolError("the pages run in a circle: a next link leads to a page that was read already")
        if self.pages + 1 >= (self.max_pages or PAGES_AT_MOST):
            raise RedoxProtocolError(
                f"there are more than {self.pages + 1} pages; raise max_pages, or narrow the search (nothing is kept)"
            )
        if self._barren > BARREN_PAGES_AT_MOST:
            raise RedoxProtocolError(f"{self._barren} pages in a row brought nothing new and yet name another page")
        self._links.add(url)
        return url

    def _note(self, page: Page) -> None:
        """Count pages in a row that are empty or repeat an earlier page."""
        content = hashlib.blake2b(digest_size=16)
        for resource in page.resources:
            content.update(_identity(resource) or resource.line)
        fingerprint = content.digest()
        if self._by_post and page.resources and fingerprint in self._prints:
            raise RedoxProtocolError("asked by POST for the next page, the server gave an earlier one again")
        repeated = fingerprint in self._prints or not page.resources
        self._barren = self._barren + 1 if repeated else 0
        self._prints.add(fingerprint)

    def _is_new(self, resource: Resource) -> bool:
        identity = _identity(resource)
        if identity is None:
            return True
        if identity in self.seen:
            self.duplicates += 1
            return False
        self.seen.add(identity)
        return True


def start_walk(
    endpoint: Endpoint,
    resource_type: str,
    form: bytes,
    *,
    headers: Mapping[str, str],
    env: Environment,
    max_pages: int | None = None,
    seen: set[bytes] | None = None,
) -> Walk:
    """Begin a search. Raises `RedoxConfigError` for a name that is no resource type."""
    kind = checked_type(resource_type)
    return Walk(endpoint, kind, form, headers, env, max_pages, seen if seen is not None else set())


def _identity(resource: Resource) -> bytes | None:
    """Tell resources apart in 16 bytes, by type, id and version; None for one without an id.

    Where a server names no version, the content decides: two hospitals behind one gateway may use the same id.
    """
    if resource.id is None:
        return None
    text = f"{resource.type}/{resource.id}/{resource.version or ''}".encode("utf-8", "surrogatepass")
    whole = text if resource.version else text + b"\n" + resource.line
    return hashlib.blake2b(whole, digest_size=16).digest()
