"""Azure Key Vault and Managed HSM, by way of azure-keyvault-keys: credentials are those of `DefaultAzureCredential`.

A version that is not named is asked for once: what was the latest then is what signs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

from airflow_provider_redox.exceptions import RedoxError
from airflow_provider_redox.signers.base import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    TRIES,
    asked,
    no_credentials,
    refused,
    unreachable,
)

NAME = "azure_key_vault"
_KEY = re.compile(r"(?P<vault>https://(?P<host>[\w-]+(\.[\w-]+)+))/keys/(?P<name>[\w-]+)(/(?P<version>\w+))?/?", re.ASCII)
_CLOUDS = (
    ".vault.azure.net",
    ".managedhsm.azure.net",
    ".vault.azure.cn",
    ".managedhsm.azure.cn",
    ".vault.usgovcloudapi.net",
    ".managedhsm.usgovcloudapi.net",
)
"""Where a token for Azure may be shown: who may edit a connection could name another host."""

_REFUSED = {
    400: "refuses the request: the key may be of another kind than RSA or EC P-384",
    401: "does not take the credentials",
    403: "does not let these credentials use the key, which may also be disabled; they need keys/get and keys/sign on it",
    404: "knows no key of this name or version",
}


class AzureKeyVaultSigner:
    """Signs with a key of Azure Key Vault.

    :param key: its identifier, `https://vault-name.vault.azure.net/keys/name/version`; without the version, the latest.
    """

    def __init__(self, key: str) -> None:
        found = _KEY.fullmatch(key)
        if found is None or not found["host"].endswith(_CLOUDS):
            raise refused(
                NAME, "needs a key identifier such as https://my-vault.vault.azure.net/keys/redox/0123456789abcdef"
            )
        self._vault, self._name, self._version = found["vault"], found["name"], found["version"]
        self._algorithm = ""
        self._credential = _told(_credential)
        self._signer: Any = None

    def public_key(self) -> bytes:
        """Ask for the public half."""
        return bytes(_told(self._asked))

    def _asked(self) -> bytes:
        from azure.keyvault.keys import KeyClient
        from azure.keyvault.keys.crypto import CryptographyClient
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        with KeyClient(self._vault, self._credential, **_patience()) as client:
            key = client.get_key(self._name, self._version)
        if "sign" not in (key.key_operations or ()):
            raise refused(
                NAME, "has no key for signing under this name: make an RSA or EC P-384 key with the operation sign"
            )
        jwk: Any = key.key
        self._algorithm = "RS384" if jwk.n else "ES384"
        self._signer = CryptographyClient(key, self._credential, **_patience())
        public: bytes = _public(jwk).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return public

    def sign(self, message: bytes) -> bytes:
        """Have it signed, in the form that JWS wants."""
        digest = hashlib.sha384(message).digest()
        signature: bytes = _told(lambda: self._signer.sign(self._algorithm, digest)).signature
        return signature


def _public(jwk: Any) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if jwk.n:
        return rsa.RSAPublicNumbers(_number(jwk.e), _number(jwk.n)).public_key()
    if jwk.crv != "P-384":
        raise refused(NAME, "has another kind of key under this name: it must be RSA, or EC on P-384")
    return ec.EllipticCurvePublicNumbers(_number(jwk.x), _number(jwk.y), ec.SECP384R1()).public_key()


def _number(text: bytes) -> int:
    return int.from_bytes(text, "big")


def _credential() -> Any:
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()


def _patience() -> dict[str, Any]:
    return {
        "connection_timeout": CONNECT_TIMEOUT,
        "read_timeout": READ_TIMEOUT,
        "retry_total": TRIES - 1,
        "retry_backoff_factor": 0.2,
        "timeout": READ_TIMEOUT * TRIES,
    }


def _told(ask: Callable[[], Any]) -> Any:
    return asked(ask, NAME, "azure-key-vault", _error_of)


def _error_of(raised: Exception) -> RedoxError:
    from azure.core import exceptions

    code = type(raised).__name__
    if isinstance(raised, exceptions.ClientAuthenticationError) and raised.status_code is None:
        return no_credentials(NAME, "DefaultAzureCredential", code)
    if isinstance(raised, exceptions.HttpResponseError):
        status = raised.status_code or 0
        if 400 <= status < 500 and status not in (408, 429):
            return refused(NAME, _REFUSED.get(status, "refuses"), f"HTTP-{status}")
        return unreachable(NAME, f"HTTP-{status}")
    if isinstance(raised, exceptions.AzureError):
        return unreachable(NAME, code)
    return refused(NAME, "cannot be asked; look at its settings in the environment", code)
