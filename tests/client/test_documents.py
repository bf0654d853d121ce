"""Bodies that go into a file while they come: both drivers."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import zlib
from collections.abc import Mapping
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from airflow_provider_redox.client.bodies import NotTakenError
from airflow_provider_redox.exceptions import (
    RedoxDestinationError,
    RedoxProtocolError,
    RedoxResponseError,
    RedoxSecurityError,
    RedoxTransportError,
)
from airflow_provider_redox.protocol.attachments import Attachment
from airflow_provider_redox.protocol.integrity import Measured, Stated
from tests.client.conftest import Driver
from tests.client.drivers import Awaiting, Blocking, Drive, connection_to, with_token
from tests.support.wire import Wire, answers, breaks_after, http

PDF = b"%PDF-1.7 " + bytes(range(256)) * 5000


class Taken:
    """Takes a body in, and counts how often it began."""

    def __init__(self, limit: int = 10_000_000) -> None:
        self.limit, self.begun, self.content, self.stated, self.measured = limit, 0, b"", Stated(), Measured()

    def begin(self, headers: Mapping[str, str]) -> None:
        self.begun += 1
        self.content, self.measured = b"", Measured(self.stated)

    def write(self, chunk: bytes) -> None:
        self.content += chunk
        self.measured.update(chunk)


class Broken(Taken):
    def write(self, chunk: bytes) -> None:
        raise OSError(28, "No space left on device")


def ask(driver: Driver, wire: Wire, into: Taken, **attachment: Any) -> Any:
    drive = driver(with_token(connection_to(wire.url)))
    options = {name: attachment.pop(name) for name in ("on_mismatch", "headers") if name in attachment}
    one = Attachment("s", "p", **{"url": "Binary/1", **attachment})
    into.stated = one.stated
    return drive.run(drive.calls.document(one, into, **options))


def test_a_document_goes_where_it_was_told(driver: Driver) -> None:
    """The body of a success goes into the file, whole; its media type is told."""
    with Wire(answers(http(PDF, kind="application/pdf; charset=x"))) as wire:
        into = Taken()
        assert ask(driver, wire, into) == ("application/pdf", None, "")
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


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(PDF), PDF)
UNTIL_CLOSE = {
    "no length": HEAD + b"\r\n",
    "HTTP/1.0": HEAD.replace(b"1.1", b"1.0") + b"\r\n",
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n",
    "a length of letters": HEAD + b"Content-Length: unknown\r\n\r\n",
    "a length with an underscore": HEAD + b"Content-Length: 1_0000\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: %d\r\nContent-Length: %d\r\n\r\n" % (len(PDF), len(PDF) // 2),
}
SHA1 = hashlib.sha1(PDF, usedforsecurity=False)


@pytest.mark.parametrize("head", UNTIL_CLOSE.values(), ids=UNTIL_CLOSE)
@pytest.mark.parametrize("cut", [1, len(PDF) // 2, len(PDF)])
def test_a_body_that_just_ends_is_no_document(driver: Driver, head: bytes, cut: int) -> None:
    """What ends with its connection, whole or cut, cannot be told from a part, so it is not taken."""
    with Wire(breaks_after(head + PDF[:cut])) as wire, pytest.raises((RedoxProtocolError, RedoxTransportError)):
        ask(driver, wire, Taken())


@pytest.mark.parametrize("head", [UNTIL_CLOSE["no length"], UNTIL_CLOSE["HTTP/1.0"]])
def test_a_body_that_just_ends_is_held_against_what_is_stated(driver: Driver, head: bytes) -> None:
    """A size or a hash of the resource shows that a body is whole; without, it is asked for once, or kept with a warning."""
    with Wire(breaks_after(head + PDF)) as wire:
        for stated in (Stated(size=len(PDF)), Stated(None, "sha1", SHA1.digest())):
            into = Taken()
            assert ask(driver, wire, into, stated=stated).mismatch == ""
            assert into.content == PDF
        seen = len(wire.requests)
        with pytest.raises(RedoxProtocolError, match="does not say where it ends") as caught:
            ask(driver, wire, Taken())
        assert (len(wire.requests), caught.value.retryable) == (seen + 1, False)
        assert "does not say where it ends" in ask(driver, wire, Taken(), on_mismatch="warn").mismatch


WHOLE = {
    "chunks": CHUNKED,
    "gzip until the connection ends": HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(PDF),
    "its length twice": HEAD + b"Content-Length: %d\r\nContent-Length: %d\r\n\r\n" % (len(PDF), len(PDF)) + PDF,
    "all of it as a range": http(PDF, kind="application/pdf", Content_Range=f"bytes 0-{len(PDF) - 1}/{len(PDF)}"),
    "identity": http(PDF, kind="application/pdf", Content_Encoding="identity"),
}


@pytest.mark.parametrize("answer", WHOLE.values(), ids=WHOLE)
def test_a_body_that_shows_its_end_is_taken(driver: Driver, answer: bytes) -> None:
    """A length, chunks and gzip show where a document ends."""
    with Wire(breaks_after(answer)) as wire:
        into = Taken()
        try:
            ask(driver, wire, into)
        except RedoxTransportError:  # aiohttp refuses a length that stands there twice
            assert answer is WHOLE["its length twice"]
        else:
            assert into.content == PDF


HALF = PDF[: len(PDF) // 2]
PARTS = {
    "206": http(
        HALF, status="206 Partial Content", kind="application/pdf", Content_Range=f"bytes 0-{len(HALF) - 1}/{len(PDF)}"
    ),
    "206 that says nothing": http(HALF, status="206 Partial Content", kind="application/pdf"),
    "200 with a range": http(HALF, kind="application/pdf", Content_Range=f"bytes 0-{len(HALF) - 1}/{len(PDF)}"),
    "200 with a range of unknown length": http(HALF, kind="application/pdf", Content_Range=f"bytes 0-{len(HALF) - 1}/*"),
    "202": http(b"%PDF-soon", status="202 Accepted", kind="application/pdf"),
    "203": http(PDF, status="203 Non-Authoritative Information", kind="application/pdf"),
    "204": http(b"", status="204 No Content", kind="application/pdf"),
    "205": http(b"", status="205 Reset Content", kind="application/pdf"),
    "chunks cut off": CHUNKED[:-100],
    "gzip cut off": http(gzip.compress(PDF)[:-9], kind="application/pdf", Content_Encoding="gzip"),
    "gzip cut off at the connection's end": HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(PDF)[:-9],
    "fewer bytes than stated": http(PDF, kind="application/pdf")[:-1],
    "gzip twice, in two headers": HEAD
    + b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n\r\n"
    + gzip.compress(gzip.compress(PDF)),
    "gzip as a transfer coding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKED.partition(b"\r\n\r\n")[2],
    "deflate": http(zlib.compress(PDF), kind="application/pdf", Content_Encoding="deflate"),
    "zstd": http(b"\x28\xb5\x2f\xfd" + PDF, kind="application/pdf", Content_Encoding="zstd"),
    "brotli": http(PDF, kind="application/pdf", Content_Encoding="br"),
}


@pytest.mark.parametrize("answer", PARTS.values(), ids=PARTS)
def test_a_part_is_no_document(driver: Driver, answer: bytes) -> None:
    """A part, or what cannot be unpacked, is asked for again, and then an error; the second answer counts."""
    with Wire(breaks_after(answer)) as wire, pytest.raises((RedoxProtocolError, RedoxTransportError)):
        ask(driver, wire, Taken())
    with Wire(breaks_after(answer), answers(http(PDF, kind="application/pdf"))) as wire:
        into = Taken()
        ask(driver, wire, into)
        assert into.content == PDF


def test_a_document_of_another_size_or_hash_is_asked_for_again(driver: Driver) -> None:
    """A document that a proxy cut, its length stated as if it were whole, is seen by the resource's size, or its hash."""
    cut = answers(http(HALF, kind="application/pdf"))
    for stated in (Stated(size=len(PDF)), Stated(None, "sha1", SHA1.digest())):
        with Wire(cut, answers(http(PDF, kind="application/pdf"))) as wire:
            into = Taken()
            ask(driver, wire, into, stated=stated)
            assert (into.content, into.begun) == (PDF, 2)
        with Wire(cut) as wire:
            with pytest.raises(RedoxProtocolError, match=r"its resource states.*on_mismatch='warn'") as caught:
                ask(driver, wire, Taken(), stated=stated)
            assert caught.value.retryable
            assert "its resource states" in ask(driver, wire, Taken(), stated=stated, on_mismatch="warn").mismatch


