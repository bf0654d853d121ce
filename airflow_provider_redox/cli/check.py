"""`check`: what Airflow's Test button does, from a shell: one assertion for a token, nothing clinical, no cache."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from airflow_provider_redox.cli.connections import settings_of
from airflow_provider_redox.cli.watched import WatchedClient
from airflow_provider_redox.cli.words import put, say
from airflow_provider_redox.exceptions import RedoxError, words_of
from airflow_provider_redox.protocol.exchange import mint
from airflow_provider_redox.protocol.failures import CLOCK_TOLERANCE
from airflow_provider_redox.protocol.settings import Settings
from airflow_provider_redox.protocol.token import Token


def run(options: argparse.Namespace) -> int:
    """Check the connection and print what is known of it; exit status 1 with words when it does not work."""
    settings = settings_of(options)
    _show(_about(settings))
    client = WatchedClient(settings)
    try:
        token: Token | RedoxError = client.run(mint(settings, env=client.env))
    except RedoxError as error:
        token = error
    finally:
        client.close()
    if options.clock and client.seen:
        _show({"clock": clock_words(client.seen[-1].clock_offset)})
    if isinstance(token, RedoxError):
        say(words_of(token))
        return 1
    _show({"token": _until(token)})
    say(f"Redox accepts the key {client.key.kid} ({client.key.algorithm}).")
    return 0


def clock_words(offset: float | None) -> str:
    """Say how this machine's clock stands to the server's."""
    if offset is None:
        return "unknown, the server names no date"
    seconds = abs(offset)
    if seconds < 1:
        return "as the server's"
    verdict = f"fine, up to {CLOCK_TOLERANCE:.0f} s are" if seconds <= CLOCK_TOLERANCE else "set it"
    return f"{seconds:.0f} s {'behind' if offset > 0 else 'ahead of'} the server's ({verdict})"


def _about(settings: Settings) -> dict[str, str]:
    return {
        "address": settings.base_url,
        "token URL": settings.auth_url,
        "client ID": settings.client_id,
        "key ID": ", ".join(key.kid or "" for key in settings.keys),
        "algorithm": ", ".join(dict.fromkeys(key.algorithm for key in settings.keys)),
    }


def _until(token: Token) -> str:
    until = datetime.fromtimestamp(token.expires_at, UTC).strftime("%H:%M:%S")
    return f"holds until {until} UTC ({token.expires_at - token.issued_at:.0f} s)"


def _show(facts: dict[str, str]) -> None:
    for name, value in facts.items():
        put(f"{name + ':':<11}{value}")
