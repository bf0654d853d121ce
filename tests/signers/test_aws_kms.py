"""AWS KMS, against moto's server over HTTP: what a connection without a key can do, and what is said when it cannot."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import time
from pathlib import Path
from threading import Event
from types import FunctionType, ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from airflow_provider_redox import signers
from airflow_provider_redox.client.slots import MemorySlot
from airflow_provider_redox.exceptions import (
    RedoxAuthError,
    RedoxConfigError,
    RedoxError,
    RedoxProtocolError,
    RedoxTransportError,
)
from airflow_provider_redox.hooks.connection import settings_from
from airflow_provider_redox.hooks.redox import RedoxAsyncHook, RedoxHook
from airflow_provider_redox.signers import aws_kms
from airflow_provider_redox.signers.key import SEALED_BY
from tests.cli.conftest import run_command
from tests.signers.conftest import Connect, Counter
from tests.support.kms import Kms, aws_environment
from tests.support.s3 import KEY_ID, SECRET
from tests.support.sandbox import Sandbox

SPECS = {"RSA_2048": "RS384", "RSA_3072": "RS384", "RSA_4096": "RS384", "ECC_NIST_P384": "ES384"}
SEARCH = {"code": "http://loinc.org|4548-4"}


def error_of() -> RedoxError:
    """Use the connection in the environment, and give what it says."""
    with pytest.raises(RedoxError) as caught:
        RedoxHook().get_access_token()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert not any(secret in str(caught.value) for secret in (KEY_ID, SECRET, "arn:", "http://"))
    return caught.value


@pytest.mark.parametrize(("spec", "algorithm"), SPECS.items())
def test_a_search_without_a_key(spec: str, algorithm: str, kms: Kms, connect: Connect, sandbox: Sandbox) -> None:
    """A search runs by a key that is in the KMS only, with each kind of key that Redox takes, and no private key is here."""
    connect("aws_kms", kms.key(spec))
    hook = RedoxHook()
    assert hook.client.settings.algorithm == algorithm
    assert next(iter(hook.fhir_search("Observation", SEARCH)))["resourceType"] == "Observation"
    assert sandbox.stats()["tokens"] == 1
    assert private_keys_of(hook) == []


def private_keys_of(hook: RedoxHook) -> list[object]:
    """Every private key that can be reached from a hook and from what is kept of signers."""
    found, seen, todo = [], set(), [vars(hook.client), hook.client.settings, signers._keys]
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, type | ModuleType | FunctionType):
            continue
        seen.add(id(one))
        if isinstance(one, RSAPrivateKey | EllipticCurvePrivateKey) or (isinstance(one, str) and "PRIVATE KEY-" in one):
            found.append(one)
        todo += gc.get_referents(one)
    return found


def test_a_local_key_would_be_found(redox_connection: Sandbox) -> None:
    """The look for private keys finds the one of a connection that has one."""
    assert len(private_keys_of(RedoxHook())) == 1


def test_an_async_search_without_a_key(kms: Kms, connect: Connect, sandbox: Sandbox) -> None:
    """The awaiting hook does the same."""
    connect("aws_kms", kms.key())

    async def first() -> Any:
        async with RedoxAsyncHook() as hook:
            async for resource in hook.fhir_search("Observation", SEARCH):
                return resource
        return None

    assert asyncio.run(first())["resourceType"] == "Observation"
    assert sandbox.stats()["tokens"] == 1


def test_the_event_loop_does_not_wait_for_the_kms(connect: Connect, kms: Kms, counted: Counter) -> None:
    """The event loop takes turns while the KMS is asked for the public key, the seal and the signature.

    The KMS answers only after the loop has taken one, or gives up waiting for it.
    """
    connect("aws_kms", kms.key())
    signers.forget()
    counted.calls.clear()
    turns: list[bool] = []

    async def token() -> str:
        loop = asyncio.get_running_loop()

        def answer_after_a_turn() -> None:
            turn = Event()
            loop.call_soon_threadsafe(turn.set)
            turns.append(turn.wait(timeout=5))

        counted.answer = answer_after_a_turn
        async with RedoxAsyncHook() as hook:
            return await hook.get_access_token()

    assert asyncio.run(token())
    assert counted.calls == ["GetPublicKey", "Sign", "Sign"]
    assert turns == [True, True, True]


def test_what_a_thousand_uses_cost(connect: Connect, kms: Kms, counted: Counter, sandbox: Sandbox) -> None:
    """A thousand uses by two hundred hooks of a process cost three calls: the public key, the seal, one token."""
    connect("aws_kms", kms.key())
    signers.forget()
    counted.calls.clear()
    for _ in range(200):
        hook = RedoxHook()
        for _ in range(5):
            hook.get_access_token()
    assert counted.calls == ["GetPublicKey", "Sign", "Sign"]
    assert sandbox.stats()["tokens"] == 1


def test_the_signature_of_the_seal_is_sent_nowhere(connect: Connect, kms: Kms, counted: Counter) -> None:
    """What the KMS signs for the seal is a fixed text that is no JWS, and each other signature is of another text."""
    connect("aws_kms", kms.key())
    RedoxHook().get_access_token()
    signed = [base64.b64decode(json.loads(body)["Message"]) for body in counted.bodies if b'"Message"' in body]
    assert signed.count(SEALED_BY) == 1
    assert all(one.count(b".") == 1 and b" " not in one for one in signed if one != SEALED_BY)
    assert b" " in SEALED_BY


def test_no_log_has_what_the_kms_signed(
    connect: Connect, kms: Kms, counted: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG botocore writes down whole requests and answers, so it is hushed while the KMS is asked, and no longer."""
    connect("aws_kms", kms.key())
    caplog.set_level(logging.DEBUG)
    RedoxHook().get_access_token()
    asked = [json.loads(body)["Message"] for body in counted.bodies if b'"Message"' in body]
    assert len(asked) == 2
    assert not any(message in caplog.text for message in asked)
    assert "Signature" not in caplog.text
    assert logging.getLogger("botocore").isEnabledFor(logging.DEBUG)


