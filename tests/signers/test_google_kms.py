"""Google Cloud KMS, by way of google-cloud-kms over REST, against a stand-in that really signs: see `fakes.py`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_redox import signers
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxError, RedoxTransportError
from airflow_provider_redox.hooks.redox import RedoxHook
from tests.protocol.material import pkcs8
from tests.signers.conftest import Connect, led_to
from tests.signers.fakes import Google
from tests.support.sandbox import Sandbox

pytest.importorskip("google.cloud.kms_v1", reason="`make test-signers` brings google-cloud-kms")

from airflow_provider_redox.signers import google_kms as module


def name(key: str, version: int = 1) -> str:
    return f"projects/p/locations/us/keyRings/r/cryptoKeys/{key}/cryptoKeyVersions/{version}"


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Google]:
    """The service at its real host name, and a service account for it."""
    account = {
        "type": "service_account",
        "client_email": "redox@p.iam.gserviceaccount.com",
        "private_key": pkcs8("RSA 2048"),
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    hosts = ("cloudkms.googleapis.com", "oauth2.googleapis.com", "iamcredentials.googleapis.com")
    with led_to(Google, hosts, tmp_path, monkeypatch) as running:
        yield running


def error_of() -> RedoxError:
    with pytest.raises(RedoxError) as caught:
        RedoxHook().get_access_token()
    assert caught.value.__context__ is None
    assert not any(word in str(caught.value) for word in ("keva", "googleapis", "redox@p"))
    return caught.value


@pytest.mark.parametrize("key", ["rsa", "rsa3072", "p384"])
def test_a_token(key: str, google: Google, connect: Connect, sandbox: Sandbox) -> None:
    """RAW_PKCS1 keys sign RS384, by a DigestInfo of ours; P-384 keys sign ES384."""
    connect("google_kms", name(key))
    RedoxHook().get_access_token()
    assert sandbox.stats()["tokens"] == 1


def test_what_is_asked(google: Google, connect: Connect) -> None:
    """The public key once, the seal once, each token once."""
    connect("google_kms", name("rsa"))
    signers.forget()
    google.asked.clear()
    for _ in range(20):
        RedoxHook().get_access_token()
    calls = [one.partition("?")[0].rpartition("/")[2] for one in google.asked if "cryptoKeys" in one]
    assert calls == ["publicKey", "1:asymmetricSign", "1:asymmetricSign"]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (name("absent"), "knows no key version of this name (NotFound)"),
        (name("rsa", 2), "which must be enabled"),
        (name("sha256"), "needs a key version of an algorithm RSA_SIGN_RAW_PKCS1_2048"),
        (name("p256"), "needs a key version of an algorithm RSA_SIGN_RAW_PKCS1_2048"),
        ("projects/p/locations/us/keyRings/r/cryptoKeys/rsa", "needs a name such as projects/P"),
    ],
)
def test_a_wrong_name(key: str, words: str, google: Google, connect: Connect) -> None:
    """A name of something else is refused for good, by what it is."""
    connect("google_kms", key, register=False)
    error = error_of()
    assert isinstance(error, RedoxConfigError)
    assert words in str(error)


def test_a_refusal(google: Google, connect: Connect) -> None:
    """Who may not is told the role that is missing."""
    google.trouble = 403, {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "keva@example.com may not"}}
    connect("google_kms", name("rsa"), register=False)
    error = error_of()
    assert isinstance(error, RedoxConfigError)
    assert "roles/cloudkms.signerVerifier" in str(error)


@pytest.mark.parametrize("trouble", ["busy", "slow", "down"])
def test_what_may_pass(trouble: str, google: Google, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is busy, slow or gone is given thirty seconds in all, here less; then the task may try again later."""
    assert (module.READ_TIMEOUT, module.TRIES) == (10, 3)
    monkeypatch.setattr(module, "READ_TIMEOUT", 0.3)
    connect("google_kms", name("rsa"), register=False)
    google.trouble = (503, {"error": {"code": 503}}) if trouble == "busy" else lambda: time.sleep(2)
    if trouble == "down":
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert isinstance(error_of(), RedoxTransportError)
    assert len(google.asked) < 15  # thirty seconds would see more, a second at most apart


def test_no_credentials(google: Google, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials that are none are said to be so."""
    (tmp_path / "account.json").write_text("{}")
    connect("google_kms", name("rsa"), register=False)
    assert "found no credentials that work" in str(error_of())
