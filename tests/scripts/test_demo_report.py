"""What the demo says about the runs, from the values in XCom."""

from __future__ import annotations

from typing import Any

import demo
import pytest

FOLDER = f"file://{demo.RESULTS}/destination=general/"


@pytest.fixture(autouse=True)
def wide_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def manifest(resource_type: str, name: str, count: int) -> dict[str, Any]:
    output = [{"type": resource_type, "url": f"{FOLDER}{name}", "count": count, "sha256": "0"}]
    return {"transactionTime": "", "request": "", "output": output, "error": [], "extension": {}}


def test_manifest_is_known_by_its_shape() -> None:
    """Nothing else that a task may return is taken for a manifest."""
    assert demo.is_manifest(manifest("Patient", "a", 1))
    assert not any(demo.is_manifest(value) for value in (None, [], {}, "output", {"output": "x", "error": []}))


def test_files_are_listed_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A manifest that two tasks return is shown once; the folder that all files share, in the head."""
    patients, conditions = manifest("Patient", "type=Patient/a", 12), manifest("Condition", "type=Condition/b", 345)
    demo.report_results([patients, conditions, patients], [])
    folder, _, _, _, *rows = capsys.readouterr().out.split("\n")[1:-1]
    assert folder == "  Files below .demo/results/destination=general/"
    assert [row.split() for row in rows] == [
        ["Condition", "345", "type=Condition/b"],
        ["Patient", "12", "type=Patient/a"],
    ]


def test_messages_are_shown_with_log_ids(capsys: pytest.CaptureFixture[str]) -> None:
    """Some log IDs are shown, the others counted."""
    url = f"{FOLDER}r.ndjson"
    summary = {"accepted": 5, "refused": 1, "ambiguous": 0, "log_ids": list("abcdefgh"), "results_url": url}
    assert demo.is_post_summary(summary)
    demo.report_results([], [summary])
    row, log_ids = capsys.readouterr().out.split("\n")[-3:-1]
    assert row.split() == ["5", "1", "0", "r.ndjson"]
    assert log_ids.endswith(": a, b, c, d, e and 3 more")


def test_long_paths_lose_folders() -> None:
    """A path that does not fit keeps its end, the name above all."""
    assert demo.fitted("type=Patient/run_id=demo/a.ndjson", 40) == "type=Patient/run_id=demo/a.ndjson"
    assert demo.fitted("type=Patient/run_id=demo/a.ndjson", 25) == "…/run_id=demo/a.ndjson"
    assert demo.fitted("type=Patient/run_id=demo/a.ndjson", 3) == "…/a.ndjson"


def test_nothing_to_show_is_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    """No empty tables."""
    demo.report_results([], [])
    assert capsys.readouterr().out == ""


def test_connection_error_hides_the_line() -> None:
    """What the sandbox printed may hold a key."""
    with pytest.raises(demo.DemoError) as caught:
        demo.parse_connection("-----BEGIN PRIVATE KEY")
    assert "BEGIN" not in str(caught.value)
    assert caught.value.__cause__ is None
