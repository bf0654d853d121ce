"""One manifest of several: the files of all, each result's own watermark kept apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_redox.downstream import merge_manifests, read_resources
from airflow_provider_redox.exceptions import RedoxConfigError


def manifest(folder: Path, hospital: str, *ids: str, **extension: Any) -> dict[str, Any]:
    """What a search of one hospital returned."""
    place = folder / f"{hospital}.ndjson"
    place.write_text("".join(json.dumps({"resourceType": "Patient", "id": one}) + "\n" for one in ids))
    return {
        "transactionTime": "2026-01-05T02:00:07.000Z",
        "request": f"https://api.redoxengine.com/fhir/R4/{hospital}/Production/Patient/_search",
        "requiresAccessToken": False,
        "output": [{"type": "Patient", "url": f"file://{place}", "count": len(ids)}],
        "error": [],
        "extension": {"pages": 1, "requests": 2, "watermark": "2026-01-04T22:15:00.000Z", **extension},
    }


def test_what_is_merged_is_read_as_one(tmp_path: Path):
    """Every resource of every part comes, in the parts' order."""
    parts = [manifest(tmp_path, "one", "1", "2"), manifest(tmp_path, "two", "3")]
    assert [one["id"] for one in read_resources(merge_manifests(parts), "Patient")] == ["1", "2", "3"]


def test_watermarks_stay_apart(tmp_path: Path):
    """Each part's own watermark is kept; the whole's is the earliest, so that whoever goes by it misses nothing."""
    parts = [manifest(tmp_path, "one", "1"), manifest(tmp_path, "two", "2", watermark="2026-01-03T00:00:00.000Z")]
    extension = merge_manifests(parts)["extension"]
    assert [(one["request"].split("/")[5], one["watermark"], one["resources"]) for one in extension["merged"]] == [
        ("one", "2026-01-04T22:15:00.000Z", 1),
        ("two", "2026-01-03T00:00:00.000Z", 1),
    ]
    assert extension["watermark"] == "2026-01-03T00:00:00.000Z"
    assert (extension["pages"], extension["requests"]) == (2, 4)


def test_a_hospital_without_a_watermark_leaves_the_whole_without(tmp_path: Path):
    """Where one part has none, the whole has none."""
    parts = [manifest(tmp_path, "one", "1"), manifest(tmp_path, "two", watermark=None)]
    assert merge_manifests(parts)["extension"]["watermark"] is None


def test_mapped_tasks_that_failed_are_left_out(tmp_path: Path):
    """What XCom holds None for is no part."""
    assert len(merge_manifests([None, manifest(tmp_path, "one", "1")])["extension"]["merged"]) == 1


def test_manifests_are_read_from_storage(tmp_path: Path):
    """A part may be the path of a manifest.json."""
    (tmp_path / "manifest.json").write_text(json.dumps(manifest(tmp_path, "one", "1")))
    assert merge_manifests([str(tmp_path / "manifest.json")])["output"][0]["count"] == 1


def test_envelopes_stay_envelopes(tmp_path: Path):
    """Lines in envelopes are read through the whole as through each part."""
    one = manifest(tmp_path, "one", line_format="envelope")
    Path(one["output"][0]["url"].removeprefix("file://")).write_text('{"id": "x", "resource": {"id": "1"}}\n')
    one["output"][0]["count"] = 1
    assert [found["id"] for found in read_resources(merge_manifests([one]), "Patient")] == ["1"]


def test_what_cannot_be_one_is_refused(tmp_path: Path):
    """No part, a single manifest, what is no manifest, a second merge, and lines of two shapes are named by their number."""
    good = manifest(tmp_path, "one", "1")
    cases: dict[str, Any] = {
        "there is none": [None],
        "this is one": good,
        r"manifests\[1\]: not what": [good, {"files": []}],
        r"manifests\[0\]: .*no file at this place": [str(tmp_path / "gone.json")],
        r"manifests\[0\]: is one that was merged": [merge_manifests([good])],
        "envelopes": [good, manifest(tmp_path, "two", line_format="envelope")],
    }
    for words, manifests in cases.items():
        with pytest.raises(RedoxConfigError, match=words):
            merge_manifests(manifests)
