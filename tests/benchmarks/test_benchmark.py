"""What the benchmark counts is what is there. Nothing here looks at a clock."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_redox.client.slots import MemorySlot
from benchmarks import posts, processes, report
from benchmarks.job import Job
from benchmarks.measure import Result, control, patients
from benchmarks.pages import SIZE, patient
from benchmarks.peers import OURS, PEERS, ours, requests_json
from benchmarks.server import FAULTS
from tests.docs.pages import ROOT, rows

PAGES = 3


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    return {"key": processes.new_key(), "other_key": processes.new_key()}


@pytest.fixture(scope="module")
def server_process() -> Iterator[str]:
    with processes.server() as url:
        yield url


@pytest.fixture
def server(server_process: str) -> Iterator[str]:
    """The server at its start, with three pages."""
    control(server_process, pages=PAGES)
    yield server_process
    MemorySlot.forget_all()


@pytest.fixture
def job(server: str, keys: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    for name in ("REDOX_DEFAULT", "HTTP_DEFAULT"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", "{}")  # the clients write them: put back afterwards
    out = tmp_path / "out"
    out.mkdir()
    return Job(server, keys["key"], out)


def one(module: str, server: str, keys: dict[str, str], *, limit: float = 60, **told: Any) -> Result | None:
    (result,) = processes.run(module, [{"server": server, "pages": PAGES, **keys, **told}], limit=limit)
    return result


def test_ours_and_a_loop_by_hand_write_the_same(job: Job, tmp_path: Path):
    """The files of our operator and of a loop over requests hold the same resources, in the same order: all of them."""
    ours.drain(job)
    by_hand = Job(job.server, job.key, tmp_path / "by_hand")
    by_hand.out.mkdir()
    requests_json.drain(by_hand)
    written = list(patients(job.out))
    assert len(written) == PAGES * SIZE
    assert written == list(patients(by_hand.out))


@pytest.mark.parametrize("name", [OURS, "requests_json"])
def test_a_client_in_a_process_of_its_own_is_counted(name: str, server: str, keys: dict[str, str]):
    """A result tells the resources in the files, the requests that reached the server, and a cost above nothing."""
    result = one(f"benchmarks.peers.{name}", server, keys)
    assert result is not None
    assert (result.error, result.lines, result.distinct) == ("", PAGES * SIZE, PAGES * SIZE)
    assert result.requests == 1 + PAGES
    assert 1 <= result.connections <= 2
    assert result.cpu > 0
    assert result.wall > 0


def test_a_client_that_loses_resources_is_told(server: str, keys: dict[str, str]):
    """One that stops at a fault without an exception is SILENT in the table, with what it did write."""
    result = one("tests.benchmarks.losing", server, keys, fault="503")
    assert result is not None
    assert result.verdict(PAGES * SIZE) == f"{PAGES * SIZE}"  # the fault is on page 7, and there are three
    lost = one("tests.benchmarks.losing", server, keys, pages=10, fault="503")
    assert lost is not None
    assert report.fault_table({OURS: {"503": lost}}, expected=1000).endswith("| 600 SILENT |")


def test_a_client_that_writes_twice_is_told(server: str, keys: dict[str, str]):
    """Resources that stand in the files twice are SILENT too."""
    result = one("tests.benchmarks.doubling", server, keys)
    assert result is not None
    assert result.verdict(PAGES * SIZE) == f"{2 * PAGES * SIZE} SILENT"


def test_a_client_that_raises_is_told(server: str, keys: dict[str, str]):
    """An exception is told by its class, never taken for a result."""
    result = one("benchmarks.peers.requests_json", server, keys, pages=10, fault="503")
    assert result is not None
    assert (result.error, result.verdict(1000)) == ("HTTPError", "raised")


def test_a_client_that_hangs_is_ended_and_told(server: str, keys: dict[str, str]):
    """One that is not done in time is ended; what follows in its process counts as not done either."""
    asked = [{"server": server, "pages": PAGES, **keys}] * 2
    assert processes.run("tests.benchmarks.hanging", asked, limit=3) == [None, None]
    assert report.fault_table({OURS: {"503": None}}, expected=1000).endswith("| hung |")


def test_every_fault_happens_once(server: str):
    """Each fault spoils the first request of its page; the next one is answered with the page."""
    for fault in FAULTS:
        control(server, pages=PAGES, fault=fault, at=2)
        address = f"{server}/fhir/R4/bench/Development/Patient?_page=2"
        assert not is_page(address), fault
        assert is_page(address), fault


def is_page(address: str) -> bool:
    try:
        answer = requests.get(address, headers={"Authorization": "Bearer bench-1"}, timeout=10)
        return answer.ok and len(answer.json()["entry"]) == SIZE
    except (requests.RequestException, KeyError):
        return False


def test_the_server_asks_for_a_token(server: str):
    """Without a token of its own there is no page."""
    address = f"{server}/fhir/R4/bench/Development/Patient"
    assert requests.get(address, timeout=10).status_code == 401
    assert requests.get(address, headers={"Authorization": "Bearer other"}, timeout=10).status_code == 401


def test_the_server_counts_connections(server: str):
    """A session is one connection, requests without one are one each; its own control is not counted."""
    headers = {"Authorization": "Bearer bench-1"}
    with requests.Session() as session:
        for _ in range(3):
            session.get(f"{server}/fhir/R4/bench/Development/Patient", headers=headers, timeout=10)
    assert control(server)["connections"] == 1
    requests.get(f"{server}/fhir/R4/bench/Development/Patient", headers=headers, timeout=10)
    assert control(server) | {"connections": 2, "requests": 4} == control(server)


def test_patients_are_of_the_size_that_is_told():
    """A patient is about 1.7 KB, and no two on a page are the same."""
    import json

    texts = {json.dumps(patient(number), ensure_ascii=False, separators=(",", ":")) for number in range(SIZE)}
    assert len(texts) == SIZE
    assert all(1500 < len(text.encode()) < 1900 for text in texts)


def test_the_results_name_every_client():
    """The page that was kept has a row for each client in each of the tables that it belongs in."""
    kept = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    drained, grown, faulted, *_ = re.split(r"^## ", kept, flags=re.MULTILINE)[1:]
    for peer in PEERS.values():
        assert f"| {peer.title} |" in drained
        assert f"| {peer.title} |" in faulted
        assert (f"| {peer.title} |" in grown) == peer.grows


@pytest.mark.parametrize("name", posts.POSTERS)
def test_each_poster_sends_each_message_once(name: str, server: str, keys: dict[str, str]):
    """As many messages as were asked for have arrived, over few connections, and cost something."""
    if name == "urllib3":
        pytest.importorskip("orjson", reason="the benchmark's own environment has it")
    cost = posts.run(name, server, keys["key"], 20, width=4 if name == "file" else 1)
    assert cost.posts == 20
    assert 1 <= cost.connections <= 6
    assert cost.cpu > 0


def test_the_tables_of_posts_say_what_was_counted():
    """Fastest first, with the rate and its spread; a file side by side is compared with one at a time."""
    slow, quick = posts.Cost(2.0, 1.0, 5_000_000, 1000, 2), posts.Cost(0.5, 0.2, 1_000_000, 1000, 1)
    rows = report.post_table({"requests": [slow, slow], "hook": [quick, slow]}).splitlines()[2:]
    assert rows[0] == "| RedoxHook.post_data_model | 1,250 (500 to 2,000) | 0.60 | 1, 2 | 1,000 |"
    assert rows[1].startswith("| requests.Session by hand | 500 (500 to 500) |")
    told = report.file_table({"slow, 1": slow, "slow, 8": quick, "short": quick, "long": slow})
    assert "| 30 ms a message, 8 at a time | 1,000 | 0.5 | 4.0 | 1 |" in told


def test_the_page_lists_the_posters():
    """The documentation's list of what posts is the registry."""
    assert [row[0] for row in rows("benchmarks", "Poster")] == [title for title, _ in posts.POSTERS.values()]


def test_the_page_lists_the_clients():
    """The documentation's list of clients is the registry."""
    assert [row[0] for row in rows("benchmarks", "Client")] == [peer.title for peer in PEERS.values()]
