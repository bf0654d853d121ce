"""Results on storage: whole or not there, in places with safe names."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from fsspec.spec import AbstractBufferedFile
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.layout import Layout, Owner, output_root, safe_name
from airflow_provider_redox.storage.reading import parse_manifest
from airflow_provider_redox.storage.results import Results

OWNER = Owner("dag", "manual__2026-11-23T10:00:00+00:00", "pull", 3)


def layout(root: object) -> Layout:
    return Layout(str(root), "general", "Development", OWNER)


def commit(results: Results) -> dict:
    return results.commit(transaction_time="2026-11-23T10:00:00.000Z", request="https://x/_search", extension={})


@pytest.fixture
def memory_store() -> None:
    """Make fsspec's memory file system known to Airflow: a store that is not a local disk."""
    from fsspec.implementations.memory import MemoryFileSystem

    try:
        from airflow.sdk.io import attach
    except ImportError:
        from airflow.io.store import attach
    attach("memory", fs=MemoryFileSystem())


@pytest.mark.usefixtures("memory_store")
@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_a_result_appears_with_its_manifest(tmp_path: Path, scheme: str):
    """On local disk and on another fsspec store alike, files and manifest are there after commit."""
    place = layout(f"{scheme}://{tmp_path}")
    with Results(place) as results:
        results.write("Patient", [b'{"id":"1"}', b'{"id":"2"}'])
        results.write("Patient", [b'{"id":"3"}'])
        manifest = commit(results)
    files = Files(place.root)
    assert files.read(manifest["output"][0]["url"]) == b'{"id":"1"}\n{"id":"2"}\n{"id":"3"}\n'
    assert json.loads(files.read(place.manifest) or b"") == manifest
    assert not files._fs.exists(files._path(f"{place.workspace}/staged"))


def test_a_result_that_fails_leaves_nothing(tmp_path: Path):
    """Without commit nothing is visible, and what was staged is gone."""
    with pytest.raises(RuntimeError), Results(layout(f"file://{tmp_path}")) as results:
        results.write("Patient", [b"{}"])
        raise RuntimeError
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_a_killed_try_left_is_removed_by_the_next(tmp_path: Path):
    """Staged files of a try that was killed are removed when the next one's result is visible."""
    place = layout(f"file://{tmp_path}")
    killed = Results(place)
    killed.__enter__()
    killed.write("Observation", [b"{}"])
    killed._open["Observation"].abandon()  # as the kernel does
    with Results(place) as results:
        results.write("Patient", [b"{}"])
        manifest = commit(results)
    assert [entry["type"] for entry in manifest["output"]] == ["Patient"]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "0002.json",
        "manifest.json",
        "pull~3.Patient.0002000000.ndjson",
    ]


def test_while_a_result_is_replaced_its_manifest_stays_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A try that dies before its manifest is written leaves the earlier one, and every file that it names."""
    place = layout(f"file://{tmp_path}")
    with Results(place) as results:
        results.write("Patient", [b"{}"])
        earlier = commit(results)
    dying = Results(place)
    with pytest.raises(KeyboardInterrupt), dying:
        dying.write("Patient", [b'{"id":"2"}'])
        monkeypatch.setattr(dying._files, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        commit(dying)
    files = Files(place.root)
    assert json.loads(files.read(place.manifest) or b"") == earlier
    assert files.read(earlier["output"][0]["url"]) == b"{}\n"


@given(st.text(min_size=1, max_size=300))
def test_a_safe_name_is_safe(name: str):
    """A name in a path has letters, digits, '.', '_' and '-' only, is not hidden, and has a bounded length."""
    safe = safe_name(name)
    assert all(character.isascii() and (character.isalnum() or character in "._-") for character in safe)
    assert 0 < len(safe) <= 100
    assert safe[0] not in "._"


@given(st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=2, unique=True))
def test_different_names_stay_different(names: list[str]):
    """Two names that differ give two safe names that differ."""
    assert safe_name(names[0]) != safe_name(names[1])


def test_paths_are_partitioned_as_spark_reads_them():
    """Results lie under destination=, environment=, type=, dag_id= and run_id=; the rest under a name that Spark skips."""
    place = layout("s3://bucket/redox/")
    start = (
        "s3://bucket/redox/destination=general/environment=Development/type=Patient/dag_id=dag/run_id=manual__2026-11-23T10-"
    )
    assert place.result("Patient", 0).startswith(start)
    assert "/_redox/" in place.manifest


def test_the_root_follows_from_argument_option_and_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """An argument wins over `[redox] output_root`, which wins over the folder in AIRFLOW_HOME."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert output_root(None) == f"file://{tmp_path}/redox"
    monkeypatch.setenv("AIRFLOW__REDOX__OUTPUT_ROOT", "s3://bucket/x")
    assert output_root(None) == "s3://bucket/x"
    assert output_root("/data") == "file:///data"


