"""The questions to the FHIR API of one destination: reads and searches for the test patient, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode, urlsplit

from airflow_provider_redox.cli.probe import questions as q
from airflow_provider_redox.cli.probe.asking import Asker, about_link, facts, field_name, json_of, judged, refused
from airflow_provider_redox.cli.probe.findings import LEFT_OUT, Finding, names
from airflow_provider_redox.exceptions import RedoxError, RedoxSecurityError
from airflow_provider_redox.protocol.effects import Happened, RedoxResponse, Request
from airflow_provider_redox.protocol.fhir import (
    FHIR_JSON,
    FORM,
    Endpoint,
    search_form,
)
from airflow_provider_redox.protocol.filters import form_of_link
from airflow_provider_redox.protocol.pages import Page, read_page

UNKNOWN_ID = "no-such-resource-of-a-probe"
UNKNOWN_PARAMETER = "unknown-to-everybody"
PAGED = ("Observation", "Encounter")
"""What is searched for to see pages; the second only when the patient has too few of the first."""


_TRY_BY_POST = (403, 404, 405)
_GONE = (404, 410)


@dataclass(slots=True)
class Searches:
    """A destination, the token, and the words by which the test patient is known."""

    asker: Asker
    endpoint: Endpoint
    token: str = field(repr=False)
    person: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    _patient: str = field(default="", repr=False)

    def questions(self) -> Iterator[Finding]:
        """Look for the patient, through its pages, and where there is nothing."""
        yield from self._first()
        yield from self._pages()
        yield from self._absent()
        yield from self._elsewhere()

    def _first(self) -> Iterator[Finding]:
        answer = self.search("Patient", self.person)
        page, bundle = page_of(answer), json_of(answer)
        yield q.BY_POST.answered(holds=judged(answer, verdict=page is not None), **facts(answer), bundle=bundle_type(bundle))
        if page is None:
            return
        self._patient = next((one.id for one in page.resources if one.type == "Patient" and one.id), "")
        self.asker.gate.keep(self._patient)
        yield q.PATIENT.answered(holds=len(page.resources) == 1, found=len(page.resources))
        url = link_of(bundle, "self")
        described = self._described(url) if url else {}
        yield q.SELF_LINK.answered(holds=None, present=url is not None, **described)
        yield q.ADDRESSES.answered(holds=None, **self._addresses(bundle))

    def _addresses(self, bundle: Any) -> dict[str, Any]:
        entries = [entry for entry in bundle.get("entry", []) if isinstance(entry, dict)]
        urls = [self._described(entry["fullUrl"]) for entry in entries if isinstance(entry.get("fullUrl"), str)]
        seen = sorted({f"{url['form']}, {url.get('origin', 'none')}" for url in urls})
        return {"full_url": seen, "search_mode": all("search" in entry for entry in entries) if entries else None}

    def _pages(self) -> Iterator[Finding]:
        """Ask for pages of one resource each. Without the patient there is nothing that may be searched for."""
        if not self._patient:
            return
        for kind in PAGED:
            page = page_of(self.search(kind, {"patient": self._patient, "_count": 1}))
            if page is not None and (page.next_link is not None or len(page.resources) > 1):
                yield from self._about_page(page)
            if page is not None and page.next_link is not None:
                yield from self._following(kind, page, page.next_link)
                return

    def _about_page(self, page: Page) -> Iterator[Finding]:
        matches = len(page.resources)
        yield q.PAGE_SIZE.answered(holds=matches <= 1, asked_for=1, given=matches)
        more = None if page.total is None else page.total > matches
        yield q.TOTAL.answered(holds=more is not False, present=page.total is not None, more_than_the_page=more)

    def _following(self, kind: str, page: Page, link: str) -> Iterator[Finding]:
        try:
            url: str | None = self.endpoint.follow(link, resource_type=kind)
        except RedoxSecurityError:
            url = None
        yield q.NEXT_LINK.answered(holds=url is not None, **self._described(link), followed=url is not None)
        if url is None:
            return
        by_get = self._asked("GET", url)
        fine = page_of(by_get) is not None
        yield q.NEXT_BY_GET.answered(
            holds=judged(by_get, verdict=fine or by_get.status in _TRY_BY_POST), **facts(by_get), given=fine
        )
        by_post = self._asked("POST", self._search_url(kind, url), form_of_link(url))
        also = page_of(by_post) is not None
        yield q.NEXT_BY_POST.answered(holds=judged(by_post, verdict=None if fine else also), **facts(by_post), given=also)
        following = page_of(by_get) or page_of(by_post)
        if following is not None:
            yield self._compared(page, following)

    def _compared(self, page: Page, following: Page) -> Finding:
        first = {(one.type, one.id) for one in page.resources}
        others = bool(following.resources) and first.isdisjoint((one.type, one.id) for one in following.resources)
        on = following.next_link is None or following.next_link != page.next_link
        return q.NEXT_PAGE.answered(
            holds=others and on, other_resources=others, leads_on=on, ends=following.next_link is None
        )

    def _absent(self) -> Iterator[Finding]:
        answer = self.search("Patient", {"_id": UNKNOWN_ID})
        page = page_of(answer)
        entries = None if page is None else len(page.resources)
        yield q.EMPTY.answered(holds=judged(answer, verdict=entries == 0), **facts(answer), entries=entries)
        answer = self.search("Patient", {**self.person, UNKNOWN_PARAMETER: "1"})
        yield q.PARAMETER.answered(holds=refused(answer), **facts(answer))
        if self._patient:
            answer = self.search(PAGED[0], {"patient": self._patient, "_lastUpdated": "ge2000-01-01", "_count": 1})
            yield q.SINCE.answered(holds=judged(answer, verdict=page_of(answer) is not None), **facts(answer))
        answer = self._asked("GET", f"{self.endpoint.url}/Patient/{UNKNOWN_ID}")
        yield q.UNKNOWN.answered(holds=judged(answer, verdict=answer.status in _GONE), **facts(answer))

    def _elsewhere(self) -> Iterator[Finding]:
        nobody = {"_id": UNKNOWN_ID}
        written = self._in(self.endpoint.environment.lower()).search("Patient", nobody)
        yield q.CASE.answered(holds=refused(written), **facts(written))
        other = "Staging" if self.endpoint.environment == "Development" else "Development"
        yield q.OTHER.answered(holds=None, **facts(self._in(other).search("Patient", nobody)))
        answer = replace(self, token="no-token-at-all").search("Patient", nobody)  # noqa: S106  (it is none)
        yield q.TOKEN.answered(holds=judged(answer, verdict=answer.status == 401), **facts(answer))
        by_get = self._asked("GET", f"{self.endpoint.url}/Patient?{urlencode(nobody)}")
        yield q.BY_GET.answered(holds=None, **facts(by_get), given=page_of(by_get) is not None)
        statement = self._asked("GET", f"{self.endpoint.url}/metadata")
        found = json_of(statement)
        there = isinstance(found, dict) and found.get("resourceType") == "CapabilityStatement"
        yield q.METADATA.answered(holds=None, **facts(statement), given=there)

    def _in(self, environment: str) -> Searches:
        return replace(self, endpoint=replace(self.endpoint, environment=environment))

    def search(self, kind: str, params: Mapping[str, Any]) -> Happened:
        """Search by POST, once."""
        return self.asker.ask(self._signed(self.endpoint.search(kind, search_form(params), self.headers)))

    def _asked(self, method: str, url: str, form: bytes | None = None) -> Happened:
        kind = {"content-type": FORM} if form is not None else {}
        headers = {**self.headers, **kind, "accept": FHIR_JSON}
        return self.asker.ask(self._signed(Request(method, url, f"{method} (probe)", headers, form)))

    def _signed(self, request: Request) -> Request:
        return request.with_headers(authorization=f"Bearer {self.token}")

    def _search_url(self, kind: str, url: str) -> str:
        return url.partition("?")[0] if urlsplit(url).path.endswith("/_search") else f"{self.endpoint.url}/{kind}/_search"

    def _described(self, url: str) -> dict[str, Any]:
        return about_link(url, base=self.endpoint.url, aliases=self.endpoint.aliases)


def page_of(answer: Happened) -> Page | None:
    """Read an answer as a page of a search; None for what is none, or tells of an error."""
    try:
        return read_page(answer) if isinstance(answer, RedoxResponse) and answer.status == 200 else None
    except RedoxError:
        return None


def link_of(bundle: Any, relation: str) -> str | None:
    """Find a Bundle's link."""
    links = bundle.get("link", []) if isinstance(bundle, dict) else []
    return next((one["url"] for one in links if one.get("relation") == relation and one.get("url")), None)


