"""Reading results downstream: every file of a manifest, checked, in flat memory."""

from __future__ import annotations

import gzip
import hashlib
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_redox.downstream import merge_manifests, read_lines, read_resources, read_searches
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxProtocolError, RedoxSecurityError

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2
    from airflow.io.store import attach

PLACE = "destination=general/environment=Production"
PATIENTS = [b'{"resourceType":"Patient","id":"%d","n":1.10}' % number for number in range(5)]
OBSERVATIONS = [b'{"resourceType":"Observation","id":"a","t":"\xc3\xa9"}']


def store(root: str, name: str, content: bytes) -> str:
    """Put a file on a store, with Airflow's own means. Give its URL."""
    place = ObjectStoragePath(f"{root}/{name}")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return f"{root}/{name}"


def listed(kind: str, url: str, lines: list[bytes], content: bytes) -> dict[str, Any]:
    return {"type": kind, "url": url, "count": len(lines), "sha256": hashlib.sha256(content).hexdigest()}


def packed(lines: list[bytes], *, members: int) -> bytes:
    """Join lines, into as many gzip members as asked for; 0 is not gzipped."""
    content = b"".join(line + b"\n" for line in lines)
    if not members:
        return content
    half = len(content) // members + 1
    return b"".join(gzip.compress(content[start : start + half], mtime=0) for start in range(0, len(content), half))


def result(root: str, *, members: int = 0) -> dict[str, Any]:
    """Store a result of two files of patients and one of observations. Give its manifest."""
    output = []
    for kind, number, lines in [
        ("Observation", 0, OBSERVATIONS),
        ("Patient", 0, PATIENTS[:3]),
        ("Patient", 1, PATIENTS[3:]),
    ]:
        content = packed(lines, members=members)
        url = store(root, f"type={kind}/task.{kind}.{number:05d}.ndjson{'.gz' if members else ''}", content)
        output.append(listed(kind, url, lines, content))
    return {"transactionTime": "2026-01-01T00:00:00Z", "output": output, "error": [], "extension": {"pages": 1}}


def patients_file(manifest: dict[str, Any], number: int) -> Path:
    return Path(manifest["output"][number]["url"].removeprefix("file://"))


