"""A search whose results go to an object store, through the driver that users have, and workers that die on the way."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from airflow_provider_redox.operators.pulls import drain
from tests.support.s3 import CONNECTION, KEY_ID, SECRET, Bucket
from tests.support.sandbox import Sandbox
from tests.support.worker import Worker

ASKED = {"resource_type": "Observation", "search_params": {"code": "4548-4", "_include": "Observation:subject"}}
MATCHES = 162


@pytest.fixture
def segment(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the pages of a segment, for small searches to have several."""

    def of(pages: int) -> None:
        monkeypatch.setattr(drain, "PAGES_OF_A_PART", pages)

    return of


def search(bucket: Bucket, **arguments: Any) -> RedoxFhirSearchOperator:
    return RedoxFhirSearchOperator(task_id="pull", **{**ASKED, "output_path": bucket.root, **arguments})


def start(sandbox: Sandbox, bucket: Bucket, *, pages: int = 50, **arguments: Any) -> Worker:
    """Start the same search as a try of a worker of its own."""
    connection = sandbox.with_extra(cache_backend="memory")  # the worker has no metadata database to share a token in
    connections = {"redox_default": json.dumps(connection), CONNECTION: bucket.server.connection_json}
    return Worker("search", connections, pages=pages, **{**ASKED, "output_path": bucket.root, **arguments})


def pages_asked(sandbox: Sandbox) -> int:
    return len(sandbox.ledger("/Observation"))


def wait_until(worker: Worker, happened: Callable[[], bool]) -> bool:
    """Wait, while a worker runs. Says whether it happened."""
    while worker.runs:
        if happened():
            return True
        time.sleep(0.02)
    return False


@contextmanager
def watching(look: Callable[[], Any]) -> Iterator[list[Any]]:
    """Look again and again from another thread."""
    seen: list[Any] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(look())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def checked(manifest: dict[str, Any], bucket: Bucket) -> None:
    """The manifest and the bucket say the same."""
    assert sorted(bucket.results()) == sorted(bucket.key(entry["url"]) for entry in manifest["output"])
    for entry in manifest["output"]:
        content = bucket.at(entry["url"])
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        text = gzip.decompress(content) if entry["url"].endswith(".gz") else content
        assert text.count(b"\n") == entry["count"]
    assert sum(entry["count"] for entry in manifest["output"] if entry["type"] == "Observation") == MATCHES


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_search_lands_as_parts_and_a_manifest(
    execute: Callable[..., Any], bucket: Bucket, segment: Callable[[int], None], compression: str | None
):
    """The bucket holds the parts that the manifest names, with its checksums, and the manifest; nothing else."""
    segment(4)
    manifest = execute(search(bucket, page_size=20, compression=compression))
    (listed,) = [key for key in bucket.list() if "/_redox/" in key and "/tries/" not in key]
    assert json.loads(bucket.get(listed)) == manifest
    assert [entry["url"].partition("Observation.")[2][:5] for entry in manifest["output"][:3]] == ["00000", "00001", "00002"]
    checked(manifest, bucket)
    assert bucket.uploads() == []


def test_nothing_is_visible_before_the_last_page_and_nothing_half_written_ever(
    execute: Callable[..., Any], bucket: Bucket, sandbox: Sandbox, segment: Callable[[int], None]
):
    """Under type= no object shows before all pages were read, and each that shows is whole from its first moment."""
    segment(5)
    with watching(lambda: (bucket.results(), pages_asked(sandbox))) as seen:
        manifest = execute(search(bucket, page_size=5))
    pages = manifest["extension"]["pages"]
    final = bucket.results()
    assert sum(1 for results, asked in seen if not results and 0 < asked < pages) > 3
    assert all(asked == pages for results, asked in seen if results)
    assert all(final[key] == content for results, _ in seen for key, content in results.items())


def test_a_search_that_fails_for_good_leaves_nothing(
    execute: Callable[..., Any], bucket: Bucket, sandbox: Sandbox, segment: Callable[[int], None]
):
    """After a failure that no retry heals, the bucket is empty: no result, no staged patient, no piece of an upload."""
    segment(2)
    sandbox.fault("status", status=403, match={"path": "Observation"}, skip=5, times=9)
    with pytest.raises(Exception, match="page 6"):
        execute(search(bucket, page_size=20))
    assert (bucket.list(), bucket.uploads()) == ([], [])


def test_a_search_that_fails_for_now_shows_nothing_and_goes_on(
    execute: Callable[..., Any], bucket: Bucket, sandbox: Sandbox, segment: Callable[[int], None]
):
    """After a failure that passes, only the workspace holds something, and the next try goes on after the last segment."""
    segment(2)
    sandbox.fault("status", status=503, match={"path": "Observation"}, skip=5, times=5)
    failing = search(bucket, page_size=20)
    failing.hook.client._sleep = lambda _: None
    with pytest.raises(Exception, match="page 6"):
        execute(failing)
    assert bucket.results() == {}
    assert [key for key in bucket.list() if key.endswith("/checkpoint")]
    before = pages_asked(sandbox)
    checked(execute(search(bucket, page_size=20)), bucket)
    assert pages_asked(sandbox) - before == 9 - 4


def test_a_search_that_runs_again_replaces_its_result(
    execute: Callable[..., Any], bucket: Bucket, segment: Callable[[int], None]
):
    """A second run's files take the places of the first's, and files that it does not have are removed."""
    segment(2)
    first = execute(search(bucket, page_size=20))
    second = execute(search(bucket, page_size=60, search_params={"code": "4548-4"}))
    assert len(first["output"]) > len(second["output"]) == 2
    checked(second, bucket)
    assert len(bucket.list()) == 4


