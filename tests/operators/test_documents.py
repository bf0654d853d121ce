"""Documents: had from where resources hold or name them, each in a file of its own, with its checksum."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.downstream import read_document, read_resources, read_searches
from airflow_provider_redox.exceptions import RedoxIncompleteError, RedoxProtocolError
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.operators.documents import RedoxDocumentDownloadOperator
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from tests.client.drivers import connection_to
from tests.support.refusals import refused
from tests.support.s3 import CONNECTION, Bucket
from tests.support.sandbox import Sandbox
from tests.support.wire import Line, Scene, Wire, answers, http, token_answer
from tests.support.worker import Worker

BASE = "/fhir/R4/general-hospital/Development"
PDF = b"%PDF-1.7 " + bytes(range(256)) * 20


def context(task_id: str = "documents", run_id: str = "r") -> dict[str, Any]:
    return {"ti": SimpleNamespace(dag_id="d", run_id=run_id, task_id=task_id, map_index=-1)}


def download(output: Path, **arguments: Any) -> dict[str, Any]:
    run_id = arguments.pop("run_id", "r")
    operator = RedoxDocumentDownloadOperator(task_id="documents", output_path=str(output), **arguments)
    return operator.execute(context(run_id=run_id))  # type: ignore[arg-type]


def listed(output: Path, *resources: dict[str, Any], kind: str = "DocumentReference") -> dict[str, Any]:
    """A manifest of these resources, as a search would have written it."""
    lines = [json.dumps(resource).encode() for resource in resources]
    output.mkdir(parents=True, exist_ok=True)
    place = output / f"{kind}.ndjson"
    place.write_bytes(b"\n".join([*lines, b""]))
    return {"output": [{"type": kind, "url": f"file://{place}", "count": len(lines)}]}


def reference(identifier: str, *attachments: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "id": identifier,
        "content": [{"attachment": attachment} for attachment in attachments],
    }


def entries(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(read_resources(manifest, "Document"), key=lambda entry: entry["url"])


def files_in(output: Path) -> list[Path]:
    return sorted(path for path in output.rglob("*.DocumentFile.*"))


def test_what_a_killed_try_left_half_written_goes(redox_connection: Sandbox, tmp_path: Path):
    """A document that was being written when the worker died is removed by the next success, and so are replaced ones."""
    data = base64.b64encode(PDF).decode()
    found = listed(tmp_path / "in", reference("1", {"contentType": "application/pdf", "data": data}))
    download(tmp_path / "out", manifest=found)
    (whole,) = files_in(tmp_path / "out")
    dead = whole.with_name(f".{whole.name}.0a1b2c3d.partial")
    dead.write_bytes(b"half of a document")
    (entry,) = entries(download(tmp_path / "out", manifest=found))
    assert [f"file://{path}" for path in files_in(tmp_path / "out")] == [entry["url"]]
    assert not whole.exists()


def test_the_documents_of_a_search(redox_connection: Sandbox, tmp_path: Path):
    """What the references of a search point to is in files, each listed with type, size, checksum and where it came from."""
    redox_connection.settings(patient_search_rule=False)
    search = RedoxFhirSearchOperator(task_id="s", resource_type="DocumentReference", output_path=str(tmp_path))
    found = search.execute(context("s"))  # type: ignore[arg-type]
    references = {one["id"]: one for one in read_resources(found, "DocumentReference")}
    manifest = download(tmp_path, manifest=found)
    assert manifest["output"][0]["count"] == len(references) > 10
    assert manifest["extension"] == {
        "documents": len(references),
        "requests": len(references),
        "failed": 0,
        "searches": manifest["extension"]["searches"],
    }
    for entry in entries(manifest):
        kind, _, identifier = entry["source"].partition("/")
        (content,) = references[identifier]["content"]
        assert (kind, entry["part"]) == ("DocumentReference", "content[0].attachment")
        assert entry["contentType"] == "text/plain"
        assert entry["url"].endswith(".txt")
        data = read_document(entry)
        assert data.startswith(b"Visit summary of ")
        assert len(data) == entry["size"] == content["attachment"]["size"]
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]


def test_nothing_of_a_patient_is_in_the_manifest(redox_connection: Sandbox, tmp_path: Path):
    """The manifest holds places and counts; the list of documents IDs and no name."""
    named = reference("doc-1", {"title": "Keva Green", "contentType": "text/plain", "data": "SGVsbG8="})
    manifest = download(tmp_path, manifest=listed(tmp_path / "in", named | {"description": "Keva Green"}))
    assert "Keva" not in json.dumps(manifest)
    assert "Keva" not in json.dumps(entries(manifest))
    assert "Keva" not in " ".join(map(str, tmp_path.rglob("*")))


def test_what_a_resource_holds_itself(redox_connection: Sandbox, tmp_path: Path):
    """Base64 in DocumentReference, DiagnosticReport, Media, Binary and Data Model answers is written without a request."""
    data = base64.b64encode(PDF).decode()
    inline = {"contentType": "application/pdf", "data": data}
    manifests = [
        listed(tmp_path / "1", reference("doc-1", inline, {"title": "no document"})),
        listed(tmp_path / "2", {"resourceType": "DiagnosticReport", "id": "rep", "presentedForm": [inline]}),
        listed(tmp_path / "3", {"resourceType": "Media", "id": "med", "content": inline}),
        listed(tmp_path / "4", {"resourceType": "Binary", "id": "bin", **inline}),
        listed(
            tmp_path / "5", {"Meta": {"DataModel": "Media", "EventType": "QueryResponse"}, "Media": {"FileContents": data}}
        ),
        listed(
            tmp_path / "6",
            {
                "Meta": {"DataModel": "Results", "EventType": "QueryResponse"},
                "Orders": [{"Results": [{"ValueType": "Encapsulated Data", "Value": data}, {"Value": "7.5"}]}],
            },
        ),
    ]
    manifest = download(tmp_path / "out", manifest=manifests)
    found = entries(manifest)
    assert [(entry["source"].partition("/sha256-")[0], entry["part"]) for entry in found] == [
        ("DocumentReference/doc-1", "content[0].attachment"),
        ("DiagnosticReport/rep", "presentedForm[0]"),
        ("Media/med", "content"),
        ("Binary/bin", "data"),
        ("Media.QueryResponse", "Media.FileContents"),
        ("Results.QueryResponse", "Orders[0].Results[0].Value"),
    ]
    assert {read_document(entry) for entry in found} == {PDF}
    assert [entry["url"].rpartition(".")[2] for entry in found] == ["pdf"] * 4 + ["bin"] * 2
    assert redox_connection.ledger() == []


def test_an_uploaded_file_comes_back_in_flat_memory(redox_connection: Sandbox, tmp_path: Path):
    """A file of 30 MB at `extra.blob_url` is written while it comes: a few megabytes are held."""
    content = bytes(range(256)) * 4096 * 30
    uri = RedoxHook().upload(content)
    operator = RedoxDocumentDownloadOperator(task_id="documents", output_path=str(tmp_path), urls=[uri])
    tracemalloc.start()
    manifest = operator.execute(context())  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (entry,) = entries(manifest)
    assert (entry["size"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert peak < 12 * 1024 * 1024


def test_a_binary_that_comes_as_json(redox_connection: Sandbox, tmp_path: Path):
    """A server that gives a Binary as a FHIR resource gives the same document."""
    binary = {"resourceType": "Binary", "contentType": "application/pdf", "data": base64.b64encode(PDF).decode()}
    redox_connection.fault("body", body=binary, content_type="application/fhir+json", match={"path": "/Binary/"}, times=None)
    identifier = next(entry for entry in a_binary(redox_connection))
    (entry,) = entries(download(tmp_path, urls=[f"Binary/{identifier}"]))
    assert (read_document(entry), entry["contentType"], entry["source"]) == (PDF, "application/pdf", "urls[0]")


def a_binary(sandbox: Sandbox) -> list[str]:
    sandbox.settings(patient_search_rule=False)
    found = RedoxHook().fhir_search("DocumentReference", {"_count": "1"})
    return [next(iter(found))["content"][0]["attachment"]["url"].partition("/")[2]]


ELSEWHERE = [
    "https://evil.example/doc.pdf",
    "//evil.example/doc.pdf",
    "http://169.254.169.254/latest/meta-data",
    "file:///etc/passwd",
    "../../../lakeside-clinic/Development/Binary/1",
    "Binary/..%2f..%2fv2/auth/token",
    "/v2/auth/token",
    "Binary/1#x",
    "Binary/1\r\nHost: evil",
    "https://user@{host}" + BASE + "/Binary/1",
    "urn:uuid:0f4bd1d1-451d-4351-8cfd-b767d1b488d6",
    "ftp://{host}/x",
]


@pytest.mark.parametrize("url", ELSEWHERE)
def test_a_url_that_leads_elsewhere_is_refused(redox_connection: Sandbox, tmp_path: Path, url: str):
    """Nothing is sent for a document whose URL leaves the destination's own server; the error quotes no URL."""
    address = url.replace("{host}", redox_connection.url.partition("://")[2])
    manifest = listed(tmp_path / "in", reference("doc-1", {"url": address}))
    with pytest.raises(AirflowFailException) as caught:
        download(tmp_path / "out", manifest=manifest)
    assert "1 of 1" in str(caught.value)
    assert address not in str(caught.value)
    assert redox_connection.ledger() == []
    (place,) = (tmp_path / "out").rglob("searches*.ndjson")
    (line,) = map(json.loads, place.read_text().splitlines())
    assert (line["status"], line["error"]) == ("error", "RedoxSecurityError")
    assert line["key"] == "DocumentReference/doc-1 content[0].attachment"


