"""fhirpy's awaiting client."""

from __future__ import annotations

import asyncio

from fhirpy import AsyncFHIRClient

from benchmarks.job import Job, sign_in
from benchmarks.pages import SIZE
from benchmarks.peers.ndjson import Files


def drain(job: Job) -> None:
    """Its search set, iterated."""
    asyncio.run(_drain(job))


async def _drain(job: Job) -> None:
    client = AsyncFHIRClient(job.base, authorization=f"Bearer {sign_in(job)}")
    with Files(job.out) as files:
        async for resource in client.resources("Patient").limit(SIZE):
            files.write(resource)
