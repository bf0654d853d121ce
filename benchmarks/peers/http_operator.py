"""Airflow's HttpOperator with a pagination function and a response filter that writes the files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.http.operators.http import HttpOperator

from benchmarks.job import Job, set_connections, sign_in
from benchmarks.pages import SIZE
from benchmarks.peers.ndjson import Files
from benchmarks.peers.ours import context

if TYPE_CHECKING:
    from requests import Response


def drain(job: Job) -> None:
    """The token comes from a step before, in the headers."""

    def following(response: Response) -> dict[str, Any] | None:
        links = response.json().get("link", [])
        url = next((link["url"] for link in links if link["relation"] == "next"), None)
        return {"endpoint": url.removeprefix(job.base), "data": {}} if url else None

    def written(responses: list[Response]) -> int:
        with Files(job.out) as files:
            for response in responses:
                files.write_all(entry["resource"] for entry in response.json().get("entry", []))
        return len(responses)

    set_connections(job)
    patients = HttpOperator(
        task_id="patients",
        method="GET",
        endpoint=f"/Patient?_count={SIZE}",
        headers={"Authorization": f"Bearer {sign_in(job)}"},
        pagination_function=following,
        response_filter=written,
    )
    patients.execute(context("patients"))  # type: ignore[arg-type]
