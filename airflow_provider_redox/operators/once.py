"""What operators share that send what may not be sent twice: no retries, and no try that nobody asked for."""

from __future__ import annotations

from typing import Any

from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError


def refuse_second_try(ti: Any) -> None:
    """Refuse a try that Airflow began by itself: an earlier one may have sent what this one would send again.

    It begins them for a mapped task with `.partial(retries=...)`, and, whatever `retries` says, for a task whose scheduler
    is gone. An author's clear is a decision; it sets max_tries to the tries before it plus `retries`, which is 0.
    """
    tried = getattr(ti, "try_number", 1) or 1
    if tried == 1 or getattr(ti, "max_tries", 0) == tried - 1:
        return
    raise RedoxAmbiguousOutcomeError(
        f"This is try {tried} of a task that sends what may not be sent twice, and an earlier try may have sent it. Look "
        "for it in the Redox dashboard's logs, and clear the task to send it again. A mapped task needs retries=0 in "
        ".partial(...)"
    )


def summary(response: Any, results_url: str | None) -> dict[str, Any]:
    """Give what XCom may hold of an answer: its status, its trace ID, and where its body is."""
    from airflow_provider_redox.protocol.failures import trace_of

    return {"status": response.status, "trace_id": trace_of(response), "results_url": results_url}