def test_another_process_opens_the_seal(kms: Kms, connect: Connect) -> None:
    """Two processes with the same RSA key derive the same secret, which nobody can derive from the public key."""
    connect("aws_kms", kms.key())
    first = RedoxHook().client.settings.key.secret_numbers()
    signers.forget()
    assert RedoxHook().client.settings.key.secret_numbers() == first
    assert len(first) == 256


def test_the_key_id_follows_from_the_key(kms: Kms, connect: Connect) -> None:
    """Without a Key ID it is the beginning of the thumbprint; a Key ID in the connection wins."""
    connect("aws_kms", kms.key())
    assert RedoxHook().client.settings.kid.startswith("airflow-")
    connect("aws_kms", kms.key(), kid="named-by-hand")
    assert RedoxHook().client.settings.kid == "named-by-hand"


def test_a_rotation_by_alias(kms: Kms, connect: Connect, sandbox: Sandbox) -> None:
    """With both public keys at Redox an alias is moved: a new process signs with the new key, under the new key's ID."""
    old, new = kms.key(), kms.key()
    name = kms.alias(old)
    connect("aws_kms", name)
    before = RedoxHook().client.settings
    kms.client.update_alias(AliasName=name.rpartition(":")[2], TargetKeyId=new)
    RedoxHook().get_access_token()  # this process knows the old key by its own name
    signers.forget()
    MemorySlot.forget_all()
    after = RedoxHook().client.settings
    assert before.kid != after.kid
    jwks = {"keys": [before.key.public_jwk(), after.key.public_jwk()]}
    sandbox.control("POST", "clients", {"client_id": after.client_id, "jwks": jwks})
    RedoxHook().get_access_token()
    assert sandbox.stats()["tokens"] == 2


