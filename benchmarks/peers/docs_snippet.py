"""Redox's sample pasted into a PythonOperator, with a loop around it.

No session, a new token for each call, no look at the status.
"""

from __future__ import annotations

import requests

from benchmarks.job import Job, sign_in
from benchmarks.pages import SIZE
from benchmarks.peers.ndjson import Files


def drain(job: Job) -> None:
    """A call signs in and asks; what came is taken as it is."""
    url: str | None = f"{job.base}/Patient?_count={SIZE}"
    with Files(job.out) as files:
        while url:
            bundle = _call(job, url)
            files.write_all(entry["resource"] for entry in bundle.get("entry", []))
            url = next((link["url"] for link in bundle.get("link", []) if link["relation"] == "next"), None)


def _call(job: Job, url: str) -> dict:  # type: ignore[type-arg]
    headers = {"Authorization": f"Bearer {sign_in(job)}"}
    return requests.get(url, headers=headers, timeout=30).json()