@pytest.mark.parametrize("kind", ["application/fhir+ndjson", "application/x-ndjson", "application/ndjson; charset=utf-8"])
def test_ndjson_goes_into_the_file(driver: Driver, kind: str) -> None:
    """A file of many lines of JSON is no JSON: it is written while it comes, line for line as it is."""
    lines = b'{"resourceType": "OperationOutcome", "issue": []}\n{"resourceType": "Patient", "id": "1"}\n' * 5000
    with Wire(answers(http(lines, kind=kind))) as wire:
        into = Taken()
        assert ask(driver, wire, into).content is None
    assert into.content == lines


BINARY = b'{"id": "1", "meta": {"versionId": "1"}, "resourceType": "Binary", "data": "JVBERi0="}'
BESIDES = {
    "a web page": http(b"<html>Sign in</html>", kind="text/html"),
    "a page of XHTML": http(b"<html>Sign in</html>", kind="application/xhtml+xml"),
    "a web page that says it is a PDF": http(b"\n<!DOCTYPE html><title>Sign in</title>", kind="application/pdf"),
    "a web page that says nothing": http(b"\xef\xbb\xbf<HTML lang=en>Sign in", kind="application/octet-stream"),
    "JSON of an error": http(b'{"error": "not now"}', kind="application/json"),
    "an outcome": http(
        b'{"resourceType": "OperationOutcome", "issue": [{"severity": "error"}]}', kind="application/fhir+json"
    ),
    "an outcome as text": http(b'{"resourceType": "OperationOutcome", "issue": []}', kind="text/plain"),
    "a Binary as text": http(BINARY, kind="text/plain"),
    "a Binary as XML": http(
        b'<?xml version="1.0"?><Binary xmlns="http://hl7.org/fhir"><id/></Binary>', kind="application/xml"
    ),
    "a Binary as XML in single quotes": http(b"<Binary xmlns='http://hl7.org/fhir'><id/></Binary>", kind="text/xml"),
    "an outcome as XML": http(b'<OperationOutcome xmlns="http://hl7.org/fhir"/>', kind="application/fhir+xml"),
    "base64 of a PDF": http(base64.b64encode(PDF), kind="application/pdf"),
    "base64 in base64": http(
        b'{"resourceType": "Binary", "data": "%s"}' % base64.b64encode(base64.b64encode(PDF)), kind="application/fhir+json"
    ),
    "several parts": http(b"--x\r\n\r\n%PDF-\r\n--x--", kind="multipart/related; boundary=x"),
    "a Binary without data": http(
        b'{"resourceType": "Binary", "contentType": "application/pdf"}', kind="application/fhir+json"
    ),
    "a Binary of broken base64": http(b'{"resourceType": "Binary", "data": "JVBERi0x="}', kind="application/fhir+json"),
    "JSON that is none": http(b"%PDF-1.7", kind="application/fhir+json"),
}