def test_an_alias_of_the_server_is_rewritten(redox_connection: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A URL on a host of `extra.link_host_aliases` is asked for on our own base, and the token goes nowhere else."""
    (identifier,) = a_binary(redox_connection)
    connection = redox_connection.with_extra(link_host_aliases="ehr.hospital.example")
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(connection))
    (entry,) = entries(download(tmp_path, urls=[f"https://ehr.hospital.example/FHIR/api/R4/Binary/{identifier}"]))
    assert read_document(entry).startswith(b"Visit summary")
    assert redox_connection.ledger("/Binary/")[-1]["path"] == f"{BASE}/Binary/{identifier}"


def a_server(body: bytes, kind: str = "application/pdf") -> Wire:
    return Wire(answers(http(body, kind=kind)))


def on(wire: Wire, monkeypatch: pytest.MonkeyPatch, **extra: Any) -> None:
    connection = connection_to(wire.url, cache_backend="memory", **extra)
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(connection))


LONG = "eq" * 42 + "_a:b"
AT_HOME = {
    "relative": ("Binary/1", "Binary/1"),
    "of 88 characters": (f"Binary/{LONG}", f"Binary/{LONG}"),
    "from the root": ("/Binary/1", "Binary/1"),
    "from the root of its own server": (f"/r4/ec2458f2/Binary/{LONG}", f"Binary/{LONG}"),
    "from the root of a server whose base is fhir/R4": ("/fhir/R4/Binary/1", "Binary/1"),
    "from our root": (f"{BASE}/Binary/1", "Binary/1"),
    "absolute": ("{url}" + f"{BASE}/Binary/1", "Binary/1"),
    "a version": ("/Binary/1/_history/2", "Binary/1"),
    "a version on our base": ("Binary/1/_history/2", "Binary/1/_history/2"),
    "on an alias": (f"https://ehr.example/api/FHIR/R4/Binary/{LONG}", f"Binary/{LONG}"),
    "on an alias, with an ID like a type": ("https://ehr.example/api/FHIR/R4/Binary/AbC", "Binary/AbC"),
}


@pytest.mark.parametrize(("url", "path"), AT_HOME.values(), ids=AT_HOME)
def test_a_binary_is_asked_for_on_our_own_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, path: str):
    """However a server names its Binary, it is asked for below the destination's own base, and the document is listed."""
    with a_server(PDF) as wire:
        on(wire, monkeypatch, link_host_aliases="ehr.example")
        (entry,) = entries(download(tmp_path, urls=[url.replace("{url}", wire.url)]))
        asked = [one.split(b" ")[1].decode() for one in wire.requests if one.startswith(b"GET ")]
    assert asked == [f"{BASE}/{path}"]
    assert read_document(entry) == PDF


NOT_A_DOCUMENT = [
    "/fhir/R4/lakeside-clinic/Development/Binary/1",
    "/FHIR/R4/lakeside-clinic/Development/Binary/1",
    "/%66hir/R4/lakeside-clinic/Development/Binary/1",
    "//evil.example/Binary/1",
    "https://evil.example/Binary/1",
    "{url}" + BASE,
    "{url}" + f"{BASE}/?_getpages=1",
    "https://ehr.example/api/FHIR/R4/",
    "https://ehr.example/api/FHIR/R4/binary/1",
    "?x=1",
    "#x",
]


@pytest.mark.parametrize("url", NOT_A_DOCUMENT)
def test_the_bare_base_is_never_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str):
    """A URL that names no document on the destination's server, or one elsewhere, is refused: nothing leaves, no token."""
    with a_server(PDF) as wire:
        on(wire, monkeypatch, link_host_aliases="ehr.example")
        with pytest.raises(AirflowFailException, match="1 of 1"):
            download(tmp_path, urls=[url.replace("{url}", wire.url)])
        assert wire.requests == []


