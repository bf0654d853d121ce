"""An S3 that runs on this machine, and what a test needs to look into it: its buckets as another process sees them."""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

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


class Deaf:
    """A way to an S3 on which answers get lost: it carries out a request, and answers 500.

    `name` is the ID of the connection that leads this way.

    :param lost: answers to exclusive creates that are still to be lost.
    :param conditional: whether the server is told of `If-None-Match`; some stores do not know it.
    """

    def __init__(self, server: S3, *, lost: int = 0, conditional: bool = True) -> None:
        self.lost, self.conditional, self.creates = lost, conditional, 0
        self.name = f"aws_deaf_{secrets.token_hex(4)}"  # a driver is kept for each connection
        self._target = urlsplit(server.url).netloc
        handler = type("_Handler", (_Carrier,), {"way": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def connection_json(self) -> str:
        """The connection that leads this way."""
        extra = {"endpoint_url": f"http://127.0.0.1:{self._server.server_port}", "region_name": "us-east-1"}
        return json.dumps({"conn_type": "aws", "login": KEY_ID, "password": SECRET, "extra": extra})

    def carry(self, method: str, path: str, headers: dict[str, str], body: bytes) -> http.client.HTTPResponse | None:
        """Carry a request to the server; None when its answer gets lost."""
        exclusive = headers.get("If-None-Match") == "*"
        headers = {name: value for name, value in headers.items() if name.lower() not in ("expect", "connection")}
        self.creates += exclusive
        if not self.conditional:
            headers.pop("If-None-Match", None)
        connection = http.client.HTTPConnection(self._target, timeout=10)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        if exclusive and self.lost:
            self.lost -= 1
            answer.read()
            return None
        return answer

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)


class _Carrier(BaseHTTPRequestHandler):
    way: Deaf
    protocol_version = "HTTP/1.1"

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self.way.carry(self.command, self.path, dict(self.headers.items()), body)
        self.close_connection = True
        if answer is None:  # a connection that is closed instead costs its client a quarter of a minute
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()
            return
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""
