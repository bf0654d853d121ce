"""smart-fetch's crawl of one search, with its own sign-in, writer and error files."""

from __future__ import annotations

import asyncio

import cumulus_fhir_support as cfs
from smart_fetch import crawl_utils, ndjson

from benchmarks.job import CLIENT_ID, Job
from benchmarks.pages import SIZE


def drain(job: Job) -> None:
    """Its callback for one search URL, as its `crawl` command runs it."""
    asyncio.run(_drain(job))


async def _drain(job: Job) -> None:
    signing = {"token_url": job.token_url, "smart_client_id": CLIENT_ID, "smart_pem": job.key}
    async with cfs.FhirClient(job.base, ["Patient"], **signing) as client:
        with ndjson.NdjsonWriter(str(job.out / "Patient.ndjson")) as writer:
            await crawl_utils.process_resource(client, {}, str(job.out), {}, "Patient", writer, f"Patient?_count={SIZE}")
