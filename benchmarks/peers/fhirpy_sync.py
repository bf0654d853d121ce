"""fhirpy's blocking client."""

from __future__ import annotations

from fhirpy import SyncFHIRClient

from benchmarks.job import Job, sign_in
from benchmarks.pages import SIZE
from benchmarks.peers.ndjson import Files


def drain(job: Job) -> None:
    """Its search set, iterated."""
    client = SyncFHIRClient(job.base, authorization=f"Bearer {sign_in(job)}")
    with Files(job.out) as files:
        files.write_all(client.resources("Patient").limit(SIZE))
