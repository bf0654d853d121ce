"""An AWS KMS that runs on this machine (moto's server, over HTTP), and the environment in which boto3 finds it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.s3 import KEY_ID, S3, SECRET

REGION = "us-east-1"


@dataclass
class Kms:
    """A running server, and what whoever keeps the keys does with it."""

    url: str
    client: Any

    def key(self, spec: str = "RSA_2048", usage: str = "SIGN_VERIFY") -> str:
        """Make a key and give its ARN."""
        arn: str = self.client.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["Arn"]
        return arn

    def alias(self, key: str) -> str:
        """Give a key another name, and that name's ARN."""
        name = f"alias/redox-{secrets.token_hex(4)}"
        self.client.create_alias(AliasName=name, TargetKeyId=key)
        return key.partition(":key/")[0] + f":{name}"


@pytest.fixture(scope="session")
def kms_server() -> Iterator[Kms]:
    """One server for the whole run."""
    for module in ("boto3", "moto"):
        pytest.importorskip(module, reason="no AWS is installed in this environment")
    import boto3

    server = S3.start()
    client = boto3.client(
        "kms", endpoint_url=server.url, region_name=REGION, aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET
    )
    yield Kms(server.url, client)
    client.close()
    server.stop()


def aws_environment(url: str) -> dict[str, str]:
    """What tells boto3 where the KMS is, and who asks."""
    return {
        "AWS_ENDPOINT_URL_KMS": url,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@pytest.fixture
def kms(kms_server: Kms, monkeypatch: pytest.MonkeyPatch) -> Kms:
    """The server, found by boto3 in this process's environment."""
    for name, value in aws_environment(kms_server.url).items():
        monkeypatch.setenv(name, value)
    return kms_server
