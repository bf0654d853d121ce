"""What earlier tries left below another destination or environment is found, on a disk and on a store."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.layout import Layout, Owner
from airflow_provider_redox.storage.moved import elsewhere
from tests.support.s3 import Bucket

OWNER = Owner("feed", "r", "post")


def places(root: str) -> list[str]:
    """Lay lines down below two destinations, and look from a third place."""
    files = Files(root)
    for destination, environment in (("general", "Development"), ("general", "Staging"), ("lakeside", "Production")):
        files.write(Layout(root, destination, environment, OWNER).sent(0), b"{}")
    files.write(f"{root}/_redox/certificates/1.json", b"{}")
    here = Layout(root, "general", "Development", OWNER)
    return [place.removeprefix(f"{root}/") for place in elsewhere(files, here, here.sent(0))]


WANTED = [
    f"destination={destination}/_redox/dag_id=feed/run_id=r/post/sent-00000.json"
    for destination in ("general/environment=Staging", "lakeside/environment=Production")
]


def test_on_a_disk(tmp_path: Path) -> None:
    """Every other destination and environment, and nothing that is neither."""
    assert places(f"file://{tmp_path}") == WANTED
    assert list(elsewhere(Files(f"file://{tmp_path}/none"), Layout(f"file://{tmp_path}/none", "a", "b", OWNER), "x")) == []


def test_on_a_store(bucket: Bucket) -> None:
    """The same where folders are prefixes."""
    assert places(bucket.root) == WANTED
    root = f"{bucket.root}/none"
    assert list(elsewhere(Files(root), Layout(root, "a", "b", OWNER), "x")) == []