@pytest.fixture(params=["file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A root on a local disk, and one on a store that only the connection `lake` opens, kept in this process."""
    if request.param == "file":
        return f"file://{tmp_path}"
    attach("memory", conn_id="lake", fs=MemoryFileSystem())
    return f"memory://lake@bucket/{tmp_path.name}"


@pytest.mark.parametrize("members", [0, 1, 3])
def test_every_line_of_every_file_comes_in_the_order_of_the_manifest(root: str, members: int):
    """Lines come byte for byte, file by file, from any store, gzipped (in one member or several) or not."""
    assert list(read_lines(result(root, members=members))) == [*OBSERVATIONS, *PATIENTS]


def test_a_type_is_read_from_all_its_files_and_from_no_other(tmp_path: Path):
    """With a type, each of its files is read, and files of other types need not even exist."""
    manifest = result(f"file://{tmp_path}")
    patients_file(manifest, 0).unlink()
    assert [patient["id"] for patient in read_resources(manifest, "Patient")] == ["0", "1", "2", "3", "4"]
    assert list(read_resources(manifest, "Condition")) == []


def test_a_manifest_is_read_from_its_url_or_path(tmp_path: Path):
    """A URL, a path and a path object of a manifest.json do as well as the manifest itself."""
    root = f"file://{tmp_path}/{PLACE}"
    url = store(root, "_redox/manifest.json", json.dumps(result(root)).encode())
    path = tmp_path / PLACE / "_redox" / "manifest.json"
    for place in (url, str(path), path, ObjectStoragePath(url)):
        assert len(list(read_resources(place))) == 6


def test_a_stored_manifest_is_read_with_another_connection(tmp_path: Path):
    """Where its files lie is told by bucket and path: the connection that wrote them is not always the one that reads."""
    for conn_id in ("writer", "reader"):
        attach("memory", conn_id=conn_id, fs=MemoryFileSystem())
    written = f"memory://writer@bucket/{tmp_path.name}/{PLACE}"
    store(written, "_redox/dag_id=d/manifest.json", json.dumps(result(written)).encode())
    assert len(list(read_lines(f"memory://reader@bucket/{tmp_path.name}/{PLACE}/_redox/dag_id=d/manifest.json"))) == 6


ELSEWHERE = [
    "file:///etc/hostname",
    "/etc/hostname",
    "file://{root}/destination=other/environment=Production/type=Patient/p.ndjson",
    "file://{place}2/p.ndjson",
    "file://{place}/../environment=Staging/p.ndjson",
    "memory://{place}/p.ndjson",
    "simplecache::file://{place}/p.ndjson",
    "",
]


@pytest.mark.parametrize("url", ELSEWHERE)
@pytest.mark.parametrize("where", ["output", "error", "searches"])
def test_a_stored_manifest_names_no_file_of_others(tmp_path: Path, url: str, where: str):
    """One that was read from a place leads below its own folder, or its destination's and environment's. No path is told."""
    address = url.format(root=tmp_path, place=tmp_path / PLACE)
    manifest: dict[str, Any] = {"output": [], "error": [], "extension": {}}
    if where == "searches":
        manifest["extension"]["searches"] = address
    else:
        manifest[where] = [{"type": "Patient", "url": address}]
    place = store(f"file://{tmp_path}/{PLACE}", "_redox/manifest.json", json.dumps(manifest).encode())
    readers: list[Callable[[str], Any]] = [
        read_lines,
        read_resources,
        lambda place: list(read_searches(place)),
        lambda place: merge_manifests([place]),
    ]
    for read in readers:
        with pytest.raises(RedoxConfigError, match="lies elsewhere than the manifest that names it") as raised:
            read(place)
        assert "/" not in str(raised.value)


@pytest.mark.parametrize("url", ELSEWHERE)
def test_a_list_of_documents_names_no_file_of_others(tmp_path: Path, url: str):
    """A line of it leads where the list's own task puts documents, or it is not given."""
    root = f"file://{tmp_path}/{PLACE}"
    own = {"type": "Document", "url": f"{root}/type=DocumentFile/d.pdf", "sha256": "0"}
    other = {**own, "url": url.format(root=tmp_path, place=tmp_path / PLACE)}
    place = store(root, "type=Document/d.ndjson", f"{json.dumps(own)}\n{json.dumps(other)}\n".encode())
    entries = read_resources({"output": [{"type": "Document", "url": place}]}, "Document")
    assert next(entries) == own
    with pytest.raises(RedoxSecurityError, match="file 1 of type Document: holds a line that names a file of") as raised:
        next(entries)
    assert "/" not in str(raised.value)


def test_outcomes_are_read_when_they_are_asked_for(tmp_path: Path):
    """What a manifest lists under `error` is no resource that was searched for; it is read by its type."""
    manifest = result(f"file://{tmp_path}")
    line = b'{"resourceType":"OperationOutcome"}'
    url = store(f"file://{tmp_path}", "outcomes.ndjson", line + b"\n")
    manifest["error"].append(listed("OperationOutcome", url, [line], line + b"\n"))
    assert line not in list(read_lines(manifest))
    assert list(read_lines(manifest, "OperationOutcome")) == [line]


def test_manifests_of_other_tools_are_read(tmp_path: Path):
    """Count and checksum may be missing, as in FHIR's Bulk Data; so may the last newline; empty lines are passed over."""
    url = store(f"file://{tmp_path}", "p.ndjson", b"\n".join([PATIENTS[0] + b"\r", b"", PATIENTS[1]]))
    manifest = {"output": [{"type": "Patient", "url": url}]}
    assert [patient["id"] for patient in read_resources(manifest)] == ["0", "1"]


CUT = "file 2 of type Patient: holds 1 lines, and the manifest says 2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[: content.index(b"\n") + 1], CUT),
        (lambda content: content[:-9], "file 2 of type Patient: its checksum"),
        (lambda content: content[:-1], "file 2 of type Patient: its checksum"),
        (lambda content: content.replace(b"1.10", b"1.20"), "file 2 of type Patient: its checksum"),
        (lambda content: content + content, "file 2 of type Patient: holds more than the 2 lines"),
        (lambda content: b"", "file 2 of type Patient: holds 0 lines"),
        (lambda content: b"\x1f\x8b" + content, "file 2 of type Patient: its compression is damaged"),
        (lambda content: gzip.compress(content)[:-9], "file 2 of type Patient: cut short"),
    ],
    ids=["a line less", "half a line", "no last newline", "a digit", "twice", "empty", "damaged", "half a gzip"],
)
@pytest.mark.parametrize("read", [read_lines, read_resources])
def test_a_file_that_is_not_the_one_that_was_written_is_an_error(
    tmp_path: Path, read: Callable[..., Any], change: Callable[[bytes], bytes], message: str
):
    """A file that was cut short or changed is named by type and number, and nothing of its content is."""
    manifest = result(f"file://{tmp_path}")
    file = patients_file(manifest, 2)
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(RedoxProtocolError) as raised:
        list(read(manifest, "Patient"))
    assert str(raised.value).startswith(message)
    assert "resourceType" not in str(raised.value)


