"""A file as a body: read while it is sent, whole or not at all, once for each try."""

from __future__ import annotations

import hashlib
import io
from typing import Any, ClassVar

import pytest
import requests

from airflow_provider_redox.client.bodies import CHUNK, opened
from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError, RedoxTransportError
from airflow_provider_redox.protocol.effects import FileBody, Request
from airflow_provider_redox.protocol.uploads import MAX_BYTES, File
from tests.client.conftest import Driver
from tests.client.drivers import connection_to, with_token
from tests.support.sandbox import Sandbox
from tests.support.wire import Wire, answers, http

DONE = answers(http(b'{"URI": "https://blob.redoxengine.com/1"}', status="201 Created"))


class Watched(io.BytesIO):
    """A file that tells how it was read. It is kept, so that it is closed by whoever closes it and not by being dropped."""

    kept: ClassVar[list[io.BytesIO]] = []

    def __init__(self, content: bytes, told: list[Any]) -> None:
        super().__init__(content)
        self.told = told
        self.kept[:] = [self]

    def read(self, size: int | None = -1) -> bytes:
        self.told.append(size)
        return super().read(size)

    def close(self) -> None:
        self.told.append("closed")
        super().close()


def file_of(content: bytes, told: list[Any] | None = None) -> File:
    return File(len(content), lambda: Watched(content, [] if told is None else told))


def fetch(sandbox: Sandbox, drive: Any, uri: str) -> bytes:
    return requests.get(uri, headers={"Authorization": f"Bearer {drive.token()}"}, timeout=10).content


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, MAX_BYTES])
def test_a_file_arrives_byte_for_byte(sandbox: Sandbox, driver: Driver, size: int) -> None:
    """Up to 30 MB, and it was never asked for more than a chunk at a time."""
    content = hashlib.sha256(b"x").digest() * (size // 32 + 1)
    content, told = content[:size], []
    drive = driver(sandbox.connection)
    uri = drive.run(drive.calls.upload(file_of(content, told)))
    assert hashlib.sha256(fetch(sandbox, drive, uri)).digest() == hashlib.sha256(content).digest()
    assert told[-1] == "closed"
    assert max(one for one in told if one != "closed") <= CHUNK
    sandbox.reset()


def test_a_file_has_its_length_and_no_chunks(driver: Driver) -> None:
    """The request says how long it is; many gateways take no chunked upload."""
    with Wire(DONE) as wire:
        drive = driver(with_token(connection_to(wire.url)))
        drive.run(drive.calls.upload(file_of(b"abc")))
        head, _, body = wire.requests[0].partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}".encode() in head.lower()
        assert b"transfer-encoding" not in head.lower()
        assert b"\r\n\r\nabc\r\n--" in body


def test_each_try_reads_the_file_from_its_start(sandbox: Sandbox, driver: Driver) -> None:
    """After a refused token the whole file goes again."""
    sandbox.fault("status", status=401, match={"path": "/upload"}, times=1)
    drive = driver(sandbox.connection)
    content = b"abc" * CHUNK
    uri = drive.run(drive.calls.upload(file_of(content)))
    assert fetch(sandbox, drive, uri) == content
    assert len(sandbox.ledger("/upload")) == 2


@pytest.mark.parametrize("kind", ["drop", "reset"])
def test_an_upload_that_may_have_arrived_is_not_sent_twice(sandbox: Sandbox, driver: Driver, kind: str) -> None:
    """An unknown outcome is ambiguous, unless the caller says that twice does no harm."""
    sandbox.fault(kind, when="after", match={"path": "/upload"}, times=1)
    drive = driver(sandbox.connection)
    with pytest.raises(RedoxAmbiguousOutcomeError):
        drive.run(drive.calls.upload(file_of(b"abc")))
    assert sandbox.stats()["uploads"] == 1
    sandbox.fault(kind, when="after", match={"path": "/upload"}, times=1)
    assert drive.run(drive.calls.upload(file_of(b"abc"), idempotent=True))


@pytest.mark.parametrize("change", [-1, +1])
def test_a_file_that_changed_never_looks_whole(sandbox: Sandbox, driver: Driver, change: int) -> None:
    """A file that got shorter or longer meanwhile is not kept by the server."""
    content = b"x" * (2 * CHUNK)
    drive = driver(sandbox.connection)
    with pytest.raises(RedoxAmbiguousOutcomeError, match="the file changed while it was sent"):
        drive.run(drive.calls.upload(File(len(content) - change, lambda: io.BytesIO(content))))
    assert sandbox.stats()["uploads"] == 0


def test_a_file_that_is_gone_is_not_an_unknown_outcome(sandbox: Sandbox, driver: Driver) -> None:
    """What cannot be opened was not sent."""

    def gone() -> Any:
        raise FileNotFoundError("gone")

    drive = driver(sandbox.connection)
    with pytest.raises(FileNotFoundError):
        drive.run(drive.calls.upload(File(3, gone)))
    assert sandbox.ledger("/upload") == []


def test_no_server_is_nothing_sent(driver: Driver) -> None:
    """A refused connection may be tried again by whoever likes."""
    with Wire() as wire:
        url = wire.url
    drive = driver(with_token(connection_to(url)))
    with pytest.raises(RedoxTransportError):
        drive.run(drive.calls.upload(file_of(b"abc")))


def test_the_token_goes_to_the_blob_host_as_configured(driver: Driver) -> None:
    """With blob_url, the upload goes there and not to the API's host."""
    with Wire() as api, Wire(DONE) as blob:
        drive = driver(with_token(connection_to(api.url, blob_url=f"{blob.url}/files")))
        drive.run(drive.calls.upload(file_of(b"abc")))
        assert blob.requests[0].startswith(b"POST /files/upload HTTP/1.1\r\n")
        assert b"authorization: bearer " in blob.requests[0].lower()
        assert api.requests == []


def test_a_body_without_a_file_is_its_bytes() -> None:
    """And one whose parts are empty ends where it ends."""
    with opened(Request("POST", "http://x", "x", body=b"abc")) as body:
        assert body == b"abc"
    with opened(Request("POST", "http://x", "x", file=FileBody(lambda: io.BytesIO(b"abc"), 3))) as body:
        assert body.read() == b"abc"