def test_a_binary_with_a_long_id_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A Binary that a search found by an ID of 88 characters is asked for by it."""
    with a_server(PDF) as wire:
        on(wire, monkeypatch)
        (entry,) = entries(download(tmp_path / "out", manifest=listed(tmp_path, {"resourceType": "Binary", "id": LONG})))
        assert wire.requests[-1].startswith(f"GET {BASE}/Binary/{LONG} ".encode())
    assert (entry["source"], read_document(entry)) == (f"Binary/{LONG}", PDF)


def test_size_and_hash_are_held_against_the_document(redox_connection: Sandbox, tmp_path: Path):
    """A document of another size or hash fails, with the reason in its line; `warn` keeps it, and says so in its line."""
    data = base64.b64encode(PDF).decode()
    sha1 = base64.b64encode(hashlib.sha1(PDF, usedforsecurity=False).digest()).decode()
    fetched = listed(
        tmp_path / "in",
        reference("good", {"data": data, "size": len(PDF), "hash": sha1}),
        reference("short", {"data": data, "size": len(PDF) + 1}),
        reference("other", {"data": data, "hash": sha1.swapcase()}),
    )
    with pytest.raises(AirflowFailException, match="2 of 3"):
        download(tmp_path / "out", manifest=fetched)
    (place,) = (tmp_path / "out").rglob("searches*.ndjson")
    failed = [line for line in map(json.loads, place.read_text().splitlines()) if line["status"] == "error"]
    assert {line["key"].split(" ")[0]: line["said"][:30] for line in failed} == {
        "DocumentReference/short": "the document has 5129 bytes, a",
        "DocumentReference/other": "the document is not the one wh",
    }
    kept = entries(download(tmp_path / "kept", manifest=fetched, on_mismatch="warn"))
    assert [entry.get("mismatch", "")[:13] for entry in kept] == ["", "the document ", "the document "]
    assert {read_document(entry) for entry in kept} == {PDF}


def test_a_part_is_never_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """206, and a body that just ends with its connection: the task fails, and no file is left."""
    ends = b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\n\r\n" + PDF
    part = http(
        PDF, status="206 Partial Content", kind="application/pdf", Content_Range="bytes 0-5128/9999", Connection="close"
    )

    def scene(answer: bytes) -> Scene:
        def play(line: Line) -> None:
            line.send(token_answer(line.request()) or answer)

        return play

    for name, answer in (("ends", ends), ("part", part)):
        with Wire(scene(answer)) as wire:
            on(wire, monkeypatch)
            operator = RedoxDocumentDownloadOperator(
                task_id="documents", output_path=str(tmp_path / name), urls=["Binary/1"]
            )
            operator.hook.client._sleep = lambda _: None
            with pytest.raises((AirflowFailException, RedoxIncompleteError), match="1 of 1"):
                operator.execute(context())  # type: ignore[arg-type]
        assert files_in(tmp_path / name) == []


def test_the_answer_of_a_document_get_is_written(redox_connection: Sandbox, tmp_path: Path):
    """What a DocumentGet brought is a file of XML; what a DocumentQuery lists fails, with what to ask in its line."""
    get = {"DataModel": "Clinical Summary", "EventType": "DocumentGetResponse"}
    fetched = listed(tmp_path / "in", {"Meta": get, "FileType": "text/xml", "Data": "<ClinicalDocument/>"}, kind="Answer")
    (entry,) = entries(download(tmp_path / "out", manifest=fetched))
    assert (read_document(entry), entry["contentType"]) == (b"<ClinicalDocument/>", "text/xml")
    assert entry["url"].endswith(".xml")
    query = {"Meta": {"DataModel": "Clinical Summary", "EventType": "DocumentQueryResponse"}, "Documents": [{"ID": "1"}]}
    with pytest.raises(AirflowFailException, match="1 of 1"):
        download(tmp_path / "list", manifest=listed(tmp_path / "in2", query, kind="Answer"))
    (place,) = (tmp_path / "list").rglob("searches*.ndjson")
    assert "DocumentGet" in json.loads(place.read_text())["said"]


def test_ndjson_is_written_in_flat_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A bulk file of 20 MB goes into its file line by line as it is, and a few megabytes are held."""
    lines = b'{"resourceType": "Patient", "id": "1"}\n' * 500_000
    with a_server(lines, "application/fhir+ndjson") as wire:
        on(wire, monkeypatch)
        tracemalloc.start()
        manifest = download(tmp_path, urls=["Binary/1"])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    (entry,) = entries(manifest)
    assert (entry["sha256"], entry["contentType"]) == (hashlib.sha256(lines).hexdigest(), "application/fhir+ndjson")
    assert entry["url"].endswith(".jsonl")
    assert peak < 12 * 1024 * 1024
    assert download(tmp_path, urls=[f"data:,{'x' * 9}"])["extension"]["documents"] == 1
    assert [path.suffix for path in files_in(tmp_path)] == [".txt"]


