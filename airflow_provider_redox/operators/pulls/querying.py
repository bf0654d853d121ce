"""The Data Model queries of one task: every row's message made and checked before the first request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.operators.arguments import CONCURRENCY_AT_MOST
from airflow_provider_redox.operators.pulls.asks import QueryAsk
from airflow_provider_redox.operators.pulls.cohorts import keyed_rows
from airflow_provider_redox.operators.pulls.drain import Drain, resumable_results
from airflow_provider_redox.protocol import datamodels
from airflow_provider_redox.protocol.accounted import of_query
from airflow_provider_redox.protocol.cohort import fields_in, payload_of
from airflow_provider_redox.protocol.data_model import addressee, encode
from airflow_provider_redox.protocol.jsonsource import parse_object
from airflow_provider_redox.storage.layout import Layout
from airflow_provider_redox.storage.shapes import Shape, checked_format

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_redox.operators.data_model_query import RedoxDataModelQueryOperator

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Querying:
    """The queries of one task, ready to be asked."""

    drain: Drain
    layout: Layout

    @property
    def extension(self) -> dict[str, Any]:
        """The manifest's extension: of one question, the log IDs of its answer too."""
        progress = self.drain.progress
        told: dict[str, Any] = {"pages": progress.pages, "requests": progress.requests}
        told |= {"log_ids": progress.ids} if not self.drain.many else {}
        told |= {"failed": len(progress.failed)} if progress.failed else {}
        told |= {"incomplete": progress.incomplete} if progress.incomplete else {}
        return told | ({"line_format": self.drain.shape.told} if self.drain.shape.told else {})


def prepare(operator: RedoxDataModelQueryOperator, context: Context) -> Querying:
    """Check all that can be checked before the first request. Raises `RedoxConfigError`."""
    asked = _asked(operator, operator.checked("payload", operator.rendered(operator.payload, context)))
    client, first = operator.hook.client, _message(asked[0][1])
    layout = operator.layout(context, operator.output_path, addressee(first))
    shape = Shape(checked_format(operator.line_format), layout.destination, layout.environment, layout.owner.run_id)
    many = operator.cohort is not None
    results = resumable_results(
        layout,
        client.settings,
        ([(key, _timeless(message)) for key, message in asked], sorted((operator.headers or {}).items()), shape),
        many=many,
        compression=None,
    )
    drain = Drain(
        len(asked),
        lambda index: _ask(operator, _message(asked[index][1])),
        lambda index: asked[index][0],
        results,
        shape,
        many=many,
        threads=min(operator.max_concurrency, _allowed(operator, first)),
        on_error=operator.on_error,
        tell=operator.log.info,
        things="queries",
        of_resources=False,
        disclosure=of_query((_message(message) for _, message in asked), client.settings.base_url),
        look=client.recorder.collects,
    )
    return Querying(drain, layout)


def _asked(operator: RedoxDataModelQueryOperator, template: Message) -> list[tuple[str, bytes]]:
    """Give the key of each question and its message, encoded, which is what takes the least memory."""
    if operator.cohort is None:
        return [("0", encode(_complete(operator, template)))]
    if not fields_in(template):
        raise RedoxConfigError("cohort: payload names no {field} of its rows; write one, such as {mrn}, or leave cohort out")

    def message(row: Mapping[str, Any], number: int) -> bytes:
        try:
            return encode(_complete(operator, payload_of(template, row, number)))
        except RedoxConfigError as error:
            error.add_note(f"This is row {number} of the cohort.")
            raise

    return keyed_rows(operator.cohort, operator.cohort_key, message)


def _complete(operator: RedoxDataModelQueryOperator, payload: Message) -> Message:
    calls = operator.hook.client.calls
    message = calls.complete_message(
        payload, destination=operator.destination, environment=operator.environment, meta=operator.meta
    )
    datamodels.check(message, operator.validate)
    calls.query(message, operator.headers)  # says now what cannot be asked: no query, too large, not JSON
    return message


def _timeless(encoded: bytes) -> bytes:
    """Leave out the time that was filled in: a next try asks the same question later."""
    message = _message(encoded)
    message["Meta"].pop("EventDateTime")
    return encode(message)


def _message(encoded: bytes) -> Any:
    return parse_object(encoded).value


def _allowed(operator: RedoxDataModelQueryOperator, message: Message) -> int:
    """Give how many requests the destination of a message takes at a time."""
    (place,) = message["Meta"]["Destinations"]
    described = operator.hook.client.settings.destinations.values()
    limits = [one.max_concurrency for one in described if str(place.get("ID")) in one.all_ids]
    return min(filter(None, limits), default=CONCURRENCY_AT_MOST)


def _ask(operator: RedoxDataModelQueryOperator, message: Message) -> QueryAsk:
    client = operator.hook.client
    data_model = message["Meta"]["DataModel"]
    accepted = operator.on_incomplete
    return QueryAsk(client, lambda: client.calls.query(message, operator.headers, on_incomplete=accepted), data_model)
