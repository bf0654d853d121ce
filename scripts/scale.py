"""What a night costs for 10, 100 and 1,000 hospitals: tasks, tokens, requests, polling, storage. Arithmetic, no more.

    python scripts/scale.py

The model is checked against measured small cases by tests/scripts/test_scale.py. Change the numbers of `Hospital` to yours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

QUOTA = 10_000 / 300
"""Requests in a second that Redox allows one address (10,000 in a rolling five minutes)."""

SHARE = 0.5
"""The part of the quota that these tasks take, of an address that others use too: `extra.requests_per_5min` of 5,000."""

TOKEN_LIFETIME, EARLY = 300.0, 0.2
"""Seconds; and the part of it that is given up at most when a token is renewed while it serves."""

TASK_SECONDS = 1.3
"""Seconds of one core that a Celery task costs before and after its work. Measured with Airflow 3.3.2."""

POLL = 60.0
"""Seconds between two looks at the logs of all messages that a connection waits for."""


@dataclass(frozen=True)
class Hospital:
    """One hospital's night.

    :param searches: by patient or by code; with a cohort they are one task.
    :param matches: resources that a search finds.
    :param page: resources on a page.
    :param size: bytes of a resource, as NDJSON.
    :param messages: that are sent, in one batch.
    :param delivery: seconds until the last of them is delivered.
    """

    searches: int = 50
    matches: int = 20
    page: int = 50
    size: int = 1_600
    messages: int = 200
    delivery: float = 600.0


@dataclass(frozen=True)
class Night:
    """What it comes to. Times in seconds."""

    hospitals: int
    tasks: int
    requests: int
    polls: int
    exchanges: int
    at_quota: float
    task_time: float
    storage: float


def searched(hospital: Hospital) -> int:
    """Count the requests of a hospital's searches: a page each, the empty one too."""
    return hospital.searches * max(1, math.ceil(hospital.matches / hospital.page))


def night(hospitals: int, hospital: Hospital | None = None, *, workers: int = 8) -> Night:
    """Add it up. Each hospital is three tasks: a search of its cohort, a batch of messages, a wait for their delivery."""
    one = hospital or Hospital()
    polls = math.ceil(one.delivery / POLL) * math.ceil(hospitals * one.messages / 1_000)
    requests = hospitals * (searched(one) + one.messages) + polls
    at_quota = requests / (QUOTA * SHARE)
    task_time = hospitals * 3 * TASK_SECONDS / workers
    lasts = max(at_quota, task_time, one.delivery)
    exchanges = math.ceil(lasts / (TOKEN_LIFETIME * (1 - EARLY)))
    storage = hospitals * one.searches * one.matches * one.size
    return Night(hospitals, hospitals * 3, requests, polls, exchanges, at_quota, task_time, storage)


def table(sizes: tuple[int, ...] = (10, 100, 1_000)) -> list[str]:
    """Give the table, as Markdown."""
    rows = ["| hospitals | tasks | requests | of them polling | tokens | at half the quota | task overhead | storage |"]
    rows.append("| --: | --: | --: | --: | --: | --: | --: | --: |")
    for size in sizes:
        n = night(size)
        rows.append(
            f"| {size:,} | {n.tasks:,} | {n.requests:,} | {n.polls:,} | {n.exchanges} | {n.at_quota / 60:,.0f} min "
            f"| {n.task_time / 60:,.1f} min | {n.storage / 1e6:,.0f} MB |"
        )
    return rows


if __name__ == "__main__":
    print("\n".join(table()))
