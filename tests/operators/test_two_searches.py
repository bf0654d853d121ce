"""Two tries of one search at once: one was taken for dead, and thaws. Whenever that is, one manifest is there, and true.

Every freeze point of the first try is played against a whole second one, and against some points of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.exceptions import RedoxSupersededError
from airflow_provider_redox.operators.documents import RedoxDocumentDownloadOperator
from airflow_provider_redox.operators.fhir import RedoxFhirSearchOperator
from airflow_provider_redox.operators.pulls import drain
from airflow_provider_redox.storage.holdings import Selection
from airflow_provider_redox.storage.purging import Purge
from airflow_provider_redox.storage.reading import parse_manifest
from tests.support.freezing import Frozen, effects_of
from tests.support.sandbox import Sandbox


class Pull:
    """One task instance, whose tries are made anew each time, and what lies in its place."""

    def __init__(self, root: Path, make: Callable[[str], Any]) -> None:
        self.root, self.run, self._make = root, 0, make

    def anew(self) -> None:
        self.run += 1

    def attempt(self) -> Callable[[], Any]:
        operator = self._make(f"file://{self.place}")
        ti = SimpleNamespace(dag_id="pull", run_id="r", task_id="pull", map_index=-1, try_number=1, max_tries=5)
        return lambda: operator.execute({"ti": ti})

    @property
    def place(self) -> Path:
        return self.root / str(self.run)

    @property
    def files(self) -> set[str]:
        """Every file but the manifest and the last try's number."""
        found = (path for path in self.place.rglob("*") if path.is_file())
        return {f"file://{path}" for path in found if path.name != "manifest.json" and path.parent.name != "tries"}

    def manifest(self) -> dict[str, Any]:
        (path,) = self.place.rglob("manifest.json")
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def labs(out: str) -> Any:
    asked = {"code": "4548-4", "_include": "Observation:subject"}
    return RedoxFhirSearchOperator(task_id="pull", resource_type="Observation", search_params=asked, output_path=out)


def cohort(out: str) -> Any:
    asked = [{"code": "4548-4"}, {"code": "8867-4"}]
    return RedoxFhirSearchOperator(
        task_id="pull", resource_type="Observation", search_params=asked, output_path=out, max_concurrency=1
    )


def documents(out: str) -> Any:
    found = Path(out.removeprefix("file://")).parent / "found.jsonl"
    attachments = [{"attachment": {"contentType": "text/plain", "data": data}} for data in ("b25l", "dHdv", "dGhyZWU=")]
    found.write_text(json.dumps({"resourceType": "DocumentReference", "id": "1", "content": attachments}))
    manifest = {"output": [{"type": "DocumentReference", "url": f"file://{found}", "count": 1}]}
    return RedoxDocumentDownloadOperator(task_id="pull", manifest=manifest, output_path=out, max_concurrency=1)


@pytest.fixture
def pull(request: Any, redox_connection: Sandbox, tmp_path: Path, freezing: Any, monkeypatch: Any) -> Pull:
    """A small search in a few segments."""
    monkeypatch.setattr(drain, "PAGES_OF_A_PART", 2)
    monkeypatch.setattr(drain, "PAGES_OF_A_PART_OF_MANY", 2)
    redox_connection.settings(page_size=60)
    return Pull(tmp_path, request.param)


def judge(pull: Pull, tries: list[Frozen], where: str) -> None:
    """One manifest is there; its files are, with their checksums, and no other file; what a try gives is what is there."""
    manifest = pull.manifest()
    named = {}
    for entry in [*manifest["output"], *manifest["error"]]:
        content = Path(entry["url"].removeprefix("file://")).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], where
        named[entry["url"]] = content
    kept = set(named) | {manifest["extension"].get("searches", next(iter(named)))}
    kept |= {json.loads(line)["url"] for _, line in parse_manifest(manifest).resources("Document")}
    for one in tries:
        assert one.error is None or isinstance(one.error, RedoxSupersededError), f"{where}: {one.error!r}"
    assert any(one.result == manifest for one in tries), where
    assert pull.files == kept, where


