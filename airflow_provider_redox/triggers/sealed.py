"""A search as a trigger's row holds it: closed with the connection's private key, bound to the connection and the task.

Who writes to the database cannot make one task wait for what another one asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from airflow_provider_redox.exceptions import RedoxProtocolError
from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.counting import Search
from airflow_provider_redox.seal import Seal

if TYPE_CHECKING:
    from airflow_provider_redox.protocol.keys import SigningKey
    from airflow_provider_redox.protocol.settings import Settings


class SealError(RedoxProtocolError):
    """A sealed search cannot be opened. Waiting does not help; a next try of the task does."""


_PURPOSE = "search that is waited for"


def close_search(search: Search, settings: Settings, ticket: str) -> str:
    """Seal a search. It opens with the same key, client, host and task instance only."""
    return _seal(settings, settings.key, ticket).close(msgspec.json.encode(search))


def open_search(sealed: str, settings: Settings, ticket: str) -> Search:
    """Open what `close_search` made, with any key of the connection. Raises `SealError` when none fits."""
    for key in settings.keys:
        search = jsontext.stored(_seal(settings, key, ticket).open(sealed), Search)
        if search is not None:
            return search
    raise SealError(
        "the search that this trigger waits for cannot be opened: the connection's key, client or host has changed since "
        "the task was deferred; a next try seals it anew"
    )


def _seal(settings: Settings, key: SigningKey, ticket: str) -> Seal:
    return Seal(key, purpose=_PURPOSE, bound_to=f"{settings.client_id} {settings.base_url} {ticket}")