def test_a_bad_one_does_not_lose_the_rest(redox_connection: Sandbox, tmp_path: Path):
    """The task fails at the end with a count and the list; a next try has only what failed again."""
    (good,) = a_binary(redox_connection)
    fetched = listed(
        tmp_path / "in",
        reference("doc-1", {"url": "Binary/not-there"}, {"url": f"Binary/{good}"}),
        reference("doc-2", {"data": "not base64!"}),
    )
    with pytest.raises(AirflowFailException, match="2 of 3 documents failed"):
        download(tmp_path / "out", manifest=fetched)
    assert len(redox_connection.ledger("/Binary/")) == 2
    with pytest.raises(AirflowFailException, match="2 of 3 documents failed"):
        download(tmp_path / "out", manifest=fetched)
    assert len(redox_connection.ledger("/Binary/")) == 3


def test_bad_ones_are_recorded(redox_connection: Sandbox, tmp_path: Path):
    """With on_error="record" the result holds what could be had, and the list says what could not."""
    (good,) = a_binary(redox_connection)
    fetched = listed(tmp_path / "in", reference("doc-1", {"url": "Binary/not-there"}, {"url": f"Binary/{good}"}))
    manifest = download(tmp_path / "out", manifest=fetched, on_error="record")
    assert [entry["part"] for entry in entries(manifest)] == ["content[1].attachment"]
    assert (manifest["extension"]["documents"], manifest["extension"]["failed"]) == (1, 1)
    assert [line["status"] for line in read_searches(manifest)] == ["error", "one"]
    assert len(files_in(tmp_path / "out")) == 1