@pytest.mark.parametrize("executor", ["CeleryExecutor", "LocalExecutor,KubernetesExecutor", "team:CeleryExecutor"])
def test_a_path_of_one_machine_is_refused_for_a_fleet(monkeypatch: pytest.MonkeyPatch, executor: str):
    """A file:// root with an executor that is not local is refused; object storage is not."""
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    with pytest.raises(RedoxConfigError, match="output_root"):
        output_root("/data")
    assert output_root("s3://bucket") == "s3://bucket"


def test_a_missing_driver_is_named():
    """A scheme without a driver is a RedoxConfigError that names it."""
    with pytest.raises(RedoxConfigError, match="gopher://"):
        Files("gopher://x/y")


def test_a_file_is_seen_whole_or_not_at_all(tmp_path: Path):
    """While a file is written nothing stands under its name, and a write that fails leaves what was there."""
    files = Files(f"file://{tmp_path}")
    url = f"file://{tmp_path}/a/b.json"
    files.write(url, b"old")
    with pytest.raises(RuntimeError), files.writing(url) as file:
        file.write(b"half")
        assert files.read(url) == b"old"
        raise RuntimeError
    assert files.read(url) == b"old"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]


def test_a_mapped_instance_and_a_task_of_a_like_name_stay_apart():
    """Index 1 of `load` and a task called `load-1` have places of their own."""
    mapped, plain = Owner("d", "r", "load", 1), Owner("d", "r", "load-1")
    assert Layout("s3://b", "x", "y", mapped).workspace != Layout("s3://b", "x", "y", plain).workspace


@pytest.mark.parametrize("path", ["s3://bucket/team[ab]", "/data/*", "s3://bucket/a?b"])
def test_a_path_that_a_store_takes_for_a_pattern_is_refused(path: str):
    """Stores expand * ? [ ] when they remove and move; such a path would reach other people's files."""
    with pytest.raises(RedoxConfigError, match="output_path"):
        output_root(path)


def test_a_failed_upload_is_not_finished_by_the_garbage_collector():
    """A buffered file that was never flushed is not uploaded after its write has failed."""
    uploaded = []

    class Buffered(AbstractBufferedFile):
        def _initiate_upload(self) -> None:
            uploaded.append("begun")

        def _upload_chunk(self, final: bool = False) -> bool:  # noqa: FBT001, FBT002
            uploaded.append("chunk")
            return True

    files = Files("file:///unused")
    files._local = False
    files._fs = SimpleNamespace(
        open=lambda path, mode, **_: Buffered(SimpleNamespace(), path, mode),
        _strip_protocol=lambda path: path,
        invalidate_cache=lambda: None,
    )
    with pytest.raises(RuntimeError), files.writing("file:///unused/x") as file:
        file.write(b"a patient")
        raise RuntimeError
    del file
    gc.collect()
    assert uploaded == []


