"""AWS KMS, by way of boto3: credentials, region and endpoint are found where boto3 finds them.

An alias is asked for once: what it led to then is what signs, so that the key ID and the signature are of one key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_redox.exceptions import RedoxError
from airflow_provider_redox.signers.base import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    TRIES,
    asked,
    hushed,
    no_credentials,
    refused,
    unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "aws_kms"
_ALGORITHMS = ("RSASSA_PKCS1_V1_5_SHA_384", "ECDSA_SHA_384")
_WRONG_KIND = "has no key for signing under this name: make one of usage SIGN_VERIFY, of RSA 2048 to 4096 or ECC_NIST_P384"
_REFUSED = {
    "AccessDeniedException": "does not let these credentials use the key; they need kms:GetPublicKey and kms:Sign on it",
    "NotFoundException": "knows no key or alias of this name in this account and region",
    "InvalidArnException": "takes the name for no key; give the ARN of a key or alias",
    "DisabledException": "has disabled the key",
    "KMSInvalidStateException": "cannot use the key in its state; it may be disabled or about to be deleted",
    "InvalidKeyUsageException": _WRONG_KIND,
    "UnsupportedOperationException": _WRONG_KIND,
    "UnrecognizedClientException": "does not know the credentials",
    "InvalidClientTokenId": "does not know the credentials",
    "InvalidSignatureException": "does not take the credentials, or this machine's clock is wrong",
    "ExpiredTokenException": "does not take the credentials, which have expired",
}
_PASSING = ("KeyUnavailableException", "DependencyTimeoutException", "LimitExceededException", "ThrottlingException")


class AwsKmsSigner:
    """Signs with a key of AWS KMS.

    :param key: its ARN, its ID, or the ARN or name of an alias.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._algorithm = ""
        self._client = _told(lambda: _client(_region_of(key)))

    def public_key(self) -> bytes:
        """Ask for the public half."""
        answer = _told(lambda: self._client.get_public_key(KeyId=self._key))
        offered = [name for name in _ALGORITHMS if name in answer.get("SigningAlgorithms", ())]
        if answer.get("KeyUsage") != "SIGN_VERIFY":
            raise refused(NAME, _WRONG_KIND)
        # A key on another curve is refused by its curve, later.
        self._key, self._algorithm = answer.get("KeyId") or self._key, offered[0] if offered else ""
        public: bytes = answer["PublicKey"]
        return public

    def sign(self, message: bytes) -> bytes:
        """Have it signed. An ECDSA signature comes as DER."""
        wanted = {"KeyId": self._key, "Message": message, "MessageType": "RAW", "SigningAlgorithm": self._algorithm}
        signature: bytes = _told(lambda: self._client.sign(**wanted))["Signature"]
        return signature


def _region_of(key: str) -> str | None:
    """Give the region in an ARN; None for another name, for which boto3 looks elsewhere."""
    parts = key.split(":")
    return parts[3] or None if len(parts) > 5 and parts[0] == "arn" else None


def _client(region: str | None) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        retries={"total_max_attempts": TRIES, "mode": "standard"},
    )
    # A session of its own: boto3's default one is not made for threads.
    return boto3.session.Session().client("kms", region_name=region, config=config)


def _told(ask: Callable[[], Any]) -> Any:
    with hushed("botocore"):
        return asked(ask, NAME, "aws-kms", _error_of)


def _error_of(raised: Exception) -> RedoxError:
    from botocore import exceptions

    if isinstance(raised, exceptions.ClientError):
        return _answered(raised.response)
    if isinstance(raised, exceptions.NoRegionError):
        return refused(NAME, "needs a region: give the key's ARN, or set AWS_DEFAULT_REGION")
    credentials = (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.CredentialRetrievalError)
    if isinstance(raised, credentials):
        return no_credentials(NAME, "boto3", type(raised).__name__)
    if isinstance(raised, exceptions.HTTPClientError | exceptions.ConnectionError):
        return unreachable(NAME, type(raised).__name__)
    return refused(NAME, "cannot be asked; look at its settings in the environment", type(raised).__name__)


def _answered(response: Mapping[str, Any]) -> RedoxError:
    code = response.get("Error", {}).get("Code", "")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _PASSING or status == 429 or status >= 500:
        return unreachable(NAME, code)
    return refused(NAME, _REFUSED.get(code, "refuses"), code)
