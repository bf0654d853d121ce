"""Check that an answer proves that Redox accepted this message, or answered this query.

Redox returns a log ID for each destination of a stored message, and answers a query with the matching event, such as
`QueryResponse`. An answer that shows neither may come from a cache, an echo or a login page, whatever its status says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError, RedoxDestinationError, RedoxProtocolError
from airflow_provider_redox.protocol.data_model import Accepted, log_ids_of, read_answer
from airflow_provider_redox.protocol.effects import RedoxResponse
from airflow_provider_redox.protocol.failures import traced


@dataclass(frozen=True, slots=True)
class Question:
    """What the answer to a message must show.

    :param places: how many destinations the message goes to.
    :param log_ids: log IDs that the message itself contains, as a forwarded one does: in the answer they prove nothing.
    """

    data_model: str
    event_type: str
    places: int = 1
    log_ids: frozenset[str] = frozenset()

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Question:
        """Build it from a message. A message that names no destination goes to one."""
        meta = message["Meta"]
        stated = meta.get("Destinations")
        places = max(len(stated), 1) if isinstance(stated, list) else 1
        return cls(_plain(meta.get("DataModel")), _plain(meta.get("EventType")), places, frozenset(log_ids_of(message)))

    def is_answered_by(self, event_type: str) -> bool:
        """Return whether an event answers this one: its name differs, and ends with `Response`."""
        return event_type.endswith("response") and event_type != self.event_type


def read_accepted(response: RedoxResponse, question: Question) -> Accepted:
    """Read the answer to a message.

    Raises `RedoxProtocolError` for an answer that proves nothing, `RedoxAmbiguousOutcomeError` for one without a log ID for
    each destination, and `RedoxDestinationError` for errors inside the 200.
    """
    answer = read_answer(response)
    event = _event_about(answer, question, response.status)
    log_ids = tuple(dict.fromkeys(one for one in log_ids_of(answer) if one not in question.log_ids))
    if question.places == 1 and (log_ids or question.is_answered_by(event)):
        return Accepted(log_ids, response.trace_id)
    if not log_ids:
        raise RedoxProtocolError(
            f"HTTP {response.status}, but the answer names no log, so nothing shows that Redox has stored the message"
        )
    if len(log_ids) != question.places:
        raise _for_some_only(response, question, log_ids)
    return Accepted(log_ids, response.trace_id)


def read_answered(response: RedoxResponse, question: Question, *, incomplete: bool = False) -> RedoxResponse:
    """Return the answer to a query, if it is one.

    Raises `RedoxProtocolError` for one that is not, and `RedoxDestinationError` for errors inside the 200 and, unless
    `incomplete` answers are taken, for one that says that it is not whole.
    """
    answer = read_answer(response)
    event = _event_about(answer, question, response.status)
    if not question.is_answered_by(event):
        raise RedoxProtocolError(f"HTTP {response.status}, but the answer is not of the event that answers the query")
    if is_incomplete(answer) and not incomplete:
        raise RedoxDestinationError(
            f"HTTP {response.status} with Meta.IsIncomplete: the answer is not whole; on_incomplete='warn' accepts "
            f"it{traced(response)}",
            status=response.status,
            trace_id=response.trace_id,
        )
    return response


def is_incomplete(answer: Mapping[str, Any]) -> bool:
    """Return whether an answer is marked as incomplete; any value but false, null or an absent one marks it."""
    stated = answer["Meta"].get("IsIncomplete")
    return stated not in (None, False) and str(stated).lower() != "false"


def _event_about(answer: Mapping[str, Any], question: Question, status: int) -> str:
    """Return the event of an answer, empty where it names none. Raises for an answer to something else."""
    meta = answer["Meta"]
    model, event = (_plain(meta.get(name)) for name in ("DataModel", "EventType"))
    if model not in ("", question.data_model) or not (event in ("", question.event_type) or question.is_answered_by(event)):
        raise RedoxProtocolError(f"HTTP {status}, but the answer is about another data model or event than was sent")
    return event


def _for_some_only(response: RedoxResponse, question: Question, log_ids: tuple[str, ...]) -> RedoxAmbiguousOutcomeError:
    return RedoxAmbiguousOutcomeError(
        f"HTTP {response.status} with {len(log_ids)} log IDs for {question.places} destinations, so it is not known which "
        f"of them have the message{traced(response)}: {', '.join(log_ids[:10])}. It is not sent again. Look for it in the "
        "Redox dashboard's logs, by time and destination",
        status=response.status,
        trace_id=response.trace_id,
        log_ids=log_ids,
    )


def _plain(name: Any) -> str:
    """Return a name of a data model or an event as it is compared: Redox's own samples write it with and without spaces."""
    return "" if name is None else str(name).replace(" ", "").lower()
