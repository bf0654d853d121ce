"""The token in an Airflow Variable, shared by the whole deployment.

The name must not look sensitive to Airflow's masker: a long-lived process slows down with every value that is masked,
and what lies here is sealed anyway. Airflow offers no lock and no compare-and-set: the last writer wins.
"""

from __future__ import annotations

import logging

from airflow_provider_redox.protocol.token import Token
from airflow_provider_redox.token_cache.seal import TokenSeal

_log = logging.getLogger(__name__)


class VariableSlot:
    """One Variable, `redox_cache__<fingerprint>`."""

    def __init__(self, seal: TokenSeal) -> None:
        self._seal = seal

    def load(self) -> Token | None:
        """Give the token that lies here, or None."""
        from airflow.providers.common.compat.sdk import Variable

        try:
            return self._seal.open(Variable.get(self._seal.name, None))
        except Exception as error:  # noqa: BLE001  (best effort: a cache that fails costs one token, never a task)
            _log.debug("The shared token could not be read (%s).", type(error).__name__)
            return None

    def save(self, token: Token) -> None:
        """Put the token here, sealed, if that can be done."""
        from airflow.providers.common.compat.sdk import Variable

        try:
            Variable.set(self._seal.name, self._seal.close(token), description="Sealed access token of a Redox connection")
        except Exception as error:  # noqa: BLE001  (outside a task 3.x has no way to write; 2.11 may lose a race)
            _log.debug("The token could not be shared (%s).", type(error).__name__)