def test_what_other_processes_did_between_two_runs_is_seen(execute: Callable[..., Any], bucket: Bucket):
    """A worker that lives long sees a bucket as it is: emptied by somebody else, it is filled again."""
    first = execute(search(bucket))
    for key in bucket.list():
        bucket.delete(key)
    assert execute(search(bucket))["output"] == first["output"]
    checked(first, bucket)


def test_a_store_that_refuses_fails_the_try_and_not_what_was_done(
    execute: Callable[..., Any], bucket: Bucket, sandbox: Sandbox, segment: Callable[[int], None]
):
    """A refusal in the middle names the place and no secret; when access is given, the next try goes on."""
    segment(2)
    sandbox.settings(page_size=20)

    def refuse(_: float) -> None:
        if pages_asked(sandbox) == 6:
            bucket.deny("s3:PutObject")

    operator = search(bucket)
    operator.hook.client._sleep = refuse  # it waits when its sixth page fails
    sandbox.fault("status", status=503, match={"path": "Observation"}, skip=5, times=1)
    with pytest.raises(PermissionError) as caught:
        execute(operator)
    assert bucket.root in str(caught.value)
    assert SECRET not in str(caught.value)
    assert KEY_ID not in str(caught.value)
    bucket.allow()
    before = pages_asked(sandbox)
    checked(execute(search(bucket)), bucket)
    assert pages_asked(sandbox) - before == 9 - 4


def test_a_bucket_that_is_not_there_is_told_before_anything_is_asked(
    execute: Callable[..., Any], bucket: Bucket, sandbox: Sandbox
):
    """A search to a bucket that does not exist fails for good, and asks the hospital nothing."""
    with pytest.raises(Exception, match="there is no such bucket") as caught:
        execute(search(bucket, output_path=f"s3://{CONNECTION}@no-such-bucket/x"))
    assert isinstance(caught.value.__cause__, RedoxConfigError)
    assert pages_asked(sandbox) == 0


def test_a_worker_that_is_killed_loses_one_segment_at_most(
    execute: Callable[..., Any], bucket: Bucket, sandbox: Sandbox, segment: Callable[[int], None]
):
    """SIGKILL in the middle, its disk gone: the next try refetches at most a segment, and no byte of the result differs."""
    segment(10)
    pages = execute(search(bucket, page_size=3))["extension"]["pages"]
    undisturbed = emptied(bucket)
    before = pages_asked(sandbox)
    worker = start(sandbox, bucket, pages=10, page_size=3)
    assert wait_until(worker, lambda: pages_asked(sandbox) - before >= 25)
    worker.kill()
    assert bucket.results() == {}
    execute(search(bucket, page_size=3))
    assert list(bucket.results().values()) == list(undisturbed.values())
    assert pages <= pages_asked(sandbox) - before <= pages + 10


def emptied(bucket: Bucket) -> dict[str, bytes]:
    """The results of a bucket, which holds nothing any more."""
    found = bucket.results()
    for key in bucket.list():
        bucket.delete(key)
    return found


def unnumbered(results: dict[str, bytes]) -> dict[str, bytes]:
    """Return results by names without the number of the try that wrote them."""
    return {re.sub(r"\.\d{4}0(\d{5})\.ndjson$", r".\1.ndjson", name): content for name, content in results.items()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_a_search_comes_to_its_end(
    execute: Callable[..., Any], bucket: Bucket, sandbox: Sandbox, seed: int
):
    """Workers that are killed at any moment lose 50 pages each at most, and no byte of the result differs."""
    pages = execute(search(bucket, page_size=1))["extension"]["pages"]
    undisturbed = emptied(bucket)
    chance, before, kills = random.Random(seed), pages_asked(sandbox), 0
    while True:
        begun = pages_asked(sandbox)
        # A checkpoint is taken up twice: of three workers in a row, one gets past the next.
        last = begun + (chance.randrange(1, 50) if kills % 2 else chance.randrange(52, 90))
        worker = start(sandbox, bucket, page_size=1)
        if not wait_until(worker, lambda last=last: pages_asked(sandbox) >= last):
            break
        time.sleep(chance.random() / 50)
        assert "anew" not in worker.kill()
        kills += 1
        assert set(unnumbered(bucket.results()).items()) <= set(undisturbed.items())
    manifest = worker.end()["returned"]
    checked(manifest, bucket)
    assert list(bucket.results().values()) == list(undisturbed.values())
    assert kills >= 2
    assert pages <= pages_asked(sandbox) - before <= pages + kills * 50


@pytest.mark.slow
def test_killed_while_the_result_is_made_visible_it_is_made_visible_by_the_next(
    execute: Callable[..., Any], bucket: Bucket, sandbox: Sandbox, segment: Callable[[int], None]
):
    """A worker that dies between two moves has asked every page: the next moves the rest, and asks for nothing."""
    segment(2)
    execute(search(bucket, page_size=6))
    undisturbed, torn = emptied(bucket), 0
    for already in (1, 9, 17):
        worker = start(sandbox, bucket, pages=2, page_size=6)
        wait_until(worker, lambda already=already: sum("/type=" in key for key in bucket.list()) >= already)
        worker.kill()
        left = bucket.results()
        torn += already <= len(left) < len(undisturbed)
        assert set(unnumbered(left).items()) <= set(undisturbed.items())
        before = pages_asked(sandbox)
        checked(execute(search(bucket, page_size=6)), bucket)
        assert pages_asked(sandbox) == before
        rest = [key for key in bucket.list() if "/_redox/" in key and not key.endswith("/manifest.json")]
        assert all("/tries/" in key for key in rest), rest  # the number of the try whose result it is
        assert unnumbered(emptied(bucket)) == undisturbed
    assert torn >= 2
