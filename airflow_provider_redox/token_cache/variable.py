"""The token and the claim, each in an Airflow Variable, shared by the whole deployment.

The name must not look sensitive to Airflow's masker: a long-lived process slows down with every value that is masked,
and what lies here is sealed anyway. Airflow offers no lock and no compare-and-set: the last writer wins.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow_provider_redox.token_cache.seal import EntrySeal

_log = logging.getLogger(__name__)


class VariableSlot:
    """One Variable, of the seal's name."""

    def __init__(self, seal: EntrySeal[Any]) -> None:
        self._seal = seal

    def load(self) -> Any:
        """Give what lies here, or None."""
        from airflow.providers.common.compat.sdk import Variable

        try:
            return self._seal.open(Variable.get(self._seal.name, None))
        except Exception as error:  # noqa: BLE001  (best effort: a cache that fails costs one token, never a task)
            _log.debug("%s could not be read (%s).", self._seal.name, type(error).__name__)
            return None

    def save(self, entry: Any) -> bool:
        """Put this here, sealed, and say whether that could be done."""
        from airflow.providers.common.compat.sdk import Variable

        try:
            Variable.set(self._seal.name, self._seal.close(entry), description="Shared by the tasks of a Redox connection")
        except Exception as error:  # noqa: BLE001  (outside a task 3.x has no way to write; 2.11 may lose a race)
            _log.debug("%s could not be written (%s).", self._seal.name, type(error).__name__)
            return False
        return True
