"""The marker of an unsafe send, in Airflow's metadata database: a status and a hash, nothing else.

It is an Airflow Variable of its own for each task instance, `redox_send__<hash>`. Every worker sees it, and unlike
the task state of Airflow 3.3 it outlives a clear. It is written before the request leaves and taken away when the
outcome stands in storage that outlives the worker. If that storage is a worker's own disk, the marker of an accepted message
stays, because the disk may be lost. All other markers that are left belong to sends with an unknown outcome.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any, Protocol

import msgspec

from airflow_provider_redox.exceptions import RedoxTransportError
from airflow_provider_redox.protocol import jsontext

_log = logging.getLogger(__name__)


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content of a marker.

    :param status: `sending`; another one where the line could not be written.
    :param hash: the keyed hash of what was sent.
    :param batch: the name of a batch; see `send_batch.py`. Empty for a single message.
    :param segment: the last segment of the batch of which messages may have left.
    :param attempt: of a single message; see `send_attempts.py`.
    """

    status: str
    hash: str
    batch: str = ""
    segment: int = -1
    attempt: int = 0

    @property
    def name(self) -> str:
        """What tells this send from another of the same task instance."""
        return self.batch or self.hash


class Marker(Protocol):
    """Where the marker of one task instance lies."""

    def read(self) -> Mark | None:
        """Give the mark, None when there is none."""

    def write(self, mark: Mark) -> None:
        """Put a mark here."""

    def clear(self) -> None:
        """Take it away."""


class VariableMarker:
    """One Variable of one task instance. Raises `RedoxTransportError` when Airflow does not answer: then nothing is sent."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self) -> Mark | None:
        """Give the mark; one that cannot be read means that something was sent."""
        from airflow.providers.common.compat.sdk import Variable

        try:
            text = Variable.get(self.name, None)
        except Exception as error:  # noqa: BLE001  (each Airflow has errors of its own)
            raise _unavailable(error) from None
        return None if text is None else jsontext.stored(text, Mark) or Mark("sending", "")

    def write(self, mark: Mark) -> None:
        """Put a mark here."""
        from airflow.providers.common.compat.sdk import Variable

        try:
            Variable.set(self.name, msgspec.json.encode(mark).decode(), description="A Redox send whose outcome is open")
        except Exception as error:  # noqa: BLE001  (each Airflow has errors of its own)
            raise _unavailable(error) from None

    def clear(self) -> None:
        """Take it away; one that stays is only told, as the outcome stands in storage."""
        from airflow.providers.common.compat.sdk import Variable

        try:
            Variable.delete(self.name)
        except Exception as error:  # noqa: BLE001  (each Airflow has errors of its own)
            _log.warning("The Variable %s, of a send that is over, stays (%s).", self.name, type(error).__name__)


class NoMarker:
    """A marker in memory only, for code outside a task: no other try follows, and Airflow 3 offers no way to write one."""

    def __init__(self) -> None:
        self._mark: Mark | None = None

    def read(self) -> Mark | None:
        """Give the mark, None when there is none."""
        return self._mark

    def write(self, mark: Mark) -> None:
        """Put a mark here."""
        self._mark = mark

    def clear(self) -> None:
        """Take it away."""
        self._mark = None


def marker_of(ti: Any, number: int = 0) -> Marker:
    """Return the marker of a task instance, or one that stores nothing if no task is running.

    :param number: identifies one of several sends of a task.
    """
    from airflow.providers.common.compat.sdk import get_current_context

    try:
        get_current_context()
    except Exception:  # noqa: BLE001  (each Airflow has its own error for "not in a task")
        return NoMarker()
    instance = "\0".join((ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index), *([str(number)] if number else [])))
    return VariableMarker(f"redox_send__{hashlib.sha256(instance.encode()).hexdigest()[:32]}")


def _unavailable(error: Exception) -> RedoxTransportError:
    return RedoxTransportError(
        f"Airflow did not take or give the marker of this send ({type(error).__name__}), so nothing was sent: without it a "
        "next try could send a second time"
    )
