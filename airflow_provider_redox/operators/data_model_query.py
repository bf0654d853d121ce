"""Ask by Data Model queries: one, or one for each row of a cohort. Import it from `operators.data_model`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.links.results import ResultsLink
from airflow_provider_redox.operators.arguments import (
    CONCURRENCY_AT_MOST,
    MAPPING,
    PLACE,
    PLACE_OR_MANIFEST,
    TEXT,
    check_filled,
    choice,
    whole,
)
from airflow_provider_redox.operators.base import MESSAGE, RedoxOperator

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_redox.operators.arguments import Rules
    from airflow_provider_redox.operators.signatures import RedoxArguments


class RedoxDataModelQueryOperator(RedoxOperator):
    """Ask one destination a question by a Data Model query, and write the answer to storage; the result is a manifest.

    A question may be asked again, so that faults which pass are healed within the task and Airflow's retries are free.

    With a cohort, one question for each row, side by side; one that fails does not lose the others. Each has a line in the
    list that the manifest's `extension.searches` names: `{"index": 0, "key": "...", "status": "one" | "error", "count": 1,
    "ids": [<log IDs>]}`. Which answer belongs to which row, `line_format="envelope"` tells.

    :param payload: the query. What its Meta lacks is filled in on a copy. Templated when the task runs, and kept out of
        rendered fields and of the serialized DAG; a mapped task's arguments (`partial`, `expand`) are in it.
    :param meta: fields for the Meta of the query, such as a network's; they win over `extra.meta`, and what stands in the
        query itself wins over both. No template, and in clear like other arguments: nothing of a patient.
    :param cohort: the path or URL of an NDJSON, JSON or CSV file, or an earlier manifest or a list of them: `{field}`
        anywhere in `payload` is filled from it on the worker. A value that is one field alone takes the row's as it is.
    :param cohort_key: the field that names a row's question in the list; its number by default.
    :param output_path: where the answer goes: a URL such as `s3://conn_id@bucket/prefix`. By default `[redox] output_root`.
    :param max_concurrency: questions under way at a time; the destination's own `max_concurrency` holds too.
    :param line_format: `raw`, the answer as it came; or `envelope`, with destination, data model, the row's key and the run.
    :param on_error: of a cohort's: `fail` the task at its end, a next try asking for the failed ones alone; or `record` them
        in the list and take the rest as the result.
    :param on_incomplete: an answer that says that it is not whole (`Meta.IsIncomplete`) is an error, `fail`; or it is taken
        with a warning, counted in the manifest's `extension.incomplete` and marked in the list: `warn`.
    :param validate: `strict` or `lenient` checks the query against the model of its event before it is sent, which needs the
        extra `[datamodels]`; `off` does not.
    """

    template_fields: Sequence[str] = (*RedoxOperator.template_fields, "cohort", "output_path")
    rendered_privately = ("payload",)
    rules: ClassVar[Rules] = {
        "payload": MESSAGE.required,
        "meta": MAPPING,
        "cohort": PLACE_OR_MANIFEST,
        "cohort_key": TEXT,
        "output_path": PLACE,
        "max_concurrency": whole(1, CONCURRENCY_AT_MOST),
        "line_format": choice("raw", "envelope"),
        "on_error": choice("fail", "record"),
        "on_incomplete": choice("fail", "warn"),
        "validate": choice("off", "lenient", "strict"),
    }
    operator_extra_links = (ResultsLink(),)

    def __init__(
        self,
        *,
        payload: Mapping[str, Any] | XComArg,
        meta: Mapping[str, Any] | None = None,
        cohort: Any = None,
        cohort_key: str | None = None,
        output_path: str | None = None,
        max_concurrency: int = 8,
        line_format: Literal["raw", "envelope"] = "raw",
        on_error: Literal["fail", "record"] = "fail",
        on_incomplete: Literal["fail", "warn"] = "fail",
        validate: Literal["off", "lenient", "strict"] = "off",
        **kwargs: Unpack[RedoxArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.payload = payload
        self.meta = meta
        self.cohort = cohort
        self.cohort_key = cohort_key
        self.output_path = output_path
        self.max_concurrency = max_concurrency
        self.line_format = line_format
        self.on_error = on_error
        self.on_incomplete = on_incomplete
        self.validate = validate
        self.depend_on(payload)
        self.check_literals()
        if cohort_key is not None and cohort is None:
            raise RedoxConfigError("cohort_key: needs a cohort; give one, or leave it out")
        if cohort is None:
            check_filled("payload", payload, alone=True)

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask and give the manifest of the answers."""
        from airflow_provider_redox.operators.assets import tell_assets
        from airflow_provider_redox.operators.pulls.querying import prepare

        with failing_for_good():
            self.check_arguments()
            querying = prepare(self, context)
            with querying.drain.results as results:
                with self.hook.client.on_record(querying.drain.disclosure):
                    querying.drain.run()
                manifest = results.commit(
                    transaction_time=querying.drain.transaction_time,
                    request=querying.drain.ask(0).request,
                    extension=querying.extension,
                )
        tell_assets(context, manifest, manifest_url=querying.layout.manifest)
        return manifest