def test_a_file_that_is_gone_is_an_error(root: str):
    """A file that the manifest lists and the store does not have is named by type and number."""
    manifest = result(root)
    ObjectStoragePath(manifest["output"][1]["url"]).unlink()
    with pytest.raises(RedoxProtocolError, match="file 1 of type Patient: the manifest lists it, and it is not there"):
        list(read_lines(manifest))


def test_a_line_that_is_no_resource_is_an_error_without_its_content(tmp_path: Path):
    """A line that is not a JSON object is told by file, and the parser's words, which could quote it, are not kept."""
    url = store(f"file://{tmp_path}", "p.ndjson", b'"Keva Green"\n')
    with pytest.raises(RedoxProtocolError, match="file 1 of type Patient: holds a line that is not a resource") as raised:
        list(read_resources({"output": [{"type": "Patient", "url": url}]}))
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({}, "missing required field `output`"),
        ({"output": [{"type": "Patient"}]}, r"missing required field `url` - at `\$.output\[0\]`"),
        ({"output": [{"type": "Patient", "url": 1}]}, r"at `\$.output\[0\].url`"),
        ([{"output": []}], "not list; for the results of mapped tasks, call this for each"),
        (None, "not NoneType"),
        ("manifest.json", "absolute path or a URL"),
        ("file:///no/such/manifest.json", "there is no file at this place"),
        ("gopher://bucket/manifest.json", "gopher://"),
    ],
)
def test_what_is_no_manifest_is_refused_at_once(manifest: Any, message: str):
    """An argument that is no manifest is an error when the reader is made, not when it is first used."""
    with pytest.raises(RedoxConfigError, match=message):
        read_resources(manifest)


def test_a_file_that_is_no_json_is_no_manifest(tmp_path: Path):
    """The URL of something else than a manifest is refused, without a word of what it holds."""
    (tmp_path / "manifest.json").write_bytes(PATIENTS[0] + b"\n" + PATIENTS[1])
    with pytest.raises(RedoxConfigError, match="the file at this place is not JSON") as raised:
        read_resources(f"file://{tmp_path}/manifest.json")
    assert raised.value.__context__ is None


def test_a_line_longer_than_any_resource_is_an_error(tmp_path: Path):
    """A small file that opens to a line without end is an error, before all of it is in memory."""
    bomb = gzip.compress(b" " * 80 * 1024 * 1024, compresslevel=1)
    url = store(f"file://{tmp_path}", "p.ndjson.gz", bomb)
    with pytest.raises(RedoxProtocolError, match="file 1 of type Patient: line 1 is longer than any resource can be"):
        list(read_lines({"output": [{"type": "Patient", "url": url}]}))


def test_a_reader_that_is_left_early_checks_nothing(tmp_path: Path):
    """Taking the first resource only costs the first block of one file, whatever the rest holds."""
    manifest = result(f"file://{tmp_path}")
    manifest["output"][1]["sha256"] = "0" * 64
    assert next(read_resources(manifest, "Patient"))["id"] == "0"


@pytest.mark.slow
@pytest.mark.parametrize("members", [0, 1])
def test_a_file_of_any_size_is_read_in_flat_memory(tmp_path: Path, members: int):
    """A file of 200 MB is read in less than 30 MB of memory, gzipped or not."""
    line = b'{"resourceType":"Patient","text":"' + b"x" * 1660 + b'"}'
    content = packed([line] * 118_000, members=members)
    manifest = {"output": [listed("Patient", store(f"file://{tmp_path}", "p", content), [line] * 118_000, content)]}
    del content
    tracemalloc.start()
    try:
        assert sum(len(patient["text"]) for patient in read_resources(manifest)) == 118_000 * 1660
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()
