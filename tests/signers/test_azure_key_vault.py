"""Azure Key Vault, by way of azure-keyvault-keys over HTTP, against a stand-in that really signs: see `fakes.py`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_redox import signers
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxError, RedoxTransportError
from airflow_provider_redox.hooks.redox import RedoxHook
from tests.signers.conftest import Connect, led_to
from tests.signers.fakes import Azure
from tests.support.sandbox import Sandbox

pytest.importorskip("azure.keyvault.keys", reason="`make test-signers` brings azure-keyvault-keys")
pytest.importorskip("azure.identity", reason="`make test-signers` brings azure-identity")

from airflow_provider_redox.signers import azure_key_vault as module

KEYS = "https://my-vault.vault.azure.net/keys"


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Azure]:
    """The service at its real host name, and a service principal for it."""
    for field, value in {"TENANT_ID": "tenant", "CLIENT_ID": "client", "CLIENT_SECRET": "a-secret-of-azure"}.items():
        monkeypatch.setenv(f"AZURE_{field}", value)
    hosts = ("my-vault.vault.azure.net", "login.microsoftonline.com")
    with led_to(Azure, hosts, tmp_path, monkeypatch) as running:
        yield running


def error_of() -> RedoxError:
    with pytest.raises(RedoxError) as caught:
        RedoxHook().get_access_token()
    assert caught.value.__context__ is None
    assert not any(word in str(caught.value) for word in ("keva", "a-secret-of-azure", "microsoftonline"))
    return caught.value


@pytest.mark.parametrize("key", ["rsa", "p384", f"rsa/{Azure.VERSION}"])
def test_a_token(key: str, azure: Azure, connect: Connect, sandbox: Sandbox) -> None:
    """RSA keys sign RS384 and P-384 keys ES384, by a version or the latest."""
    connect("azure_key_vault", f"{KEYS}/{key}")
    RedoxHook().get_access_token()
    assert sandbox.stats()["tokens"] == 1


def test_what_is_asked(azure: Azure, connect: Connect) -> None:
    """The public key once, the seal once, each token once."""
    connect("azure_key_vault", f"{KEYS}/rsa")
    signers.forget()
    azure.asked.clear()
    for _ in range(20):
        RedoxHook().get_access_token()
    calls = [one.partition("?")[0].rpartition("/")[2] for one in azure.asked if "/keys/" in one]
    assert calls == ["", "sign", "sign"]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (f"{KEYS}/absent", "knows no key of this name or version (HTTP-404)"),
        (f"{KEYS}/wrap", "has no key for signing under this name"),
        (f"{KEYS}/p256", "it must be RSA, or EC on P-384"),
        ("https://my-vault.example.com/keys/rsa", "needs a key identifier such as"),
        ("http://my-vault.vault.azure.net/keys/rsa", "needs a key identifier such as"),
        ("https://my-vault.vault.azure.net/secrets/rsa", "needs a key identifier such as"),
    ],
)
def test_a_wrong_name(key: str, words: str, azure: Azure, connect: Connect) -> None:
    """A name of something else, or at another host than Azure's, is refused for good, by what it is."""
    connect("azure_key_vault", key, register=False)
    error = error_of()
    assert isinstance(error, RedoxConfigError)
    assert words in str(error)


def test_a_refusal(azure: Azure, connect: Connect) -> None:
    """Who may not is told what is missing."""
    connect("azure_key_vault", f"{KEYS}/rsa", register=False)
    answer = azure.answer
    azure.answer = lambda method, path, body, headers: (  # type: ignore[method-assign]
        (403, {"error": {"code": "Forbidden", "message": "keva"}})
        if path.startswith("/keys") and headers.get("authorization")
        else answer(method, path, body, headers)
    )
    error = error_of()
    assert isinstance(error, RedoxConfigError)
    assert "they need keys/get and keys/sign on it (HTTP-403)" in str(error)


@pytest.mark.parametrize("trouble", ["busy", "slow", "down"])
def test_what_may_pass(trouble: str, azure: Azure, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is busy, slow or gone is asked three times; then the task may try again later."""
    assert (module.CONNECT_TIMEOUT, module.READ_TIMEOUT, module.TRIES) == (10, 10, 3)
    connect("azure_key_vault", f"{KEYS}/rsa")
    signers.forget()
    monkeypatch.setattr(module, "READ_TIMEOUT", 0.3)
    answer = azure.answer
    azure.answer = lambda method, path, body, headers: (  # type: ignore[method-assign]
        _trouble(trouble) if path.startswith("/keys") else answer(method, path, body, headers)
    )
    if trouble == "down":
        azure.stop()
    azure.asked.clear()
    error = error_of()
    assert error.retryable
    assert isinstance(error, RedoxConfigError if trouble == "down" else RedoxTransportError)  # Entra ID is down too
    asked = sum(one.startswith("GET /keys") for one in azure.asked)
    assert asked == {"busy": 3, "down": 0}.get(trouble, asked)
    assert asked <= 3


def _trouble(kind: str) -> tuple[int, dict[str, str]]:
    if kind == "slow":
        time.sleep(2)
    return 503, {}


def test_no_credentials(azure: Azure, connect: Connect) -> None:
    """Credentials that Azure refuses are said to be so."""
    answer = azure.answer
    azure.answer = lambda method, path, body, headers: (  # type: ignore[method-assign]
        (401, {"error": "invalid_client", "error_description": "keva"})
        if path.endswith("/token")
        else answer(method, path, body, headers)
    )
    connect("azure_key_vault", f"{KEYS}/rsa", register=False)
    assert "found no credentials that work" in str(error_of())
