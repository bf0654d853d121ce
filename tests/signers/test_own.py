"""A signer of the user's own: what it must do, what it may do, and what is said when it does neither."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox import signers
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxProtocolError, RedoxTransportError
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from airflow_provider_redox.sensors.delivery import RedoxDeliverySensor
from airflow_provider_redox.sensors.fhir import RedoxFhirSearchSensor
from tests.client.drivers import MESSAGE
from tests.signers import own
from tests.signers.conftest import Connect
from tests.support.sandbox import Sandbox

OWN = "tests.signers.own"
LOINC = "http://loinc.org|4548-4"


@pytest.mark.parametrize("name", ["Own", "Raw", "Text"])
@pytest.mark.parametrize("kind", ["2048", "3072", "p384"])
def test_a_class_of_ones_own(name: str, kind: str, connect: Connect, sandbox: Sandbox) -> None:
    """A class at a dotted path signs: public key as PEM, DER or text, ECDSA as DER or as JWS wants it."""
    connect(f"{OWN}.{name}", kind)
    RedoxHook().get_access_token()
    assert sandbox.stats()["tokens"] == 1


def test_it_is_made_once() -> None:
    """One object serves a process, however many threads use the connection at once."""
    own.made.clear()
    threads = [threading.Thread(target=signers.remote_key, args=(f"{OWN}.Slow", "2048")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert own.made == ["2048"]


@pytest.mark.parametrize("kind", ["2048", "p384"])
@pytest.mark.parametrize("how", ["nothing", "text", "empty", "noise", "der", "other"])
def test_rubbish_for_a_signature(how: str, kind: str, connect: Connect, sandbox: Sandbox) -> None:
    """What does not fit the public key never reaches Redox, whatever it is."""
    connect(f"{OWN}.Rubbish", f"{how}/{kind}", cache_backend="memory")
    with pytest.raises(RedoxProtocolError, match="does not fit the public key") as caught:
        RedoxHook().get_access_token()
    assert caught.value.__context__ is None
    assert sandbox.ledger("/v2/auth/token") == []


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("broken", RedoxProtocolError, "failed (ValueError)"),
        ("gone", RedoxTransportError, "could not be reached (ConnectionResetError)"),
        ("known", RedoxConfigError, "our HSM wants its PIN"),
    ],
)
def test_what_it_raises(how: str, kind: type[Exception], words: str, connect: Connect) -> None:
    """Our own errors are told as they are; of any other one nothing but its class."""
    connect(f"{OWN}.Rubbish", f"{how}/2048", cache_backend="memory")
    with pytest.raises(kind) as caught:
        RedoxHook().get_access_token()
    assert words in str(caught.value)
    assert own.SECRET not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("NoKey", "2048", "gave no public key that can be read"),
        ("Broken", "2048", "failed (ValueError)"),
        ("Own", "1024", "has 1024 bits; RSA needs 2048 or more"),
        ("Own", "p256", "is on the curve secp256r1; ES384 needs P-384"),
        ("Own", "ed25519", "is of a type that Redox does not take"),
    ],
)
def test_a_public_key_that_is_none(name: str, key: str, words: str, connect: Connect) -> None:
    """A public key of a kind that Redox does not take, or none at all, is refused before anything is signed."""
    connect(f"{OWN}.{name}", key, register=False)
    with pytest.raises((RedoxConfigError, RedoxProtocolError)) as caught:
        RedoxHook().get_access_token()
    assert words in str(caught.value)
    assert own.SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("signer", "words"),
    [
        ("tests.signers.absent.Signer", "cannot be imported here"),
        ("tests.signers.own.Absent", "cannot be imported here"),
        ("absent.Signer", "cannot be imported here"),
        ("tests.signers.own.function", "is no signer"),
        ("tests.signers.own.Shapeless", "is no signer"),
        ("os.system", "is no signer"),
        ("subprocess.Popen", "is no signer"),
        ("aws-kms", "must be one of aws_kms, vault"),
        ("__import__('os').system", "must be one of aws_kms, vault"),
        ("own", "must be one of aws_kms, vault"),
    ],
)
def test_a_path_that_leads_to_no_signer(signer: str, words: str, connect: Connect) -> None:
    """What a connection names is called only if it is a class with the methods of a signer."""
    own.made.clear()
    connect(signer, "touch /tmp/never", register=False)
    with pytest.raises(RedoxConfigError) as caught:
        RedoxHook().get_access_token()
    assert str(caught.value).startswith("extra.signer: ")
    assert words in str(caught.value)
    assert own.made == []


def test_a_module_that_breaks(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that fails when it is imported is named with the class of its error."""
    (tmp_path / "breaking_signer.py").write_text("raise ZeroDivisionError('a secret')")
    monkeypatch.syspath_prepend(tmp_path)
    connect("breaking_signer.Signer", "k", register=False)
    with pytest.raises(RedoxConfigError, match=r"fails when it is imported \(ZeroDivisionError\)") as caught:
        RedoxHook().get_access_token()
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"signer": "aws_kms"}, "extra.signer_key: missing"),
        ({"signer_key": "k"}, "extra.signer: missing"),
        ({"signer": "aws_kms", "signer_key": "k", "key_file": "/key.pem"}, "extra.key_file: must be empty"),
    ],
)
def test_half_of_it(fields: dict[str, str], words: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both fields belong together, and to no private key."""
    connection = {**sandbox.with_extra(**fields), "password": None}
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(connection))
    with pytest.raises(RedoxConfigError, match=words):
        RedoxHook().get_access_token()


def test_a_password_beside_it(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private key beside a signer is refused, not chosen or left aside."""
    connection = sandbox.with_extra(signer=f"{OWN}.Own", signer_key="2048")
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(connection))
    with pytest.raises(RedoxConfigError, match="password: must be empty"):
        RedoxHook().get_access_token()


