"""Where resources and messages hold documents or point to them; each pointer is found, one that leads nowhere too."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from airflow_provider_redox.exceptions import RedoxProtocolError
from airflow_provider_redox.protocol import attachments, media_types
from airflow_provider_redox.protocol.attachments import Attachment, attachments_of
from airflow_provider_redox.protocol.contents import content_of
from tests.support.samples import TEST_DATA

PDF = b"%PDF-1.7"
DATA = base64.b64encode(PDF).decode()


def only(resource: dict[str, Any]) -> Attachment:
    (found,) = attachments_of(resource)
    return found


def content(one: Attachment) -> bytes:
    assert one.data is not None
    return content_of(one.data, one.coding, one.declared)


def reference(attachment: Any, **more: Any) -> dict[str, Any]:
    return {"resourceType": "DocumentReference", "id": "d", "content": [{"attachment": attachment}], **more}


def message(model: str = "Media", event: str = "QueryResponse", **more: Any) -> dict[str, Any]:
    return {"Meta": {"DataModel": model, "EventType": event}, **more}


@pytest.mark.parametrize("identifier", ["e" * 88, "a_b", "urn:oid:1.2", "a|b", "1"])
def test_ids_of_other_servers_are_kept(identifier: str) -> None:
    """A long ID, or one with '_' or ':', names its resource in the list, and a Binary is asked for by it."""
    assert only({**reference({"data": DATA}), "id": identifier}).source == f"DocumentReference/{identifier}"
    assert only({"resourceType": "Binary", "id": identifier}).url == f"Binary/{identifier.replace('|', '%7C')}"


@pytest.mark.parametrize("identifier", ["../../x", "a b", "a/b", "x" * 600, "é", "$everything", "_history", None, 7, ""])
def test_no_url_is_made_of_what_is_no_id(identifier: Any) -> None:
    """An ID that could lead elsewhere is in no URL; its Binary fails with the reason, and has a name of its own."""
    one = only({"resourceType": "Binary", "id": identifier})
    assert (one.url, one.fault) == (None, attachments.NOWHERE)
    assert "/" not in one.source.removeprefix("Binary/")
    other = only({"resourceType": "Binary", "id": "b/c"})
    assert one.source != other.source


@pytest.mark.parametrize(
    ("attachment", "fault"),
    [
        ({"title": "none"}, None),
        ({"contentType": "application/pdf"}, None),
        ({"contentType": "application/pdf", "size": 89471, "_data": {"extension": []}}, attachments.NOWHERE),
        ({"hash": "2jmj7l5rSw0yVb/vlWAYkK/YBwk="}, attachments.NOWHERE),
        ({"url": ""}, attachments.NOWHERE),
        ({"url": 7}, attachments.NOWHERE),
        ({"data": ""}, attachments.NOWHERE),
        ({"_url": {"extension": []}}, attachments.NOWHERE),
        ({"url": "#b"}, attachments.NOT_CONTAINED),
        ({}, attachments.NO_ELEMENT),
        (None, attachments.NO_ELEMENT),
        ("Binary/1", attachments.NO_ELEMENT),
    ],
)
def test_a_pointer_that_leads_nowhere_is_told(attachment: Any, fault: str | None) -> None:
    """An attachment with a title alone says that there is no document (R4); every other that names none is a failure."""
    assert [one.fault for one in attachments_of(reference(attachment))] == ([] if fault is None else [fault])


@pytest.mark.parametrize("kind", ["DocumentReference", "Media"])
def test_a_resource_without_its_content_is_told(kind: str) -> None:
    """A search with _summary leaves out what a reference must hold: that is no result without documents."""
    assert only({"resourceType": kind, "id": "1", "meta": {"tag": [{"code": "SUBSETTED"}]}}).fault == attachments.NO_ELEMENT
    assert list(attachments_of({"resourceType": "DiagnosticReport", "id": "1"})) == []


def test_a_contained_binary_is_found() -> None:
    """A URL that begins with '#' names a Binary in the resource itself."""
    contained = [{"resourceType": "Organization", "id": "b"}, {"resourceType": "Binary", "id": "b", "data": DATA}]
    one = only(reference({"url": "#b", "contentType": "application/pdf"}, contained=contained))
    assert (content(one), one.declared, one.url) == (PDF, "application/pdf", None)


def test_a_data_uri_is_the_document() -> None:
    """In `url`, in `data`, in FileContents: nothing is asked for."""
    uri = f"data:application/pdf;base64,{DATA}"
    for one in (only(reference({"url": uri})), only(reference({"data": uri})), only(message(Media={"FileContents": uri}))):
        assert (content(one), one.url) == (PDF, None)
    assert only(reference({"url": uri})).declared == "application/pdf"


@pytest.mark.parametrize("model", ["ClinicalSummary", "Clinical Summary"])
@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("text/xml", "<!-- CDA Content -->", b"<!-- CDA Content -->"),
        ("text/xml", base64.b64encode(b"<ClinicalDocument/>").decode(), b"<ClinicalDocument/>"),
        ("XML", "<ClinicalDocument/>", b"<ClinicalDocument/>"),
        ("PDF", DATA, PDF),
    ],
)
def test_the_answer_of_a_document_get_is_a_document(model: str, kind: str, data: str, expected: bytes) -> None:
    """`Data` holds it, as text or base64, and `FileType` says what it is."""
    one = only(message(model, "DocumentGetResponse", FileType=kind, Data=data))
    assert (content(one), one.part) == (expected, "Data")
    assert one.source.startswith("ClinicalSummary.DocumentGetResponse/sha256-")
    assert media_types.suffix(one.declared) in ("xml", "pdf")


@pytest.mark.parametrize("data", [None, "", " ", {"a": 1}])
def test_a_document_get_without_its_document_is_told(data: Any) -> None:
    """An answer that names a document and holds none is a failure."""
    assert only(message("ClinicalSummary", "DocumentGetResponse", Data=data)).fault == attachments.EMPTY


def test_a_list_of_documents_is_told() -> None:
    """What a DocumentQuery lists is not there to be downloaded: each is a failure that says what to ask."""
    found = list(attachments_of(message("ClinicalSummary", "DocumentQueryResponse", Documents=[{"ID": "1"}, {"ID": "2"}])))
    assert [(one.part, one.fault) for one in found] == [(f"Documents[{n}]", attachments.ONLY_LISTED) for n in range(2)]


@pytest.mark.parametrize(
    ("word", "suffix"),
    [
        ("PDF", "pdf"),
        (".pdf", "pdf"),
        ("JPG", "jpg"),
        ("jpeg", "jpg"),
        ("TIFF", "tif"),
        ("RTF", "rtf"),
        ("CDA", "xml"),
        ("C-CDA", "xml"),
        ("application/pdf", "pdf"),
        ("image/JPEG", "jpg"),
        ("../../x", "bin"),
        ("", "bin"),
        (None, "bin"),
        (7, "bin"),
    ],
)
def test_words_of_file_type(word: Any, suffix: str) -> None:
    """The words that Redox's samples use, and media types, give a file its suffix; no other text does."""
    assert media_types.suffix(only(message(Media={"FileType": word, "FileContents": DATA})).declared) == suffix


