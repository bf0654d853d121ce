"""What the Test button does: one token exchange, and an answer in words that a data engineer acts on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.exceptions import RedoxError
from airflow_provider_redox.hooks.connection import settings_from
from airflow_provider_redox.protocol.exchange import mint
from airflow_provider_redox.protocol.outcomes import RetryPolicy

if TYPE_CHECKING:
    from airflow_provider_redox.hooks.redox import RedoxHook

IMPATIENT = RetryPolicy(attempts=1)


def connection(hook: RedoxHook) -> tuple[bool, str]:
    """Check the hook's connection. Never raises a RedoxError: what went wrong is in the text."""
    from airflow_provider_redox.client.driver import real_environment

    try:
        settings = settings_from(hook.get_connection(hook.redox_conn_id))
        client = SyncClient(settings, env=real_environment(IMPATIENT))
        token = client.run(mint(settings, env=client.env))
        client.close()
    except RedoxError as error:
        return False, str(error)
    until = datetime.fromtimestamp(token.expires_at, UTC).strftime("%H:%M:%S")
    return True, (
        f"Redox accepts the key {settings.kid} of client {settings.client_id} ({settings.algorithm}); "
        f"the token it gave holds until {until} UTC"
    )