def test_a_document_is_never_larger_than_was_agreed(redox_connection: Sandbox, tmp_path: Path):
    """One that says so, one that does not, one that is packed, and one in base64: none is kept, no file is left."""
    uri = RedoxHook().upload(b"x" * 5000)
    fetched = listed(tmp_path / "in", reference("doc-1", {"url": uri}, {"data": base64.b64encode(b"x" * 5000).decode()}))
    with pytest.raises(AirflowFailException, match="2 of 2"):
        download(tmp_path / "out", manifest=fetched, max_bytes=4999)
    assert files_in(tmp_path / "out") == []
    redox_connection.fault("gzip_bomb", size=10_000_000, match={"path": "/blob/"})
    redox_connection.fault("headers", headers={"Content-Type": "application/pdf"}, match={"path": "/blob/"})
    with pytest.raises(AirflowFailException):
        download(tmp_path / "out2", urls=[uri], max_bytes=4999)
    assert files_in(tmp_path / "out2") == []


def test_a_document_without_a_stated_length_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A server that pours without an end is left at the limit."""

    def pours(line: Line) -> bool:
        request = line.request()
        token = token_answer(request)
        if token:
            line.send(token)
            return True
        line.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\nConnection: close\r\n\r\n")
        for _ in range(200):
            line.send(b"x" * 100_000)
        return False

    with Wire(pours) as wire:
        monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(connection_to(wire.url, cache_backend="memory")))
        with pytest.raises(AirflowFailException, match="1 of 1"):
            download(tmp_path, urls=["Binary/1"], max_bytes=1_000_000)
    assert files_in(tmp_path) == []


def test_a_try_that_breaks_off_leaves_nothing_of_itself(redox_connection: Sandbox, tmp_path: Path):
    """A download that is cut off is made again within the task, and the file holds the second only."""
    uri = RedoxHook().upload(PDF * 50)
    redox_connection.fault("reset_in_body", match={"path": "/blob/"})
    (entry,) = entries(download(tmp_path, urls=[uri]))
    assert read_document(entry) == PDF * 50
    assert len(files_in(tmp_path)) == 1


def test_a_login_page_is_no_document(redox_connection: Sandbox, tmp_path: Path):
    """A web page with status 200 where a PDF was promised is an error."""
    (identifier,) = a_binary(redox_connection)
    redox_connection.fault("html", match={"path": "/Binary/"}, times=None)
    attachment = {"url": f"Binary/{identifier}", "contentType": "application/pdf"}
    operator = RedoxDocumentDownloadOperator(
        task_id="documents", output_path=str(tmp_path), manifest=listed(tmp_path / "in", reference("d", attachment))
    )
    operator.hook.client._sleep = lambda _: None
    with pytest.raises((AirflowFailException, RedoxIncompleteError)):
        operator.execute(context())  # type: ignore[arg-type]
    assert files_in(tmp_path) == []


KINDS = ["../../../etc/passwd", "application/../../x", "../b;c=../..", "image/png\x00", "text/", "évil/x", "x" * 500]


@pytest.mark.parametrize("kind", KINDS)
def test_no_part_of_a_name_comes_from_a_server(redox_connection: Sandbox, tmp_path: Path, kind: str):
    """An odd content type makes an ordinary file that ends with `.bin`."""
    attachment = {"contentType": kind, "data": base64.b64encode(PDF).decode()}
    (entry,) = entries(download(tmp_path / "out", manifest=listed(tmp_path / "in", reference("../../x", attachment))))
    assert Path(entry["url"].removeprefix("file://")).name == "documents.DocumentFile.00000.bin"
    assert entry["contentType"] == "application/octet-stream"
    assert re.fullmatch("DocumentReference/sha256-[0-9a-f]{32}", entry["source"])


def test_headers_reach_the_server(redox_connection: Sandbox, tmp_path: Path):
    """Headers that a network wants go with each request for a document."""
    (identifier,) = a_binary(redox_connection)
    download(tmp_path, urls=[f"Binary/{identifier}"], headers={"X-Purpose-Of-Use": "TREATMENT"})
    sent = {name.lower(): value for name, value in redox_connection.ledger("/Binary/")[-1]["headers"]}
    assert sent["x-purpose-of-use"] == "TREATMENT"


def test_a_second_run_of_the_task_replaces_the_first(redox_connection: Sandbox, tmp_path: Path):
    """A task that runs again with fewer documents leaves none of the earlier result."""
    data = {"data": base64.b64encode(PDF).decode(), "contentType": "application/pdf"}
    download(tmp_path / "out", manifest=listed(tmp_path / "in", reference("doc-1", data, data, data)))
    assert len(files_in(tmp_path / "out")) == 3
    manifest = download(tmp_path / "out", manifest=listed(tmp_path / "in", reference("doc-1", data)))
    assert [f"file://{path}" for path in files_in(tmp_path / "out")] == [entries(manifest)[0]["url"]]


def test_a_full_store_is_not_taken_for_a_bad_line(
    redox_connection: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A store that takes no more is the store's error, told as it is, and the document is asked for once."""
    from airflow_provider_redox.storage.documents import Incoming

    (identifier,) = a_binary(redox_connection)

    def full(self: Incoming, chunk: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Incoming, "write", full)
    with pytest.raises(OSError, match="No space left"):
        download(tmp_path, urls=[f"Binary/{identifier}"])
    assert len(redox_connection.ledger("/Binary/")) == 1


