"""A search that is killed anywhere loses nothing: the next try goes on, and the files are those of an undisturbed run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from airflow_provider_redox.operators.pulls import drain
from airflow_provider_redox.storage import checkpoint as checkpoints
from airflow_provider_redox.storage import files as files_module
from airflow_provider_redox.storage.files import Files
from tests.support.sandbox import Sandbox

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2.11
    from airflow.io.store import attach

PAGES, SEGMENT = 9, 4
"""162 observations on pages of 18; a part is ended after 4 pages."""


class KilledError(BaseException):
    """What the kernel does, as far as a test in one process can do it."""


class Killer:
    """Lets a worker die before its nth operation on storage; a dead worker does nothing more, not even tidy up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        self.done = 0
        for name in (
            "create",
            "replace",
            "write",
            "create_new",
            "copy",
            "remove",
            "remove_file",
            "read",
            "open",
            "exists",
            "names",
            "folders",
            "size",
        ):
            monkeypatch.setattr(Files, name, self.mortal(getattr(Files, name)))
        monkeypatch.setattr(Files, "abandon", lambda files, file: files.shows_writes and file.close())  # as the kernel does

    def mortal(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def operate(*arguments: Any, **options: Any) -> Any:
            if self.left == 0:
                raise KilledError
            self.left = None if self.left is None else self.left - 1
            self.done += 1
            return real(*arguments, **options)

        return operate


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    return Killer(monkeypatch)


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """Segments of a few pages, so that a small search has several."""
    monkeypatch.setattr(drain, "PAGES_OF_A_PART", SEGMENT)
    monkeypatch.setattr(drain, "PAGES_OF_A_PART_OF_MANY", SEGMENT)
    sandbox.settings(page_size=18)


@pytest.fixture(params=["disk", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An output root, on a disk and on an object store that outlives the worker, and that was tried before."""
    monkeypatch.setattr(files_module, "_EXCLUSIVE", {("memory", "", "out")})
    if request.param == "disk":
        yield f"file://{tmp_path}/out"
        return
    memory = fsspec.filesystem("memory")
    attach("memory", fs=memory)
    yield "memory://out"
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def search(place: str, **arguments: Any) -> RedoxFhirSearchOperator:
    asked = {"code": "4548-4", "_include": "Observation:subject"}
    return RedoxFhirSearchOperator(
        task_id="pull", **{"resource_type": "Observation", "search_params": asked, "output_path": place, **arguments}
    )


def contents(place: str, *, hidden: bool = False) -> dict[str, bytes]:
    """The files of a place by the end of their names, whichever try wrote them; those of the workspace only if asked for."""
    fs = fsspec.filesystem(place.partition("://")[0])
    root = place.partition("://")[2]
    found = [path for path in fs.find(root) if hidden or "/_redox/" not in path]
    return {whichever(path.partition("environment=")[2]): fs.cat_file(path) for path in found}


def whichever(url: str) -> str:
    """Leave out of a name which try wrote it."""
    return re.sub(r"\.\d{4,}0(\d{5})\.ndjson", r".\1.ndjson", url)


def wipe(place: str) -> None:
    fs = fsspec.filesystem(place.partition("://")[0])
    if fs.exists(place.partition("://")[2]):
        fs.rm(place.partition("://")[2], recursive=True)


def outputs(manifest: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(entry["type"], whichever(entry["url"]), entry["count"], entry["sha256"]) for entry in manifest["output"]]


def pages_asked(sandbox: Sandbox) -> int:
    return len(sandbox.ledger("/Observation"))


def test_a_result_has_parts_whose_boundaries_the_pages_decide(execute: Callable[..., Any], place: str):
    """Nine pages in segments of four are three parts of each type, numbered, and the manifest names them in order."""
    manifest = execute(search(place))
    observations = [entry for entry in manifest["output"] if entry["type"] == "Observation"]
    assert [entry["count"] for entry in observations] == [72, 72, 18]
    names = [entry["url"].rpartition("/")[2] for entry in observations]
    assert names == [f"pull.Observation.0000{number}.ndjson" for number in range(3)]
    assert len(contents(place)) == len(manifest["output"])


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_killed_before_any_operation_on_storage_a_search_goes_on(
    execute: Callable[..., Any], place: str, sandbox: Sandbox, killer: Killer, compression: str | None
):
    """Whichever operation on storage a worker dies before, the next try gives the files of an undisturbed run.

    It asks again for one page at most on a disk, and for one segment at most on a store.
    """
    undisturbed = execute(search(place, compression=compression))
    expected, operations = contents(place), killer.done
    assert operations > 20
    again = 1 if place.startswith("file") else SEGMENT
    for point in range(operations):
        wipe(place)
        killer.left, before = point, pages_asked(sandbox)
        with pytest.raises(KilledError):
            execute(search(place, compression=compression))
        killer.left = None
        manifest = execute(search(place, compression=compression))
        assert contents(place) == expected, f"killed before operation {point}"
        assert outputs(manifest) == outputs(undisturbed)
        assert PAGES <= pages_asked(sandbox) - before <= PAGES + again, f"killed before operation {point}"
        assert set(contents(place, hidden=True)) - set(expected) == {
            name for name in contents(place, hidden=True) if name.endswith("/manifest.json") or "/tries/" in name
        }


def test_killed_again_and_again_a_search_comes_to_its_end(
    execute: Callable[..., Any], place: str, sandbox: Sandbox, killer: Killer
):
    """A worker that dies again and again, each time a little later, gets there; no try asks for what is already there."""
    expected = outputs(execute(search(place)))
    wipe(place)
    before, kills, manifest = pages_asked(sandbox), 0, None
    while manifest is None:
        killer.left = 40 + 12 * kills
        try:
            manifest = execute(search(place))
        except KilledError:
            kills += 1
    assert outputs(manifest) == expected
    assert kills >= 1
    again = 1 if place.startswith("file") else SEGMENT
    assert pages_asked(sandbox) - before <= PAGES + kills * again


def test_what_an_interrupted_commit_has_moved_does_not_outlive_another_result(
    execute: Callable[..., Any], place: str, sandbox: Sandbox, killer: Killer
):
    """Killed while it moved its files, then given a smaller search: only what the new manifest names is left."""
    execute(search(place))
    operations = killer.done
    wipe(place)
    killer.left = operations - 4
    with pytest.raises(KilledError):
        execute(search(place))
    killer.left = None
    assert len(contents(place)) > 1
    manifest = execute(search(place, resource_type="Patient", search_params={"_id": "no-such-patient"}))
    assert manifest["output"] == []
    assert contents(place) == {}


def failing(execute: Callable[..., Any], sandbox: Sandbox, place: str, *, after: int, **arguments: Any) -> None:
    """Let a try fail after some pages, for a reason that passes."""
    sandbox.fault("status", status=503, match={"path": "Observation"}, skip=after, times=5)
    operator = search(place, **arguments)
    operator.hook.client._sleep = lambda _: None
    with pytest.raises(Exception, match=f"page {after + 1}"):
        execute(operator)


def test_a_try_that_failed_is_gone_on_with_too(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A search that failed on its sixth page goes on there, and nothing was visible in between."""
    failing(execute, sandbox, output, after=5)
    assert contents(output) == {}
    before = pages_asked(sandbox)
    manifest = execute(search(output))
    assert pages_asked(sandbox) - before == PAGES - 5
    assert sum(entry["count"] for entry in manifest["output"] if entry["type"] == "Observation") == 162
    assert manifest["extension"]["pages"] == PAGES


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_a_next_link_that_is_refused_restarts_from_the_first_page(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, status: int
):
    """A server that has forgotten its cursor costs a fresh start within the same try, not a failed task."""
    expected = outputs(execute(search(output)))
    failing(execute, sandbox, output, after=5)
    sandbox.fault("status", status=status, match={"path": "Observation"}, times=1)
    before = pages_asked(sandbox)
    assert outputs(execute(search(output))) == expected
    assert pages_asked(sandbox) - before >= PAGES + 1


def test_a_cursor_that_was_forgotten_in_silence_restarts_from_the_first_page(
    execute: Callable[..., Any], output: str, sandbox: Sandbox
):
    """A server that answers a cursor that it has forgotten with an empty last page does not make half a search a whole."""
    warned = {"on_total_mismatch": "warn"}  # so that the server's total does not tell
    expected = outputs(execute(search(output, **warned)))
    failing(execute, sandbox, output, after=5, **warned)
    empty = {"resourceType": "Bundle", "type": "searchset"}
    sandbox.fault("body", body=empty, match={"path": "Observation"}, times=1)
    before = pages_asked(sandbox)
    assert outputs(execute(search(output, **warned))) == expected
    assert pages_asked(sandbox) - before == PAGES + 1


def test_a_forgotten_cursor_of_one_search_of_many_restarts_that_search(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, killer: Killer
):
    """Of several searches only the one that was taken up where nothing follows is begun anew."""
    many: dict[str, Any] = {
        "search_params": [{"code": "4548-4"}, {"code": "8867-4"}],
        "max_concurrency": 1,
        "on_total_mismatch": "warn",
    }
    undisturbed = execute(search(output, **many))
    expected, searches, operations = contents(output), pages_asked(sandbox), killer.done
    wipe(output)
    killer.left = operations // 6
    with pytest.raises(KilledError):
        execute(search(output, **many))
    killer.left = None
    killed = pages_asked(sandbox) - searches
    empty = {"resourceType": "Bundle", "type": "searchset"}
    sandbox.fault("body", body=empty, match={"path": "Observation"}, times=1)
    manifest = execute(search(output, **many))
    assert contents(output) == expected
    assert pages_asked(sandbox) - searches == killed + 1 + searches
    assert manifest["extension"]["duplicates"] == undisturbed["extension"]["duplicates"]


def test_a_checkpoint_that_is_too_old_is_left_aside(
    execute: Callable[..., Any], output: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """After six hours a result begins anew, so that it is of one time."""
    failing(execute, sandbox, output, after=5)
    monkeypatch.setattr(checkpoints, "RESUMABLE_FOR", -1)
    before = pages_asked(sandbox)
    execute(search(output))
    assert pages_asked(sandbox) - before == PAGES


def test_another_search_does_not_take_up_the_checkpoint(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A task whose parameters were changed between two tries begins anew."""
    failing(execute, sandbox, output, after=5)
    before = pages_asked(sandbox)
    execute(search(output, search_params={"code": "4548-4"}))
    assert pages_asked(sandbox) - before == PAGES


def test_a_server_that_fails_at_one_page_for_ever_is_asked_anew_in_the_end(
    execute: Callable[..., Any], output: str, sandbox: Sandbox
):
    """A next link that only ever gives 503 is tried twice more, then the search begins at its first page."""
    failing(execute, sandbox, output, after=5)
    for _ in range(checkpoints.TRIES):
        stuck(execute, sandbox, output)
    before = pages_asked(sandbox)
    execute(search(output))
    assert pages_asked(sandbox) - before == PAGES


def stuck(execute: Callable[..., Any], sandbox: Sandbox, place: str) -> None:
    sandbox.fault("status", status=503, match={"path": "Observation"}, times=5)
    operator = search(place)
    operator.hook.client._sleep = lambda _: None
    with pytest.raises(Exception, match="page 6"):
        execute(operator)


def test_the_checkpoint_says_nothing_to_a_reader_of_the_bucket(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """What was asked and the next link are sealed; a damaged or foreign checkpoint is left aside."""
    failing(execute, sandbox, output, after=5)
    path = max(Path(output.removeprefix("file://")).rglob("checkpoint"))
    text = path.read_text()
    assert re.fullmatch(r"v1\.[A-Za-z0-9_=-]+", text)
    path.write_text(text[:-20] + "A" * 20)
    before = pages_asked(sandbox)
    execute(search(output))
    assert pages_asked(sandbox) - before == PAGES


def test_a_line_of_the_journal_that_was_half_written_costs_one_page(
    execute: Callable[..., Any], output: str, sandbox: Sandbox
):
    """A kill in the middle of a write leaves a line that does not open; the one before it is taken up."""
    expected = outputs(execute(search(output)))
    failing(execute, sandbox, output, after=7)
    journal = max(Path(output.removeprefix("file://")).rglob("journal.*"))
    journal.write_bytes(journal.read_bytes()[:-30])
    before = pages_asked(sandbox)
    assert outputs(execute(search(output))) == expected
    assert pages_asked(sandbox) - before == PAGES - 7 + 1


def test_a_part_that_was_changed_in_between_is_not_gone_on_with(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """What an earlier try wrote is checked by its checksum before it is taken up."""
    expected = outputs(execute(search(output)))
    failing(execute, sandbox, output, after=5)
    part = next(path for path in Path(output.removeprefix("file://")).rglob("staged/*/*Observation.00000.ndjson"))
    part.write_bytes(part.read_bytes().replace(b"Observation", b"0bservation", 1))
    assert outputs(execute(search(output))) == expected


def test_what_no_retry_can_heal_leaves_nothing_behind(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A search that fails for good keeps no checkpoint and no staged patients."""
    sandbox.fault("status", status=403, match={"path": "Observation"}, skip=3, times=9)
    with pytest.raises(Exception, match="page 4"):
        execute(search(output))
    assert contents(output, hidden=True) == {}


def test_a_disk_that_is_gone_is_no_obstacle(execute: Callable[..., Any], tmp_path: Path, sandbox: Sandbox):
    """Nothing of a resume lies on the worker's own disk: only the output root is needed."""
    failing(execute, sandbox, f"file://{tmp_path}/out", after=5)
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "out")
    before = pages_asked(sandbox)
    execute(search(f"file://{tmp_path}/out"))
    assert pages_asked(sandbox) - before == PAGES - 5


def test_several_searches_go_on_in_the_middle(execute: Callable[..., Any], place: str, sandbox: Sandbox, killer: Killer):
    """With a list of searches, those that are done are not asked again, and counts and duplicates come out the same."""
    both = [{"code": "4548-4"}, {"code": "8867-4"}, {"code": "4548-4"}]
    undisturbed = execute(search(place, search_params=both, max_concurrency=1))
    expected, operations = contents(place), killer.done
    for point in range(5, operations, 7):
        wipe(place)
        killer.left = point
        with pytest.raises(KilledError):
            execute(search(place, search_params=both, max_concurrency=1))
        killer.left = None
        manifest = execute(search(place, search_params=both, max_concurrency=1))
        assert contents(place) == expected
        assert manifest["extension"]["duplicates"] == undisturbed["extension"]["duplicates"] > 0
        assert manifest["extension"]["watermark"] == undisturbed["extension"]["watermark"]


def test_the_progress_is_small(execute: Callable[..., Any], output: str, sandbox: Sandbox):
    """A checkpoint holds places, counts and checksums, no resources."""
    failing(execute, sandbox, output, after=5)
    path = max(Path(output.removeprefix("file://")).rglob("checkpoint"))
    assert path.stat().st_size < 10_000
