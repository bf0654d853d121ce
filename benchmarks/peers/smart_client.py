"""fhirclient: every resource becomes a validated model, and is written by as_json."""

from __future__ import annotations

import fhirclient.models.patient as models
from fhirclient.client import FHIRClient

from benchmarks.job import CLIENT_ID, Job, sign_in
from benchmarks.pages import SIZE
from benchmarks.peers.ndjson import Files


def drain(job: Job) -> None:
    """Its search, iterated by resource; it has no place for a token, so its session gets the header."""
    client = FHIRClient(settings={"app_id": CLIENT_ID, "api_base": job.base})
    client.server.session.headers["Authorization"] = f"Bearer {sign_in(job)}"
    with Files(job.out) as files:
        for resource in models.Patient.where({"_count": str(SIZE)}).perform_resources_iter(client.server):
            files.write(resource.as_json())
