"""Check a connection from a worker, where Airflow's Test button is off or workers reach Redox another way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.exceptions import RedoxTransportError
from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.operators.base import RedoxOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class RedoxCheckConnectionOperator(RedoxOperator):
    """Exchange one signed assertion for a token, and say what was found. No clinical call, no cache.

    The task fails, with what to mend, when Redox gives no token. Its result is `{"ok": true, "message": "...", "token_url":
    "...", "client_id": "...", "key_ids": [...], "algorithm": "RS384", "clock_offset": 0.2, "token_until":
    "2026-01-01T00:05:00Z"}`; `clock_offset` is in seconds, positive when the server's clock is ahead.
    """

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002  (Airflow's signature)
        """Check the connection and give the report."""
        from airflow_provider_redox.hooks import check

        with failing_for_good():
            self.check_arguments()
        report = check.connection(self.hook)
        if not report.ok and report.retryable:
            raise RedoxTransportError(report.message)
        if not report.ok:
            raise AirflowFailException(report.message)
        self.log.info("%s. The server's clock is %s.", report.message, _clock(report.clock_offset))
        return report.as_dict()


def _clock(offset: float | None) -> str:
    if offset is None:
        return "unknown, as it names no date"
    return (
        f"{abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} this worker's"
        if abs(offset) >= 1
        else "as this worker's"
    )