@pytest.mark.parametrize("answer", BESIDES.values(), ids=BESIDES)
def test_something_else_is_no_document(driver: Driver, answer: bytes) -> None:
    """What stands in the place of a PDF with status 200 is an error, whatever it calls itself."""
    with Wire(answers(answer)) as wire, pytest.raises((RedoxProtocolError, RedoxDestinationError)) as caught:
        ask(driver, wire, Taken(), declared="application/pdf")
    assert "Sign in" not in str(caught.value)
    assert "not now" not in str(caught.value)


def test_a_binary_as_json_is_the_document(driver: Driver) -> None:
    """FHIR JSON that the author asks for holds the document, of R4 or STU3, padded or not."""
    uri = "data:application/pdf;base64,JVBERi0x"
    for name, data in (("data", "JVBERi0x"), ("data", uri), ("content", "JVBE\\r\\nRi0xLjc"), ("data", "JVBERi0xLjc=")):
        answer = http(
            b'{"resourceType": "Binary", "%s": "%s"}' % (name.encode(), data.encode()), kind="application/fhir+json"
        )
        with Wire(answers(answer)) as wire:
            got = ask(driver, wire, Taken(), declared="application/pdf", headers={"Accept": "application/fhir+json"})
            assert got.content is not None
            assert b"%PDF-1.7".startswith(got.content)
            assert b"\r\naccept: application/fhir+json\r\n" in wire.requests[0].lower()