def test_a_worker_that_is_killed_has_no_document_twice(redox_connection: Sandbox, tmp_path: Path):
    """SIGKILL in the middle, the worker's own disk gone: the next try asks for what is left, and for what was under way."""
    redox_connection.settings(patient_search_rule=False)
    search = RedoxFhirSearchOperator(task_id="s", resource_type="DocumentReference", output_path=str(tmp_path / "found"))
    found = list(read_resources(search.execute(context("s")), "DocumentReference"))  # type: ignore[arg-type]
    attachments = [found[number % len(found)]["content"][0]["attachment"] for number in range(60)]
    manifest = listed(tmp_path / "in", *(reference(f"doc-{number}", one) for number, one in enumerate(attachments)))
    output, width = tmp_path / "out", 4
    redox_connection.fault("delay", seconds=0.1, times=None, match={"path": "/Binary/"})

    def worker() -> Worker:
        told = {"manifest": manifest, "output_path": str(output), "max_concurrency": width}
        return Worker("download", {"redox_default": redox_connection.connection_json}, **told)

    first = worker()
    while first.runs and len(redox_connection.ledger("/Binary/")) < 20:
        time.sleep(0.02)
    first.kill()
    asked = len(redox_connection.ledger("/Binary/"))
    assert 20 <= asked < 60
    assert not list(output.rglob("manifest.json"))
    told = worker().end()["returned"]
    assert list(output.rglob("manifest.json"))
    assert told["extension"]["documents"] == 60
    assert len(redox_connection.ledger("/Binary/")) <= 60 + 2 * width
    listed_files = entries(told)
    assert sorted(f"file://{path}" for path in files_in(output)) == [entry["url"] for entry in listed_files]
    assert all(hashlib.sha256(read_document(entry)).hexdigest() == entry["sha256"] for entry in listed_files)


