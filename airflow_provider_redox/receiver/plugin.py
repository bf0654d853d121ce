"""The receiver inside Airflow 3's API server, at `/redox-inbox/<feed>`, when `REDOX_RECEIVER_INBOX` is set there."""

from __future__ import annotations

import logging
import os
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_redox.exceptions import RedoxConfigError

_log = logging.getLogger(__name__)
URL_PREFIX = "/redox-inbox"


def _apps() -> list[dict[str, Any]]:
    """Give the application, none where the receiver is not set up. A wrong setting must not keep Airflow from starting."""
    if not os.environ.get("REDOX_RECEIVER_INBOX"):
        return []
    from airflow_provider_redox.receiver.app import from_environment

    try:
        return [{"app": from_environment(), "url_prefix": URL_PREFIX, "name": "Redox inbox"}]
    except RedoxConfigError as error:
        _log.error("The Redox receiver is not served: %s", error)
        return []


class RedoxReceiverPlugin(AirflowPlugin):
    """What Airflow 3 mounts. Airflow 2 has no place for it and passes it over."""

    name = "redox_receiver"
    fastapi_apps = _apps()