def test_an_alias_that_was_moved(kms: Kms, connect: Connect) -> None:
    """When the alias leads to a key that Redox does not hold, the refusal says which key it now is, and what to do."""
    name = kms.alias(kms.key())
    connect("aws_kms", name, kid="named-by-hand")
    kms.client.update_alias(AliasName=name.rpartition(":")[2], TargetKeyId=kms.key())
    signers.forget()
    with pytest.raises(RedoxAuthError) as caught:
        RedoxHook().get_access_token()
    (note,) = caught.value.__notes__
    assert "alias moved" in note
    assert "jwks" in note
    assert "alias moved" in RedoxHook().test_connection()[1]


WRONG_KEYS = {
    "symmetric": (("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"), "no key for signing"),
    "RSA for encryption": (("RSA_2048", "ENCRYPT_DECRYPT"), "no key for signing"),
    "P-256": (("ECC_NIST_P256", "SIGN_VERIFY"), "is on the curve secp256r1; ES384 needs P-384"),
    "P-521": (("ECC_NIST_P521", "SIGN_VERIFY"), "is on the curve secp521r1; ES384 needs P-384"),
}


@pytest.mark.parametrize("kind", WRONG_KEYS)
def test_a_key_of_the_wrong_kind(kind: str, kms: Kms, connect: Connect) -> None:
    """A key that cannot sign what Redox takes is refused by its kind, before anything is sent, and for good."""
    spec, words = WRONG_KEYS[kind]
    connect("aws_kms", kms.key(*spec), register=False)
    error = error_of()
    assert isinstance(error, RedoxConfigError)
    assert words in str(error)


def test_a_key_that_is_not_there(kms: Kms, connect: Connect) -> None:
    """A name that the KMS does not know is said to be none, and not quoted."""
    arn = kms.key()
    connect("aws_kms", arn[:-12] + "000000000000", register=False)
    assert "knows no key or alias of this name" in str(error_of())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AccessDeniedException", "they need kms:GetPublicKey and kms:Sign on it (AccessDeniedException)"),
        ("DisabledException", "has disabled the key"),
        ("KMSInvalidStateException", "may be disabled or about to be deleted"),
        ("ExpiredTokenException", "which have expired"),
        ("SomethingNewException", "refuses (SomethingNewException)"),
    ],
)
def test_a_refusal(code: str, words: str, kms: Kms, connect: Connect, counted: Counter) -> None:
    """What the KMS refuses is told by its code, without its words, and is not worth another try."""
    connect("aws_kms", kms.key())
    body = {"__type": code, "message": f"User: arn:aws:iam::123456789012:user/keva is not authorized {SECRET}"}
    signers.forget()
    counted.answer = 400, json.dumps(body).encode()
    error = error_of()
    assert isinstance(error, RedoxConfigError)
    assert words in str(error)
    assert "keva" not in str(error)


@pytest.mark.parametrize(("status", "code"), [(400, "ThrottlingException"), (500, "KMSInternalException"), (503, "Busy")])
def test_a_busy_kms(status: int, code: str, kms: Kms, connect: Connect, counted: Counter, sandbox: Sandbox) -> None:
    """A KMS that is busy is asked three times in all; then the task may try again later, and Redox was asked nothing."""
    connect("aws_kms", kms.key())
    sandbox.reset()
    signers.forget()
    counted.calls.clear()
    counted.answer = status, json.dumps({"__type": code}).encode()
    error = error_of()
    assert isinstance(error, RedoxTransportError)
    assert error.retryable
    assert counted.calls == ["GetPublicKey"] * 3
    assert sandbox.ledger("/v2/auth/token") == []


