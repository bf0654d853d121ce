"""Bodies that go into a file while they come: both drivers."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Any

import pytest

from airflow_provider_redox.client.bodies import NotTakenError
from airflow_provider_redox.exceptions import RedoxProtocolError, RedoxResponseError, RedoxSecurityError
from airflow_provider_redox.protocol.documents import Attachment
from tests.client.conftest import Driver
from tests.client.drivers import connection_to, with_token
from tests.support.wire import Wire, answers, breaks_after, http

PDF = b"%PDF-1.7 " + bytes(range(256)) * 5000


class Taken:
    """Takes a body in, and counts how often it began."""

    def __init__(self, limit: int = 10_000_000) -> None:
        self.limit, self.begun, self.content = limit, 0, b""

    def begin(self, headers: Mapping[str, str]) -> None:
        self.begun += 1
        self.content = b""

    def write(self, chunk: bytes) -> None:
        self.content += chunk


class Broken(Taken):
    def write(self, chunk: bytes) -> None:
        raise OSError(28, "No space left on device")


def ask(driver: Driver, wire: Wire, into: Taken, **attachment: Any) -> Any:
    drive = driver(with_token(connection_to(wire.url)))
    return drive.run(drive.calls.document(Attachment("s", "p", **{"url": "Binary/1", **attachment}), into))


def test_a_document_goes_where_it_was_told(driver: Driver) -> None:
    """The body of a success goes into the file, whole; its media type is told."""
    with Wire(answers(http(PDF, kind="application/pdf; charset=x"))) as wire:
        into = Taken()
        assert ask(driver, wire, into) == ("application/pdf", None)
    assert (into.content, into.begun) == (PDF, 1)


def test_a_packed_document_is_unpacked(driver: Driver) -> None:
    """What is gzipped on the way is not in the file, and the limit is on what it holds."""
    packed = http(gzip.compress(PDF), kind="application/pdf", Content_Encoding="gzip")
    with Wire(answers(packed)) as wire:
        into = Taken()
        ask(driver, wire, into)
        assert into.content == PDF
        with pytest.raises(RedoxProtocolError, match="more than 100000 bytes"):
            ask(driver, wire, Taken(100_000))


def test_a_stated_length_above_the_limit_is_not_begun(driver: Driver) -> None:
    """A document that says that it is too large is not read."""
    with Wire(answers(http(PDF, kind="application/pdf"))) as wire:
        into = Taken(1000)
        with pytest.raises(RedoxProtocolError) as caught:
            ask(driver, wire, into)
        assert not caught.value.retryable
    assert into.begun == 0


def test_each_try_begins_anew(driver: Driver) -> None:
    """After a body that was cut off the file holds the second try only."""
    cut = http(PDF, kind="application/pdf")[:-100_000]
    with Wire(breaks_after(cut), answers(http(PDF, kind="application/pdf"))) as wire:
        into = Taken()
        ask(driver, wire, into)
    assert (into.content, into.begun) == (PDF, 2)


def test_an_error_is_not_taken_for_a_document(driver: Driver) -> None:
    """The body of an error status goes into no file."""
    with Wire(answers(http(b"gone", status="404 Not Found", kind="text/plain"))) as wire:
        into = Taken()
        with pytest.raises(RedoxResponseError):
            ask(driver, wire, into)
    assert into.begun == 0


def test_a_failing_store_ends_it(driver: Driver) -> None:
    """What the file's store raises is no fault of the server's: it is not tried again, and the place is left."""
    with Wire(answers(http(PDF, kind="application/pdf"))) as wire:
        with pytest.raises(NotTakenError) as caught:
            ask(driver, wire, Broken())
        assert isinstance(caught.value.__cause__, OSError)
        assert len(wire.requests) == 1


def test_the_token_goes_to_the_blob_url_and_nowhere_else(driver: Driver) -> None:
    """A document at `extra.blob_url` is asked for there; a host that only begins like it is refused."""
    with Wire(answers(http(PDF, kind="application/pdf"))) as wire:
        drive = driver(with_token(connection_to("http://127.0.0.1:9", blob_url=f"{wire.url}/files")))
        into = Taken()
        drive.run(drive.calls.document(Attachment("s", "p", url=f"{wire.url}/files/abc"), into))
        assert into.content == PDF
        for url in (f"{wire.url}/other/abc", f"{wire.url}/filesystem/abc", f"{wire.url}.evil.example/files/abc"):
            with pytest.raises(RedoxSecurityError):
                drive.run(drive.calls.document(Attachment("s", "p", url=url), Taken()))
        with pytest.raises(RedoxSecurityError):
            drive.run(drive.calls.document(Attachment("s", "p", url=f"{wire.url}/files/../x"), Taken()))
        assert len(wire.requests) == 1
        drive.run(drive.calls.document(Attachment("s", "p", url=f"{wire.url}/files/v2/2026/abc"), Taken()))
        assert len(wire.requests) == 2


@pytest.mark.parametrize(
    "path",
    ["/platform/v1/logs/1", "/v1/logs/1", "/fhir/R4/other/Production/Patient/1", "/%66hir;x/R4/other/Production/Patient/1"],
)
def test_a_host_that_the_api_shares_opens_nothing_else_of_it(driver: Driver, path: str) -> None:
    """Where `extra.blob_url` is on the API's own origin, a URL leads to an upload, or below the destination's base."""
    with Wire(answers(http(PDF, kind="application/pdf"))) as wire:
        drive = driver(with_token(connection_to(wire.url, blob_url=wire.url)))
        with pytest.raises(RedoxSecurityError):
            drive.run(drive.calls.document(Attachment("s", "p", url=f"{wire.url}{path}"), Taken()))
        assert wire.requests == []
        into = Taken()
        drive.run(drive.calls.document(Attachment("s", "p", url=f"{wire.url}/blob/0f4bd1d1-451d"), into))
        assert into.content == PDF
