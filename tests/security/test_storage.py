"""Who can read what lies on storage, and that no name which came with an answer says where it lies."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxError
from airflow_provider_redox.operators.fhir import RedoxFhirReadOperator, RedoxFhirSearchOperator
from airflow_provider_redox.operators.request import RedoxRequestOperator
from airflow_provider_redox.protocol.effects import RedoxResponse
from airflow_provider_redox.protocol.pages import read_page
from airflow_provider_redox.storage.files import UPLOAD_BLOCK, Files
from airflow_provider_redox.storage.layout import Layout, Owner
from airflow_provider_redox.storage.results import Results
from airflow_provider_redox.storage.send_ledger import SendLedger
from tests.security.witness import chain
from tests.support.s3 import Bucket
from tests.support.sandbox import Sandbox
from tests.support.wire import Wire, answers, http

OWNER = SimpleNamespace(dag_id="../../dag", run_id="../run", task_id="pull", map_index=-1, try_number=1, max_tries=0)


def modes(folder: Path) -> dict[str, str]:
    """Give the modes of all that lies below a folder, that of the folder too."""
    return {str(path.relative_to(folder)): oct(stat.S_IMODE(path.stat().st_mode)) for path in [folder, *folder.rglob("*")]}


def test_only_the_owner_reads_a_result(tmp_path: Path, redox_connection: Sandbox) -> None:
    """Every file has the mode 600 and every folder that was made 700, whatever the umask."""
    root = tmp_path / "made" / "by us"
    options: dict[str, Any] = {"task_id": "pull", "output_path": f"file://{root}"}
    search = {"given": "Keva", "family": "Green", "birthdate": "1995-08-26"}
    RedoxFhirSearchOperator(resource_type="Patient", search_params=search, **options).execute({"ti": OWNER})
    SendLedger(f"file://{root}/ledger").claim(SendLedger(f"file://{root}/ledger").url_of("MRN-1"), "somebody", "hash")
    found = modes(tmp_path / "made")
    assert len(found) > 10
    assert {found[name] for name in found if (tmp_path / "made" / name).is_dir()} == {"0o700"}
    assert {found[name] for name in found if (tmp_path / "made" / name).is_file()} == {"0o600"}


def test_only_the_owner_reads_what_is_not_complete(tmp_path: Path) -> None:
    """The staged patients of a search under way, its journal and its checkpoint are private too."""
    layout = Layout(f"file://{tmp_path}/made", "general", "Development", Owner("dag", "run", "task"))
    with Results(layout) as results:
        results.write("Patient", [b"{}"])
        found = modes(tmp_path / "made")
    assert set(found.values()) == {"0o700", "0o600"}


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    """The output root belongs to who made it: others may have been let in on purpose."""
    tmp_path.chmod(0o755)
    Files(f"file://{tmp_path}").write(f"file://{tmp_path}/a/b", b"x")
    assert modes(tmp_path) == {".": "0o755", "a": "0o700", "a/b": "0o600"}


def test_a_link_that_was_put_there_is_not_followed(tmp_path: Path) -> None:
    """In a folder that others can write, a link under the name of a file to come leads a write nowhere."""
    precious = tmp_path / "precious"
    precious.write_text("as it was")
    folder = tmp_path / "open"
    folder.mkdir()
    (folder / "file").symlink_to(precious)
    (folder / "part").symlink_to(precious)
    files = Files(f"file://{folder}")
    files.write(f"file://{folder}/file", b"x")  # takes the link's place
    assert not (folder / "file").is_symlink()
    with pytest.raises(OSError, match=r"symbolic links|ymlink"):
        files.create(f"file://{folder}/part")
    assert precious.read_text() == "as it was"


def test_a_manifest_that_was_put_there_removes_nothing_outside(tmp_path: Path) -> None:
    """A new result removes the files of its own that the manifest before it names, and no other."""
    layout = Layout(f"file://{tmp_path}/out", "general", "Development", Owner("dag", "run", "task"))
    precious = tmp_path / "precious"
    precious.write_text("as it was")
    own = layout.result("Patient", 7)
    Files(layout.root).write(own, b"{}")
    climbing = f"{layout.base}/type=Patient/../../../../precious"
    assert Path(climbing.removeprefix("file://")).resolve() == precious.resolve()
    listed = {"output": [{"url": climbing}, {"url": f"file://{precious}"}, {"url": own}]}
    Files(layout.root).write(layout.manifest, json.dumps(listed).encode())
    with Results(layout) as results:
        results.commit(transaction_time="2026-11-23T10:00:00.000Z", request="https://x/_search", extension={})
    assert precious.read_text() == "as it was"
    assert not Files(layout.root).exists(own)


NAMES = st.sampled_from(["../../etc/passwd", "..", "/tmp/x", "a/b", "%2e%2e%2f", "C:\\x", "x\x00", "Patient\n"]) | st.text()


@given(NAMES, NAMES, NAMES)
def test_a_name_in_an_answer_names_no_file(kind: str, one: str, other: str) -> None:
    """Whatever types, IDs and versions a page holds, a resource's type is letters only, and nothing else is in a path."""
    resource = {"resourceType": kind, "id": one, "meta": {"versionId": other}}
    bundle = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": resource}]}
    try:
        page = read_page(RedoxResponse(200, {}, json.dumps(bundle).encode()))
    except RedoxError:
        return
    layout = Layout("file:///out", "general", "Development", Owner("dag", "run", "task"))
    for found in (*page.resources, *page.outcomes):
        place = layout.result(found.type, 0)
        assert re.fullmatch(r"[A-Za-z]+", found.type)
        assert place == f"{layout.base}/type={found.type}/dag_id=dag/run_id=run/task.{found.type}.00000.ndjson"


