"""FHIR operators: search."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.operators.base import RedoxOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_redox.protocol.fhir import Page, Resource
    from airflow_provider_redox.protocol.paging import Walk
    from airflow_provider_redox.storage.results import Results

_PROGRESS_EVERY = 15.0


class RedoxFhirSearchOperator(RedoxOperator):
    """Search, read every page, and write the resources to NDJSON files by type; the result is a manifest.

    All or nothing: the files and the manifest appear when every page of every search has been read. XCom gets URLs, counts
    and checksums; no resource and no search parameter enters the metadata database, a log or a URL we make.

    :param resource_type: a FHIR R4 resource type such as `Patient`.
    :param search_params: one mapping of search parameters, or a list of mappings for several searches; a list as a value
        repeats the parameter. Templated when the task runs, and kept out of rendered fields and of the serialized DAG; a
        mapped task's arguments (`partial`, `expand`) are in it.
    :param output_path: where results go: a URL such as `s3://conn_id@bucket/prefix`. By default `[redox] output_root`.
    :param page_size: sent as `_count`, the number of resources the server is asked to put on a page.
    :param max_pages: the number of pages of one search above which it fails; it is never cut short.
    """

    template_fields: Sequence[str] = (*RedoxOperator.template_fields, "resource_type", "output_path")

    def __init__(
        self,
        *,
        resource_type: str,
        search_params: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        output_path: str | None = None,
        page_size: int | None = None,
        max_pages: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.resource_type = resource_type
        self.search_params = search_params
        self.output_path = output_path
        self.page_size = page_size
        self.max_pages = max_pages
        self.depend_on(search_params)

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the searches and give the manifest."""
        from airflow_provider_redox.storage.results import Results

        with failing_for_good():
            walks = self._walks(self._searches(context))
            tally = Tally()
            with Results(self.layout(context, self.output_path)) as results:
                for walk in walks:
                    self._drain(walk, results, tally)
                manifest = results.commit(
                    transaction_time=tally.transaction_time,
                    request=f"{walks[0].endpoint.url}/{walks[0].resource_type}/_search",
                    extension=tally.extension(walks),
                )
        found = ", ".join(f"{entry['count']} {entry['type']}" for entry in manifest["output"]) or "nothing"
        self.log.info("Searches: %d, pages: %d, found: %s.", len(walks), tally.pages, found)
        return manifest

    def _searches(self, context: Context) -> Sequence[Any]:
        """Render the search parameters. Parameters that were given and came out empty would ask for everybody."""
        if self.search_params is None:
            return [{}]
        rendered = self.rendered(self.search_params, context)
        searches = [rendered] if isinstance(rendered, Mapping) else rendered
        listed = isinstance(searches, Sequence) and not isinstance(searches, str)
        if not listed or not searches or not all(searches):
            raise RedoxConfigError(
                "search_params: must be a mapping with at least one parameter, or a list of such; it came out empty. "
                "Leave it out to search for everything of this type"
            )
        return searches

    def _walks(self, searches: Sequence[Any]) -> list[Walk]:
        """Begin the searches, all of them checked before the first is sent."""
        for name, number in (("page_size", self.page_size), ("max_pages", self.max_pages)):
            if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
                raise RedoxConfigError(f"{name}: must be a whole number from 1, or left out")
        seen: set[bytes] = set()
        return [
            self.hook.client.calls.search(
                self.resource_type,
                self._sized(params),
                destination=self.destination,
                environment=self.environment,
                headers=self.headers,
                max_pages=self.max_pages,
                seen=seen,
            )
            for params in searches
        ]

    def _sized(self, params: Any) -> Any:
        if self.page_size is None or not isinstance(params, Mapping):
            return params
        return {"_count": self.page_size, **params}

    def _drain(self, walk: Walk, results: Results, tally: Tally) -> None:
        while (page := self.hook.client.run(walk.next_page())) is not None:
            for kind, resources in _by_type(page).items():
                results.write(kind, [resource.line for resource in resources])
            tally.note(page, walk)
            if tally.is_time_to_tell():
                self.log.info("Page %d, %d resources so far.", tally.pages, tally.resources)


@dataclass(slots=True)
class Tally:
    """What a search task counts on its way."""

    pages: int = 0
    resources: int = 0
    latest: str | None = None
    date: str | None = None
    _told: float = field(default_factory=time.monotonic)

    def note(self, page: Page, walk: Walk) -> None:
        """Count a page."""
        self.pages += 1
        self.resources += len(page.resources)
        self.date = self.date or walk.date
        for resource in page.resources:
            if resource.last_updated is not None:
                instant = _instant(resource.last_updated)
                self.latest = max(self.latest or instant, instant)

    def is_time_to_tell(self) -> bool:
        """Say, at most every 15 seconds, that a progress line is due."""
        due = time.monotonic() - self._told >= _PROGRESS_EVERY
        if due:
            self._told = time.monotonic()
        return due

    @property
    def transaction_time(self) -> str:
        """The server's clock at the first answer, as an instant in UTC; this machine's when the server told none."""
        from airflow_provider_redox.protocol.outcomes import http_date

        try:
            return _iso(datetime.fromtimestamp(http_date(self.date or ""), UTC))
        except (ValueError, TypeError, OverflowError):
            return _iso(datetime.now(UTC))

    def extension(self, walks: Sequence[Walk]) -> dict[str, Any]:
        """Give the manifest's extension. The watermark is the latest lastUpdated seen, but not after the search began."""
        return {
            "pages": self.pages,
            "requests": sum(walk.requests for walk in walks),
            "duplicates": sum(walk.duplicates for walk in walks),
            "watermark": min(self.latest, self.transaction_time) if self.latest else None,
        }


def _by_type(page: Page) -> dict[str, list[Resource]]:
    grouped: dict[str, list[Resource]] = {}
    for resource in (*page.resources, *page.outcomes):
        grouped.setdefault(resource.type, []).append(resource)
    return grouped


def _instant(text: str) -> str:
    """Give an instant in UTC in one form, so that instants compare as text; one that cannot be read is the earliest."""
    try:
        return _iso(datetime.fromisoformat(text).astimezone(UTC))
    except (ValueError, OverflowError):
        return ""


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
