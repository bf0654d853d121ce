"""One page of a search: a searchset Bundle, parsed only as far as needed.

A resource passes through as the bytes that came, on one line, digit for digit; parsed are its type, ID, version and
`lastUpdated`. Anything that is not a searchset is a `RedoxProtocolError`, which tells where, never what.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from airflow_provider_redox.exceptions import RedoxDestinationError, RedoxProtocolError
from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.effects import RedoxResponse
from airflow_provider_redox.protocol.failures import is_transient, is_unsure, issues_of

_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")


class _Meta(msgspec.Struct, gc=False):
    versionId: str | None = None  # noqa: N815  (FHIR's names)
    lastUpdated: str | None = None  # noqa: N815


class _Head(msgspec.Struct, gc=False):
    resourceType: str  # noqa: N815
    id: str | None = None
    meta: _Meta | None = None


class _Issue(msgspec.Struct):
    severity: str = "error"


class _Outcome(msgspec.Struct):
    issue: list[_Issue] = []


class _SearchMode(msgspec.Struct, gc=False):
    mode: str | None = None


class _Entry(msgspec.Struct, gc=False):
    resource: msgspec.Raw = msgspec.Raw()
    search: _SearchMode | None = None


class _Link(msgspec.Struct):
    relation: str = ""
    url: str = ""


class _Bundle(msgspec.Struct):
    resourceType: str  # noqa: N815
    type: str = ""
    total: int | None = None
    link: list[_Link] = []
    entry: list[_Entry] = []
    issues: msgspec.Raw = msgspec.Raw()  # R5: what the server says beside the entries


_NO_META = _Meta()
_bundles = msgspec.json.Decoder(_Bundle)
_heads = msgspec.json.Decoder(_Head)
_outcomes = msgspec.json.Decoder(_Outcome)
_any = msgspec.json.Decoder()


class Resource(msgspec.Struct, frozen=True, gc=False):
    """One resource of a page: what identifies it, and its JSON on one line.

    :param mode: the entry's `search.mode`: `match`, `include`, `outcome`, or None when the server told none.
    """

    type: str
    id: str | None
    version: str | None
    last_updated: str | None
    line: bytes
    mode: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Parse the line."""
        parsed: dict[str, Any] = _any.decode(self.line)
        return parsed


class Page(msgspec.Struct, frozen=True):
    """One page of a search: the resources found or included, the outcomes that are not errors, and what follows.

    :param total: the Bundle's own count of all matches, None when it tells none.
    :param self_link: the search as the server says that it understood it; empty when it does not say.
    :param next_link: where the next page is; None on the last page.
    """

    resources: list[Resource]
    outcomes: list[Resource]
    total: int | None = None
    self_link: str = ""
    next_link: str | None = None
    trace_id: str | None = None


def read_page(response: RedoxResponse) -> Page:
    """Parse a searchset Bundle.

    Raises `RedoxProtocolError` for anything else and `RedoxDestinationError` for an OperationOutcome of severity
    error or fatal, alone or in the Bundle: part of the answer is then missing.
    """
    try:
        bundle = jsontext.decode(response.body, _bundles)
        if bundle.resourceType == "OperationOutcome":
            raise destination_error(response)
        if bundle.resourceType != "Bundle" or bundle.type != "searchset":
            raise ValueError("JSON, but not a Bundle of type searchset")  # noqa: TRY301  (one place says what is wrong)
        found = _resources(bundle.entry)
        beside = bytes(bundle.issues)
        if beside not in (b"", b"null"):
            found.append(_resource(beside, "outcome"))
        outcomes = [resource for resource in found if _is_outcome(resource)]
        _refuse_failed(response, outcomes)
    except ValueError as error:
        raise RedoxProtocolError(f"HTTP {response.status}, but the page is not a search result: {error}") from None
    resources = [resource for resource in found if not _is_outcome(resource)] if outcomes else found
    links = {link.relation: link.url for link in reversed(bundle.link)}
    if links.get("next") == "":
        raise RedoxProtocolError(f"HTTP {response.status}, but the page's next link is empty: what follows is lost")
    return Page(resources, outcomes, bundle.total, links.get("self", ""), links.get("next"), response.trace_id)


def read_line(line: bytes) -> Resource:
    """Parse a line that a page gave. Raises ValueError, without any of the text."""
    return _resource(line, None)


def _resources(entries: list[_Entry]) -> list[Resource]:
    """Parse the heads of a Bundle's resources. The body has been found to be UTF-8, as a whole."""
    with jsontext.reading():
        return [_resource(bytes(entry.resource), entry.search.mode if entry.search else None) for entry in entries]


def _resource(line: bytes, mode: str | None) -> Resource:
    if not line:
        raise ValueError("an entry without a resource")
    if b"\n" in line or b"\r" in line:
        line = msgspec.json.format(line, indent=-1)
    head = _heads.decode(line)
    if not _is_name(head.resourceType):
        raise ValueError("a resource whose resourceType is not a name")
    meta = head.meta or _NO_META
    return Resource(head.resourceType, head.id, meta.versionId, meta.lastUpdated, line, mode)


@lru_cache(maxsize=256)
def _is_name(text: str) -> bool:
    return bool(_TYPE.fullmatch(text))


def _is_outcome(resource: Resource) -> bool:
    return resource.type == "OperationOutcome"  # whatever else calls itself one is a resource, and somebody's


def _refuse_failed(response: RedoxResponse, outcomes: list[Resource]) -> None:
    for outcome in outcomes:
        if outcome.type != "OperationOutcome":
            continue
        parsed = jsontext.decode(outcome.line, _outcomes)
        if any(issue.severity in ("error", "fatal") for issue in parsed.issue):
            raise destination_error(RedoxResponse(response.status, response.headers, outcome.line))


def destination_error(response: RedoxResponse) -> RedoxDestinationError:
    """Make the error for a success status with a failure of the destination inside."""
    issues = issues_of(response)
    said = f": {'; '.join(issues)}" if issues else ""
    error = RedoxDestinationError(
        f"HTTP {response.status}, but the destination reports an error{said}; the answer would be incomplete",
        status=response.status,
        issues=issues,
        trace_id=response.trace_id,
    )
    error.retryable = is_transient(response)
    error.may_have_arrived = is_unsure(response)
    return error
