"""fhir-pyrate: bundles as objects, written by their own to_json."""

from __future__ import annotations

from fhir_pyrate import Ahoy, Pirate

from benchmarks.job import Job, sign_in
from benchmarks.pages import SIZE
from benchmarks.peers.ndjson import Files


def drain(job: Job) -> None:
    """A generator of bundles."""
    with Ahoy(token=sign_in(job)) as auth, Pirate(job.base, auth=auth) as search, Files(job.out) as files:
        for bundle in search.steal_bundles("Patient", {"_count": SIZE, "_sort": "_id"}):
            for entry in bundle.entry or []:
                files.write_line(entry.resource.resourceType, entry.resource.to_json())
