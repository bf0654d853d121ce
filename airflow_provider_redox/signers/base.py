"""What a remote signer is, for those of this package and for one of your own."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxError, RedoxTransportError

CONNECT_TIMEOUT = 10.0
"""Seconds for a connection to a key service."""

READ_TIMEOUT = 10.0
"""Seconds for its answer. It signs in milliseconds."""

TRIES = 3
"""Tries of one call, the first one included."""


class Signer(Protocol):
    """Signs with a key that it gives to nobody.

    A connection names a class of this shape in `extra.signer` as `package.module.Class`, and the key's name there in
    `extra.signer_key`. One object serves a process, from any of its threads. It is made when the connection is first used,
    and anew after an error.

    What it raises of `airflow_provider_redox.exceptions` is told as it is: `RedoxConfigError` for what only a person
    can put right, `RedoxTransportError` for what may pass. `OSError` and `TimeoutError` count as the latter. The text of
    any other error is not shown: it may hold what nobody may see. Bound the time that it may take: nothing else does.
    """

    def __init__(self, key: str) -> None:
        """Take the key's name. Nothing needs to be asked yet."""

    def public_key(self) -> bytes | str:
        """Give the public half, a SubjectPublicKeyInfo as PEM or DER. Asked once, before anything is signed.

        RSA of 2048 bits or more, which then has to sign RS384, or EC on P-384, which has to sign ES384.
        """

    def sign(self, message: bytes) -> bytes:
        """Sign the message itself, not a digest of it.

        RS384: RSASSA-PKCS1-v1_5 with SHA-384. ES384: ECDSA with SHA-384, the two numbers of 48 bytes each, as JWS wants
        them, or as DER.
        """


_hushing = threading.Lock()
_hushed: dict[str, tuple[int, int]] = {}
"""By logger, how many are hushing it, and its own level."""


@contextlib.contextmanager
def hushed(name: str) -> Iterator[None]:
    """Keep a library from logging at DEBUG meanwhile what it sends and gets: here that is what opens the seal."""
    logger = logging.getLogger(name)
    with _hushing:  # not while the library works: nobody waits for another's key service
        count, level = _hushed.get(name, (0, logger.level))
        _hushed[name] = (count + 1, level)
        logger.setLevel(max(logging.INFO, logger.getEffectiveLevel()))
    try:
        yield
    finally:
        with _hushing:
            count, level = _hushed.pop(name)
            if count > 1:
                _hushed[name] = (count - 1, level)
            else:
                logger.setLevel(level)


T = TypeVar("T")

_CODE = re.compile(r"[A-Za-z0-9_.-]{1,60}", re.ASCII)


def not_installed(signer: str, extra: str) -> RedoxConfigError:
    """Say which extra brings the vendor's library."""
    return RedoxConfigError(
        f"extra.signer: {signer} needs a library that is not installed here; install airflow-provider-redox[{extra}] where "
        "tasks run, in the triggerer, and in the API server for the Test button"
    )


def asked(ask: Callable[[], T], signer: str, extra: str, error_of: Callable[[Exception], RedoxError]) -> T:
    """Ask a vendor's library, and make one of our errors of what it raises: its own may hold the request, and who asked."""
    error: RedoxError
    try:
        return ask()
    except RedoxError:
        raise
    except ImportError:
        error = not_installed(signer, extra)
    except Exception as raised:  # noqa: BLE001  (vendors' errors have no common root)
        error = error_of(raised)
    raise error


def refused(signer: str, why: str, code: object = "") -> RedoxConfigError:
    """Say that a signer does not do it, and that waiting does not help.

    :param why: what follows the signer's name in a sentence.
    :param code: the vendor's code for it; the vendor's words may name people and keys and are not told.
    """
    return RedoxConfigError(f"extra.signer_key: {signer} {why}{_told(code)}")


def no_credentials(signer: str, where: str, code: object = "") -> RedoxConfigError:
    """Say that no credentials were found. Worth another try: those of a machine come from a service, which may be away."""
    error = refused(signer, f"found no credentials that work where {where} looks for them", code)
    error.retryable = True
    return error


def unreachable(signer: str, code: object = "") -> RedoxTransportError:
    """Say that a signer did not answer, or could not do it just now."""
    return RedoxTransportError(
        f"extra.signer: {signer} did not sign, as it could not be reached, was too slow or too busy{_told(code)}; nothing "
        "was sent to Redox"
    )


def _told(code: object) -> str:
    return f" ({code})" if _CODE.fullmatch(str(code)) else ""
