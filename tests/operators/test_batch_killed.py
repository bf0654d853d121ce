"""Ten thousand messages and SIGKILL: real workers, whose disks go with them, and a real S3 for what has to be known."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support.s3 import CONNECTION, Bucket
from tests.support.sandbox import Sandbox
from tests.support.worker import Worker

COUNT, SEGMENT = 10_000, 200


@pytest.fixture
def server() -> Iterator[Sandbox]:
    """A sandbox of its own, without a quota."""
    sandbox = Sandbox.start("--population", "1")
    sandbox.settings(quota=1_000_000)
    yield sandbox
    sandbox.stop()


def message(number: int) -> str:
    patient = {"Identifiers": [{"ID": f"MRN-{number}", "IDType": "MR"}], "Demographics": {"LastName": "Quillfeather"}}
    return json.dumps({"Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"}, "Patient": patient})


class Feed:
    """The file, and the workers that send it."""

    def __init__(self, server: Sandbox, bucket: Bucket, count: int) -> None:
        self.server, self.bucket = server, bucket
        bucket.put("in/messages.ndjson", "\n".join(message(number) for number in range(count)).encode())
        connection = json.dumps(server.with_extra(requests_per_5min=10_000))
        self.connections = {"redox_default": connection, CONNECTION: bucket.server.connection_json}

    def worker(self, **arguments: object) -> Worker:
        place = f"s3://{CONNECTION}@{self.bucket.name}"
        known = {"payload_path": f"{place}/in/messages.ndjson", "results_path": self.bucket.root, "segment_size": SEGMENT}
        return Worker("post", self.connections, **{**known, **arguments})

    def arrived(self) -> Counter[int]:
        """How often each message has been processed."""
        mrns = (one["body"]["Patient"]["Identifiers"][0]["ID"] for one in self.server.control("GET", "messages"))
        return Counter(int(mrn.removeprefix("MRN-")) for mrn in mrns)

    def outcomes(self) -> list[str]:
        (content,) = self.bucket.results().values()
        lines = [json.loads(line) for line in content.splitlines()]
        assert [line["index"] for line in lines] == list(range(len(lines)))
        return [line["outcome"] for line in lines]


@pytest.mark.slow
def test_ten_thousand_messages_survive_a_kill_each_thousand(server: Sandbox, bucket: Bucket):
    """Nothing is sent twice, nothing forgotten; what is unknown is listed, and is at most a segment for each kill."""
    feed, kills = Feed(server, bucket, COUNT), 0
    worker = feed.worker()
    for thousand in range(1000, COUNT, 1000):
        while worker.runs and server.stats()["messages"] < thousand + 50:
            time.sleep(0.02)
        if worker.runs:
            assert "Quillfeather" not in worker.kill()
            kills += 1
            worker = feed.worker()
    told = worker.end()
    assert kills >= 8
    arrived, outcomes = feed.arrived(), Counter(feed.outcomes())
    assert max(arrived.values()) == 1
    assert set(outcomes) <= {"accepted", "ambiguous"}
    assert outcomes["ambiguous"] <= kills * SEGMENT
    assert "may or may not have arrived" in told["failed"]
    known = {number for number, outcome in enumerate(feed.outcomes()) if outcome == "accepted"}
    assert known <= set(arrived)
    assert set(range(COUNT)) - known >= set(range(COUNT)) - set(arrived)

    # The author has looked, and wants those that are unknown sent again: those, and no other.
    told = feed.worker(on_ambiguous="resend").end()
    assert told["returned"]["accepted"] == COUNT
    again = feed.arrived()
    assert set(again) == set(range(COUNT))
    assert all(again[number] == 1 for number in known)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(server: Sandbox, bucket: Bucket):
    """A worker that sends ten thousand messages has no higher peak than one that sends one thousand, but for a little."""
    peaks = []
    for count in (1000, COUNT):
        told = Feed(server, bucket, count).worker(results_path=f"{bucket.root}/{count}").end()
        assert told["returned"]["accepted"] == count
        peaks.append(told["memory"])
    assert peaks[1] - peaks[0] < 16 * 1024 * 1024
