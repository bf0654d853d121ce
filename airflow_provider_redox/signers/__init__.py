"""Keys that never leave: a connection names who signs, in `extra.signer`, instead of holding a private key.

Each of the modules here is thin over its vendor's own library, which is an extra of this package, and finds credentials
where that library looks for them. What they raise holds a vendor's error code and nothing else of a vendor's answer.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import threading
from typing import Any

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.signers.key import Remote, RemoteKey

VENDORS = {
    "aws_kms": "airflow_provider_redox.signers.aws_kms.AwsKmsSigner",
    "vault": "airflow_provider_redox.signers.vault.VaultSigner",
    "google_kms": "airflow_provider_redox.signers.google_kms.GoogleKmsSigner",
    "azure_key_vault": "airflow_provider_redox.signers.azure_key_vault.AzureKeyVaultSigner",
}
"""What `extra.signer` may say, beside the path of a class of the user's own."""

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)

_keys: dict[tuple[str, str], RemoteKey] = {}
_locks: dict[tuple[str, str], threading.Lock] = {}
os.register_at_fork(after_in_child=_locks.clear)  # one may be held by a thread of the parent's, which is not here


def remote_key(signer: str, key: str) -> RemoteKey:
    """Give a signer's key. Its public half is asked for once in a process, and anew after an error.

    Raises `RedoxConfigError`, `RedoxTransportError` or `RedoxProtocolError`.
    """
    name = signer, key
    with _locks.setdefault(name, threading.Lock()):
        known = _keys.get(name)
        if known is None or known.remote.is_stale:
            known = _keys[name] = RemoteKey.of(Remote(signer, functools.partial(_class_of(signer), key)))
        return known


def forget() -> None:
    """Let the next use ask for every public key anew."""
    _keys.clear()


def _class_of(signer: str) -> Any:
    """Find the class. Nothing is called that does not have the shape of a signer: a connection's editor names it."""
    path = VENDORS.get(signer, signer)
    if not _PATH.fullmatch(path):
        raise RedoxConfigError(
            f"extra.signer: must be one of {', '.join(VENDORS)}, or the path of a class of your own, package.module.Class"
        )
    found = _imported(path)
    if isinstance(found, Exception):
        raise RedoxConfigError(f"extra.signer: the module of {path} fails when it is imported ({type(found).__name__})")
    if found is None:
        raise RedoxConfigError(
            f"extra.signer: {path} cannot be imported here; it must be installed where tasks run, in the triggerer, and in "
            "the API server for the Test button"
        )
    if not isinstance(found, type) or not all(callable(getattr(found, method, None)) for method in ("public_key", "sign")):
        raise RedoxConfigError(f"extra.signer: {path} is no signer: it must be a class with the methods public_key and sign")
    return found


def _imported(path: str) -> Any:
    """Give what stands at a path, None where nothing does, or what its module raised."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
    except Exception as error:  # noqa: BLE001  (a module of the user's own may raise anything)
        return error