def test_a_kms_that_is_down(kms: Kms, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is a failure that may pass."""
    connect("aws_kms", kms.key())
    signers.forget()
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:9")
    error = error_of()
    assert isinstance(error, RedoxTransportError)
    assert "EndpointConnectionError" in str(error)


def test_a_slow_kms(kms: Kms, connect: Connect, counted: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A KMS that does not answer is given ten seconds, three times; here less."""
    assert (aws_kms.CONNECT_TIMEOUT, aws_kms.READ_TIMEOUT, aws_kms.TRIES) == (10, 10, 3)
    monkeypatch.setattr(aws_kms, "READ_TIMEOUT", 0.2)
    connect("aws_kms", kms.key())
    signers.forget()
    counted.calls.clear()
    counted.answer = lambda: time.sleep(2)  # which the true ten seconds would wait for
    error = error_of()
    assert 1 <= counted.calls.count("GetPublicKey") <= 3
    assert isinstance(error, RedoxTransportError)
    assert "ReadTimeoutError" in str(error)


def test_a_signature_that_does_not_fit(kms: Kms, connect: Connect, counted: Counter, sandbox: Sandbox) -> None:
    """A signature of another key is found before Redox sees it; the next try asks for the public key anew."""
    connect("aws_kms", kms.key())
    hook, other = RedoxHook(), kms.key()
    hook.client.settings.key.secret_numbers()
    asked = len(sandbox.ledger("/v2/auth/token"))
    answer = kms.client.sign(KeyId=other, Message=b"x", SigningAlgorithm="RSASSA_PKCS1_V1_5_SHA_384")["Signature"]
    counted.answer = 200, json.dumps({"KeyId": other, "Signature": base64.b64encode(answer).decode()}).encode()
    with pytest.raises(RedoxProtocolError, match="does not fit the public key") as caught:
        hook.get_access_token()
    assert caught.value.retryable
    assert len(sandbox.ledger("/v2/auth/token")) == asked
    counted.answer = None
    counted.calls.clear()
    RedoxHook().get_access_token()
    assert counted.calls == ["GetPublicKey", "Sign", "Sign"]


def test_no_credentials(kms: Kms, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without credentials it is said that there are none."""
    key = kms.key()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    connect("aws_kms", key, register=False)
    assert "found no credentials" in str(error_of())


def test_no_region(kms: Kms, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A name without a region needs one from elsewhere; an ARN has it."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    connect("aws_kms", "alias/redox", register=False)
    assert "needs a region" in str(error_of())


def test_an_ec_key_shares_no_token(kms: Kms, connect: Connect, sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    """An ES384 key keeps its token in the process's memory, which is said once; with the memory cache it is not said."""
    key = kms.key("ECC_NIST_P384")
    with caplog.at_level(logging.WARNING, "airflow_provider_redox.token_cache"):
        connect("aws_kms", key, cache_backend="memory")
        assert RedoxHook().client.slots
        assert not caplog.records
        connect("aws_kms", key)
        for _ in range(3):
            RedoxHook().get_access_token()
    (record,) = caplog.records
    assert "asks Redox for a token of its own" in record.getMessage()
    assert sandbox.stats()["tokens"] == 1


def test_the_commands(kms: Kms, connect: Connect, sandbox: Sandbox, tmp_path: Path) -> None:
    """`jwks` prints the public key that the KMS gives, and with it at Redox `check` is content; the Test button too."""
    path = tmp_path / "connection.json"
    path.write_text(json.dumps(connect("aws_kms", kms.key("ECC_NIST_P384"), register=False)))
    environment = aws_environment(kms.url)
    done = run_command("jwks", "--conn-json", path, **environment)
    assert done.status == 0, done.err
    (jwk,) = done.json["keys"]
    assert set(jwk) == {"kty", "crv", "x", "y", "alg", "use", "kid"}
    sandbox.control("POST", "clients", {"client_id": sandbox.connection["extra"]["client_id"], "jwks": done.json})
    done = run_command("check", "--conn-json", path, **environment)
    assert done.status == 0, done.err
    worked, words = RedoxHook().test_connection()
    assert worked
    assert f"Redox accepts the key {jwk['kid']}" in words


def test_what_is_masked_and_warned(kms: Kms, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """A connection without a private key is not said to lie in clear where there is no Fernet key."""
    from airflow.providers.common.compat.sdk import Connection

    made = connect("aws_kms", kms.key())
    fields = {**made, "extra": json.dumps(made["extra"])}
    settings_from(Connection(conn_id="another", **fields))
    assert not [one for one in caplog.records if "in clear" in one.getMessage()]
