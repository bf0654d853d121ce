"""Counting the matches of a search as cheaply as the server allows: by its own count, or by as many pages as are needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_provider_redox.exceptions import RedoxResponseError
from airflow_provider_redox.protocol.calls import Calls
from airflow_provider_redox.protocol.effects import Flow
from airflow_provider_redox.protocol.terms import Terms

_REFUSALS = (400, 405, 422, 501)
"""What a server may say to `_summary=count` when it does not know it, or to strict handling of it."""


class Search(msgspec.Struct, frozen=True):
    """One search, whole."""

    resource_type: str
    params: Mapping[str, Any]
    destination: str | None = None
    environment: str | None = None
    headers: Mapping[str, str] | None = None
    handling: str = "strict"

    def walk(self, calls: Calls, **more: str) -> Any:
        """Begin it, with further parameters."""
        return calls.search(
            self.resource_type,
            {**self.params, **more},
            destination=self.destination,
            environment=self.environment,
            headers=self.headers,
            terms=Terms(handling=self.handling),
        )


def count_matches(calls: Calls, search: Search, enough: int) -> Flow[int]:
    """Count the matches until there are `enough`. A server that supports `_summary=count` is sent one request.

    If the server returns resources all the same, or refuses `_summary=count`, pages are read until there are enough. Pages
    are also read if the server counts enough without confirming its filters, and the resources can prove which filters it
    used.
    """
    walk = search.walk(calls, _summary="count")
    try:
        page = yield from walk.next_page()
    except RedoxResponseError as error:
        if error.status not in _REFUSALS:
            raise
        walk = search.walk(calls)
        page = yield from walk.next_page()
    else:
        if page.total is not None and not page.resources:
            if page.total < enough or not walk.judge.is_in_doubt:
                return int(page.total)
            walk = search.walk(calls)
            page = yield from walk.next_page()
    while page is not None and walk.position.matches < enough:
        page = yield from walk.next_page()
    return int(walk.position.matches)