def test_a_file_of_an_earlier_result_that_cannot_be_removed_does_not_undo_the_new_one(tmp_path: Path):
    """What an earlier manifest names outside this task's own folders is left alone."""
    stranger = tmp_path / "stranger.ndjson"
    stranger.write_text("not ours")
    place = layout(f"file://{tmp_path}")
    Files(place.root).write(place.manifest, json.dumps({"output": [{"url": f"file://{stranger}"}]}).encode())
    with Results(place) as results:
        results.write("Patient", [b"{}"])
        commit(results)
    assert stranger.exists()


def test_only_files_of_ones_own_are_removed(tmp_path: Path):
    """A manifest that somebody else put there has no folder and no other task's file removed."""
    place = layout(f"file://{tmp_path}")
    folder = Path(place.result("Patient", 0).removeprefix("file://")).parent
    folder.mkdir(parents=True)
    other = folder / "other.Patient.00000.ndjson"
    other.write_text("theirs")
    named = [f"{place.base}/type=Patient", f"file://{other}", f"{place.base}/type=Patient/../type=Patient"]
    Files(place.root).write(place.manifest, json.dumps({"output": [{"url": url} for url in named]}).encode())
    with Results(place) as results:
        results.write("Observation", [b"{}"])
        commit(results)
    assert other.read_text() == "theirs"


def test_what_is_removed_by_name_is_a_file(tmp_path: Path):
    """A file of an earlier result goes; a folder that bears such a name stays, with all in it."""
    place = layout(f"file://{tmp_path}")
    earlier, folder = place.result("Patient", 7, ".gz"), place.result("Condition", 7)
    Files(place.root).write(earlier, b"earlier")
    Files(place.root).write(f"{folder}/inside", b"kept")
    manifest = {"output": [{"url": earlier}, {"url": folder}]}
    Files(place.root).write(place.manifest, json.dumps(manifest).encode())
    with Results(place) as results:
        results.write("Observation", [b"{}"])
        commit(results)
    assert not Files(place.root).exists(earlier)
    assert Files(place.root).read(f"{folder}/inside") == b"kept"


@pytest.mark.parametrize("url", ["file:///etc/hostname", "/etc/hostname", "file://{root}/../x", "s3://other/x"])
def test_a_stored_manifest_names_files_of_its_own_place(tmp_path: Path, url: str):
    """Who may write to a store has no file read from elsewhere by it; one of XCom's may name any."""
    place = tmp_path / "manifest.json"
    content = {"output": [{"type": "Patient", "url": url.format(root=tmp_path)}]}
    place.write_text(json.dumps(content))
    with pytest.raises(RedoxConfigError, match="file 1 of type Patient lies elsewhere than the manifest"):
        parse_manifest(str(place))
    assert parse_manifest(content).output


@pytest.mark.parametrize("how", ["writing", "replace"])
def test_two_writers_of_one_place_do_not_share_a_file(tmp_path: Path, how: str) -> None:
    """A try that Airflow has given up on may still be writing when the next one begins: each leaves a whole file."""
    files, url = Files(f"file://{tmp_path}"), f"file://{tmp_path}/result"
    with files.writing(url) as older:
        older.write(b"older, and long")
        if how == "replace":
            files.replace(url, b"newer")
        else:
            with files.writing(url) as newer:
                newer.write(b"newer")
        assert files.read(url) == b"newer"
    assert files.read(url) == b"older, and long"
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


@pytest.mark.parametrize("name", ["output_path", "ledger_path"])
def test_an_error_of_a_place_names_where_it_comes_from(name: str) -> None:
    """A driver that is missing, a key in a path: the argument that the author wrote."""
    with pytest.raises(RedoxConfigError, match=f"^{name}: no driver for nosuch://"):
        Files("nosuch://x", name=name)
    with pytest.raises(RedoxConfigError, match=f"^{name}: what stands before the @"):
        Files("s3://key:secret@bucket/x", name=name)