def test_documents_land_on_a_real_object_store(
    redox_connection: Sandbox, tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
):
    """Through the driver of S3: each document whole, with its checksum, and nothing besides when the task is over."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", bucket.server.connection_json)
    data = base64.b64encode(PDF).decode()
    held = reference("doc-1", {"contentType": "application/pdf", "data": data})
    pointed = [
        reference(f"doc-{number}", {"url": f"Binary/{url}"}) for number, url in enumerate(a_binary(redox_connection), 2)
    ]
    operator = RedoxDocumentDownloadOperator(
        task_id="documents", output_path=bucket.root, manifest=listed(tmp_path / "in", held, *pointed)
    )
    manifest = operator.execute(context())  # type: ignore[arg-type]
    found = entries(manifest)
    assert len(found) == 1 + len(pointed) > 1
    assert all(entry["url"].startswith(bucket.root) for entry in found)
    assert all(hashlib.sha256(read_document(entry)).hexdigest() == entry["sha256"] for entry in found)
    assert PDF in [read_document(entry) for entry in found]


def test_no_document_at_all(redox_connection: Sandbox, tmp_path: Path):
    """A search that found no reference has a result without documents; nothing is asked for."""
    manifest = download(tmp_path / "out", manifest=listed(tmp_path / "in", {"resourceType": "Patient", "id": "1"}))
    assert (manifest["output"], manifest["extension"]["documents"]) == ([], 0)
    assert redox_connection.ledger() == []


BAD: dict[str, dict[str, Any]] = {
    "neither": {},
    "both": {"manifest": {"output": []}, "urls": ["Binary/1"]},
    "no urls": {"urls": []},
    "one text": {"urls": "Binary/1"},
    "a number": {"urls": [1]},
    "no manifest": {"manifest": {"files": []}},
    "no list": {"manifest": []},
    "no threads": {"urls": ["Binary/1"], "max_concurrency": 0},
    "no bytes": {"urls": ["Binary/1"], "max_bytes": True},
    "another choice": {"urls": ["Binary/1"], "on_error": "ignore"},
    "another choice of what does not match": {"urls": ["Binary/1"], "on_mismatch": "ignore"},
    "no such destination": {"urls": ["Binary/1"], "destination": "not a slug!"},
}


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD)
def test_what_cannot_be_meant_is_refused_at_once(redox_connection: Sandbox, tmp_path: Path, arguments: dict[str, Any]):
    """An argument that makes no sense is a RedoxConfigError before the first request."""
    with refused():
        download(tmp_path, **arguments)
    assert redox_connection.ledger() == []


def test_a_document_that_was_changed_is_not_read(redox_connection: Sandbox, tmp_path: Path):
    """A file that is gone or was changed after it was written is an error."""
    data = {"data": base64.b64encode(PDF).decode()}
    (entry,) = entries(download(tmp_path / "out", manifest=listed(tmp_path / "in", reference("doc-1", data))))
    place = Path(entry["url"].removeprefix("file://"))
    place.write_bytes(b"another")
    with pytest.raises(RedoxProtocolError, match="checksum"):
        read_document(entry)
    place.unlink()
    with pytest.raises(RedoxProtocolError, match="not there"):
        read_document(entry)
