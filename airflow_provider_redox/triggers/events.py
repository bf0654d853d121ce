"""What a trigger tells the task that it wakes, and why the task believes it.

An event lies in clear in the metadata database between the trigger and the task, where others can write too. So it holds
a status, counts and log IDs, and a task takes it for something foreign: of another shape it is refused, and a good end
counts only with a proof, a hash that needs the connection's private key and is bound to this task instance.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_redox import exceptions
from airflow_provider_redox.exceptions import RedoxError, RedoxProtocolError, RedoxSecurityError

if TYPE_CHECKING:
    from airflow_provider_redox.protocol.keys import SigningKey


_log = logging.getLogger(__name__)

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._: -]{0,127}", re.ASCII)
"""What a status, the name of a count or a log ID looks like: nothing that could carry a text into a log."""


MARGIN = 300.0
"""Seconds after a wait's own deadline at which Airflow ends it, should its trigger not have."""


class Event(msgspec.Struct, forbid_unknown_fields=True):
    """What became of a wait.

    :param status: `delivered`, `failed`, `timeout`, `found` or `error`.
    :param counts: how many of what.
    :param error: the class of the error, and `http_status` what Redox answered, when the trigger could not ask.
    """

    status: str
    counts: dict[str, int] = {}
    log_ids: list[str] = []
    statuses: list[str] = []
    error: str = ""
    http_status: int = 0
    proof: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Give it as Airflow stores it."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return told


def ticket_of(ti: Any) -> str:
    """Name a task instance, for what only it may believe, by a hash."""
    instance = "\0".join((ti.dag_id, ti.run_id, ti.task_id, str(-1 if ti.map_index is None else ti.map_index)))
    return hashlib.sha256(instance.encode()).hexdigest()


def proven(event: Event, key: SigningKey, ticket: str) -> Event:
    """Give an event with its proof."""
    return msgspec.structs.replace(event, proof=_proof(event, key, ticket))


def check_provable(keys: Sequence[SigningKey]) -> None:
    """See, before a task defers, that its trigger can prove how the wait ends. Raises `RedoxConfigError`."""
    for key in keys:
        key.secret_numbers()


def is_proven(event: Event, keys: Sequence[SigningKey], ti: Any) -> bool:
    """Say whether a trigger that holds the connection's key made the event for this task instance."""
    proofs = [_proof(event, key, ticket_of(ti)) for key in keys]
    return any(hmac.compare_digest(event.proof.encode(), proof.encode()) for proof in proofs)


def is_believed(event: Event, keys: Sequence[SigningKey], ti: Any, *, doubted: int) -> bool:
    """Say whether a task takes an event's word for it that a wait ended well.

    :param doubted: how many such events it has not believed before. Raises `RedoxSecurityError` at the second.
    """
    if is_proven(event, keys, ti):
        return True
    if doubted:
        raise RedoxSecurityError(
            "twice an event said that the wait had ended well, without the proof that a trigger gives: somebody else "
            "writes events, or the connection's key was changed meanwhile"
        )
    _log.warning("An event said that the wait had ended well, without proof. It is not believed.")
    return False


def _proof(event: Event, key: SigningKey, ticket: str) -> str:
    from airflow_provider_redox.seal import keyed_hash

    content = msgspec.json.encode([ticket, msgspec.structs.replace(event, proof="")])
    return keyed_hash(key, purpose="event", content=content)


def parse_event(told: Any) -> Event:
    """Read an event. Raises `RedoxProtocolError`, without what it says, for one of another shape."""
    try:
        event = msgspec.convert(told, Event)
    except msgspec.ValidationError:
        event = None
    words = () if event is None else (*event.counts, *event.log_ids, *event.statuses)
    if event is None or not all(_WORD.fullmatch(word) for word in words):
        raise RedoxProtocolError("the event that woke this task is not one of its trigger's; clear the task")
    return event


def event_of_error(error: RedoxError) -> Event:
    """Say that a trigger could not ask, in codes."""
    return Event("error", error=type(error).__name__, http_status=getattr(error, "status", 0) or 0)


def error_of(event: Event, conn_id: str) -> RedoxError:
    """Make the error that a trigger met, as far as its event tells it."""
    kind = getattr(exceptions, event.error, None)
    kind = kind if isinstance(kind, type) and issubclass(kind, RedoxError) else RedoxProtocolError
    status = f" (HTTP {event.http_status})" if event.http_status else ""
    return kind(
        f"the trigger could not ask by the connection {conn_id}{status}; the triggerer's log and the Test button say more"
    )
