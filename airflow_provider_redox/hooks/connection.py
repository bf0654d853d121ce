"""From an Airflow connection to checked settings: the key is parsed once in a process, and masked once."""

from __future__ import annotations

import base64
import functools
import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.keys import SigningKey, parse_keys
from airflow_provider_redox.protocol.settings import Settings

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

_log = logging.getLogger(__name__)

_JWK_NUMBER = re.compile(r'"(?:d|p|q|dp|dq|qi)"\s*:\s*"([\w=-]+)"', re.ASCII)
_LONGEST_KEY = 64 * 1024
"""Characters of a key file; a JWKS of two keys of 4096 bits has some 7,000."""


def settings_from(connection: Connection) -> Settings:
    """Check a connection. Raises `RedoxConfigError`, with nothing of the connection's values in it.

    A remote signer is asked for its public key, where this process has not done so; see `remote_key_of` for what it raises.
    """
    extra = extra_of(connection)
    remote = remote_key_of(connection, extra)
    if remote is None:
        _warn_if_in_clear(connection.conn_id or "")
    kid = str(extra.get("kid") or "").strip() or None
    keys = _keys(key_text_of(connection, extra), key_field_of(connection), kid) if remote is None else (remote,)
    settings = Settings.from_fields(
        keys=keys,
        host=host_of(connection),
        port=connection.port,
        login=connection.login,
        extra=extra,
    )
    if settings.plain_http_allowed:
        _warn_of_plain_http(connection.conn_id or "")
    return settings


@functools.lru_cache(maxsize=64)
def _warn_if_in_clear(conn_id: str) -> None:
    """Warn, once in a process, when the connection can only come from a database that does not encrypt it."""
    from airflow.providers.common.compat.sdk import conf

    elsewhere = f"AIRFLOW_CONN_{conn_id.upper()}" in os.environ or conf.get("secrets", "backend", fallback="")
    if not elsewhere and not conf.get("core", "fernet_key", fallback=""):
        _log.warning(
            "The connection %s is kept without a Fernet key: its private key lies in clear in the metadata database, and "
            "with it the access token that is sealed with it. Set [core] fernet_key, or keep the connection in a secrets "
            "backend.",
            conn_id,
        )


@functools.lru_cache(maxsize=64)
def _warn_of_plain_http(conn_id: str) -> None:
    _log.warning("The connection %s allows plain http: tokens and patients travel in clear. For tests only.", conn_id)


def extra_of(connection: Connection) -> dict[str, Any]:
    """Parse a connection's extra. Raises `RedoxConfigError`."""
    try:
        extra = json.loads(connection.extra or "{}")
    except (ValueError, RecursionError):
        extra = None  # the complaint is made outside: a JSONDecodeError holds the whole text
    if not isinstance(extra, dict):
        raise RedoxConfigError('extra: must be a JSON object such as {"client_id": "..."}')
    # Airflow 2's Test button sends each field a second time, under the name that it had before Airflow 2.3.
    return {name.removeprefix("extra__redox__"): value for name, value in extra.items()}


def host_of(connection: Connection) -> str | None:
    """Give the host, with the scheme that a connection written as a URI keeps in `schema`."""
    host, scheme = connection.host, connection.schema
    if host and scheme in ("http", "https") and "://" not in host:
        return f"{scheme}://{host}"
    return host or None


def remote_key_of(connection: Connection, extra: dict[str, Any]) -> SigningKey | None:
    """Give the key of the remote signer that a connection names; None for a connection with a private key.

    It has the connection's key ID or, without one, an ID that follows from the public half, which is asked for once in a
    process. Raises `RedoxConfigError`, `RedoxTransportError` or `RedoxProtocolError`.
    """
    signer, name = (str(extra.get(field) or "").strip() for field in ("signer", "signer_key"))
    if not signer and not name:
        return None
    if not name:
        raise RedoxConfigError("extra.signer_key: missing; name the key at the signer, such as its ARN")
    if not signer:
        raise RedoxConfigError("extra.signer: missing; say whose key extra.signer_key names, such as aws_kms")
    for field, present in {"password": connection.password, "extra.key_file": extra.get("key_file")}.items():
        if present:
            raise RedoxConfigError(f"{field}: must be empty where extra.signer names who holds the private key")
    from airflow_provider_redox.signers import remote_key

    key = remote_key(signer, name)
    return key.named(str(extra.get("kid") or "").strip() or key.kid)


