"""A client that never ends, once it is measured."""

from __future__ import annotations

import time

from benchmarks.job import Job

_calls: list[Job] = []


def drain(job: Job) -> None:
    _calls.append(job)
    if len(_calls) > 1:
        time.sleep(600)
