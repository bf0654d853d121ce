"""What operators share that send one request which may not be sent twice, and is no message with a line of its own.

A line in the task's workspace and a marker in Airflow's database are written before it leaves, as for a message; see
`sending.py`. An earlier try's answer is given again from the line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_redox.operators.arguments import FLAG, choice
from airflow_provider_redox.operators.base import RedoxOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_redox.operators.arguments import Rules
    from airflow_provider_redox.operators.sends.sending import Outcome, Sent
    from airflow_provider_redox.protocol.disclosure import Disclosure
    from airflow_provider_redox.protocol.effects import Flow, RedoxResponse
    from airflow_provider_redox.storage.bodies import AnswerFile
    from airflow_provider_redox.storage.layout import Layout


class OnceOperator(RedoxOperator):
    """An operator that sends what may not be sent twice.

    :param on_ambiguous: `fail` or `resend`.
    :param resend: whether the first try after a clear sends, whatever earlier tries did.
    """

    rules: ClassVar[Rules] = {"on_ambiguous": choice("fail", "resend"), "resend": FLAG}
    on_ambiguous: str
    resend: bool


def send_once(
    operator: OnceOperator,
    context: Context,
    layout: Layout,
    *,
    what: str,
    content: bytes,
    send: Callable[[], Flow[Sent]],
    disclosure: Disclosure,
    number: int = 0,
    noun: str = "request",
) -> Outcome:
    """Send, or find that an earlier try of this task instance sent it. Raises `RedoxAmbiguousOutcomeError`.

    :param what: what an error and the line may say of it.
    :param content: what tells it from another request; it is kept as a keyed hash.
    :param disclosure: what is put on record of it.
    :param number: tells apart what one task sends.
    """
    from airflow_provider_redox.operators.sends.sending import Sending, Subject, is_first_try, was_tried
    from airflow_provider_redox.seal import keyed_hash
    from airflow_provider_redox.storage.send_marker import marker_of
    from airflow_provider_redox.storage.send_record import SendRecord

    client, ti = operator.hook.client, context["ti"]
    digest = keyed_hash(client.settings.key, purpose="request", content=content)
    record = SendRecord(
        layout,
        layout.sent(number),
        known={"what": what},
        marker=marker_of(ti, number),
        again=was_tried(ti),
        number=number,
    )
    resend = operator.resend and is_first_try(ti, operator.retries or 0)
    subject = Subject(what, (), digest, noun)
    return Sending(client, subject, record, lambda _: send(), operator.on_ambiguous, resend, disclosure=disclosure).run()


def answered(flow: Flow[RedoxResponse], file: AnswerFile) -> Flow[Sent]:
    """Keep the body of the answer to what may not be sent again, and say what a later try is to know of it."""
    from airflow_provider_redox.operators.sends.sending import Sent

    response = yield from flow
    facts = summary(response, file.keep_if_possible(response))
    return Sent(trace_id=facts["trace_id"], facts=facts)


def told(outcome: Outcome) -> dict[str, Any]:
    """Give what XCom holds of a request that Redox has taken."""
    known = {"status": None, "trace_id": outcome.trace_id, "results_url": None, **outcome.facts}
    return known if outcome.by_this_try else {**known, "already_sent": 1}


def summary(response: RedoxResponse, results_url: str | None) -> dict[str, Any]:
    """Give what XCom may hold of an answer: its status, its trace ID, and where its body is."""
    return {"status": response.status, "trace_id": response.trace_id, "results_url": results_url}