def reach_signer(connection: Connection) -> None:
    """Ask a connection's signer for all that is asked once in a process. It may take a while. Raises as `remote_key_of`."""
    key = remote_key_of(connection, extra_of(connection))
    if key is not None and key.seals:
        key.secret_numbers()


def key_field_of(connection: Connection) -> str:
    """Name the field that holds the private key."""
    return "password" if connection.password else "extra.key_file"


def key_text_of(connection: Connection, extra: dict[str, Any]) -> str:
    """Give a connection's private key as it was pasted, or what its key file holds. Raises `RedoxConfigError`."""
    path = extra.get("key_file")
    if connection.password and path:
        raise RedoxConfigError("extra.key_file: a private key stands in password too; leave one of them out")
    if connection.password:
        return connection.password
    if not path:
        raise RedoxConfigError(
            "password: paste the private key here, or name a file on the worker in extra.key_file, or a remote signer in "
            "extra.signer"
        )
    text = _text_of(Path(str(path)))
    if text is None:
        raise RedoxConfigError(
            "extra.key_file: cannot be read as a text file on this worker; put it there, or correct the path"
        )
    return text


def _text_of(file: Path) -> str | None:
    """Read a file to a limit, None when it is no text file. A device or a pipe could be named, which have no end.

    A DER file comes as base64; UTF-16, which PowerShell's `>` writes, is known by its byte-order mark.
    """
    try:
        if not file.is_file():
            return None
        with file.open("rb") as opened:
            content = opened.read(_LONGEST_KEY)
        if content.startswith(b"0\x82"):
            return base64.b64encode(content).decode()
        return content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except (OSError, ValueError):
        return None


@functools.lru_cache(maxsize=64)
def _keys(text: str, field_name: str, kid: str | None) -> tuple[SigningKey, ...]:
    """Parse and mask a key. Kept, because loading an RSA key costs tens of milliseconds and each mask slows the next."""
    _mask(text)
    keys = parse_keys(text, field_name=field_name, kid=kid)
    for key in keys:
        _mask(key.pem())
    return keys


def _mask(text: str) -> None:
    """Have Airflow's log masker hide a key: whole, as JSON, repr and a URL would show it, line by line, number by number.

    The masker knows exact strings only. The lines are masked as one-line and many-line logs would show them.
    """
    whole = text.strip()
    forms = {whole, json.dumps(whole)[1:-1], whole.replace("\\n", "\n"), "".join(whole.split()), quote(whole, safe="")}
    lines = {line.strip() for line in whole.replace("\\n", "\n").splitlines() if "-----" not in line}
    lines |= set(_JWK_NUMBER.findall(whole.replace('\\"', '"')))
    _mask_all(forms | {line for line in lines if len(line) > 16})


def _mask_all(secrets: set[str]) -> None:
    """Mask them in one go.

    Airflow compiles all its patterns anew for each secret that is new to it, which for the lines of a key costs half a
    second. So all but one are put among its patterns first, where it has such a set, and then it is given the whole list:
    it compiles once, for the one that is new, and tells the task's supervisor once. It passes over short secrets, so the
    longest comes first.
    """
    for name in ("airflow.sdk.log", "airflow.sdk.execution_time.secrets_masker", "airflow.utils.log.secrets_masker"):
        try:
            mask = __import__(name, fromlist=["mask_secret"]).mask_secret
        except (ImportError, AttributeError):
            continue
        patterns = _patterns(mask)
        fresh = sorted((one for one in secrets if re.escape(one) not in patterns), key=len, reverse=True)
        patterns.update(re.escape(secret) for secret in fresh[1:])
        mask(fresh)
        return


def _patterns(mask: Any) -> set[str]:
    """Give the masker's own set of patterns, or one that nobody reads where it keeps none."""
    try:
        patterns = mask.__globals__["_secrets_masker"]().patterns
    except (AttributeError, KeyError, TypeError):
        return set()
    return patterns if isinstance(patterns, set) else set()
