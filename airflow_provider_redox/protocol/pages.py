"""One page of a search: a searchset Bundle, parsed only as far as needed.

A resource is passed on as the bytes that were received, on one line, digit for digit; only its type, ID, version and
`lastUpdated` are parsed. Anything that is not a searchset is a `RedoxProtocolError`, which contains the place and never the
content. So is ambiguous JSON: a duplicate member of the Bundle, of a link, an entry or a resource, a duplicate version or
time in a resource's `meta`, and two different next links. Deeper members of a resource are not checked, and come out as they
came in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Generic, TypeVar

import msgspec

from airflow_provider_redox.exceptions import RedoxDestinationError, RedoxProtocolError
from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.effects import RedoxResponse
from airflow_provider_redox.protocol.failures import is_transient, is_unsure, issues_of

T = TypeVar("T")
R = TypeVar("R")
E = TypeVar("E")

COMPACT_AT_MOST = 1024 * 1024
"""The most bytes of a page that is parsed in one go, which bounds the memory; a larger page is parsed step by step."""

ENTRIES_AT_MOST = 250_000
"""The most entries of a page. A server that ignores `_count` may send this many, of 250 bytes each."""

OBJECTS_AT_MOST = 2_000_000
"""The most objects of a page, at any depth. Objects of FHIR take 40 bytes or more, so a page of 64 MB has fewer."""

BESIDE_AT_MOST = 1024 * 1024
"""The most bytes of a page beside its entries: links, a total, meta."""

_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")


_NOTHING = msgspec.Raw()


class _Meta(msgspec.Struct, gc=False):
    versionId: str | None = None  # noqa: N815  (FHIR's names)
    lastUpdated: str | None = None  # noqa: N815


class _Issue(msgspec.Struct):
    severity: str = "error"


class _Outcome(msgspec.Struct):
    issue: list[_Issue] = []


class _SearchMode(msgspec.Struct, gc=False):
    mode: str | None = None


class _Entry(msgspec.Struct, Generic[R], gc=False, omit_defaults=True):
    """The members of an entry, unparsed: all that FHIR defines, so that a duplicate changes the encoded length."""

    resource: R
    search: msgspec.Raw = _NOTHING
    fullUrl: msgspec.Raw = _NOTHING  # noqa: N815
    id: msgspec.Raw = _NOTHING
    link: msgspec.Raw = _NOTHING
    extension: msgspec.Raw = _NOTHING
    request: msgspec.Raw = _NOTHING
    response: msgspec.Raw = _NOTHING


class _Link(msgspec.Struct):
    relation: str = ""
    url: str = ""


class _Bundle(msgspec.Struct, Generic[E], omit_defaults=True):
    """The members of a Bundle: those that are read, and all others that FHIR defines, for the same reason.

    The total stays unparsed too: as a number, `1e12` would be encoded longer than it was, and could hide a lost duplicate.
    """

    resourceType: str  # noqa: N815
    type: str = ""
    total: msgspec.Raw = _NOTHING
    link: msgspec.Raw = _NOTHING
    entry: E = _NOTHING  # type: ignore[assignment]
    issues: msgspec.Raw = _NOTHING  # R5: what the server says beside the entries
    id: msgspec.Raw = _NOTHING
    meta: msgspec.Raw = _NOTHING
    timestamp: msgspec.Raw = _NOTHING
    identifier: msgspec.Raw = _NOTHING
    language: msgspec.Raw = _NOTHING
    implicitRules: msgspec.Raw = _NOTHING  # noqa: N815
    signature: msgspec.Raw = _NOTHING


_NO_META = _Meta()
_compact = msgspec.json.Decoder(_Bundle[list[_Entry[dict[str, msgspec.Raw]]]])
_loose = msgspec.json.Decoder(_Bundle[list[_Entry[msgspec.Raw]]])
_bundles = msgspec.json.Decoder(_Bundle[msgspec.Raw])
_links = msgspec.json.Decoder(_Link)
_entries = msgspec.json.Decoder(list[_Entry[msgspec.Raw]])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_modes = msgspec.json.Decoder(_SearchMode)
_text = msgspec.json.Decoder(str)
_optional_text = msgspec.json.Decoder(str | None)
_number = msgspec.json.Decoder(int | None)
_meta = msgspec.json.Decoder(_Meta | None)
_encoder = msgspec.json.Encoder()
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
        bundle, found = _read_compact(response.body) or _read_any(response.body)
        if bundle.resourceType == "OperationOutcome":
            raise destination_error(response)
        if bundle.resourceType != "Bundle" or bundle.type != "searchset":
            raise ValueError("JSON, but not a Bundle of type searchset")  # noqa: TRY301  (one place says what is wrong)
        total = _total_of(bundle.total)
        links = _links_of(bundle.link)
        found = [*found, *_beside(bundle.issues)]
        outcomes = [resource for resource in found if _is_outcome(resource)]
        _refuse_failed(response, outcomes)
    except ValueError as error:
        raise RedoxProtocolError(f"HTTP {response.status}, but the page is not a search result: {error}") from None
    resources = [resource for resource in found if not _is_outcome(resource)] if outcomes else found
    if links.get("next") == "":
        raise RedoxProtocolError(f"HTTP {response.status}, but the page's next link is empty: what follows is lost")
    return Page(resources, outcomes, total, links.get("self", ""), links.get("next"), response.trace_id)


def read_line(line: bytes) -> Resource:
    """Parse a line that a page gave. Raises ValueError, without any of the text."""
    with jsontext.reading():
        return _resource(line, None)


def _read_compact(body: bytes) -> tuple[_Bundle[Any], list[Resource]] | None:
    """Parse a page of usual size in one go. Returns None where a duplicate may be lost, or where that fails.

    A page that is encoded again from its members has the same length, unless a duplicate was lost or the text has spaces or
    escapes. A page with spaces is compared without them. A resource that spans lines is encoded anew; any other is the bytes
    that were received.
    """
    if len(body) > COMPACT_AT_MOST:
        return None
    try:
        bundle: _Bundle[Any] = jsontext.decode(body, _compact, values=COMPACT_AT_MOST)
        if len(_encoder.encode(bundle)) == len(body):
            return bundle, [_head(one.resource, _encoder.encode(one.resource), _mode_of(one)) for one in _listed(bundle)]
        text = body.removeprefix(b"\xef\xbb\xbf")
        dense = msgspec.json.format(text, indent=-1)
        bundle = _compact.decode(dense)
        if len(_encoder.encode(bundle)) != len(dense):
            return None
        pairs = zip(_listed(bundle), _listed(_loose.decode(text)), strict=True)
        return bundle, [
            _head(one.resource, _line_of(one, bytes(as_it_came.resource)), _mode_of(one)) for one, as_it_came in pairs
        ]
    except (ValueError, msgspec.MsgspecError, RecursionError):  # which the other way says by its place
        return None


def _listed(bundle: _Bundle[Any]) -> list[_Entry[Any]]:
    return [] if bundle.entry is _NOTHING else bundle.entry


def _line_of(entry: _Entry[Any], text: bytes) -> bytes:
    return _encoder.encode(entry.resource) if b"\n" in text or b"\r" in text else text


def _read_any(body: bytes) -> tuple[_Bundle[Any], list[Resource]]:
    """Parse a page of any size and layout, step by step. Raises ValueError with the place of the fault."""
    bundle = _bundle(body)
    is_bundle = bundle.resourceType == "Bundle" and bundle.type == "searchset"
    return bundle, _resources(bundle.entry) if is_bundle else []


def _bundle(body: bytes) -> _Bundle[msgspec.Raw]:
    """Parse the members of a Bundle, except its entries, and check that none is a duplicate."""
    text = body.removeprefix(b"\xef\xbb\xbf").strip()
    if len(text) > OBJECTS_AT_MOST and text.count(b"{") > OBJECTS_AT_MOST:
        raise ValueError(f"more than {OBJECTS_AT_MOST} objects")
    bundle: _Bundle[msgspec.Raw] = jsontext.decode(text, _bundles, values=len(text))
    entries = len(memoryview(bundle.entry))
    beside = len(text) - entries
    if beside > BESIDE_AT_MOST and bundle.resourceType == "Bundle":
        raise ValueError(f"{beside} bytes beside its entries, or entry stands twice")
    without = msgspec.structs.replace(bundle, entry=msgspec.Raw(b"")) if entries else bundle
    if len(_encoder.encode(without)) != beside:
        with jsontext.reading():
            jsontext.members(text, room=beside)
    return bundle


def _total_of(raw: msgspec.Raw) -> int | None:
    try:
        with jsontext.reading():
            total: int | None = _number.decode(raw) if memoryview(raw) else None
    except ValueError as error:
        raise ValueError(f"total: {error}") from None
    return total


def _links_of(raw: msgspec.Raw) -> dict[str, str]:
    """Return the links by their relation, in lower case: FHIR's relations are IANA's, which have no case (RFC 8288)."""
    links: dict[str, str] = {}
    with jsontext.reading():
        for one in _raws.decode(raw) if memoryview(raw) else ():
            jsontext.members(bytes(one))
            link = _links.decode(one)
            relation = link.relation.lower()
            if links.setdefault(relation, link.url) != link.url and relation in ("next", "self"):
                raise ValueError(f"two different {relation} links, so readers differ on which one counts")
    return links


def _beside(raw: msgspec.Raw) -> list[Resource]:
    """Return, as a list, the OperationOutcome that the server put into `Bundle.issues`, as R5 defines it."""
    text = bytes(raw)
    if text in (b"", b"null"):
        return []
    with jsontext.reading():
        return [_resource(text, "outcome")]


def _resources(raw: msgspec.Raw) -> list[Resource]:
    """Parse the heads of a Bundle's resources. The body has been found to be UTF-8, as a whole."""
    return _of_each(_entries_of(raw), _resource_of) if memoryview(raw) else []