@pytest.mark.parametrize("pull", [labs, cohort, documents], indirect=True)
def test_a_search_that_thaws_changes_nothing_of_the_result(pull: Pull) -> None:
    """Frozen before any of its effects, while the next try runs from its beginning to its end."""
    pull.anew()
    effects = effects_of(pull.attempt())
    expected = [(entry["type"], entry["count"], entry["sha256"]) for entry in pull.manifest()["output"]]
    assert effects > 30
    for point in range(0, effects, 1 if effects < 80 else 3):
        pull.anew()
        first = Frozen(pull.attempt(), point).start()
        second = Frozen(pull.attempt()).start()
        first.thaw()
        judge(pull, [first, second], f"frozen before effect {point} ({first.at})")
        found = [(entry["type"], entry["count"], entry["sha256"]) for entry in pull.manifest()["output"]]
        assert found == expected or found[0][0] == "Document", f"frozen before effect {point} ({first.at})"


@pytest.mark.parametrize("pull", [labs], indirect=True)
def test_two_searches_that_take_turns_give_one_result(pull: Pull) -> None:
    """The first stands still, then the second, then the first goes on to its end, then the second."""
    pull.anew()
    effects = effects_of(pull.attempt())
    for point in range(1, effects + 1, 4):
        for other in range(1, effects + 1, 5):
            pull.anew()
            first = Frozen(pull.attempt(), point).start()
            second = Frozen(pull.attempt(), other).start()
            first.thaw()
            second.thaw()
            judge(pull, [first, second], f"{point} ({first.at}), {other} ({second.at})")


@pytest.mark.parametrize("pull", [labs], indirect=True)
def test_a_search_that_thaws_puts_no_other_content_under_the_names_of_a_result(pull: Pull) -> None:
    """The second try finds other resources: no file that its manifest names holds what the first one had found."""
    pull.anew()
    effects = effects_of(pull.attempt())
    for point in range(effects // 3, effects, 2):
        for other in range(effects // 2, effects + 8, 3):
            pull.anew()
            first = Frozen(pull.attempt(), point).start()
            pull._make = other_labs
            second = Frozen(pull.attempt(), other).start()
            pull._make = labs
            first.thaw()
            second.thaw()
            judge(pull, [first, second], f"{point} ({first.at}), {other} ({second.at})")


def other_labs(out: str) -> Any:
    asked = {"code": "8867-4", "_include": "Observation:subject"}
    return RedoxFhirSearchOperator(task_id="pull", resource_type="Observation", search_params=asked, output_path=out)


@pytest.mark.parametrize("pull", [labs, documents], indirect=True)
def test_a_search_that_was_purged_while_it_stood_still_has_no_result(pull: Pull):
    """Its number is gone with its parts: it stops, and leaves nothing that the purge was to remove."""
    begun, ends = before(pull, "replace"), effects_of(pull.attempt())
    for point in range(begun, ends):
        pull.anew()
        first = Frozen(pull.attempt(), point).start()
        if list(pull.place.rglob("manifest.json")) or first.at.startswith("writ"):
            break  # it is committing, or has
        Purge(f"file://{pull.place}", Selection(), on_empty="succeed").run()
        first.thaw()
        where = f"frozen before effect {point} ({first.at})"
        assert isinstance(first.error, RedoxSupersededError | AirflowFailException), where
        assert not [one for one in pull.files if "/_redox/certificates/" not in one], where


@pytest.mark.parametrize("pull", [labs], indirect=True)
def test_an_erased_patient_does_not_come_back_with_a_search_that_thaws(pull: Pull):
    """A patient was erased from the result of the try that took over: that of the frozen one is not put in its place."""
    pull.anew()
    pull.attempt()()
    listed = next(one for one in pull.manifest()["output"] if one["type"] == "Observation")
    line = json.loads(Path(listed["url"].removeprefix("file://")).read_bytes().splitlines()[0])
    patient = line["subject"]["reference"]
    for point in range(before(pull, "replace"), before(pull, "copy")):
        pull.anew()
        first = Frozen(pull.attempt(), point).start()
        pull.attempt()()
        Purge(f"file://{pull.place}", Selection(destination="general"), {patient: 1}).run()
        first.thaw()
        where = f"frozen before effect {point} ({first.at})"
        assert isinstance(first.error, RedoxSupersededError), where
        lines = b"".join(path.read_bytes() for path in pull.place.rglob("*.ndjson"))
        assert lines, where
        assert f'"{patient}"'.encode() not in lines, where


def before(pull: Pull, name: str) -> int:
    """Return the number of the first effect of a try that has this name."""
    for point in range(1000):
        pull.anew()
        one = Frozen(pull.attempt(), point).start()
        met = one.at == name
        one.thaw()
        if met:
            return point
    raise AssertionError(name)
