"""The transit engine of HashiCorp Vault and of OpenBao, by way of hvac.

Address, token and CA are found where hvac finds them: VAULT_ADDR, VAULT_TOKEN or `~/.vault-token`, VAULT_CACERT; and
VAULT_NAMESPACE. They are read for each call: an agent may replace the token.

A version that is not named is asked for once: what was the latest then is what signs.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_redox.exceptions import RedoxError, RedoxProtocolError
from airflow_provider_redox.signers.base import CONNECT_TIMEOUT, READ_TIMEOUT, TRIES, not_installed, refused, unreachable

NAME = "vault"
_KEY = re.compile(r"/?(?P<mount>[\w./-]+)/keys/(?P<name>[\w.-]+)(/(?P<version>[1-9]\d{0,8}))?", re.ASCII)
_BUSY = (429, 500, 502, 503)
_REFUSED = {
    400: "refuses the request: the key may have been made for something else than signing, or its version withdrawn",
    401: "does not take the token",
    403: "does not let this token use the key; it needs `read` on {mount}/keys/{name} and `update` on {mount}/sign/{name}",
    404: "knows no key of this name there",
}


class VaultSigner:
    """Signs with a key of Vault's transit engine.

    :param key: `transit/keys/name`, where `transit` is the engine's mount; or `transit/keys/name/3`, one version of it.
    """

    def __init__(self, key: str) -> None:
        found = _KEY.fullmatch(key)
        if found is None:
            raise refused(NAME, "needs a name such as transit/keys/redox, or transit/keys/redox/3 for one version")
        self._mount, self._name = found["mount"], found["name"]
        self._version = int(found["version"] or 0)

    def public_key(self) -> str:
        """Ask for the public half."""
        told = self._asked(lambda transit: transit.read_key(name=self._name, mount_point=self._mount))
        if not told.get("supports_signing"):
            raise refused(NAME, "has no key for signing under this name: make one of type rsa-3072 or ecdsa-p384")
        self._version = self._version or int(told.get("latest_version") or 0)
        entry = told.get("keys", {}).get(str(self._version))
        if entry is None:
            raise refused(NAME, "knows no such version of the key")
        public = entry.get("public_key") if isinstance(entry, Mapping) else None
        return public if isinstance(public, str) else ""

    def sign(self, message: bytes) -> bytes:
        """Have it signed. What marshaling means for ECDSA only, RSA takes and leaves aside."""
        told = self._asked(
            lambda transit: transit.sign_data(
                name=self._name,
                mount_point=self._mount,
                key_version=self._version,
                hash_input=base64.b64encode(message).decode("ascii"),
                hash_algorithm="sha2-384",
                signature_algorithm="pkcs1v15",
                marshaling_algorithm="jws",
            )
        )
        try:
            text = str(told.get("signature", "")).rpartition(":")[2].translate(str.maketrans("-_", "+/"))
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            return b""  # which fits no key

    def _asked(self, ask: Callable[[Any], Any]) -> Mapping[str, Any]:
        """Ask, and make one of our errors of what hvac raises: its own hold Vault's words and the address."""
        error: RedoxError
        try:
            client = _client()
            with client.session:
                answer = ask(client.secrets.transit)
            told = answer.get("data") if isinstance(answer, Mapping) else None
            if isinstance(told, Mapping):
                return told
            error = RedoxProtocolError(f"extra.signer: {NAME} answered with something else than a key or a signature")
        except ImportError:
            error = not_installed(NAME, "vault")
        except Exception as raised:  # noqa: BLE001  (hvac's errors and those of requests have no common root)
            error = self._error_of(raised)
        raise error

    def _error_of(self, raised: Exception) -> RedoxError:
        import hvac.exceptions
        import requests

        kinds = {400: hvac.exceptions.InvalidRequest, 401: hvac.exceptions.Unauthorized, 403: hvac.exceptions.Forbidden}
        kinds[404] = hvac.exceptions.InvalidPath
        for status, kind in kinds.items():
            if isinstance(raised, kind):
                return refused(NAME, _REFUSED[status].format(mount=self._mount, name=self._name), f"HTTP-{status}")
        if isinstance(raised, requests.exceptions.SSLError):
            return refused(NAME, "shows a certificate that is not signed by a CA that is trusted; see VAULT_CACERT")
        if isinstance(raised, hvac.exceptions.VaultError | requests.exceptions.RequestException):
            return unreachable(NAME, type(raised).__name__)
        return refused(NAME, "cannot be asked; look at VAULT_ADDR and the other settings", type(raised).__name__)


def _client() -> Any:
    """Make a client that tries again where nothing was answered, and where Vault says that it is busy."""
    import hvac
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    client = hvac.Client(namespace=os.environ.get("VAULT_NAMESPACE"), timeout=(CONNECT_TIMEOUT, READ_TIMEOUT))
    retry = Retry(TRIES - 1, backoff_factor=0.2, status_forcelist=_BUSY, allowed_methods=None, raise_on_status=False)
    for scheme in ("https://", "http://"):
        client.session.mount(scheme, HTTPAdapter(max_retries=retry))
    return client
