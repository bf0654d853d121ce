"""Documents that stand in JSON: every spelling of base64, data: URIs, text; and nothing that may have lost a part."""

from __future__ import annotations

import base64
from collections.abc import Callable
from urllib.parse import quote, quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxProtocolError
from airflow_provider_redox.protocol.contents import Coding, content_of, data_uri, from_base64, is_data_uri

SPELLINGS: dict[str, Callable[[bytes], str]] = {
    "standard": lambda content: base64.b64encode(content).decode(),
    "unpadded": lambda content: base64.b64encode(content).decode().rstrip("="),
    "URL-safe": lambda content: base64.urlsafe_b64encode(content).decode(),
    "URL-safe, unpadded": lambda content: base64.urlsafe_b64encode(content).decode().rstrip("="),
    "in lines": lambda content: base64.encodebytes(content).decode().replace("\n", "\r\n"),
    "indented": lambda content: "\n    " + "\n    ".join(base64.encodebytes(content).decode().split("\n")),
}


@given(st.binary(min_size=1, max_size=200), st.sampled_from(sorted(SPELLINGS)))
def test_every_spelling_of_base64_gives_the_bytes(content: bytes, spelling: str) -> None:
    """Whatever the alphabet, the padding and the lines, the bytes come back."""
    assert from_base64(SPELLINGS[spelling](content)) == content


@given(st.binary(min_size=1, max_size=200), st.data())
def test_padded_base64_that_was_cut_is_refused_or_shorter_by_whole_groups(content: bytes, data: st.DataObject) -> None:
    """No cut gives bytes that were not there: what is read is the beginning of the document, or nothing is."""
    text = SPELLINGS["standard"](content)
    cut = data.draw(st.integers(0, len(text) - 1))
    try:
        found = from_base64(text[:cut])
    except RedoxProtocolError:
        return
    assert content.startswith(found)


NO_BASE64 = [
    "",
    "=",
    "====",
    "A",
    "AAAAA",
    "AAA=AAA=",
    "AA=",
    "AAAA=",
    "AA===",
    "A!AA",
    "not base64!",
    "AB",
    "A+_A",
    "é",
    "\ud800",
]


@pytest.mark.parametrize("text", NO_BASE64)
def test_what_is_not_whole_base64_is_refused(text: str) -> None:
    """Other letters, mixed alphabets, wrong padding, a cut within a byte: an error without the text, that no retry heals."""
    with pytest.raises(RedoxProtocolError, match="not base64") as caught:
        from_base64(text)
    assert not caught.value.retryable


@given(st.binary(min_size=1, max_size=200), st.booleans(), st.sampled_from(sorted(SPELLINGS)))
def test_a_data_uri_holds_its_bytes(content: bytes, coded: bool, spelling: str) -> None:  # noqa: FBT001
    """RFC 2397, with base64 and without: the bytes come back, with the media type."""
    body = quote(SPELLINGS[spelling](content)) if coded else quote_from_bytes(content)
    uri = f"data:application/pdf;name=x{';base64' if coded else ''},{body}"
    assert is_data_uri(uri)
    assert data_uri(uri) == ("application/pdf", content)
    assert content_of(uri, Coding.BASE64) == content


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("data:,A%20brief%20note", ("text/plain", b"A brief note")),
        ("DATA:text/html;charset=utf-8,%3Cp%3E", ("text/html", b"<p>")),
        ("data:;base64,SGVsbG8", ("text/plain", b"Hello")),
        ("data:application/pdf;BASE64,JVBERi0%3D", ("application/pdf", b"%PDF-")),
    ],
)
def test_forms_of_data_uris(uri: str, expected: tuple[str, bytes]) -> None:
    """What RFC 2397 leaves out is text/plain; the words are of either case."""
    assert data_uri(uri) == expected


@pytest.mark.parametrize("uri", ["data:,", "data:;base64,", "data:application/pdf;base64,JVBE!", "data:,50%", "data:,%zz"])
def test_a_damaged_data_uri_is_refused(uri: str) -> None:
    """One without content, or with escapes or base64 that are none."""
    with pytest.raises(RedoxProtocolError) as caught:
        data_uri(uri)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("text", "coding", "kind", "expected"),
    [
        ("Note: data:,x", Coding.TEXT, "text/plain", b"Note: data:,x"),
        ("data:,x", Coding.TEXT, "text/plain", b"data:,x"),
        ("SGVsbG8=", Coding.TEXT, "text/plain", b"SGVsbG8="),
        ("<ClinicalDocument/>", Coding.UNTOLD, "text/xml", b"<ClinicalDocument/>"),
        ("PENsaW5pY2FsRG9jdW1lbnQvPg==", Coding.UNTOLD, "text/xml", b"<ClinicalDocument/>"),
        ("PENsaW5pY2FsRG9jdW1lbnQvPg", Coding.UNTOLD, "application/xml", b"<ClinicalDocument/>"),
        ("{\\rtf1 x}", Coding.UNTOLD, "application/rtf", b"{\\rtf1 x}"),
        ("Impression: normal. é", Coding.UNTOLD, "text/plain", "Impression: normal. é".encode()),
        ("normal", Coding.UNTOLD, "text/plain", b"normal"),
        ("JVBERi0=", Coding.UNTOLD, "application/pdf", b"%PDF-"),
        ("JVBERi0=", Coding.UNTOLD, "", b"%PDF-"),
        ("JVBERi0=", Coding.BASE64, "text/plain", b"%PDF-"),
    ],
)
def test_how_a_text_stands_in_a_message(text: str, coding: Coding, kind: str, expected: bytes) -> None:
    """Where nothing says how, text types are text unless it is base64 of text; all others are base64."""
    assert content_of(text, coding, kind) == expected


@pytest.mark.parametrize("text", ["<...base 64 file contents...>", "Impression: normal"])
@pytest.mark.parametrize("kind", ["", "application/pdf", "image/jpeg"])
def test_what_can_be_neither_is_refused(text: str, kind: str) -> None:
    """Words where a PDF should be are an error, and not a file of words."""
    with pytest.raises(RedoxProtocolError):
        content_of(text, Coding.UNTOLD, kind)