@pytest.mark.parametrize(
    ("name", "extra"),
    [("aws_kms", "aws-kms"), ("vault", "vault"), ("google_kms", "google-kms"), ("azure_key_vault", "azure-key-vault")],
)
def test_a_library_that_is_missing(name: str, extra: str) -> None:
    """Where a vendor's library is not installed, the error names the extra that brings it."""
    keys = {
        "vault": "transit/keys/redox",
        "google_kms": "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
        "azure_key_vault": "https://v.vault.azure.net/keys/k/1",
    }
    code = f"""
import sys
for name in ("boto3", "botocore", "hvac", "google.cloud.kms_v1", "azure.identity", "azure.keyvault.keys"):
    sys.modules[name] = None
from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.signers import remote_key
try:
    remote_key({name!r}, {keys.get(name, "k")!r})
except RedoxConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert f"{name} needs a library that is not installed here; install airflow-provider-redox[{extra}]" in done.stdout


# ── what an ES384 key on a remote signer cannot do ──


def context(operator: Any) -> Any:
    return {"ti": SimpleNamespace(dag_id="d", run_id="r", task_id=operator.task_id, map_index=-1, try_number=1, max_tries=0)}


@pytest.fixture
def ec(connect: Connect) -> None:
    """A connection by an ES384 key, also for the Platform API."""
    connect(f"{OWN}.Own", "p384", organization_id="1", environment_id="2")


def test_an_ec_key_searches(ec: None, sandbox: Sandbox, tmp_path: Path) -> None:
    """A search needs no seal: it runs, and leaves no checkpoint that only this process could open."""
    operator = RedoxFhirSearchOperator(
        task_id="t", resource_type="Observation", search_params={"code": LOINC}, output_path=f"file://{tmp_path}"
    )
    assert "Observation" in str(operator.execute(context(operator)))
    assert not list(tmp_path.rglob("*checkpoint*"))


@pytest.mark.usefixtures("markers")
@pytest.mark.parametrize("what", ["post", "increment", "delivery", "search sensor"])
def test_an_ec_key_refuses_what_needs_a_seal(what: str, ec: None, sandbox: Sandbox, tmp_path: Path) -> None:
    """What another process is to recognise is refused for good before anything is sent, with the cure."""
    root = f"file://{tmp_path}"
    operator: Any = {
        "post": lambda: RedoxDataModelPostOperator(task_id="t", payload=MESSAGE, results_path=root),
        "increment": lambda: RedoxFhirSearchOperator(
            task_id="t", resource_type="Patient", since="last_success", output_path=root
        ),
        "delivery": lambda: RedoxDeliverySensor(task_id="t", log_ids=["1"], deferrable=True),
        "search sensor": lambda: RedoxFhirSearchSensor(
            task_id="t", resource_type="Patient", search_params={"a": "b"}, deferrable=True
        ),
    }[what]()
    with pytest.raises((RedoxConfigError, AirflowFailException), match=r"Use an RSA key \(RS384\) on the signer"):
        operator.execute(context(operator))
    assert sandbox.stats()["messages"] == 0
    assert sandbox.ledger("/v2/auth/token") == []


@pytest.mark.usefixtures("markers")
def test_an_rsa_key_sends_once(connect: Connect, sandbox: Sandbox, tmp_path: Path) -> None:
    """With an RSA key a second try, in a process that has asked the signer anew, knows what the first one sent."""
    connect(f"{OWN}.Own", "2048")
    for _ in range(2):
        signers.forget()
        operator = RedoxDataModelPostOperator(task_id="t", payload=MESSAGE, results_path=f"file://{tmp_path}")
        operator.execute(context(operator))
    assert sandbox.stats()["messages"] == 1


@pytest.mark.usefixtures("markers")
def test_a_post_that_could_not_be_signed_for_was_not_sent(connect: Connect, sandbox: Sandbox, tmp_path: Path) -> None:
    """When the signer is gone, nobody doubts that a message was not sent: the next try sends it."""
    where = {"task_id": "t", "payload": MESSAGE, "results_path": f"file://{tmp_path}"}
    connect(f"{OWN}.Late", "2048", register=False)
    operator = RedoxDataModelPostOperator(**where)
    with pytest.raises(RedoxTransportError, match="could not be reached"):
        operator.execute(context(operator))
    connect(f"{OWN}.Own", "2048")
    operator = RedoxDataModelPostOperator(**where)
    operator.execute(context(operator))
    assert sandbox.stats()["messages"] == 1