def _entries_of(raw: msgspec.Raw) -> list[_Entry[msgspec.Raw]]:
    """Parse the entries together; if they have duplicates, spaces or escapes, parse them one by one."""
    with jsontext.reading():
        entries: list[_Entry[msgspec.Raw]] = _entries.decode(raw)
    if len(entries) > ENTRIES_AT_MOST:
        raise ValueError(f"more than {ENTRIES_AT_MOST} entries")
    if len(_encoder.encode(entries)) != len(memoryview(raw)):
        _of_each(_raws.decode(raw), lambda entry: jsontext.members(bytes(entry)))
    return entries


def _of_each(many: Iterable[T], read: Callable[[T], R]) -> list[R]:
    """Parse each entry. Raises ValueError with the number of the entry that cannot be read."""
    place, made = 0, []
    try:
        with jsontext.reading():
            for place, one in enumerate(many):  # noqa: B007  (the error names it)
                made.append(read(one))
    except ValueError as error:
        raise ValueError(f"entry[{place}]: {error}") from None
    return made


def _resource_of(entry: _Entry[msgspec.Raw]) -> Resource:
    return _resource(bytes(entry.resource), _mode_of(entry))


def _mode_of(entry: _Entry[Any]) -> str | None:
    return None if entry.search is _NOTHING else _mode(bytes(entry.search))