def test_suffixes_have_the_form_that_a_purge_knows() -> None:
    """Every file that a document may have is found again, when it is purged or replaced."""
    for suffix in {*media_types.SUFFIXES.values(), *map(media_types.suffix, ("a/b", "a/b+xml", "a/b+json"))}:
        assert re.fullmatch("[a-z]{1,5}", suffix)


@pytest.mark.parametrize(
    ("beside", "text", "expected", "suffix"),
    [
        ({"ContentType": "Plain Text"}, '<content ID="Note37">Example</content>', None, "txt"),
        ({"ContentType": "PlainText"}, "Impression: SGVsbG8=", None, "txt"),
        ({"ContentType": "Plain Text"}, "SGVsbG8=", None, "txt"),
        ({"ContentType": "HTML"}, "<p>x</p>", None, "html"),
        ({"ContentType": "RTF"}, "{\\rtf1 x}", None, "rtf"),
        ({"ContentType": "Base64 Encoded"}, DATA, PDF, "bin"),
        ({"ContentType": "Base64 Encoded", "FileType": "PDF"}, DATA, PDF, "pdf"),
        ({"ContentType": "Plain Text", "FileType": "PDF"}, DATA, PDF, "pdf"),
        ({}, DATA, PDF, "bin"),
    ],
)
def test_content_type_says_how_a_note_stands(beside: dict[str, str], text: str, expected: bytes | None, suffix: str) -> None:
    """Plain text is text, however much it looks like base64 or a URL; a PDF that calls itself plain text is base64."""
    one = only(message("Notes", Notes=[{**beside, "FileContents": text}]))
    assert (one.url, content(one)) == (None, expected or text.encode())
    assert media_types.suffix(one.declared) == suffix


def test_a_link_in_a_note_is_asked_for() -> None:
    """FileContents may be the URI of an upload, whatever its type; words with a colon are none."""
    for beside in ({}, {"ContentType": "Plain Text"}, {"ContentType": "Base64 Encoded"}):
        one = only(message("Notes", Note={**beside, "FileContents": "https://blob.redoxengine.com/1"}))
        assert (one.url, one.data) == ("https://blob.redoxengine.com/1", None)
    assert only(message("Notes", Note={"ContentType": "Plain Text", "FileContents": "Note: normal"})).url is None


@pytest.mark.parametrize("value", [None, "", 7])
def test_encapsulated_data_without_data_is_told(value: Any) -> None:
    """A result that says that it is a file and holds none is a failure."""
    result = {"ValueType": "Encapsulated Data", "Value": value}
    assert only(message("Results", Orders=[{"Results": [result]}])).fault == attachments.EMPTY


@pytest.mark.skipif(not TEST_DATA.exists(), reason="the samples of Redox are not at hand")
def test_the_samples_of_redox() -> None:
    """Every message of Redox's samples: a file where it holds one, and a failure where the sample holds words instead."""
    found: dict[str, list[str]] = {}
    for place in sorted((TEST_DATA / "redox-data-models").glob("*.json")):
        for one in attachments_of(json.loads(place.read_text())):
            try:
                told = one.fault or f"{media_types.suffix(one.declared)} {content(one)[:5]!r}"
            except RedoxProtocolError:
                told = "refused"
            found.setdefault(place.stem, []).append(told)
    assert found == {
        "clinicalsummary_documentgetresponse": ["xml b'<!-- '"],
        "clinicalsummary_documentqueryresponse": [attachments.ONLY_LISTED],
        "clinicalsummary_patientpush": ["txt b'<cont'"],
        "clinicalsummary_visitpush": ["txt b'<cont'"],
        "media_new": ["refused"],
        "media_queryresponse": ["jpg b'\\xff\\xd8\\xff\\xe0\\x00'"],
        "media_replace": ["refused"],
        "notes_new": ["refused"],
        "notes_queryresponse": ["bin b'%PDF-'"],
        "notes_replace": ["refused"],
    }
