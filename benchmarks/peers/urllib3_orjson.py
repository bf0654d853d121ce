"""The base of the comparison: what an expert would write by hand, without checksums or a second look."""

from __future__ import annotations

from contextlib import ExitStack
from typing import IO

import orjson
import urllib3

from benchmarks.job import Job, sign_in
from benchmarks.pages import SIZE


def drain(job: Job) -> None:
    """One connection pool; each page parsed by orjson, each resource written by orjson."""
    headers = {"authorization": f"Bearer {sign_in(job)}", "accept": "application/fhir+json"}
    files: dict[str, IO[bytes]] = {}
    url: str | None = f"{job.base}/Patient?_count={SIZE}"
    with urllib3.PoolManager(headers=headers, timeout=60) as pool, ExitStack() as stack:
        while url:
            response = pool.request("GET", url)
            if response.status != 200:
                raise RuntimeError(f"HTTP {response.status}")
            bundle = orjson.loads(response.data)
            for entry in bundle.get("entry", ()):
                resource = entry["resource"]
                kind = resource["resourceType"]
                if kind not in files:
                    files[kind] = stack.enter_context((job.out / f"{kind}.ndjson").open("wb"))
                files[kind].write(orjson.dumps(resource, option=orjson.OPT_APPEND_NEWLINE))
            url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
