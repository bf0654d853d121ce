"""An S3 that runs on this machine, and what a test needs to look into it: its buckets as another process sees them."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

CONNECTION = "aws_redox"
KEY_ID, SECRET = "AKIAEXAMPLEREDOX", "example-secret-that-no-message-may-hold"


@dataclass
class S3:
    """A running server. Its client is boto3's, which shares nothing with the driver that is tested."""

    process: subprocess.Popen[str]
    url: str
    listener: threading.Thread
    client: Any = field(init=False)

    def __post_init__(self) -> None:
        import boto3

        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
        )

    @classmethod
    def start(cls) -> S3:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=_environment())
        said = ""
        while (found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", said)) is None:
            line = process.stderr.readline() if process.stderr else ""
            assert line, said
            said += line
        return cls(process, found.group(1), _listener(process))

    def stop(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait(timeout=10)
        self.listener.join(timeout=10)
        assert self.process.stderr is not None
        self.process.stderr.close()

    @property
    def connection_json(self) -> str:
        """The connection as `AIRFLOW_CONN_AWS_REDOX` takes it."""
        extra = {"endpoint_url": self.url, "region_name": "us-east-1"}
        return json.dumps({"conn_type": "aws", "login": KEY_ID, "password": SECRET, "extra": extra})


@dataclass
class Bucket:
    """One bucket, as another process sees it."""

    server: S3
    name: str

    @property
    def root(self) -> str:
        """An output path in it."""
        return f"s3://{CONNECTION}@{self.name}/redox"

    def list(self) -> list[str]:
        """Every key."""
        pages = self.server.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def results(self) -> dict[str, bytes]:
        """Every object that Spark would take for a result, by key."""
        return {key: self.get(key) for key in self.list() if "/type=" in key}

    def get(self, key: str) -> bytes:
        content: bytes = self.server.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def at(self, url: str) -> bytes:
        """The object at one of our URLs."""
        return self.get(self.key(url))

    def key(self, url: str) -> str:
        return url.removeprefix(f"s3://{CONNECTION}@{self.name}/")

    def put(self, key: str, content: bytes) -> None:
        self.server.client.put_object(Bucket=self.name, Key=key, Body=content)

    def delete(self, key: str) -> None:
        self.server.client.delete_object(Bucket=self.name, Key=key)

    def uploads(self) -> list[str]:
        """The keys of uploads that were begun and not ended."""
        return [entry["Key"] for entry in self.server.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])]

    def allow(self) -> None:
        """Take back what was denied."""
        self.server.client.delete_bucket_policy(Bucket=self.name)

    def deny(self, *actions: str) -> None:
        """Deny actions such as `s3:PutObject` on every object. A pseudo action `s3:PostObject` is the end of an upload."""
        rule = {"Effect": "Deny", "Principal": "*", "Action": list(actions), "Resource": f"arn:aws:s3:::{self.name}/*"}
        policy = {"Version": "2012-10-17", "Statement": [rule]}
        self.server.client.put_bucket_policy(Bucket=self.name, Policy=json.dumps(policy))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """One server for the whole run: it takes seconds to start."""
    for module in ("s3fs", "moto"):
        pytest.importorskip(module, reason="neither an S3 driver nor an S3 is installed in this environment")
    server = S3.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket of its own for each test, and the connection `aws_redox` in the environment."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", s3_server.connection_json)
    name = f"redox-{secrets.token_hex(6)}"
    s3_server.client.create_bucket(Bucket=name)
    return Bucket(s3_server, name)


def _environment() -> dict[str, str]:
    """This process's environment without what belongs to somebody's real AWS."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


def _listener(process: subprocess.Popen[str]) -> threading.Thread:
    """Read and forget what the server says: a full pipe would stop it."""
    assert process.stderr is not None
    thread = threading.Thread(target=process.stderr.read, daemon=True)
    thread.start()
    return thread