@lru_cache(maxsize=64)
def _mode(search: bytes) -> str | None:
    if search == b"null":
        return None
    jsontext.members(search)
    return _modes.decode(search).mode


def _resource(line: bytes, mode: str | None) -> Resource:
    if b"\n" in line or b"\r" in line:
        line = msgspec.json.format(line, indent=-1)
    return _head(jsontext.members(line), line, mode)


def _head(parts: dict[str, msgspec.Raw], line: bytes, mode: str | None) -> Resource:
    """Parse what identifies a resource. Raises ValueError or msgspec's errors."""
    if "resourceType" not in parts:
        raise ValueError("a resource without a resourceType")
    kind = _text.decode(parts["resourceType"])
    if not _is_name(kind):
        raise ValueError("a resource whose resourceType is not a name")
    name = _optional_text.decode(parts["id"]) if "id" in parts else None
    meta = _meta_of(bytes(parts["meta"])) if "meta" in parts else _NO_META
    return Resource(kind, name, meta.versionId, meta.lastUpdated, line, mode)


def _meta_of(text: bytes) -> _Meta:
    meta: _Meta | None = _meta.decode(text)
    if meta is None:
        return _NO_META
    if text.count(b"versionId") > 1 or text.count(b"lastUpdated") > 1 or b"\\u" in text:
        jsontext.members(text)
    return meta


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
