"""The button "Redox log": the log of a message in Redox's dashboard.

It leads to the first of the logs that a task was about, the failed ones first. They are in the task's result, or, as a task
that failed has none, in the XCom that it left before it failed. Log IDs tell nothing of a patient.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink

DASHBOARD = "https://dashboard.redoxengine.com"
KEY = "redox_logs"
"""The XCom of a task that waits: `{"organization_id": ..., "log_ids": [...]}`."""

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)


class LogLink(BaseOperatorLink):
    """Leads to a message's log in Redox's dashboard."""

    name = "Redox log"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002  (Airflow's signature)
        """Give the address; an empty text when the task has left no log ID."""
        from airflow.providers.common.compat.sdk import XCom

        left = XCom.get_value(key=KEY, ti_key=ti_key)
        return log_url(left if isinstance(left, Mapping) else {})


def log_url(left: Mapping[str, Any]) -> str:
    """Give the dashboard's address of the first log, an empty text where there is none."""
    organization, log_ids = left.get("organization_id"), left.get("log_ids")
    first = log_ids[0] if isinstance(log_ids, list | tuple) and log_ids else None
    if not all(isinstance(one, str) and _PLAIN.fullmatch(one) for one in (organization, first)):
        return ""
    # Redox's own demo application leads to a log in this way.
    return f"{DASHBOARD}/#/organization/{quote(str(organization), safe='')}/logs?logId={quote(str(first), safe='')}"
