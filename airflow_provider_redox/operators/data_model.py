"""Data Model operators: send messages, and ask questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxError
from airflow_provider_redox.operators.arguments import (
    CONCURRENCY_AT_MOST,
    FLAG,
    MAPPING,
    PLACE,
    POINTER,
    TEXT,
    TEXTS,
    choice,
    whole,
)
from airflow_provider_redox.operators.base import MESSAGE, RedoxOperator
from airflow_provider_redox.operators.data_model_query import RedoxDataModelQueryOperator
from airflow_provider_redox.operators.delivering import DeliveringOperator

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_redox.operators.arguments import Rules
    from airflow_provider_redox.operators.signatures import DeliveringArguments

__all__ = ["RedoxDataModelPostOperator", "RedoxDataModelQueryOperator"]


class RedoxDataModelPostOperator(DeliveringOperator):
    """Send Data Model messages at most once, and know what became of each: accepted, refused, or nobody can tell.

    Sending a message twice may double it at the hospital, and Redox knows no idempotency key. So a line in storage and a
    marker in Airflow's database are written before the message leaves. A retry, a clear or another worker reads them: what
    was accepted is not sent again, and what may have been sent raises `RedoxAmbiguousOutcomeError`. What can safely be tried
    again (unsent, 401, 429, 503 with Retry-After) is tried again inside the one try, and by Airflow's own `retries`.

    Accepted means that Redox has stored the message, not that it was delivered: see `wait_for_delivery` of
    `DeliveringOperator`.

    The result is `{"accepted": n, "refused": n, "ambiguous": n, "log_ids": [...], "results_url": "..."}`, with
    `"already_sent": 1` when an earlier try or run has sent it; the line of the message, with its log IDs or its error codes,
    is in `results_url`. No content enters XCom or a log.

    A file of messages goes out in segments. When all have been tried the task fails if any is ambiguous or refused, unless
    you chose otherwise; after a kill the next try goes on, and at most the messages of one segment are unknown.

    :param payload: one message. What its Meta lacks (EventDateTime, Destinations, Source, Test) is filled in on a copy, the
        same at each try. A `{"$upload": "path"}` that stands in the DAG is uploaded and replaced by its URI; one that a
        template or an XCom brings is refused. Templated when the task runs, and kept out of rendered fields and of the
        serialized DAG; a mapped task's arguments (`partial`, `expand`) are in it.
    :param payload_path: a file of messages in storage instead, one JSON object on each line. Its text is sent as it is, with
        what its Meta lacks put in, and is no template. It must not change between tries.
    :param meta: fields for the Meta of each message, such as a network's; they win over `extra.meta`, and what stands in the
        message itself wins over both. No template, and in clear like other arguments: nothing of a patient.
    :param destinations: names or UUIDs of several destinations, instead of `destination`; each gets a log of its own.
    :param results_path: where the result lines go, one for each message in the file's order: a URL such as
        `s3://conn_id@bucket/prefix`. By default `[redox] output_root`.
    :param idempotency_key: a JSON Pointer (RFC 6901) to what tells this message from others, such as
        `/Order/Results/0/ID`; with `ledger_path`, each is sent once to the same destinations, across runs and DAGs.
    :param ledger_path: where the keys that were sent are kept, as hashes: a URL or a path that all who share it can write.
    :param ordering_key: of a file, a JSON Pointer such as `/Patient/Identifiers/0/ID`: messages that have this in common go
        one after the other, and one that is not settled holds back those after it.
    :param max_concurrency: how many messages of a file are under way at once; a destination's own limit holds besides.
    :param segment_size: how many messages of a file may at most be unknown after a kill; each segment costs three writes.
    :param validate: `strict` or `lenient` checks each message against the model of its event before it is sent, which needs
        the extra `[datamodels]`; `off` does not.
    :param on_invalid: of a file, `fail`: a line that cannot be a message is named, and nothing is sent; or `refuse`: its
        line in the results says so, and the others are sent.
    :param on_refused: `fail`, or `record`: a message that is refused does not fail the task.
    :param on_ambiguous: when nobody can tell: `fail`; `resend`, which may double the message; or `reconcile`: ask the
        Platform API's logs by time, destination and event, take it as accepted if there is one, and send it again if there
        is none, where the search is seen to see that destination.
    :param correlation_key: for `reconcile`, a JSON Pointer to a text that no other message holds: Redox's search then looks
        into payloads (its key needs the role for that), and only a log that holds the text is taken for the message's.
    :param correlation_category: what Redox's search calls the kind of that text, where it wants to be told.
    :param resend: let the first try after a clear send, whatever earlier tries did.
    :param platform_conn_id: the connection for the Platform API; `extra.platform_conn_id` by default.
    """

    template_fields: Sequence[str] = (
        *RedoxOperator.template_fields,
        "payload_path",
        "destinations",
        "results_path",
        "ledger_path",
    )
    rendered_privately = ("payload",)
    rules: ClassVar[Rules] = {
        "payload": MESSAGE,
        "payload_path": PLACE,
        "meta": MAPPING,
        "destinations": TEXTS,
        "results_path": PLACE,
        "idempotency_key": POINTER,
        "ledger_path": PLACE,
        "ordering_key": POINTER,
        "max_concurrency": whole(1, CONCURRENCY_AT_MOST),
        "segment_size": whole(1, 10_000),
        "validate": choice("off", "lenient", "strict"),
        "on_invalid": choice("fail", "refuse"),
        "on_refused": choice("fail", "record"),
        "on_ambiguous": choice("fail", "resend", "reconcile"),
        "correlation_key": POINTER,
        "correlation_category": TEXT,
        "resend": FLAG,
        "platform_conn_id": TEXT,
    }

    def __init__(
        self,
        *,
        payload: Mapping[str, Any] | XComArg | None = None,
        payload_path: str | XComArg | None = None,
        meta: Mapping[str, Any] | None = None,
        destinations: Sequence[str] | XComArg | None = None,
        results_path: str | None = None,
        idempotency_key: str | None = None,
        ledger_path: str | None = None,
        ordering_key: str | None = None,
        max_concurrency: int = 8,
        segment_size: int = 200,
        validate: Literal["off", "lenient", "strict"] = "off",
        on_invalid: Literal["fail", "refuse"] = "fail",
        on_refused: Literal["fail", "record"] = "fail",
        on_ambiguous: Literal["fail", "resend", "reconcile"] = "fail",
        correlation_key: str | None = None,
        correlation_category: str | None = None,
        resend: bool = False,
        platform_conn_id: str | None = None,
        **kwargs: Unpack[DeliveringArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.payload = payload
        self.payload_path = payload_path
        self.meta = meta
        self.destinations = destinations
        self.results_path = results_path
        self.idempotency_key = idempotency_key
        self.ledger_path = ledger_path
        self.ordering_key = ordering_key
        self.max_concurrency = max_concurrency
        self.segment_size = segment_size
        self.validate = validate
        self.on_invalid = on_invalid
        self.on_refused = on_refused
        self.on_ambiguous = on_ambiguous
        self.correlation_key = correlation_key
        self.correlation_category = correlation_category
        self.resend = resend
        self.platform_conn_id = platform_conn_id
        self.depend_on(payload)
        self.check_literals()
        self._check_together()

    def post(self, context: Context) -> dict[str, Any]:
        """Send the message, or the file of messages, and give the summary."""
        self._check_together()
        return self._post_one(context) if self.payload_path is None else self._post_file(context)

    def _post_file(self, context: Context) -> dict[str, Any]:
        from airflow_provider_redox.operators.sends.batching import Batching

        return Batching(self, context).run()

    def _post_one(self, context: Context) -> dict[str, Any]:
        from airflow_provider_redox.operators.sends.posting import Posting

        posting = Posting.prepare(self, context, self._payload(context))
        try:
            outcome = posting.run()
        except RedoxError as error:
            if self.on_refused == "fail" or not posting.was_refused(error):
                raise
            self.log.warning("Redox refused the message: %s", error)
            return posting.refused_summary
        return posting.summary(outcome)

    def _payload(self, context: Context) -> Mapping[str, Any]:
        """Render the payload. Only what stands in the DAG names files to upload; what comes in by a template is data."""
        from airflow_provider_redox.protocol.uploads import marked

        is_data = any(self.payload is one for one in self.expanded_data(context))
        rendered = self.rendered(self.payload if is_data else marked(self.payload), context)
        payload: Mapping[str, Any] = self.checked("payload", rendered)
        return payload

    def _check_together(self) -> None:
        if (self.payload is None) == (self.payload_path is None):
            raise RedoxConfigError("payload, payload_path: give one of them")
        if self.payload_path is not None:
            self._check_correlation()
        elif self.ordering_key is not None:
            raise RedoxConfigError("ordering_key: is for the messages of a file; give payload_path")
        if self.destination is not None and self.destinations is not None:
            raise RedoxConfigError("destination, destinations: give one of them")
        if (self.idempotency_key is None) != (self.ledger_path is None):
            raise RedoxConfigError("idempotency_key, ledger_path: one needs the other")

    def _check_correlation(self) -> None:
        if self.on_ambiguous == "reconcile" and self.correlation_key is None:
            raise RedoxConfigError(
                "correlation_key: missing; name what tells one message of a file from another in Redox's logs"
            )
