"""FHIR operators: search, read one resource, write back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.links.results import ResultsLink
from airflow_provider_redox.operators.base import RedoxOperator
from airflow_provider_redox.operators.fhir_read import RedoxFhirReadOperator
from airflow_provider_redox.operators.fhir_writeback import RedoxFhirWritebackOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_redox.operators.drain import Drain
    from airflow_provider_redox.protocol.paging import Walk
    from airflow_provider_redox.storage.results import Results

__all__ = ["RedoxFhirReadOperator", "RedoxFhirSearchOperator", "RedoxFhirWritebackOperator"]


class RedoxFhirSearchOperator(RedoxOperator):
    """Search, read every page, and write the resources to NDJSON files by type; the result is a manifest.

    All or nothing: the files and the manifest appear when every page of every search has been read. XCom gets URLs, counts
    and checksums; no resource and no search parameter enters the metadata database, a log or a URL we make. A try that is
    killed or fails is taken up by the next one: after its last page on a disk, after its last 50 pages on an object store.

    :param resource_type: a FHIR R4 resource type such as `Patient`.
    :param search_params: one mapping of search parameters, or a list of mappings for several searches; a list as a value
        repeats the parameter. Templated when the task runs, and kept out of rendered fields and of the serialized DAG; a
        mapped task's arguments (`partial`, `expand`) are in it.
    :param output_path: where results go: a URL such as `s3://conn_id@bucket/prefix`. By default `[redox] output_root`.
    :param page_size: sent as `_count`, the number of resources the server is asked to put on a page.
    :param max_pages: the number of pages of one search above which it fails; it is never cut short.
    :param compression: `gzip`, or None.
    :param on_total_mismatch: `fail` or `warn` when the server counts more matches, the same on every page, than its pages
        held.
    :param handling: `strict` asks the server to refuse parameters that it does not know, and fails when it does not say
        that it used a filter; `lenient` warns then.
    :param validate: `off`, or `report` to check each resource against the model of its type (extra `[fhir]`) and write what
        is found beside the results, as files of the type `ValidationOutcome`.
    """

    template_fields: Sequence[str] = (*RedoxOperator.template_fields, "resource_type", "output_path")
    operator_extra_links = (ResultsLink(),)

    def __init__(
        self,
        *,
        resource_type: str,
        search_params: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        output_path: str | None = None,
        page_size: int | None = None,
        max_pages: int | None = None,
        compression: str | None = None,
        on_total_mismatch: str = "fail",
        handling: str = "strict",
        validate: str = "off",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.resource_type = resource_type
        self.search_params = search_params
        self.output_path = output_path
        self.page_size = page_size
        self.max_pages = max_pages
        self.compression = compression
        self.on_total_mismatch = on_total_mismatch
        self.handling = handling
        self.validate = validate
        self._manifest: dict[str, Any] | None = None
        self.depend_on(search_params)

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the searches and give the manifest."""
        from airflow_provider_redox.operators.assets import tell_assets

        with failing_for_good():
            drain = self._prepare(context)
            with drain.results as results:
                drain.run()
                manifest = results.commit(
                    transaction_time=drain.transaction_time, request=drain.request, extension=drain.extension
                )
        found = ", ".join(f"{count} {kind}" for kind, count in _counted(manifest).items()) or "nothing"
        self.log.info("Pages: %d, found: %s.", drain.progress.pages, found)
        if drain.report is not None:
            self.log.info("%s.", drain.report.summary)
        tell_assets(context, manifest, manifest_url=self.layout(context, self.output_path).manifest)
        self._manifest = manifest
        return manifest

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002  (OpenLineage's signature)
        """Tell OpenLineage what was read and written. On Airflow 3 this runs in a fork, which cannot ask for an XCom."""
        from airflow_provider_redox.operators.lineage import search_lineage

        return search_lineage(self._manifest)

    def _prepare(self, context: Context) -> Drain:
        """Make everything ready, all searches checked, before the first request."""
        from airflow_provider_redox.operators.drain import Drain
        from airflow_provider_redox.protocol.validation import report_of

        searches = self._searches(context)
        report = report_of(self.validate, self.resource_type)

        def start(seen: set[int]) -> list[Walk]:
            return [self._start(params, seen, shared=len(searches) > 1) for params in searches]

        return Drain(self.hook.client, start, self._results(context, start(set())), self.log.info, report)

    def _searches(self, context: Context) -> Sequence[Any]:
        """Render the search parameters. Parameters that were given and came out empty would ask for everybody."""
        if self.search_params is None:
            return [self._sized({})]
        rendered = self.rendered(self.search_params, context)
        searches = [rendered] if isinstance(rendered, Mapping) else rendered
        listed = isinstance(searches, Sequence) and not isinstance(searches, str)
        if not listed or not searches or not all(searches):
            raise RedoxConfigError(
                "search_params: must be a mapping with at least one parameter, or a list of such; it came out empty. "
                "Leave it out to search for everything of this type"
            )
        return [self._sized(params) for params in searches]

    def _sized(self, params: Any) -> Any:
        size = self.page_size
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
            raise RedoxConfigError("page_size: must be a whole number from 1, or left out")
        return params if size is None or not isinstance(params, Mapping) else {"_count": size, **params}

    def _start(self, params: Any, seen: set[int], *, shared: bool) -> Walk:
        from airflow_provider_redox.protocol.terms import terms

        return self.hook.client.calls.search(
            self.resource_type,
            params,
            destination=self.destination,
            environment=self.environment,
            headers=self.headers,
            terms=terms(max_pages=self.max_pages, on_total_mismatch=self.on_total_mismatch, handling=self.handling),
            seen=seen,
            shared=shared,
        )

    def _results(self, context: Context, walks: Sequence[Walk]) -> Results:
        from airflow_provider_redox.operators.drain import resumable_results

        layout = self.layout(context, self.output_path)
        return resumable_results(
            layout, self.hook.client.settings, walks, compression=self.compression, validate=self.validate
        )


def _counted(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Give the number of resources of each type, over all its files."""
    counts: dict[str, int] = {}
    for entry in manifest["output"]:
        counts[entry["type"]] = counts.get(entry["type"], 0) + entry["count"]
    return counts
