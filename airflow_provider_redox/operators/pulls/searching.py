"""The searches of one task: everything checked before the first request, then drained, then the watermark moved."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxEmptyResultError
from airflow_provider_redox.operators.arguments import CONCURRENCY_AT_MOST
from airflow_provider_redox.operators.pulls.asks import FhirAsk
from airflow_provider_redox.operators.pulls.cohorts import keyed_rows
from airflow_provider_redox.operators.pulls.drain import Drain, resumable_results
from airflow_provider_redox.protocol.accounted import of_search
from airflow_provider_redox.protocol.cohort import fields_in, search_of
from airflow_provider_redox.protocol.destinations import find_destination
from airflow_provider_redox.protocol.fhir import search_form
from airflow_provider_redox.protocol.jsontext import stored
from airflow_provider_redox.protocol.terms import Terms, terms
from airflow_provider_redox.protocol.validation import report_of
from airflow_provider_redox.protocol.windows import LAST_UPDATED, Window, check_bounds, check_over, parse_windows
from airflow_provider_redox.seal import Seal, keyed_hash
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.layout import Layout
from airflow_provider_redox.storage.shapes import Shape, checked_format
from airflow_provider_redox.storage.watermark import Increment

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_redox.client.sync import SyncClient
    from airflow_provider_redox.operators.fhir_search import RedoxFhirSearchOperator
    from airflow_provider_redox.protocol.paging import Walk

_log = logging.getLogger(__name__)

Params = Mapping[str, Any]


class Asked(NamedTuple):
    """One search: what names it, and its form."""

    key: str
    form: bytes


@dataclass(frozen=True, slots=True)
class Searching:
    """The searches of one task, ready to be made."""

    drain: Drain
    layout: Layout
    told: Mapping[str, Any]
    client: SyncClient
    on_empty: str = "succeed"

    @classmethod
    def prepare(cls, operator: RedoxFhirSearchOperator, context: Context) -> Searching:
        """Check all that can be checked before the first request. Raises `RedoxConfigError`."""
        layout = operator.layout(context, operator.output_path)
        params = _params(operator, context)
        increment = _increment(operator, layout, params) if _is_incremental(operator, context) else None
        bounds = _bounds(operator, context, increment, layout)
        asked = _asked(operator, params, bounds)
        drain = _drain(operator, layout, asked, increment)
        return cls(drain, layout, _told(bounds, increment), operator.hook.client, operator.on_empty)

    def run(self) -> dict[str, Any]:
        """Make the searches and give the manifest; the watermark is moved when it is visible."""
        drain = self.drain
        with drain.results as results:
            with self.client.on_record(drain.disclosure):
                drain.run()
            if self.on_empty == "fail" and not drain.progress.resources:
                results.discard()
                raise RedoxEmptyResultError(
                    "The search found nothing, and on_empty is 'fail'. Check the window and the parameters; if an empty "
                    "result is fine, leave on_empty out"
                )
            extension = {**drain.extension, **self.told}
            request = drain.ask(0).request
            manifest = results.commit(transaction_time=drain.transaction_time, request=request, extension=extension)
        if drain.report is not None:
            _log.info("%s.", drain.report.summary)
        if drain.increment is not None:
            _move(drain, drain.increment, extension["watermark"])
        return manifest


def _params(operator: RedoxFhirSearchOperator, context: Context) -> list[Params]:
    """Render the search parameters. Parameters that were given and came out empty would ask for everybody."""
    if operator.search_params is None:
        return [_sized(operator, {})]
    rendered = operator.checked("search_params", operator.rendered(operator.search_params, context))
    searches = [rendered] if isinstance(rendered, Mapping) else rendered
    listed = isinstance(searches, Sequence) and not isinstance(searches, str)
    if not listed or not searches or not all(isinstance(one, Mapping) and one for one in searches):
        raise RedoxConfigError(
            "search_params: must be a mapping with at least one parameter, or a list of such; leave it out to search for "
            "everything of this type"
        )
    return [_sized(operator, params) for params in searches]


def _sized(operator: RedoxFhirSearchOperator, params: Params) -> Params:
    return params if operator.page_size is None else {"_count": operator.page_size, **params}


def _is_incremental(operator: RedoxFhirSearchOperator, context: Context) -> bool:
    return operator.since is not None and not _is_backfill(context)


def _is_backfill(context: Context) -> bool:
    kind = getattr(context.get("dag_run"), "run_type", None)
    return getattr(kind, "value", kind) == "backfill"


def _increment(operator: RedoxFhirSearchOperator, layout: Layout, params: list[Params]) -> Increment:
    settings = operator.hook.client.settings
    asked = msgspec.json.encode([operator.resource_type, *(sorted(one.items()) for one in params)], enc_hook=str)
    digest = keyed_hash(settings.key, purpose="watermark", content=asked)[:16]
    return Increment(
        Files(layout.root, name=layout.argument),
        layout.watermark(digest),
        Seal(settings.key, purpose="watermark", bound_to=f"{layout.base} {digest}"),
        layout.owner.run_id,
    )


def _bounds(
    operator: RedoxFhirSearchOperator, context: Context, increment: Increment | None, layout: Layout
) -> list[tuple[list[str], Window | None]]:
    """Give what bounds each search in time: values of a date parameter, and the window that they are of."""
    if operator.since is not None and increment is None:
        interval = (context.get("data_interval_start"), context.get("data_interval_end"))
        windows = parse_windows(interval, where="since: this is a backfill; its data interval")
        check_over(windows, datetime.now(UTC), where="since: this is a backfill; its data interval")
    elif increment is not None:
        since = _since_of_this_run(increment, layout)
        return [([f"ge{since}"] if since else [], None)]
    elif operator.window is None:
        return [([], None)]
    else:
        windows = parse_windows(operator.window)
        _check_over(operator.window_param, windows)
    if operator.window_parts is not None:
        windows = [part for window in windows for part in window.split(operator.window_parts)]
    return [(window.bounds, window) for window in windows]


def _check_over(name: str, windows: list[Window]) -> None:
    """Refuse a window of `_lastUpdated` that ends in the future. Warn for other dates: appointments do lie in the future."""
    now = datetime.now(UTC)
    if name == LAST_UPDATED:
        check_over(windows, now)
    elif any(window.end > now for window in windows):
        _log.warning("The window ends in the future: what is recorded from now on, for a %s within it, is not found.", name)


def _since_of_this_run(increment: Increment, layout: Layout) -> str | None:
    """Give what a run that is made again asked from, so that its result loses nothing; else what follows the watermark."""
    text = Files(layout.root, name=layout.argument).read(layout.manifest)
    earlier = stored(text, _Manifest)
    since = msgspec.UNSET if earlier is None else earlier.extension.since
    return increment.since if since is msgspec.UNSET else since


def _asked(
    operator: RedoxFhirSearchOperator, params: list[Params], bounds: list[tuple[list[str], Window | None]]
) -> list[Asked]:
    name = operator.window_param if operator.since is None else LAST_UPDATED
    if any(values for values, _ in bounds):
        _check_window_param(name, params)
    if operator.cohort is not None:
        return _cohort(operator, params, [values for values, _ in bounds], name)
    for one in params:
        check_bounds(one, datetime.now(UTC))
    every = [_bounded(one, name, values) for one in params for values, _ in bounds]
    return [Asked(str(index), search_form(one)) for index, one in enumerate(every)]


def _check_window_param(name: str, params: list[Params]) -> None:
    if any(key.partition(":")[0] == name for one in params for key in one):
        raise RedoxConfigError(f"search_params: {name} is what the window bounds; leave it out there")
    if name != LAST_UPDATED:
        _log.warning(
            "The window bounds %s: resources that lack it are not found, nor are later corrections of those that have it; "
            "one whose time spans the end of a window comes in both.",
            name,
        )


def _cohort(operator: RedoxFhirSearchOperator, params: list[Params], bounds: list[list[str]], name: str) -> list[Asked]:
    if len(params) != 1 or len(bounds) != 1:
        raise RedoxConfigError("cohort: needs search_params that are one mapping, and one window at most")
    template = params[0]
    if not fields_in(template):
        raise RedoxConfigError(
            "cohort: search_params names no {field} of its rows; write one, such as {mrn}, or leave cohort out"
        )

    now = datetime.now(UTC)

    def form(row: Mapping[str, Any], number: int) -> bytes:
        own = search_of(template, row, number)
        check_bounds(own, now, where=f"cohort: row {number}")
        filled = _bounded(own, name, bounds[0])
        return search_form(filled, where=f"cohort: row {number}")

    return [Asked(*pair) for pair in keyed_rows(operator.cohort, operator.cohort_key, form)]


def _bounded(params: Params, name: str, values: list[str]) -> Params:
    return {**params, name: values} if values else params


def _drain(operator: RedoxFhirSearchOperator, layout: Layout, asked: list[Asked], increment: Increment | None) -> Drain:
    client, calls = operator.hook.client, operator.hook.client.calls
    agreed = terms(max_pages=operator.max_pages, on_total_mismatch=operator.on_total_mismatch, handling=operator.handling)
    first = _walk(operator, asked[0].form, agreed, set())  # type, destination and headers are checked by it
    shape = Shape(checked_format(operator.line_format), layout.destination, layout.environment, layout.owner.run_id)
    where = find_destination(calls.settings.destinations, operator.destination, default=calls.settings.destination)
    results = resumable_results(
        layout,
        client.settings,
        (first.endpoint.url, first.resource_type, sorted(first.headers.items()), asked, operator.validate, shape),
        many=len(asked) > 1 or operator.cohort is not None,
        compression=operator.compression,
        size=operator.max_file_bytes,
    )
    return Drain(
        len(asked),
        lambda index: FhirAsk(client, lambda seen: _walk(operator, asked[index].form, agreed, seen)),
        lambda index: asked[index].key,
        results,
        shape,
        many=operator.cohort is not None or len(asked) > 1,
        threads=min(operator.max_concurrency, where.max_concurrency or CONCURRENCY_AT_MOST),
        on_error=operator.on_error,
        tell=operator.log.info,
        report=report_of(operator.validate, operator.resource_type),
        increment=increment,
        disclosure=of_search(first, (one.form for one in asked)),
        look=client.recorder.collects,
    )


def _walk(operator: RedoxFhirSearchOperator, form: bytes, agreed: Terms, seen: set[int]) -> Walk:
    return operator.hook.client.calls.search(
        operator.resource_type,
        form,
        destination=operator.destination,
        environment=operator.environment,
        headers=operator.headers,
        terms=agreed,
        seen=seen,
    )


def _told(bounds: list[tuple[list[str], Window | None]], increment: Increment | None) -> dict[str, Any]:
    """Give what the manifest tells of the bounds in time; a `since` of None is from the beginning."""
    if increment is not None:
        ((values, _),) = bounds
        return {"since": values[0].removeprefix("ge") if values else None}
    windows = [window.told for _, window in bounds if window is not None]
    return {"windows": windows} if windows else {}


def _move(drain: Drain, increment: Increment, watermark: str | None) -> None:
    if drain.progress.failed:
        _log.warning("The watermark stays where it is, as some searches failed.")
    elif drain.progress.resources and watermark is None:
        _log.warning("No resource tells its meta.lastUpdated, so the watermark cannot be moved: the next run asks for all.")
    else:
        increment.move(watermark)


class _Extension(msgspec.Struct):
    since: str | msgspec.UnsetType | None = msgspec.UNSET


class _Manifest(msgspec.Struct):
    extension: _Extension = msgspec.field(default_factory=_Extension)
