"""Google Cloud KMS, by way of google-cloud-kms: credentials are found where Google's libraries find them.

Google signs PKCS#1 v1.5 with SHA-256 and SHA-512 only. A key of a RAW algorithm pads what it is given and no more, so the
DigestInfo that names SHA-384 is made here (RFC 8017 section 9.2).

Asked over HTTP, not gRPC: Airflow forks its tasks, which gRPC does not survive.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

from airflow_provider_redox.exceptions import RedoxError
from airflow_provider_redox.signers.base import READ_TIMEOUT, TRIES, asked, no_credentials, refused, unreachable

NAME = "google_kms"
_KEY = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+/cryptoKeyVersions/\d+")
_ALGORITHMS = ("RSA_SIGN_RAW_PKCS1_2048", "RSA_SIGN_RAW_PKCS1_3072", "RSA_SIGN_RAW_PKCS1_4096", "EC_SIGN_P384_SHA384")
_WRONG_KIND = "needs a key version of an algorithm " + ", ".join(_ALGORITHMS)
_SHA384 = bytes.fromhex("3041300d060960864801650304020205000430")
_REFUSED = {
    400: _WRONG_KIND + ", which must be enabled",
    401: "does not take the credentials",
    403: "does not let these credentials use the key; they need roles/cloudkms.signerVerifier on it",
    404: "knows no key version of this name",
}


class GoogleKmsSigner:
    """Signs with a key version of Google Cloud KMS.

    :param key: `projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/1`.
    """

    def __init__(self, key: str) -> None:
        if not _KEY.fullmatch(key):
            raise refused(NAME, "needs a name such as projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/1")
        self._key = key
        self._is_raw = False
        self._client = _told(_client)

    def public_key(self) -> str:
        """Ask for the public half."""
        answer = _told(lambda: self._client.get_public_key(name=self._key, timeout=READ_TIMEOUT, retry=_retry()))
        if answer.algorithm.name not in _ALGORITHMS:
            raise refused(NAME, _WRONG_KIND)
        self._is_raw = answer.algorithm.name.startswith("RSA")
        public: str = answer.pem
        return public

    def sign(self, message: bytes) -> bytes:
        """Have it signed. An ECDSA signature comes as DER."""
        digest = hashlib.sha384(message).digest()
        what = {"data": _SHA384 + digest} if self._is_raw else {"digest": {"sha384": digest}}
        request = {"name": self._key, **what}
        answer = _told(lambda: self._client.asymmetric_sign(request, timeout=READ_TIMEOUT, retry=_retry()))
        signature: bytes = answer.signature
        return signature


def _client() -> Any:
    from google.cloud.kms_v1 import KeyManagementServiceClient

    return KeyManagementServiceClient(transport="rest")


def _retry() -> Any:
    from google.api_core.exceptions import ServerError, TooManyRequests
    from google.api_core.retry import Retry, if_exception_type
    from requests.exceptions import ConnectionError as Unconnected
    from requests.exceptions import Timeout

    passing = if_exception_type(ServerError, TooManyRequests, Unconnected, Timeout)
    return Retry(predicate=passing, initial=0.2, maximum=1.0, timeout=READ_TIMEOUT * TRIES)


def _told(ask: Callable[[], Any]) -> Any:
    return asked(ask, NAME, "google-kms", _error_of)


def _error_of(raised: Exception) -> RedoxError:
    import google.auth.exceptions
    import requests
    from google.api_core import exceptions

    code = type(raised).__name__
    if isinstance(raised, exceptions.ClientError) and not isinstance(raised, exceptions.TooManyRequests):
        return refused(NAME, _REFUSED.get(raised.code or 0, "refuses"), code)
    passing = (
        exceptions.GoogleAPICallError,
        exceptions.RetryError,
        requests.exceptions.RequestException,
        google.auth.exceptions.TransportError,
    )
    if isinstance(raised, passing):
        return unreachable(NAME, code)
    if isinstance(raised, google.auth.exceptions.GoogleAuthError):
        return no_credentials(NAME, "google-auth", code)
    return refused(NAME, "cannot be asked; look at its settings in the environment", code)
