"""Data Model operators: send one message, and ask one question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError, RedoxError
from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.operators.base import RedoxOperator, checked_payload

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_redox.protocol.data_model import Accepted
    from airflow_provider_redox.storage.send_record import SendRecord


class RedoxDataModelPostOperator(RedoxOperator):
    """Send one Data Model message and know what became of it: accepted, refused, or nobody can tell.

    Sending a message twice may double it at the hospital, and Redox knows no idempotency key. So a message whose
    outcome is unknown raises `RedoxAmbiguousOutcomeError`, is not sent again, and **this operator allows no Airflow
    retries**: `retries` is 0, whatever the task or the DAG's default_args say. What can safely be tried again (nothing was
    sent, 401, 429) is tried again inside the one attempt.

    Accepted means that Redox has stored the message, not that it was delivered.

    The result is `{"accepted": n, "refused": n, "ambiguous": n, "log_ids": [...], "results_url": "..."}`; the line of the
    message, with its log IDs or its error codes, is in `results_url`. No content enters XCom or a log.

    :param payload: the message. What its Meta lacks (EventDateTime, Destinations, Source, Test) is filled in on a copy.
        Templated when the task runs, and kept out of rendered fields and of the serialized DAG; a mapped task's arguments
        (`partial`, `expand`) are in it.
    :param results_path: where the result line goes: a URL such as `s3://conn_id@bucket/prefix`. By default
        `[redox] output_root`.
    """

    template_fields: Sequence[str] = (*RedoxOperator.template_fields, "results_path")

    def __init__(self, *, payload: Mapping[str, Any], results_path: str | None = None, **kwargs: Any) -> None:
        kwargs["retries"] = 0
        super().__init__(**kwargs)
        self.payload = payload
        self.results_path = results_path
        self.depend_on(payload)

    def execute(self, context: Context) -> dict[str, Any]:
        """Send the message and give the summary."""
        from airflow_provider_redox.storage.send_record import SendRecord

        with failing_for_good():
            calls = self.hook.client.calls
            message = calls.complete_message(
                checked_payload(self.rendered(self.payload, context)),
                destination=self.destination,
                environment=self.environment,
            )
            flow = calls.post_message(message, self.headers)
            record = SendRecord(self.layout(context, self.results_path, addressee(message)), message["Meta"])
            _refuse_second_send(context["ti"], record)
            record.note("sending")
            try:
                accepted: Accepted = self.hook.client.run(flow)
            except RedoxError as error:
                record.note_failure(error)
                error.add_note(f"The message's line is in {record.url}.")
                raise
        url = record.note_accepted(accepted)
        self.log.info("Redox accepted the message, log IDs %s.", ", ".join(accepted.log_ids) or "none given")
        return {
            "accepted": 1,
            "refused": 0,
            "ambiguous": 0,
            "log_ids": list(accepted.log_ids[:50]),
            "results_url": url,
        }


class RedoxDataModelQueryOperator(RedoxOperator):
    """Ask one destination one question by a Data Model query, and write the answer to storage; the result is a manifest.

    A question may be asked again, so that faults which pass are healed within the task and Airflow's retries are free.

    :param payload: the query. What its Meta lacks is filled in on a copy. Templated when the task runs, and kept out of
        rendered fields and of the serialized DAG; a mapped task's arguments (`partial`, `expand`) are in it.
    :param output_path: where the answer goes: a URL such as `s3://conn_id@bucket/prefix`. By default `[redox] output_root`.
    """

    template_fields: Sequence[str] = (*RedoxOperator.template_fields, "output_path")

    def __init__(self, *, payload: Mapping[str, Any], output_path: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.payload = payload
        self.output_path = output_path
        self.depend_on(payload)

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask and give the manifest of the answer."""
        import msgspec

        from airflow_provider_redox.protocol.data_model import log_ids_of
        from airflow_provider_redox.storage.results import Results

        with failing_for_good():
            client = self.hook.client
            message = client.calls.complete_message(
                checked_payload(self.rendered(self.payload, context)),
                destination=self.destination,
                environment=self.environment,
            )
            flow = client.calls.query_message(message, self.headers)
            with Results(self.layout(context, self.output_path, addressee(message))) as results:
                answer = client.run(flow)
                results.write(message["Meta"]["DataModel"], [msgspec.json.encode(answer)])
                return results.commit(
                    transaction_time=_now(),
                    request=f"{client.settings.base_url}/endpoint",
                    extension={"pages": 1, "requests": 1, "log_ids": list(log_ids_of(answer))},
                )


def _refuse_second_send(ti: Any, record: SendRecord) -> None:
    """Refuse a try that nobody asked for, if an earlier one may have sent the message.

    Airflow begins tries by itself: for a mapped task with `.partial(retries=...)`, and, whatever `retries` says, for a
    task whose scheduler is gone. An author's clear is a decision; it sets max_tries to the tries before it plus `retries`,
    which is 0.
    """
    tried = getattr(ti, "try_number", 1) or 1
    if tried == 1 or getattr(ti, "max_tries", 0) == tried - 1 or not record.may_have_been_sent():
        return
    raise RedoxAmbiguousOutcomeError(
        f"This is try {tried} of a task that sends a message, and an earlier try may have sent it: see {record.url}. Look "
        "for the message in the Redox dashboard's logs, and clear the task to send it again. A mapped task needs retries=0 "
        "in .partial(...)"
    )


def addressee(message: Mapping[str, Any]) -> str:
    """Name where a complete message goes, for the path of its result."""
    places = [place if isinstance(place, Mapping) else {} for place in message["Meta"]["Destinations"]]
    return str(places[0].get("Name") or places[0].get("ID")) if len(places) == 1 else "several"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