def test_a_header_of_an_answer_names_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content-Disposition and Content-Type of a body that is kept choose between two endings, nothing more."""
    from tests.client.drivers import connection_to

    odd = http(b"body", kind="../../x/../json; name=../../y", Content_Disposition="attachment; filename=../../../evil")
    with Wire(answers(odd)) as wire:
        monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(connection_to(wire.url)))
        options: dict[str, Any] = {"task_id": "it", "output_path": f"file://{tmp_path}/out"}
        kept = RedoxRequestOperator(method="GET", path="files/1", **options).execute({"ti": OWNER})
        with pytest.raises(Exception, match="JSON"):
            RedoxFhirReadOperator(resource_type="Patient", resource_id="1", **options).execute({"ti": OWNER})
    files = [path for path in (tmp_path).rglob("*") if path.is_file()]
    assert [f"file://{path}" for path in files] == [kept["results_url"]]
    assert kept["results_url"].startswith(f"file://{tmp_path}/out/destination=")


KMS = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/phi"}


def test_every_object_is_encrypted_as_the_options_say(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written, made if there is none, moved, and uploaded in pieces names the key of `[redox] storage_options`."""
    monkeypatch.setenv("AIRFLOW__REDOX__STORAGE_OPTIONS", json.dumps({"s3": {"s3_additional_kwargs": KMS}}))
    files = Files(bucket.root)
    files.write(f"{bucket.root}/written", b"x")
    files.write_new(f"{bucket.root}/new", b"x")
    files.write(f"{bucket.root}/large", b"x" * (UPLOAD_BLOCK + 1))
    files.write(f"{bucket.root}/before", b"x")
    files.move(f"{bucket.root}/before", f"{bucket.root}/moved")
    heads = {key: bucket.server.client.head_object(Bucket=bucket.name, Key=key) for key in bucket.list()}
    assert sorted(heads) == ["redox/large", "redox/moved", "redox/new", "redox/written"]
    assert {(head["ServerSideEncryption"], head["SSEKMSKeyId"]) for head in heads.values()} == {("aws:kms", "alias/phi")}


def test_without_options_the_bucket_decides(bucket: Bucket) -> None:
    """No encryption is named where none is configured."""
    Files(bucket.root).write(f"{bucket.root}/written", b"x")
    assert bucket.server.client.head_object(Bucket=bucket.name, Key="redox/written").get("SSEKMSKeyId") is None


@pytest.mark.parametrize("stated", ["{hunter2", '["hunter2"]', '{"file": "hunter2"}'])
def test_options_that_make_no_sense_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: str) -> None:
    """What is no JSON by scheme is a RedoxConfigError that does not quote it: a key may be in it."""
    monkeypatch.setenv("AIRFLOW__REDOX__STORAGE_OPTIONS", stated)
    with pytest.raises(RedoxConfigError, match="storage_options") as caught:
        Files(f"file://{tmp_path}")
    assert "hunter2" not in chain(caught.value)
