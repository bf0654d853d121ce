"""Vault's transit engine, by way of hvac over HTTP, against a stand-in that really signs: see `fakes.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_redox import signers
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxError, RedoxProtocolError, RedoxTransportError
from airflow_provider_redox.hooks.redox import RedoxAsyncHook, RedoxHook
from tests.signers.conftest import Connect
from tests.signers.fakes import Vault
from tests.support.sandbox import Sandbox

hvac = pytest.importorskip("hvac", reason="hvac is not installed in this environment")

from airflow_provider_redox.signers import vault as module  # noqa: E402


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    running = Vault()
    monkeypatch.setenv("VAULT_ADDR", running.url)
    monkeypatch.setenv("VAULT_TOKEN", Vault.TOKEN)
    yield running
    running.stop()


def error_of() -> RedoxError:
    with pytest.raises(RedoxError) as caught:
        RedoxHook().get_access_token()
    assert caught.value.__context__ is None
    assert not any(word in str(caught.value) for word in (Vault.TOKEN, "http://", "127.0.0.1", "permission"))
    return caught.value


@pytest.mark.parametrize("key", ["rsa-2048", "rsa-3072", "ecdsa-p384", "rotated"])
@pytest.mark.parametrize("mount", ["transit", "teams/a/transit"])
def test_a_token(mount: str, key: str, vault: Vault, connect: Connect, sandbox: Sandbox) -> None:
    """RSA and P-384 keys sign, wherever the engine is mounted, and Redox's side verifies."""
    connect("vault", f"{mount}/keys/{key}")
    RedoxHook().get_access_token()
    assert sandbox.stats()["tokens"] == 1


def test_awaited(vault: Vault, connect: Connect, sandbox: Sandbox) -> None:
    """The awaiting hook does the same."""
    connect("vault", "transit/keys/rsa-2048")

    async def ask() -> None:
        async with RedoxAsyncHook() as hook:
            await hook.get_access_token()

    asyncio.run(ask())
    assert sandbox.stats()["tokens"] == 1


def test_a_version(vault: Vault, connect: Connect) -> None:
    """One version of a key can be named; without it the latest signs, each under the ID that follows from it."""
    kids = []
    for name in ("rotated/1", "rotated/2", "rotated", "rsa-2048"):
        connect("vault", f"transit/keys/{name}")
        kids.append(RedoxHook().client.settings.kid)
    assert kids[0] == kids[3] != kids[1] == kids[2]


def test_what_is_asked(vault: Vault, connect: Connect) -> None:
    """The public key once, the seal once, each token once: on two paths, which a policy names."""
    connect("vault", "transit/keys/rsa-2048")
    signers.forget()
    vault.asked.clear()
    for _ in range(50):
        RedoxHook().get_access_token()
    assert vault.asked == ["GET /v1/transit/keys/rsa-2048", *["POST /v1/transit/sign/rsa-2048"] * 2]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("transit/keys/aes", "has no key for signing"),
        ("transit/keys/ecdsa-p256", "is on the curve secp256r1; ES384 needs P-384"),
        ("transit/keys/absent", "knows no key of this name"),
        ("transit/keys/rotated/7", "knows no such version"),
        ("redox", "needs a name such as transit/keys/redox"),
        ("transit/keys/../../sys/x", "needs a name such as transit/keys/redox"),
    ],
)
def test_a_wrong_name(key: str, words: str, vault: Vault, connect: Connect) -> None:
    """A name of something else is refused for good, by what it is."""
    connect("vault", key, register=False)
    error = error_of()
    assert isinstance(error, RedoxConfigError)
    assert words in str(error)


def test_a_token_that_may_not(vault: Vault, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token without leave is told the two paths that it needs."""
    monkeypatch.setenv("VAULT_TOKEN", "hvs.another")
    connect("vault", "transit/keys/rsa-2048", register=False)
    error = error_of()
    assert isinstance(error, RedoxConfigError)
    assert "`read` on transit/keys/rsa-2048 and `update` on transit/sign/rsa-2048 (HTTP-403)" in str(error)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_vault(status: int, vault: Vault, connect: Connect) -> None:
    """A Vault that is busy or sealed is asked three times in all; then the task may try again later."""
    connect("vault", "transit/keys/rsa-2048")
    signers.forget()
    vault.asked.clear()
    vault.trouble = status, {"errors": ["Vault is sealed"]}
    error = error_of()
    assert isinstance(error, RedoxTransportError)
    assert len(vault.asked) == 3


def test_a_vault_that_is_down(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is a failure that may pass."""
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:9")
    connect("vault", "transit/keys/rsa-2048", register=False)
    assert isinstance(error_of(), RedoxTransportError)


def test_a_slow_vault(vault: Vault, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Vault that does not answer is given ten seconds, three times; here less."""
    assert (module.CONNECT_TIMEOUT, module.READ_TIMEOUT, module.TRIES) == (10, 10, 3)
    monkeypatch.setattr(module, "READ_TIMEOUT", 0.2)
    connect("vault", "transit/keys/rsa-2048")
    signers.forget()
    vault.asked.clear()
    vault.trouble = lambda: time.sleep(2)  # which the true ten seconds would wait for
    assert isinstance(error_of(), RedoxTransportError)
    assert 1 <= len(vault.asked) <= 3


@pytest.mark.parametrize(
    "said", [[], {"data": None}, {"data": {"signature": 7}}, {"data": {"signature": "vault:v1:%%"}}, b"<html>"]
)
def test_rubbish(said: Any, vault: Vault, connect: Connect, sandbox: Sandbox) -> None:
    """An answer that is no signature is said to be none, and Redox sees nothing of it."""
    connect("vault", "transit/keys/rsa-2048", cache_backend="memory")
    hook = RedoxHook()
    assert hook.client
    asked = len(sandbox.ledger("/v2/auth/token"))
    vault.trouble = 200, said
    with pytest.raises(RedoxProtocolError) as caught:
        hook.get_access_token()
    assert caught.value.retryable
    assert len(sandbox.ledger("/v2/auth/token")) == asked


def test_a_token_that_was_replaced(vault: Vault, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """The token is read for each call, as an agent leaves it in the home folder, so a long process outlives a token."""
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".vault-token").write_text(Vault.TOKEN)
    connect("vault", "transit/keys/rsa-2048", cache_backend="memory")
    hook = RedoxHook()
    assert hook.client
    (tmp_path / ".vault-token").write_text("hvs.expired")
    with pytest.raises(RedoxConfigError):
        hook.get_access_token()
    (tmp_path / ".vault-token").write_text(Vault.TOKEN)
    hook.get_access_token()
