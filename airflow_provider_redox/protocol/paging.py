"""Read all pages of one search: yield every resource that the server returned, once, or raise an exception.

A duplicate (same type, ID, version and content) is counted and left out. A loop, endless paging, too many pages, and a page
that answers another question (see `judging`) end in a `RedoxProtocolError` that names the page by number.

FHIR says that a `next` link is followed by GET. A link that has lost the search's parameters and holds no cursor is asked
by POST to `_search` instead, with the search's own form and what the link adds. So is one whose GET is refused, and then
all that follow. A server that ignores what the link adds gives an earlier page again: an error.

A walk can be stopped after any page, and resumed from its `position`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

import msgspec

from airflow_provider_redox.exceptions import RedoxError, RedoxProtocolError, RedoxResponseError
from airflow_provider_redox.protocol.effects import Count, Flow, Metric, RedoxResponse, Request, Tell
from airflow_provider_redox.protocol.exchange import Environment, ask
from airflow_provider_redox.protocol.failures import mentioned_names, refusal
from airflow_provider_redox.protocol.fhir import FHIR_JSON, FORM, Endpoint, checked_type
from airflow_provider_redox.protocol.filters import form_of_link
from airflow_provider_redox.protocol.gathered import Gathered
from airflow_provider_redox.protocol.judging import Judge
from airflow_provider_redox.protocol.pages import Page, Resource, read_page
from airflow_provider_redox.protocol.terms import Terms
from airflow_provider_redox.protocol.totals import Totals

BARREN_PAGES_AT_MOST = 20
"""Pages in a row that bring nothing new. Some servers send empty pages while they filter; none sends them for long."""

_METHOD_REFUSED = (405, 414, 431, 501)
"""Statuses by which a server, or a gateway, rejects the method or the length of a link."""
_LINK_REFUSED = (400, 403, 404)
"""Statuses that may mean the same, or that the link has expired: with Redox, 403 and 404 may mean "use POST"."""


class Position(msgspec.Struct, frozen=True):
    """The position of a walk after a page. Its link can contain search parameters: keep it sealed.

    :param link: the next page; None before the first page, and after the last.
    :param by_post: whether links are followed by POST, because GET was refused.
    :param matches: the number of different matches, by type and ID.
    :param totals: the totals that the pages stated.
    :param strays: the number of resources that were not asked for, if that is only a warning.
    :param versions: the different versions of resources, up to a few.
    :param missing: matches that the server counted and did not send, where that is only a warning.
    """

    link: str | None = None
    by_post: bool = False
    pages: int = 0
    requests: int = 0
    matches: int = 0
    duplicates: int = 0
    missing: int = 0
    strays: int = 0
    totals: Totals = Totals()
    versions: tuple[str, ...] = ()
    date: str | None = None

    @property
    def ended(self) -> bool:
        """Say whether the last page was read."""
        return self.pages > 0 and self.link is None


@dataclass(slots=True)
class Walk:
    """One search on its way. `next_page()` is a flow that gives the next page, or None after the last.

    :param gathered: what was given already.
    :param astray: whether it is not a request that failed, but the way that the pages lead.
    :param taken_up: whether it went on where an earlier walk was left.
    """

    endpoint: Endpoint
    resource_type: str
    form: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    env: Environment = field(repr=False)
    gathered: Gathered = field(repr=False)
    judge: Judge = field(repr=False)
    position: Position = field(default_factory=Position, repr=False)
    astray: bool = False
    taken_up: bool = False
    _links: set[str] = field(default_factory=set, repr=False)
    _prints: set[int] = field(default_factory=set, repr=False)
    _barren: int = 0
    _by_post: bool = False
    _is_posted: bool = False
    _link_refused: int | None = None
    _has_news: bool = False
    _listed: int = 0
    _requests: int = 0
    _date: str | None = None
    _moved: bool = False

    def take_up(self, position: Position) -> None:
        """Go on where an earlier walk of the same search was left.

        Matches may be counted short then: a total that seems to be missed is a reason to begin anew.
        """
        self.position, self._by_post, self._requests = position, position.by_post, position.requests
        self.taken_up = position.pages > 0
        if self.taken_up:
            self.gathered.go_on(position.versions)

    @property
    def terms(self) -> Terms:
        """Return the terms of the search."""
        return self.judge.terms

    @property
    def requests(self) -> int:
        """Requests for pages, each counted once however often it was tried."""
        return self._requests

    @property
    def is_stuck(self) -> bool:
        """Say whether this walk was taken up from a position and has got no page from there."""
        return self.taken_up and not self._moved

    def next_page(self) -> Flow[Page | None]:
        """Fetch and check the next page."""
        if self.position.ended:
            return None
        number = self.position.pages + 1
        try:
            page = yield from self._fetch()
            self.astray = True
            fresh = self._taken(page)
            link = self._checked_next(page)
            self._step(page, link)
            yield from self._judge(page)
            self.astray = False
        except RedoxError as error:
            error.add_note(f"The search for {self.resource_type} stopped at page {number}.")
            raise
        return Page(fresh, page.outcomes, page.total, page.self_link, page.next_link, page.trace_id)

    def _fetch(self) -> Flow[Page]:
        link = self.position.link
        if link is None:
            sent = {**self.terms.preference, **self.headers}
            return (yield from self._get_page(self.endpoint.search(self.resource_type, self.form, sent)))
        self._link_refused = None
        self._is_posted = self._by_post or self.judge.filters.is_lost_in(link, self.endpoint.url)
        if self._is_posted:
            return (yield from self._get_page(self._continued_by_post(link)))
        try:
            return (yield from self._get_page(self._continued_by_get(link)))
        except RedoxResponseError as refused:
            if refused.status not in self._refusals_of_get:
                raise
            status = refused.status
        return (yield from self._fetch_by_post(link, status))

    @property
    def _refusals_of_get(self) -> tuple[int, ...]:
        """Return the statuses after which a link is tried by POST.

        Right after resuming, a dead link makes the search start over.
        """
        return _METHOD_REFUSED if self.is_stuck else _METHOD_REFUSED + _LINK_REFUSED

    def _fetch_by_post(self, link: str, refused: int | None) -> Flow[Page]:
        """Try POST once for a link whose GET was refused; if it returns the page, use POST for all links that follow."""
        self._by_post = self._is_posted = True
        self._link_refused = refused if refused in _LINK_REFUSED else None
        try:
            return (yield from self._get_page(self._continued_by_post(link)))
        except RedoxError as error:
            error.add_note(f"GET of the next link was answered HTTP {refused}, and then POST was tried.")
            raise

    def _get_page(self, request: Request) -> Flow[Page]:
        self._requests += 1
        page = yield from ask(request, self._read, env=self.env, refused=self._refused)
        yield Count(Metric.RESOURCES, len(page.resources))
        return page

    def _read(self, response: RedoxResponse) -> Page:
        page = read_page(response)
        self._date = self._date or response.headers.get("date")
        return page

    def _refused(self, response: RedoxResponse) -> Page:
        """Raise the error for an error status, with the author's parameter names that the answer mentions."""
        error = refusal(response)
        names = mentioned_names(response, (name for name, _ in parse_qsl(self.form.decode())))
        if names:
            error.add_note(f"The answer mentions the parameter {', '.join(names)}.")
        raise error

    def _continued_by_get(self, url: str) -> Request:
        label = f"GET {self.endpoint.label}/{self.resource_type}?(next page)"
        return Request("GET", url, label, {**self.headers, "accept": FHIR_JSON}, destination=self.endpoint.slug)

    def _continued_by_post(self, url: str) -> Request:
        path = urlsplit(url).path
        target = path if path.endswith("/_search") else f"{urlsplit(self.endpoint.url).path}/{self.resource_type}/_search"
        address = urlsplit(self.endpoint.url)._replace(path=target).geturl()
        label = f"POST {self.endpoint.label}/{self.resource_type}/_search (next page)"
        headers = {**self.headers, "content-type": FORM, "accept": FHIR_JSON}
        form = form_of_link(url, self.form)
        return Request("POST", address, label, headers, form, destination=self.endpoint.slug)

    def _taken(self, page: Page) -> list[Resource]:
        """Give the resources that no earlier page gave, and count pages in a row that bring nothing new."""
        taken = self.gathered.take(page)
        if self._is_posted and page.resources and taken.print_ in self._prints:
            raise RedoxProtocolError("asked by POST for the next page, the server gave an earlier one again")
        self._prints.add(taken.print_)
        self._listed = taken.listed
        self._has_news = self._has_news or taken.is_news
        self._barren = 0 if taken.is_news else self._barren + 1
        position = self.position
        duplicates = position.duplicates + len(page.resources) - len(taken.fresh)
        self.position = msgspec.structs.replace(position, matches=position.matches + taken.matches, duplicates=duplicates)
        return taken.fresh

    def _checked_next(self, page: Page) -> str | None:
        if page.next_link is None:
            return None
        url = self.endpoint.follow(page.next_link, resource_type=self.resource_type)
        number = self.position.pages + 1
        if url in self._links:
            raise RedoxProtocolError("the pages run in a circle: a next link leads to a page that was read already")
        if number >= self.terms.max_pages:
            raise RedoxProtocolError(
                f"there are more than {number} pages; raise max_pages, or narrow the search (nothing is kept)"
            )
        if self._barren > BARREN_PAGES_AT_MOST:
            raise RedoxProtocolError(f"{self._barren} pages in a row brought nothing new and yet name another page")
        self._links.add(url)
        return url

    def _step(self, page: Page, link: str | None) -> None:
        position = self.position
        self.position = msgspec.structs.replace(
            position,
            link=link,
            by_post=self._by_post,
            pages=position.pages + 1,
            requests=self._requests,
            totals=position.totals.after(page.total, len(page.resources), self._listed, position.matches),
            versions=self.gathered.versions,
            date=position.date or self._date,
        )
        self._moved = True

    def _judge(self, page: Page) -> Flow[None]:
        """Check the page, and all resources so far, against the search."""
        position = self.position
        strays = position.strays + (yield from self.judge.page(page, position.pages, position.date))
        if position.ended and not position.totals.are_met(position.matches):
            self._refuse_forgotten()
        missing = yield from self.judge.total(position.totals, position.matches, ended=position.ended)
        self.position = msgspec.structs.replace(position, strays=strays, missing=missing)
        if position.ended and not self.taken_up:
            yield from self.judge.included(position.matches)
        if position.ended and strays:
            yield Tell(f"Search for {self.resource_type}: {strays} resources in all do not meet its parameters.")

    def _refuse_forgotten(self) -> None:
        """Raise `RedoxProtocolError` for an end without anything new, where the server may have lost its cursor."""
        if self.taken_up and not self._has_news:
            raise RedoxProtocolError(
                "the resumed search ended without anything new, though a page had to follow: the server may "
                "have lost its cursor"
            )
        if self._link_refused and self._barren:
            raise RedoxProtocolError(
                f"GET of the next link was answered HTTP {self._link_refused}, and POST then ended the search without "
                "anything new: the server may have forgotten the page. Try again; if it stays so, with another page_size"
            )


def start_walk(
    endpoint: Endpoint,
    resource_type: str,
    form: bytes,
    *,
    headers: Mapping[str, str],
    env: Environment,
    terms: Terms | None = None,
    seen: set[int] | None = None,
    position: Position | None = None,
) -> Walk:
    """Begin a search, or take one up. Raises `RedoxConfigError` for a name that is no resource type."""
    kind = checked_type(resource_type)
    gathered = Gathered(kind, seen if seen is not None else set())
    walk = Walk(endpoint, kind, form, headers, env, gathered, Judge.of(kind, form, terms or Terms()))
    walk.take_up(position or Position())
    return walk
