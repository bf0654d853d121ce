"""Where the workers of a deployment share one access token, sealed, and the claim of the one who renews it.

A Variable serves the whole deployment and is the default; an XCom serves one DAG run; memory serves one process. All
are best effort: a broken, foreign, tampered or expired entry means a new token, never a failed task.

Where the promise "one token" keeps its state: in the metadata database, through Airflow's own API, as
`redox_cache__<fingerprint>` and `redox_cache__<fingerprint>__claim`; never on a worker's disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_redox.client.slots import ALONE, Shared, Slot
from airflow_provider_redox.protocol.token import Claim, Token
from airflow_provider_redox.token_cache.seal import EntrySeal

if TYPE_CHECKING:
    from airflow_provider_redox.protocol.settings import Settings


def shared_slots(settings: Settings) -> Shared:
    """Give the slots that the connection's `extra.cache_backend` names."""
    if settings.cache_backend == "memory":
        return ALONE
    slot = _slot(settings.cache_backend)
    return Shared(slot(seal_of(settings, Token)), slot(seal_of(settings, Claim)))


def seal_of(settings: Settings, kind: type[Any]) -> EntrySeal[Any]:
    """Give the seal on what a connection's workers share: a `Token` or a `Claim`."""
    return EntrySeal(settings.key, settings.fingerprint, kind)


def _slot(backend: str) -> Callable[[EntrySeal[Any]], Slot[Any]]:
    if backend == "xcom":
        from airflow_provider_redox.token_cache.xcom import XComSlot

        return XComSlot
    from airflow_provider_redox.token_cache.variable import VariableSlot

    return VariableSlot
