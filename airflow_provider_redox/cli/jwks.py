"""`jwks`: the public half of a connection's keys, to be given to Redox. No private number is ever in it."""

from __future__ import annotations

import argparse

from airflow_provider_redox.cli.connections import keys_of
from airflow_provider_redox.cli.words import UsageError, as_json, put, read_text
from airflow_provider_redox.protocol.keys import SigningKey, parse_keys


def run(options: argparse.Namespace) -> int:
    """Print the JWKS."""
    if options.key_file is not None:
        keys: tuple[SigningKey, ...] = parse_keys(read_text(options.key_file, "--key-file"), field_name="--key-file")
    else:
        keys = keys_of(options)
    put(as_json(public_jwks(_named(keys, options.kid))))
    return 0


def public_jwks(keys: tuple[SigningKey, ...]) -> dict[str, list[dict[str, object]]]:
    """Make the JWKS of the keys' public halves."""
    return {"keys": [key.public_jwk() for key in keys]}


def _named(keys: tuple[SigningKey, ...], kid: str | None) -> tuple[SigningKey, ...]:
    """Give the key its ID, or pick the one that has it. Redox finds a key by its ID, so each needs one."""
    if kid and len(keys) == 1:
        return (keys[0].named(kid),)
    chosen = tuple(key for key in keys if kid in (None, key.kid))
    if not chosen:
        raise UsageError("--kid: no key has this ID")
    if not all(key.kid for key in chosen):
        raise UsageError("--kid: the key has no ID, and Redox finds it by its ID; give one")
    return chosen
