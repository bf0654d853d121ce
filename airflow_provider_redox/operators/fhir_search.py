"""Search FHIR resources: one search, several, or one for each row of a cohort. Import it from `operators.fhir`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.links.results import ResultsLink
from airflow_provider_redox.operators.arguments import (
    CONCURRENCY_AT_MOST,
    ITS_OWN,
    PLACE,
    PLACE_OR_MANIFEST,
    RESOURCE_TYPE,
    TEXT,
    WINDOW,
    check_filled,
    choice,
    whole,
)
from airflow_provider_redox.operators.base import RedoxOperator

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_redox.operators.arguments import Rules
    from airflow_provider_redox.operators.signatures import RedoxArguments


class RedoxFhirSearchOperator(RedoxOperator):
    """Search, read every page, and write the resources to NDJSON files by type; the result is a manifest.

    All or nothing: the files and the manifest appear when every page of every search has been read. XCom gets URLs, counts
    and checksums; no resource and no search parameter enters the metadata database, a log or a URL we make. A try that is
    killed or fails is taken up by the next one: after its last page on a disk, on an object store after its last 50 pages,
    500 where there are several searches.

    Several searches are made side by side. One that fails does not lose the others: each has a line in the list that the
    manifest's `extension.searches` names: `{"index": 0, "key": "...", "status": "none" | "one" | "many" | "error",
    "count": 1, "ids": [...]}`, with up to 100 IDs, and the error's class and words.

    :param resource_type: a FHIR R4 resource type such as `Patient`.
    :param search_params: one mapping of search parameters, or a list of mappings for several searches; a list as a value
        repeats the parameter. Templated when the task runs, and kept out of rendered fields and of the serialized DAG; a
        mapped task's arguments (`partial`, `expand`) are in it.
    :param cohort: the path or URL of an NDJSON, JSON or CSV file, or an earlier manifest or a list of them (the resources
        are the rows): one search for each row, `{field}` in `search_params` filled from it on the worker. `{name.0.family}`
        goes into a resource; `{field:token}` leaves the `|` of `system|value` its meaning. The list of searches is written.
    :param cohort_key: the field that names a row's search in the list; its number by default.
    :param window: `(start, end)`, two instants, the first within and the second without; or a list of such pairs, searched
        side by side. An empty or absent window is an error, not an empty result, and so is a window of `_lastUpdated`
        that ends in the future.
    :param window_param: the parameter that the window bounds. Another than `_lastUpdated` does not find what lacks it.
    :param window_parts: cut the window into so many of the same length, searched side by side.
    :param since: `last_success` asks for what was changed since the last successful run of the same DAG, task,
        destination and parameters, from five minutes before; everything, the first time. A backfill asks for its own data
        interval and leaves the watermark alone; a run that is cleared asks again for what it asked for.
    :param output_path: where results go: a URL such as `s3://conn_id@bucket/prefix`. By default `[redox] output_root`.
    :param max_concurrency: searches under way at a time; the destination's own `max_concurrency` holds too. Of several
        searches side by side, the lines of a file come in no particular order; with 1, they come in that of the searches.
    :param page_size: sent as `_count`, the number of resources the server is asked to put on a page.
    :param max_pages: the number of pages of one search above which it fails; it is never cut short.
    :param compression: `gzip`, or None.
    :param max_file_bytes: a file is ended before it grows beyond this, 64 MB by default; a page is never divided.
    :param line_format: `raw`, lines as the server sent the resources; or `envelope`, which adds destination, type, ID,
        version, lastUpdated, the search's key, the run, when it was pulled, and whether an earlier run had it (`since`).
    :param on_error: of several searches: `fail` the task at its end, a next try asking for the failed ones alone; or
        `record` them in the list and take the rest as the result.
    :param on_empty: `succeed` with an empty list of files when nothing is found, or `fail`.
    :param on_total_mismatch: `fail` or `warn` when the server counts more matches than its pages held, when its count
        jumps between pages, or when it says that a page is not whole.
    :param handling: `strict` asks the server to refuse parameters that it does not know, and fails when a page shows that
        a filter was not used; `lenient` warns then.
    :param validate: `off`, or `report` to check each resource against the model of its type (extra `[fhir]`) and write what
        is found beside the results, as files of the type `ValidationOutcome`.
    """

    template_fields: Sequence[str] = (
        *RedoxOperator.template_fields,
        "resource_type",
        "cohort",
        "window",
        "output_path",
    )
    rendered_privately = ("search_params",)
    rules: ClassVar[Rules] = {
        "resource_type": RESOURCE_TYPE,
        "search_params": ITS_OWN,
        "cohort": PLACE_OR_MANIFEST,
        "cohort_key": TEXT,
        "window": WINDOW,
        "window_param": TEXT.required,
        "window_parts": whole(1, optional=True),
        "since": choice("last_success", optional=True),
        "output_path": PLACE,
        "max_concurrency": whole(1, CONCURRENCY_AT_MOST),
        "page_size": whole(1, optional=True),
        "max_pages": whole(1, optional=True),
        "compression": choice("gzip", optional=True),
        "max_file_bytes": whole(1024 * 1024, optional=True),
        "line_format": choice("raw", "envelope"),
        "on_error": choice("fail", "record"),
        "on_empty": choice("succeed", "fail"),
        "on_total_mismatch": choice("fail", "warn"),
        "handling": choice("strict", "lenient"),
        "validate": choice("off", "report"),
    }
    operator_extra_links = (ResultsLink(),)

    def __init__(
        self,
        *,
        resource_type: str,
        search_params: Mapping[str, Any] | Sequence[Mapping[str, Any]] | XComArg | None = None,
        cohort: Any = None,
        cohort_key: str | None = None,
        window: Any = None,
        window_param: str = "_lastUpdated",
        window_parts: int | None = None,
        since: Literal["last_success"] | None = None,
        output_path: str | None = None,
        max_concurrency: int = 8,
        page_size: int | None = None,
        max_pages: int | None = None,
        compression: Literal["gzip"] | None = None,
        max_file_bytes: int | None = None,
        line_format: Literal["raw", "envelope"] = "raw",
        on_error: Literal["fail", "record"] = "fail",
        on_empty: Literal["succeed", "fail"] = "succeed",
        on_total_mismatch: Literal["fail", "warn"] = "fail",
        handling: Literal["strict", "lenient"] = "strict",
        validate: Literal["off", "report"] = "off",
        **kwargs: Unpack[RedoxArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.resource_type = resource_type
        self.search_params = search_params
        self.cohort = cohort
        self.cohort_key = cohort_key
        self.window = window
        self.window_param = window_param
        self.window_parts = window_parts
        self.since = since
        self.output_path = output_path
        self.max_concurrency = max_concurrency
        self.page_size = page_size
        self.max_pages = max_pages
        self.compression = compression
        self.max_file_bytes = max_file_bytes
        self.line_format = line_format
        self.on_error = on_error
        self.on_empty = on_empty
        self.on_total_mismatch = on_total_mismatch
        self.handling = handling
        self.validate = validate
        self._manifest: dict[str, Any] | None = None
        self.depend_on(search_params)
        self.check_literals()
        self._check_together()

    def execute(self, context: Context) -> dict[str, Any]:
        """Make the searches and give the manifest."""
        from airflow_provider_redox.operators.assets import tell_assets
        from airflow_provider_redox.operators.pulls.searching import Searching

        with failing_for_good():
            self.check_arguments()
            self._check_together()
            searching = Searching.prepare(self, context)
            manifest = searching.run()
        found = ", ".join(f"{count} {kind}" for kind, count in _counted(manifest).items()) or "nothing"
        self.log.info("Pages: %d, found: %s.", manifest["extension"]["pages"], found)
        tell_assets(context, manifest, manifest_url=searching.layout.manifest)
        self._manifest = manifest
        return manifest

    def _check_together(self) -> None:
        """Check arguments that exclude or require each other. Raises `RedoxConfigError`."""
        if self.since is not None and self.window is not None:
            raise RedoxConfigError("since, window: give one of them")
        if self.since is not None and self.cohort is not None:
            raise RedoxConfigError(
                "since, cohort: not together; of a patient who is new in the cohort only the last changes would come. "
                "Use window"
            )
        if self.window_parts is not None and (self.window is None or self.cohort is not None):
            raise RedoxConfigError("window_parts: needs a window, and no cohort, whose searches are side by side already")
        if self.cohort_key is not None and self.cohort is None:
            raise RedoxConfigError("cohort_key: needs a cohort; give one, or leave it out")
        if self.cohort is None:
            check_filled("search_params", self.search_params)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002  (OpenLineage's signature)
        """Tell OpenLineage what was read and written. On Airflow 3 this runs in a fork, which cannot ask for an XCom."""
        from airflow_provider_redox.operators.lineage import search_lineage

        return search_lineage(self._manifest)


def _counted(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Give the number of resources of each type, over all its files."""
    counts: dict[str, int] = {}
    for entry in manifest["output"]:
        counts[entry["type"]] = counts.get(entry["type"], 0) + entry["count"]
    return counts
