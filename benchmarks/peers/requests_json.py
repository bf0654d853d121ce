"""A loop over a requests Session, as most would write it."""

from __future__ import annotations

import requests

from benchmarks.job import Job, sign_in
from benchmarks.pages import SIZE
from benchmarks.peers.ndjson import Files


def drain(job: Job) -> None:
    """Statuses are checked, links followed."""
    with requests.Session() as session, Files(job.out) as files:
        session.headers["Authorization"] = f"Bearer {sign_in(job)}"
        url: str | None = f"{job.base}/Patient?_count={SIZE}"
        while url:
            response = session.get(url, timeout=60)
            response.raise_for_status()
            bundle = response.json()
            files.write_all(entry["resource"] for entry in bundle.get("entry", []))
            url = next((link["url"] for link in bundle.get("link", []) if link["relation"] == "next"), None)
