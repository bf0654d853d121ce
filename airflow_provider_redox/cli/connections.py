"""Where the commands find a connection: in Airflow, by its ID, or in a file in Airflow's own JSON form.

A file is read without Airflow, so that a key can be tried where Airflow is not set up. In Airflow a connection is looked
for as tasks do it (environment, secrets backend), and then in the metadata database if this process may read it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_redox.cli.words import UsageError, read_text
from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.hooks.connection import extra_of, host_of, key_field_of, key_text_of, remote_key_of
from airflow_provider_redox.protocol.keys import SigningKey, parse_keys
from airflow_provider_redox.protocol.settings import Settings

PLACEHOLDER = "PUT-THE-CLIENT-ID-HERE"
"""What `keygen` writes where the client ID belongs."""

_FIELDS = ("conn_type", "description", "host", "login", "password", "schema", "port", "extra")


@dataclass(frozen=True, slots=True)
class Fields:
    """A connection as a file gives it: the attributes of Airflow's own that we read."""

    conn_id: str = ""
    host: str | None = None
    schema: str | None = None
    login: str | None = None
    port: int | None = None
    password: str | None = field(default=None, repr=False)
    extra: str | None = field(default=None, repr=False)


def settings_of(options: argparse.Namespace) -> Settings:
    """Find the connection that the options name and check it. Raises `RedoxConfigError` or `UsageError`."""
    connection = _find(options)
    settings = Settings.from_fields(
        keys=_keys(connection, str(extra_of(connection).get("kid") or "").strip() or None),
        host=host_of(connection),
        port=connection.port,
        login=connection.login,
        extra=extra_of(connection),
    )
    if settings.client_id == PLACEHOLDER:
        raise RedoxConfigError("extra.client_id: still the placeholder; put in the client ID that Redox shows for the key")
    return settings


def keys_of(options: argparse.Namespace) -> tuple[SigningKey, ...]:
    """Find every key of the connection that the options name; a lone key takes the connection's key ID."""
    connection = _find(options)
    keys, kid = _keys(connection), extra_of(connection).get("kid")
    return (keys[0].named(str(kid)),) if kid and len(keys) == 1 else keys


def _keys(connection: Any, kid: str | None = None) -> tuple[SigningKey, ...]:
    extra = extra_of(connection)
    remote = remote_key_of(connection, extra)
    if remote is not None:
        return (remote,)
    return parse_keys(key_text_of(connection, extra), field_name=key_field_of(connection), kid=kid)


def _find(options: argparse.Namespace) -> Any:
    return (
        from_json(read_text(options.conn_json, "--conn-json"))
        if options.conn_json is not None
        else _from_airflow(options.conn_id)
    )


def from_json(text: str) -> Fields:
    """Read a connection in Airflow's JSON form. Raises `RedoxConfigError` with none of its values."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None  # the complaint is made outside: a JSONDecodeError holds the whole text
    if not isinstance(found, dict):
        raise RedoxConfigError("--conn-json: not a JSON object; it should look like the connection.json that keygen writes")
    unknown = [name for name in found if name not in _FIELDS]
    if unknown or str(found.get("conn_type") or "redox").lower() != "redox":
        raise RedoxConfigError(
            f"--conn-json: must be a connection of type redox with no other fields than {', '.join(_FIELDS)}"
        )
    extra = found.get("extra")
    return Fields(
        host=_text(found, "host"),
        schema=_text(found, "schema"),
        login=_text(found, "login"),
        port=_port(found),
        password=_text(found, "password"),
        extra=extra if isinstance(extra, str | None) else json.dumps(extra),
    )


def _text(found: dict[str, Any], name: str) -> str | None:
    value = found.get(name)
    if not isinstance(value, str | None):
        raise RedoxConfigError(f"--conn-json: {name} must be text")
    return value or None


def _port(found: dict[str, Any]) -> int | None:
    port = found.get("port")
    if not str(port or 0).isdecimal():
        raise RedoxConfigError("--conn-json: port must be a number")
    return int(port or 0) or None


def _from_airflow(conn_id: str) -> Any:
    """Ask Airflow, and send what it logs to stderr: stdout is the command's own. Raises `RedoxConfigError`."""
    with contextlib.redirect_stdout(sys.stderr):
        found = _looked_up(conn_id)
    if found is None:
        raise RedoxConfigError(
            f"--conn-id: Airflow does not know the connection {conn_id} here, or cannot read it; look at AIRFLOW_HOME, set "
            f"AIRFLOW_CONN_{conn_id.upper()}, or give it with --conn-json"
        )
    return found


def _looked_up(conn_id: str) -> Any:
    """Find a connection where tasks do, then in the database; None when it is nowhere, or cannot be read.

    Airflow's own errors are kept out: what a secrets backend says of a broken connection may hold its password.
    """
    try:
        from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
    except ImportError:
        raise UsageError("Airflow cannot be imported here; give the connection with --conn-json") from None
    with _airflow_quiet():
        try:
            return BaseHook.get_connection(conn_id)
        except AirflowNotFoundException:
            return _from_database(conn_id)
        except Exception:  # noqa: BLE001  (each version and backend has errors of its own)
            return None


@contextlib.contextmanager
def _airflow_quiet() -> Iterator[None]:
    """Keep Airflow from logging what it did not find: 2.11 shows a missing database with its whole traceback."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _from_database(conn_id: str) -> Any:
    """Look where Airflow's own servers look. Airflow 3 asks the metadata database for nobody else."""
    with contextlib.suppress(Exception):
        from airflow.models.connection import Connection

        return Connection.get_connection_from_secrets(conn_id)
    return None
