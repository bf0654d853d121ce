"""Files on a real S3-compatible server, through the driver that users have."""

from __future__ import annotations

import gc
import hashlib
import signal
import subprocess
import sys
import time
import tracemalloc
from contextlib import ExitStack

import pytest

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.storage.files import UPLOAD_BLOCK, Files
from airflow_provider_redox.storage.inputs import file_to_upload
from airflow_provider_redox.storage.results import Results
from tests.storage.test_storage import commit, layout
from tests.support.s3 import KEY_ID, SECRET, Bucket

MB = 1024 * 1024
LARGE = UPLOAD_BLOCK + MB
"""Bytes that take an upload of more than one piece."""


@pytest.fixture
def files(bucket: Bucket) -> Files:
    return Files(bucket.root)


def test_what_is_written_is_there_and_what_is_removed_is_gone(bucket: Bucket, files: Files):
    """A file can be written, over an earlier one too, read, found, moved over another one, and removed."""
    url, other = f"{bucket.root}/a/b.json", f"{bucket.root}/type=X/c.json"
    files.write(other, b"earlier")
    for content in (b"one", b"two"):
        files.write(url, content)
        assert files.read(url) == content
    assert files.exists(url)
    with files.open(url) as file:
        assert file.read(2) + file.read() == b"two"
    files.move(url, other)
    assert bucket.list() == ["redox/type=X/c.json"]
    assert bucket.at(other) == b"two"
    files.remove(other)
    assert bucket.list() == []


def test_what_is_not_there_is_none_and_no_error(bucket: Bucket, files: Files):
    """Reading gives None, opening a FileNotFoundError, removing does nothing, when there is no such file."""
    url = f"{bucket.root}/nothing"
    assert files.read(url) is None
    assert not files.exists(url)
    files.remove(url)
    with pytest.raises(FileNotFoundError):
        files.open(url)
    with pytest.raises(FileNotFoundError):
        files.move(url, f"{bucket.root}/x")


def test_a_file_that_is_there_is_not_written_anew(bucket: Bucket, files: Files):
    """`write_new` writes once, says so, and leaves what is there alone, also what another process has put there."""
    assert files.write_new(f"{bucket.root}/a", b"first")
    assert not files.write_new(f"{bucket.root}/a", b"second")
    bucket.put("redox/b", b"other")
    assert not files.write_new(f"{bucket.root}/b", b"second")
    assert (bucket.get("redox/a"), bucket.get("redox/b")) == (b"first", b"other")


def test_the_size_of_a_file_to_send_is_that_of_now(bucket: Bucket, files: Files):
    """A file that another process has replaced since a listing is sent whole."""
    bucket.put("redox/folder/a", b"short")
    _remember(files, bucket)
    bucket.put("redox/folder/a", b"much longer")
    file = file_to_upload(f"{bucket.root}/folder/a", where="path")
    assert file.size == 11
    with file.open() as opened:
        assert opened.read() == b"much longer"


def test_a_folder_is_removed_with_all_in_it_and_nothing_beside_it(bucket: Bucket, files: Files):
    """A folder whose name another one begins with is removed alone, however many files it has."""
    for key in ("pull/a", "pull/b/c", "pull-2/a", "pull.json"):
        bucket.put(f"redox/{key}", b"x")
    files.remove(f"{bucket.root}/pull")
    assert bucket.list() == ["redox/pull-2/a", "redox/pull.json"]


def test_a_result_is_on_the_store_as_its_manifest_says(bucket: Bucket):
    """Parts and manifest of a result are there after commit, with their checksums, and nothing else."""
    with Results(layout(bucket.root)) as results:
        results.write("Patient", [b'{"id":"1"}', b'{"id":"2"}'])
        manifest = commit(results)
    (entry,) = manifest["output"]
    assert hashlib.sha256(bucket.at(entry["url"])).hexdigest() == entry["sha256"]
    place = layout(bucket.root)
    assert bucket.list() == sorted(map(bucket.key, (entry["url"], place.manifest, place.attempted(1))))


def test_what_another_process_does_is_seen_at_once(bucket: Bucket, files: Files):
    """A driver's memory of a listing is not believed: neither a file that is gone nor the size of an earlier one."""
    url, key = f"{bucket.root}/folder/a", "redox/folder/a"
    bucket.put(key, b"short")
    _remember(files, bucket)
    bucket.put(key, b"much longer than before")
    with files.open(url) as file:
        assert file.read() == b"much longer than before"
    _remember(files, bucket)
    bucket.delete(key)
    bucket.put("redox/folder/b", b"new")
    assert not files.exists(url)
    assert files.read(url) is None
    _remember(files, bucket)
    bucket.put(key, b"again")
    assert files.exists(url)
    _remember(files, bucket)
    bucket.put("redox/folder/c/d", b"new")
    files.remove(f"{bucket.root}/folder")
    assert bucket.list() == []


def _remember(files: Files, bucket: Bucket) -> None:
    """Let the driver list the bucket as other code in this process may, and keep that in mind."""
    files._fs.invalidate_cache()
    files._fs.find(f"{bucket.name}/redox")
    files._fs.ls(f"{bucket.name}/redox/folder")
    assert files._fs.dircache


