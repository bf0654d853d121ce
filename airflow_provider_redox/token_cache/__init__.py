"""Where the workers of a deployment share one access token, sealed.

A Variable serves the whole deployment and is the default; an XCom serves one DAG run; memory serves one process. All
are best effort: a broken, foreign, tampered or expired entry means a new token, never a failed task.

Where the promise "one token" keeps its state: in the metadata database, through Airflow's own API, as
`redox_cache__<fingerprint>`; never on a worker's disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_redox.client.slots import NoSlot, TokenSlot
from airflow_provider_redox.token_cache.seal import TokenSeal

if TYPE_CHECKING:
    from airflow_provider_redox.protocol.settings import Settings


def shared_slot(settings: Settings) -> TokenSlot:
    """Give the slot that the connection's `extra.cache_backend` names."""
    seal = TokenSeal(settings.key, settings.fingerprint)
    if settings.cache_backend == "variable":
        from airflow_provider_redox.token_cache.variable import VariableSlot

        return VariableSlot(seal)
    if settings.cache_backend == "xcom":
        from airflow_provider_redox.token_cache.xcom import XComSlot

        return XComSlot(seal)
    return NoSlot()
