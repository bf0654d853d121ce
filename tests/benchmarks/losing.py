"""A client that loses resources: it takes whatever goes wrong for the end."""

from __future__ import annotations

import requests

from benchmarks.job import Job, sign_in
from benchmarks.peers.ndjson import Files


def drain(job: Job) -> None:
    url: str | None = f"{job.base}/Patient"
    with Files(job.out) as files:
        token = sign_in(job)
        while url:
            try:
                bundle = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=30).json()
            except requests.RequestException:
                return
            files.write_all(entry["resource"] for entry in bundle.get("entry", []))
            url = next((link["url"] for link in bundle.get("link", []) if link["relation"] == "next"), None)
