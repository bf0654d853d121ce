"""No result of Production goes where it would lie in clear, unless the deployment says that it does not."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from airflow_provider_redox.storage import encryption
from airflow_provider_redox.storage.encryption import check_encrypted
from airflow_provider_redox.storage.layout import checked_root
from tests.operators.conftest import execute  # noqa: F401  (a fixture)
from tests.support.s3 import Bucket
from tests.support.sandbox import Sandbox

Execute = Callable[..., Any]
LABS = {"resource_type": "Observation", "search_params": {"code": "4548-4"}}


@pytest.fixture(autouse=True)
def _asked_anew() -> None:
    encryption._of_bucket.cache_clear()
    encryption._tell.cache_clear()


def encrypt(bucket: Bucket) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}
    bucket.server.client.put_bucket_encryption(Bucket=bucket.name, ServerSideEncryptionConfiguration={"Rules": [rule]})


def test_production_stays_off_a_disk(execute: Execute, sandbox: Sandbox, tmp_path: Path) -> None:  # noqa: F811
    """A search of Production with a file:// path is refused before anything is asked; one of Development is not."""
    where = {**LABS, "output_path": str(tmp_path)}
    with pytest.raises(
        AirflowFailException,
        match=r"this is a path on a disk.*require_encrypted_output = never",
    ):
        execute(RedoxFhirSearchOperator(task_id="s", environment="Production", **where))
    assert sandbox.ledger() == []
    execute(RedoxFhirSearchOperator(task_id="s", environment="Development", **where))


def test_a_bucket_is_asked(bucket: Bucket) -> None:
    """A bucket that says it does not encrypt is refused, one that does is taken, and it is asked once in a process."""
    with pytest.raises(RedoxConfigError, match="; this is a bucket that says it is not encrypted"):
        check_encrypted(bucket.root, "Production")
    encryption._of_bucket.cache_clear()
    encrypt(bucket)
    check_encrypted(bucket.root, "Production")
    bucket.server.client.delete_bucket_encryption(Bucket=bucket.name)
    check_encrypted(bucket.root, "Production")


def test_an_at_sign_in_a_key_names_no_bucket(bucket: Bucket) -> None:
    """The bucket that is asked is the one that is written to, whatever its keys look like."""
    with pytest.raises(RedoxConfigError, match="says it is not encrypted"):
        check_encrypted(f"{bucket.root}/team@somewhere-else/redox", "Production")


def test_a_key_that_is_named_is_enough(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where storage_options have every object encrypted, the bucket's own setting does not matter."""
    options = {"s3": {"s3_additional_kwargs": {"ServerSideEncryption": "aws:kms"}}}
    monkeypatch.setenv("AIRFLOW__REDOX__STORAGE_OPTIONS", json.dumps(options))
    check_encrypted(bucket.root, "Production")


def test_a_bucket_that_does_not_say_is_told_of(bucket: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    """A bucket that may not be asked is used, and a warning says which right is missing, once."""
    place = bucket.root.replace(bucket.name, "no-such-bucket-of-ours")
    with caplog.at_level(logging.WARNING):
        check_encrypted(place, "Production")
        check_encrypted(place, "Production")
    assert caplog.text.count("GetEncryptionConfiguration") == 1


@pytest.mark.parametrize(
    ("choice", "environment", "refused"),
    [
        ("production", "Production", True),
        ("production", "Staging", False),
        ("production", None, False),
        ("always", "Development", True),
        ("always", None, True),
        ("never", "Production", False),
    ],
)
def test_the_deployment_chooses(
    choice: str,
    environment: str | None,
    refused: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`production` holds Production to it, `always` all, `never` none."""
    monkeypatch.setenv("AIRFLOW__REDOX__REQUIRE_ENCRYPTED_OUTPUT", choice)
    if not refused:
        check_encrypted("file:///data", environment)
        return
    with pytest.raises(RedoxConfigError, match="a path on a disk"):
        check_encrypted("file:///data", environment)


@pytest.mark.parametrize("root", ["FILE:///data", "File:///data", "S3://bucket/x"])
def test_schemes_are_read_as_drivers_read_them(root: str) -> None:
    """In upper case a scheme means the same; a chain of stores is refused."""
    assert checked_root(root).partition("://")[0] == root.partition("://")[0].lower()
    with pytest.raises(RedoxConfigError, match="a chain of them"):
        checked_root("simplecache::s3://bucket/x")


def test_a_wrong_choice_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no choice is an error, not a `never`."""
    monkeypatch.setenv("AIRFLOW__REDOX__REQUIRE_ENCRYPTED_OUTPUT", "yes")
    with pytest.raises(RedoxConfigError, match=r"^\[redox\] require_encrypted_output: must be one of production"):
        check_encrypted("file:///data", "Production")


def test_the_record_is_held_to_it(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record names patients: a connection of Production keeps none in clear either."""
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(sandbox.with_extra(environment="Production")))
    monkeypatch.setenv("AIRFLOW__REDOX__AUDIT_PATH", str(tmp_path))
    with pytest.raises(RedoxConfigError, match=r"^\[redox\] audit_path: name an encrypted bucket"):
        RedoxHook().client  # noqa: B018