def test_a_page_of_html_that_was_asked_for_is_a_document(driver: Driver) -> None:
    """HTML that the resource declares, plain text that looks like it, and a text that holds JSON are documents."""
    for declared, said in (("text/html", "text/html"), ("text/plain", "text/plain"), ("", "text/html")):
        with Wire(answers(http(b"<html>Visit summary</html>", kind=said))) as wire:
            into = Taken()
            ask(driver, wire, into, declared=declared)
            assert into.content == b"<html>Visit summary</html>"


def framed(how: str, content: bytes) -> tuple[bytes, bytes]:
    """Make head and body of an answer that holds a document, framed in one of the ways there are."""
    packed = gzip.compress(content) if "gzip" in how else content
    head = HEAD + b"Connection: close\r\n" + (b"Content-Encoding: gzip\r\n" if "gzip" in how else b"")
    if "length" in how:
        return head + b"Content-Length: %d\r\n\r\n" % len(packed), packed
    if "chunks" in how:
        pieces = [packed[start : start + 7] for start in range(0, len(packed), 7)]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        return head + b"Transfer-Encoding: chunked\r\n\r\n", chunks + b"0\r\n\r\n"
    return head + b"\r\n", packed


FRAMES = ["length", "chunks", "nothing", "gzip, length", "gzip, chunks", "gzip, nothing"]


@pytest.mark.parametrize("face", [Blocking, Awaiting])
def test_wherever_an_answer_is_cut_a_document_is_whole_or_none(face: Any) -> None:
    """Whatever frames a document, and wherever its answer ends, the whole document comes or an error; whole, it comes."""
    answer = [b""]
    with Wire(lambda line: breaks_after(answer[0])(line)) as wire, contextlib.ExitStack() as stack:
        drive = Drive(face, with_token(connection_to(wire.url)))
        stack.callback(drive.face.close)

        @hypothesis.settings(max_examples=200, deadline=None, database=None)
        @hypothesis.given(
            st.sampled_from(FRAMES), st.binary(min_size=10, max_size=60), st.none() | st.floats(0, 1), st.booleans()
        )
        def holds(how: str, more: bytes, where: float | None, proven: bool) -> None:  # noqa: FBT001
            content = b"%PDF-" + more
            head, body = framed(how, content)
            answer[0] = head + (body if where is None else body[: round(where * (len(body) - 1))])
            into = Taken()
            into.stated = Stated(size=len(content)) if proven else Stated()
            try:
                drive.run(drive.calls.document(Attachment("s", "p", url="Binary/1", stated=into.stated), into))
            except (RedoxProtocolError, RedoxTransportError):
                assert where is not None or (how == "nothing" and not proven)
            else:
                assert into.content == content

        holds()
