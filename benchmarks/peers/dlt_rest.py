"""dlt's RESTClient with its paginator for links in the body."""

from __future__ import annotations

from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import JSONLinkPaginator

from benchmarks.job import Job, sign_in
from benchmarks.pages import SIZE
from benchmarks.peers.ndjson import Files


def drain(job: Job) -> None:
    """Pages come as lists of resources, by a JSON path."""
    client = RESTClient(
        base_url=job.base,
        auth=BearerTokenAuth(token=sign_in(job)),
        paginator=JSONLinkPaginator(next_url_path="link[?(@.relation=='next')].url"),
        data_selector="entry[*].resource",
    )
    with Files(job.out) as files:
        for page in client.paginate("Patient", params={"_count": SIZE}):
            files.write_all(page)
