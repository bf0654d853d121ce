"""Where the workers of a deployment share one access token, sealed, and the claim of the one who renews it.

A Variable serves the whole deployment and is the default; an XCom serves one DAG run; memory serves one process. All
are best effort: a broken, foreign, tampered or expired entry means a new token, never a failed task.

Where the promise "one token" keeps its state: in the metadata database, through Airflow's own API, as
`redox_cache__<fingerprint>` and `redox_cache__<fingerprint>__claim`; never on a worker's disk.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_redox.client.slots import ALONE, Shared, Slot
from airflow_provider_redox.protocol.token import Claim, Token
from airflow_provider_redox.token_cache.seal import EntrySeal

if TYPE_CHECKING:
    from airflow_provider_redox.protocol.settings import Settings

_log = logging.getLogger(__name__)


def shared_slots(settings: Settings) -> Shared:
    """Give the slots that the connection's `extra.cache_backend` names; none where the key can seal nothing.

    A remote signer is asked for what the seal is derived from, where this process has not done so. Raises as it does.
    """
    if settings.cache_backend == "memory":
        return ALONE
    if not settings.key.seals:
        _warn_of_memory(settings.kid)
        return ALONE
    slot = _slot(settings.cache_backend)
    return Shared(slot(seal_of(settings, Token)), slot(seal_of(settings, Claim)))


@functools.lru_cache(maxsize=64)
def _warn_of_memory(kid: str) -> None:
    """Warn, once in a process, that each process has a token of its own."""
    _log.warning(
        "The key %s is an ES384 key on a remote signer, with which no token can be sealed: each task process asks Redox for "
        "a token of its own, and a search that is tried again begins anew. An RSA key (RS384) shares one token. Set "
        "extra.cache_backend to memory to be told no more.",
        kid,
    )


def seal_of(settings: Settings, kind: type[Any]) -> EntrySeal[Any]:
    """Give the seal on what a connection's workers share: a `Token` or a `Claim`."""
    return EntrySeal(settings.key, settings.fingerprint, kind)


def _slot(backend: str) -> Callable[[EntrySeal[Any]], Slot[Any]]:
    if backend == "xcom":
        from airflow_provider_redox.token_cache.xcom import XComSlot

        return XComSlot
    from airflow_provider_redox.token_cache.variable import VariableSlot

    return VariableSlot
