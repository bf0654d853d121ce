"""Searchset Bundles and their paging: an opaque cursor over a snapshot of the matches.

A page that was promised stays what it was when the search began, whatever is written meanwhile. ``link_style`` chooses
how well behaved the ``next`` links are.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from . import search as searching
from . import summaries
from .answers import refuse_fhir

if TYPE_CHECKING:
    from .search import Search
    from .state import Sandbox
    from .store import Resource

MAX_CURSORS = 10_000
PARAMETER = "_page"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a cursor stands; ``then`` is the cursor that a looping page names as its next."""

    search: Search
    base_path: str
    matches: tuple[Resource, ...]
    offset: int = 0
    size: int = 50
    cursor: str = ""
    then: str = ""


class Cursors:
    """The positions that clients may come back to; the oldest are forgotten."""

    def __init__(self) -> None:
        self._positions: OrderedDict[str, Position] = OrderedDict()

    def add(self, position: Position, *, cursor: str = "", then: str = "") -> str:
        """Remember a position under a cursor that says nothing about it."""
        cursor = cursor or secrets.token_urlsafe(18)
        self._positions[cursor] = replace(position, cursor=cursor, then=then)
        if len(self._positions) > MAX_CURSORS:
            self._positions.popitem(last=False)
        return cursor

    def find(self, cursor: str, base_path: str, resource_type: str) -> Position:
        """Return the position of a cursor on this path, or refuse with 410."""
        position = self._positions.get(cursor)
        if position is None or (position.base_path, position.search.resource_type) != (base_path, resource_type):
            refuse_fhir(410, "expired", "_page: this page is not known, or no longer")
        return position

    def clear(self) -> None:
        """Forget all positions."""
        self._positions.clear()


def first_page(sandbox: Sandbox, search: Search, base_path: str) -> dict[str, Any]:
    """Run a search and build its first page."""
    matches = tuple(searching.run(search, sandbox.store))
    size = search.count or sandbox.settings.page_size
    return build(sandbox, Position(search, base_path, matches, size=size))


def build(sandbox: Sandbox, position: Position) -> dict[str, Any]:
    """Build the page at a position."""
    bundle: dict[str, Any] = {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(position.matches) + sandbox.settings.total_offset,
        "link": [{"relation": "self", "url": _self_link(sandbox, position)}],
    }
    if position.search.count_only:
        return bundle
    following = _next_cursor(sandbox, position)
    if following:
        bundle["link"].append({"relation": "next", "url": _next_link(sandbox, position, following)})
    return bundle | _entries(sandbox, position)


def _entries(sandbox: Sandbox, position: Position) -> dict[str, Any]:
    shown = position.matches[position.offset : position.offset + position.size]
    base = sandbox.base_url + position.base_path
    entries = [_entry(base, summaries.project(match, position.search.elements), "match") for match in shown]
    extra = searching.included(position.search, shown, sandbox.store)
    entries += [_entry(base, resource, "include") for resource in extra]
    return {"entry": entries} if entries else {}


def _entry(base: str, resource: Resource, mode: str) -> dict[str, Any]:
    url = f"{base}/{resource['resourceType']}/{resource['id']}"
    return {"fullUrl": url, "resource": resource, "search": {"mode": mode}}


def _self_link(sandbox: Sandbox, position: Position) -> str:
    pairs = [(PARAMETER, position.cursor)] if position.cursor else list(position.search.honoured)
    return f"{sandbox.base_url}{position.base_path}/{position.search.resource_type}?{urlencode(pairs)}"


def _next_link(sandbox: Sandbox, position: Position, cursor: str) -> str:
    tail = f"{position.search.resource_type}?{urlencode({PARAMETER: cursor})}"
    if sandbox.settings.link_style == "relative":
        return tail
    origin = sandbox.settings.foreign_origin if sandbox.settings.link_style == "foreign" else sandbox.base_url
    return f"{origin}{position.base_path}/{tail}"


def _next_cursor(sandbox: Sandbox, position: Position) -> str:
    style, cursors = sandbox.settings.link_style, sandbox.cursors
    if position.then and style in {"loop", "aba"}:
        return position.then
    offset = position.offset + max(1, position.size - sandbox.settings.shift)
    if style in {"loop", "aba", "endless"}:
        forward = replace(position, offset=offset % max(len(position.matches), 1))
        return _ill_natured(cursors, forward, style)
    return cursors.add(replace(position, offset=offset)) if offset < len(position.matches) else ""


def _ill_natured(cursors: Cursors, position: Position, style: str) -> str:
    """Make a next cursor that comes back to itself, to its sister, or never ends."""
    if style == "endless":
        return cursors.add(position)
    first = cursors.add(position)
    second = cursors.add(position, then=first) if style == "aba" else first
    return cursors.add(position, cursor=first, then=second)