def test_an_upload_that_fails_is_taken_back(bucket: Bucket, files: Files):
    """When writing fails after pieces were sent, the store shows nothing and holds no piece, now and later."""
    with pytest.raises(RuntimeError), files.writing(f"{bucket.root}/a") as file:
        file.write(b"x" * LARGE)
        assert bucket.uploads() == ["redox/a"]
        raise RuntimeError
    del file
    gc.collect()
    assert (bucket.list(), bucket.uploads()) == ([], [])


@pytest.mark.parametrize("size", [10, LARGE])
def test_an_upload_whose_end_fails_is_taken_back(bucket: Bucket, files: Files, size: int):
    """When the store refuses the end of an upload, it is an error, nothing is visible, and no piece is left."""
    file = files.create(f"{bucket.root}/a")
    file.write(b"x" * size)
    bucket.deny("s3:PutObject", "s3:PostObject")
    with pytest.raises(PermissionError):
        file.close()
    bucket.allow()
    del file
    gc.collect()
    assert (bucket.list(), bucket.uploads()) == ([], [])


def test_a_result_that_fails_leaves_no_upload(bucket: Bucket):
    """A result that is left with an error takes back the uploads of all its types."""
    with pytest.raises(RuntimeError), Results(layout(bucket.root)) as results:
        for kind in ("Patient", "Observation", "Condition"):
            results.write(kind, [b"x" * LARGE])
        assert len(bucket.uploads()) == 3
        raise RuntimeError
    assert (bucket.list(), bucket.uploads()) == ([], [])


def test_giving_up_what_has_been_written_does_nothing(bucket: Bucket, files: Files):
    """A file that has been closed stays."""
    file = files.create(f"{bucket.root}/a")
    file.write(b"x" * LARGE)
    file.close()
    files.abandon(file)
    assert bucket.list() == ["redox/a"]


@pytest.mark.slow
def test_a_killed_upload_is_invisible(bucket: Bucket):
    """What a killed process had sent shows under no name; its pieces stay until a rule of the bucket takes them away."""
    code = (
        "import sys, time; from airflow_provider_redox.storage.files import Files; "
        f"file = Files({bucket.root!r}).create('{bucket.root}/a'); file.write(b'x' * {LARGE}); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    while not bucket.uploads():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    assert (bucket.list(), bucket.uploads()) == ([], ["redox/a"])


def test_several_open_files_hold_little_memory(bucket: Bucket, files: Files):
    """An open file holds a block, twice while it is sent, not the tens of megabytes that drivers take by default."""
    with ExitStack() as stack:
        opened = [stack.enter_context(files.writing(f"{bucket.root}/{number}")) for number in range(4)]
        tracemalloc.start()
        for number in range(32):
            block = bytes([number]) * MB
            for file in opened:
                file.write(block)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < (len(opened) + 3) * UPLOAD_BLOCK
    assert len(bucket.at(f"{bucket.root}/3")) == 32 * MB


def test_a_large_file_is_read_in_little_memory(bucket: Bucket, files: Files):
    """A file is fetched a few megabytes at a time."""
    bucket.put("redox/a", b"x" * (40 * MB))
    tracemalloc.start()
    with files.open(f"{bucket.root}/a") as file:
        assert sum(iter(lambda: len(file.read(MB)), 0)) == 40 * MB
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 * MB


def test_a_bucket_that_is_not_there_is_named(bucket: Bucket):
    """Reading and writing in a bucket that does not exist are a RedoxConfigError that names the place."""
    root = f"{bucket.root.replace(bucket.name, 'no-such-bucket')}"
    for act in (lambda files: files.read(f"{root}/a"), lambda files: files.write(f"{root}/a", b"x")):
        with pytest.raises(RedoxConfigError, match="no-such-bucket/redox: there is no such bucket"):
            act(Files(root))


@pytest.mark.parametrize("act", ["read", "write", "move", "remove", "remove many"])
def test_a_refusal_names_the_place_and_what_is_needed(bucket: Bucket, files: Files, act: str):
    """Whatever the store refuses is a PermissionError with the place and the rights that are needed, and no secret."""
    for key in ("one", "many/a", "many/b"):
        bucket.put(f"redox/{key}", b"x")
    bucket.deny("s3:GetObject", "s3:HeadObject", "s3:PutObject", "s3:DeleteObject")
    acts = {
        "read": lambda: files.read(f"{bucket.root}/one"),
        "write": lambda: files.write(f"{bucket.root}/one", b"y"),
        "move": lambda: files.move(f"{bucket.root}/one", f"{bucket.root}/two"),
        "remove": lambda: files.remove(f"{bucket.root}/one"),
        "remove many": lambda: files.remove(f"{bucket.root}/many"),
    }
    with pytest.raises(PermissionError) as caught:
        acts[act]()
    bucket.allow()
    told = str(caught.value)
    assert bucket.root in told
    assert "read, write and delete" in told
    assert KEY_ID not in told
    assert SECRET not in told
    assert caught.value.__suppress_context__
    assert len(bucket.list()) == 3


def test_a_key_does_not_belong_in_the_path():
    """A path with a key and a secret before the @ is refused, and not repeated."""
    with pytest.raises(RedoxConfigError, match="connection ID") as caught:
        Files(f"s3://{KEY_ID}:{SECRET}@bucket/redox")
    assert SECRET not in str(caught.value)
