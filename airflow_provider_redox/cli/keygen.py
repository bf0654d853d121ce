"""`keygen`: a key pair, as the two sides need it: a JWKS for Redox, a private key in a connection for Airflow.

With `--folder` the private key is written for its owner's eyes only and never shown; nothing is overwritten.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from airflow_provider_redox.cli.connections import PLACEHOLDER
from airflow_provider_redox.cli.jwks import public_jwks
from airflow_provider_redox.cli.words import UsageError, as_json, put, say
from airflow_provider_redox.protocol.keys import LocalKey, kid_of
from airflow_provider_redox.protocol.settings import DEFAULT_HOST

DEFAULT_BITS = 3072
FILES = ("private-key.pem", "public-jwks.json", "connection.json")

_NEXT = """\
Give {folder}/public-jwks.json to Redox: in its dashboard, as the public key of an OAuth API key.
{client}create the connection with `airflow connections add redox_default --conn-json "$(cat {folder}/connection.json)"`.
See that it works with `python -m airflow_provider_redox check --conn-json {folder}/connection.json`."""


def run(options: argparse.Namespace) -> int:
    """Make the pair and write it to the folder or to stdout."""
    if options.bits and options.algorithm == "ES384":
        raise UsageError("--bits: an ES384 key lies on the curve P-384 and has no size to choose; leave it out")
    if options.folder is not None and options.print_private_key:
        raise UsageError("--print-private-key: is for use without --folder, which writes the key to a file")
    if options.folder is not None:
        _refuse_overwriting(Path(options.folder))
    key = new_key(options.algorithm, bits=options.bits or DEFAULT_BITS, kid=options.kid)
    if options.folder is not None:
        _write(Path(options.folder), key, options.client_id)
    elif options.print_private_key:
        put(as_json({"jwks": public_jwks((key,)), "private_key": key.pem()}))
    else:
        put(as_json(public_jwks((key,))))
        say("The private key is not shown and not kept, so this pair cannot be used. Name a --folder for it, or ask for it")
        say("on the screen with --print-private-key.")
    return 0


def new_key(algorithm: str, *, bits: int = DEFAULT_BITS, kid: str | None = None) -> LocalKey:
    """Make a key. Its ID, when none is given, is the beginning of its thumbprint: two keys never share it."""
    if algorithm == "ES384":
        key = LocalKey(ec.generate_private_key(ec.SECP384R1()), "ES384")
    else:
        key = LocalKey(rsa.generate_private_key(65537, bits), "RS384")
    return key.named(kid or kid_of(key))


def connection_of(key: LocalKey, client_id: str | None) -> dict[str, Any]:
    """Make the Airflow connection. The port is there because Airflow's Test button needs a stored one."""
    extra = {"client_id": client_id or PLACEHOLDER, "kid": key.kid}
    return {"conn_type": "redox", "host": DEFAULT_HOST, "port": 443, "password": key.pem(), "extra": extra}


def _refuse_overwriting(folder: Path) -> None:
    there = [name for name in FILES if os.path.lexists(folder / name)]
    if there:
        raise UsageError(f"--folder: {', '.join(there)} is there already and is not overwritten; name another folder")


def _write(folder: Path, key: LocalKey, client_id: str | None) -> None:
    texts = (key.pem(), as_json(public_jwks((key,))) + "\n", as_json(connection_of(key, client_id)) + "\n")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, text, mode in zip(FILES, texts, (0o600, 0o644, 0o600), strict=True):
            _create(folder / name, text, mode)
    except OSError as error:
        raise UsageError(f"--folder: cannot be written to: {error.strerror}") from None
    client = "Then " if client_id else f"Put the client ID that Redox shows in the place of {PLACEHOLDER} and "
    say(_NEXT.format(folder=folder, client=client))


def _create(path: Path, text: str, mode: int) -> None:
    """Write a file that is not there yet, readable from its first byte on by those only who may read it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
