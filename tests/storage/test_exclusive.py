"""An exclusive create: of two at once one does, and whoever does knows it, whatever becomes of the answer."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.storage import disk
from airflow_provider_redox.storage import files as files_module
from airflow_provider_redox.storage.files import Files
from tests.support.s3 import S3, Bucket, Deaf


@pytest.fixture
def deaf(s3_server: S3, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deaf]:
    """A way to the bucket on which the answers to exclusive creates can get lost."""
    way = Deaf(s3_server)
    monkeypatch.setenv(f"AIRFLOW_CONN_{way.name.upper()}", way.connection_json)
    monkeypatch.setattr(files_module, "_EXCLUSIVE", set())
    yield way
    way.stop()


def test_a_create_whose_answer_is_lost_is_ones_own(deaf: Deaf, bucket: Bucket):
    """The driver repeats it and is refused by the store because of its own file: the nonce in it says whose it is."""
    deaf.lost = 1
    root = root_of(deaf, bucket)
    files = Files(root)
    assert files.write_new(f"{root}/claim", b'{"by":"me"}')
    assert (deaf.lost, deaf.creates) == (0, 2), "the driver repeated it"
    assert json.loads(bucket.get("redox/claim"))["by"] == "me"
    assert not files.write_new(f"{root}/claim", b'{"by":"me"}'), "the same words of another are another's"


def test_a_create_whose_every_answer_is_lost_is_looked_up(deaf: Deaf, bucket: Bucket, monkeypatch: pytest.MonkeyPatch):
    """Where the driver gives up, too, what is there decides."""
    root = root_of(deaf, bucket)
    files, real = Files(root), Files.create_new

    def lost(files: Files, url: str, content: bytes) -> bool:
        real(files, url, content)
        raise OSError

    files_module._EXCLUSIVE.add(("s3", deaf.name, bucket.name))
    monkeypatch.setattr(Files, "create_new", lost)
    assert files.write_new(f"{root}/claim", b"{}")
    assert not files.write_new(f"{root}/claim", b"{}")


def test_a_create_that_did_not_arrive_is_an_error(bucket: Bucket):
    """Nothing is there: nobody was first, and the caller must not go on as if somebody were."""
    files = Files(bucket.root)
    bucket.deny("s3:PutObject")
    with pytest.raises(PermissionError):
        files.write_new(f"{bucket.root}/claim", b"{}")
    bucket.allow()
    assert bucket.list() == []


def test_a_store_that_knows_no_exclusive_create_is_refused(deaf: Deaf, bucket: Bucket):
    """Else each of two tries would be the first: some that speak S3's protocol leave If-None-Match aside."""
    deaf.conditional = False
    with pytest.raises(RedoxConfigError, match=r"^output_path: s3://.*overwrote a file"):
        Files(root_of(deaf, bucket)).write_new(f"{root_of(deaf, bucket)}/claim", b"{}")


def test_a_store_is_tried_once(deaf: Deaf, bucket: Bucket):
    """One more request for each place and process, not for each claim."""
    root = root_of(deaf, bucket)
    files = Files(root)
    assert all(files.write_new(f"{root}/{number}", b"{}") for number in range(3))
    assert deaf.creates == 4


@pytest.mark.parametrize("content", [b"{}", b'{"a":1}', b'{ "a": 1 }'])
def test_an_object_stays_what_it_was(tmp_path: Path, content: bytes):
    """It has a nonce, and all that it had."""
    files, url = Files(f"file://{tmp_path}"), f"file://{tmp_path}/claim"
    assert files.write_new(url, content)
    found = json.loads(files.read(url) or b"")
    assert len(found.pop("nonce")) == 16
    assert found == json.loads(content)


def test_of_many_at_once_one_is_the_first(tmp_path: Path):
    """Threads that write the same, each through its own files, to one place."""

    def first(_: int) -> bool:
        return Files(f"file://{tmp_path}").write_new(f"file://{tmp_path}/claim", b"{}")

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(first, range(64))) == 1


def root_of(deaf: Deaf, bucket: Bucket) -> str:
    return f"s3://{deaf.name}@{bucket.name}/redox"


Write = Callable[[Files, str], object]


@pytest.mark.parametrize("write", [lambda f, u: f.write_new(u, b"{}"), lambda f, u: f.write(u, b"{}")], ids=["new", "write"])
def test_what_proves_a_sending_outlives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write):
    """The file, its name, and the folders that were made for it are on the disk before the call returns."""
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", fsync)
    write(Files(f"file://{tmp_path}"), f"file://{tmp_path}/a/b/claim")
    assert synced[:2] == [str(tmp_path), f"{tmp_path}/a"], "a folder's name is in the one above"
    assert synced[2].startswith(f"{tmp_path}/a/b/.claim.")
    assert synced[3:] == [f"{tmp_path}/a/b"]


def test_what_the_dead_left_half_written_is_told_from_what_is_being_written(tmp_path: Path):
    """A file whose writer is alive stays; the one of a killed process goes, and so does no other file."""
    (tmp_path / ".pull.Binary.00000.pdf.12345678.partial").write_bytes(b"of a killed process")
    (tmp_path / ".pull-2.Binary.00000.pdf.12345678.partial").write_bytes(b"of another task")
    (tmp_path / "pull.Binary.00001.pdf").write_bytes(b"whole")
    files = Files(f"file://{tmp_path}")
    with files.writing(f"file://{tmp_path}/pull.Binary.00002.pdf") as file:
        file.write(b"being written")
        disk.remove_dead(str(tmp_path), "pull.")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".pull-2.Binary.00000.pdf.12345678.partial", "pull.Binary.00001.pdf", "pull.Binary.00002.pdf"]