def bundle_type(bundle: Any) -> str | None:
    """Give the type of a Bundle, None for what is none."""
    return (
        field_name(str(bundle.get("type"))) if isinstance(bundle, dict) and bundle.get("resourceType") == "Bundle" else None
    )


_CODING = r"(gzip|deflate|br|zstd|chunked|identity)"
_DIRECTIVE = r"(no-store|no-cache|no-transform|private|public|must-revalidate|max-age=\d{1,9})"
_LIMIT = r"\d[\d,;= w]{0,59}"
TOLD = {
    "content-type": r"[a-z]{1,20}/[a-z0-9.+-]{1,60}(; ?charset=[a-z0-9-]{1,20})?",
    "content-encoding": _CODING,
    "transfer-encoding": _CODING,
    "cache-control": rf"{_DIRECTIVE}(, ?{_DIRECTIVE})*",
    "retry-after": r"\d{1,9}|[a-z]{3}, \d\d [a-z]{3} \d{4} [\d:]{8} gmt",
    "x-ratelimit-limit": _LIMIT,
    "x-ratelimit-remaining": _LIMIT,
    "x-ratelimit-reset": _LIMIT,
}
"""The headers of which the report tells the value too, and the form of a value that says no more than it should."""


def of_the_wire(asker: Asker, answers: list[RedoxResponse]) -> Iterator[Finding]:
    """Give what can be told of all answers together, without another request."""
    if not answers:
        return
    seen = names(name for answer in answers for name in answer.headers)
    values = {name: _values(name, answers) for name in TOLD}
    told = {name: found for name, found in values.items() if found}
    traced = all("redox-trace-id" in answer.headers for answer in answers)
    yield q.HEADERS.answered(holds=traced, names=seen, values=told)
    yield q.COMPRESSION.answered(holds=None, gzip=any("gzip" in one.headers.get("content-encoding", "") for one in answers))
    versions = {10: "1.0", 11: "1.1", 20: "2"}
    spoken = names(versions.get(one, "another") for one in asker.client.versions)
    yield q.VERSION.answered(holds=spoken == ["1.1"], versions=spoken)


def _values(name: str, answers: list[RedoxResponse]) -> list[str | int]:
    """Give the values of a header, each once; a small whole number as one, so that it is not taken for an ID."""
    stated = [answer.headers[name].strip() for answer in answers if name in answer.headers]
    found = names(value if re.fullmatch(TOLD[name], value, re.IGNORECASE) else LEFT_OUT for value in stated)
    return [int(value) if re.fullmatch(r"\d{1,6}", value) else value for value in found]
