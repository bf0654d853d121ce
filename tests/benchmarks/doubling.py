"""A client that writes every resource twice."""

from __future__ import annotations

from benchmarks.job import Job
from benchmarks.peers import requests_json


def drain(job: Job) -> None:
    requests_json.drain(job)
    written = job.out / "Patient.ndjson"
    written.write_bytes(written.read_bytes() * 2)
