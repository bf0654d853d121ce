"""The ledger of sent keys: of all who hold a key, one sends, across runs, DAGs and processes."""

from __future__ import annotations

import json
import multiprocessing
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError, RedoxConfigError, RedoxTransportError
from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.send_ledger import Entry, SendLedger
from tests.support.refusals import refused
from tests.support.s3 import Bucket
from tests.support.sandbox import Sandbox

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2.11
    from airflow.io.store import attach

RESULT = "FILLER-ORDER-4711"
ORDER = {
    "Meta": {"DataModel": "Results", "EventType": "New"},
    "Patient": {"Demographics": {"LastName": "Quillfeather"}},
    "Order": {"Results": [{"ID": RESULT, "Value": "7.1"}]},
}
KEY = "/Order/Results/0/ID"


@pytest.fixture(params=["disk", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A ledger on a disk, and on an object store."""
    if request.param == "disk":
        yield f"file://{tmp_path}/ledger"
        return
    memory = fsspec.filesystem("memory")
    attach("memory", fs=memory)
    yield "memory://ledger"
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture
def post(redox_connection: Sandbox, tmp_path: Path) -> Callable[..., Any]:
    """Post as one run of one DAG."""

    def run(place: str, *, by: str = "a", dag: str = "feed", **options: Any) -> Any:
        ti = SimpleNamespace(dag_id=dag, run_id=by, task_id="post", map_index=-1)
        ti.try_number, ti.max_tries = options.pop("try_number", 1), options.pop("max_tries", 0)
        retry = options.pop("retry", RetryPolicy())
        given = {"payload": ORDER, "idempotency_key": KEY, "ledger_path": place, "results_path": f"file://{tmp_path}/out"}
        operator = RedoxDataModelPostOperator(task_id="post", **{**given, **options})
        operator.hook.retry = retry
        return operator.execute({"ti": ti})

    return run


def contents(place: str) -> dict[str, bytes]:
    """Every file of a ledger by its path."""
    scheme, _, root = place.partition("://")
    fs = fsspec.filesystem(scheme)
    return {path: fs.cat_file(path) for path in fs.find(root)}


def entry(place: str) -> dict[str, Any]:
    (found,) = [content for path, content in contents(place).items() if path.endswith(".json")]
    return json.loads(found)


def test_a_key_is_sent_once_across_runs_and_dags(post: Callable[..., Any], place: str, sandbox: Sandbox):
    """The same result built again, in another order of fields and by another DAG, is not sent; who sent it is told."""
    first = post(place)
    meta = {"EventDateTime": "2026-01-02T00:00:00Z", **ORDER["Meta"]}
    again = {"Order": {"Results": [{"Value": "7.1", "ID": RESULT}]}, "Patient": ORDER["Patient"], "Meta": meta}
    for summary in (post(place, by="b"), post(place, by="a", dag="backfill", payload=again)):
        assert summary["already_sent"] == 1
        assert summary["log_ids"] == first["log_ids"]
    assert sandbox.stats()["messages"] == 1


@pytest.mark.parametrize(
    "other",
    [
        {"destination": "lakeside"},
        {"destinations": ["general", "lakeside"]},
        {"payload": {**ORDER, "Order": {"Results": [{"ID": "another"}]}}},
        {"payload": {**ORDER, "Meta": {"DataModel": "Results", "EventType": "NewUnsolicited"}}},
    ],
)
def test_another_place_event_or_value_is_another_key(
    post: Callable[..., Any], place: str, sandbox: Sandbox, other: dict[str, Any]
):
    """Only the same value of the same event to the same destinations is the same."""
    post(place)
    assert "already_sent" not in post(place, by="b", **other)
    assert sandbox.stats()["messages"] == 2


def test_the_order_of_destinations_is_no_difference(post: Callable[..., Any], place: str, sandbox: Sandbox):
    """The same destinations in another order are the same."""
    post(place, destinations=["general", "lakeside"])
    assert post(place, by="b", destinations=["lakeside", "general"])["already_sent"] == 1


def test_another_spelling_is_no_difference(post: Callable[..., Any], place: str, sandbox: Sandbox):
    """A UUID in capitals and a data model with a space are what they are without."""
    post(place)
    shouted = sandbox.connection["extra"]["destinations"]["general"]["id"].upper()
    assert post(place, by="b", destination=shouted)["already_sent"] == 1
    spaced = {**ORDER, "Meta": {"DataModel": "Re sults", "EventType": "New"}}
    assert post(place, by="c", payload=spaced)["already_sent"] == 1
    assert sandbox.stats()["messages"] == 1


def test_the_ledger_tells_a_reader_nothing(post: Callable[..., Any], place: str):
    """A status, log IDs, a time and who sent it: no key and no content, in no name and no file, nor an unsalted hash."""
    post(place)
    files = contents(place)
    assert set(entry(place)) == {"status", "by", "at", "log_ids", "hash"}
    assert entry(place)["by"] == "feed/a/post/-1"
    everything = " ".join(files) + b" ".join(files.values()).decode()
    assert RESULT not in everything
    assert "Quillfeather" not in everything
    names = sorted(path.rpartition("/")[2] for path in files)
    assert re.fullmatch(r"[0-9a-f]{40}\.json", names[0])
    assert names[1:] == ["salt"]


def test_two_ledgers_give_a_key_two_names(tmp_path: Path):
    """The salt is each ledger's own, so that who reads one cannot look keys up in another."""
    names = {SendLedger(f"file://{tmp_path}/{one}").url_of("x", RESULT).rpartition("/")[2] for one in "ab"}
    assert len(names) == 2
    assert len({SendLedger(f"file://{tmp_path}/a").url_of("x", RESULT) for _ in range(2)}) == 1


def test_a_claim_whose_task_died_stops_all_others(post: Callable[..., Any], place: str, sandbox: Sandbox):
    """Nobody knows whether a dead task sent: others refuse and name it; on_ambiguous="resend" sends."""
    ledger = SendLedger(place)
    general = sandbox.connection["extra"]["destinations"]["general"]["id"]
    assert ledger.claim(ledger.url_of("Results", "New", general, RESULT), "feed/dead/post/-1", "") is None
    with pytest.raises(RedoxAmbiguousOutcomeError, match="feed/dead/post/-1") as caught:
        post(place)
    assert caught.value.retryable
    assert RESULT not in str(caught.value)
    assert sandbox.stats()["messages"] == 0
    assert post(place, on_ambiguous="resend")["accepted"] == 1


def test_a_task_goes_on_with_its_own_claim(post: Callable[..., Any], place: str, sandbox: Sandbox):
    """A try that died between its claim and its first line is begun again by the same task instance."""
    ledger = SendLedger(place)
    general = sandbox.connection["extra"]["destinations"]["general"]["id"]
    ledger.claim(ledger.url_of("Results", "New", general, RESULT), "feed/a/post/-1", "")
    assert post(place, try_number=2, max_tries=2)["accepted"] == 1


def test_an_open_send_keeps_its_key(post: Callable[..., Any], place: str, sandbox: Sandbox):
    """After an answer that was lost, neither another run nor a retry sends."""
    sandbox.fault("drop", when="after", match={"path": "/endpoint"})
    for by, try_number in (("a", 1), ("b", 1), ("a", 2)):
        with pytest.raises((AirflowFailException, RedoxAmbiguousOutcomeError)) as caught:
            post(place, by=by, try_number=try_number)
        found = caught.value.__cause__ if by == "a" else caught.value  # who did not send may look again
        assert isinstance(found, RedoxAmbiguousOutcomeError)
    assert sandbox.stats()["messages"] == 1
    assert entry(place)["status"] == "sending"


def test_a_partly_accepted_message_keeps_its_key(post: Callable[..., Any], place: str, sandbox: Sandbox):
    """Where one of several destinations took it, another run refuses."""
    body = json.dumps({"Meta": {"Errors": [{"ID": 7, "Module": "Send"}], "Logs": [{"ID": "log-1"}]}})
    sandbox.fault("body", body=body, match={"path": "/endpoint"})
    for by in "ab":
        with pytest.raises((AirflowFailException, RedoxAmbiguousOutcomeError)):
            post(place, by=by)
    assert len(sandbox.ledger("/endpoint")) == 1


@pytest.mark.parametrize(
    "fault", [{"status": 400}, {"status": 429, "headers": {"Retry-After": "0"}}, {"status": 403}, {"status": 401}]
)
def test_a_refusal_gives_the_key_back(post: Callable[..., Any], place: str, sandbox: Sandbox, fault: dict[str, Any]):
    """What was refused did not arrive, so that another run may send it."""
    sandbox.fault("status", match={"path": "/endpoint"}, times=2, **fault)
    with pytest.raises(Exception, match="HTTP"):
        post(place, retry=RetryPolicy(attempts=2, base=0.01, rate_limit_floor=0))
    sandbox.control("DELETE", "faults")
    assert post(place, by="b")["accepted"] == 1


def test_what_could_not_leave_gives_the_key_back(
    post: Callable[..., Any], place: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """Without a connection nothing was sent."""
    with monkeypatch.context() as unreachable:
        unreachable.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps({**sandbox.connection, "port": 9}))
        with pytest.raises(RedoxTransportError):
            post(place, retry=RetryPolicy(attempts=1))
    assert post(place, by="b")["accepted"] == 1


def test_a_repetition_that_was_refused_says_nothing_of_the_first(post: Callable[..., Any], place: str, sandbox: Sandbox):
    """With on_ambiguous="resend" the last answer is a refusal, and yet the first request may have arrived: no key back."""
    sandbox.fault("drop", when="after", match={"path": "/endpoint"})
    sandbox.fault("status", status=400, match={"path": "/endpoint"})
    with pytest.raises(AirflowFailException):
        post(place, on_ambiguous="resend", on_refused="record", retry=RetryPolicy(attempts=2, base=0.01))
    with pytest.raises(RedoxAmbiguousOutcomeError):
        post(place, by="b")
    assert sandbox.stats()["messages"] == 1


@pytest.mark.parametrize("on_ambiguous", ["fail", "resend"])
def test_who_does_not_hold_a_key_cannot_give_it_back(
    post: Callable[..., Any], place: str, sandbox: Sandbox, on_ambiguous: str
):
    """A resend that is refused leaves the entry of the run that was accepted."""
    post(place)
    sandbox.fault("status", status=400, match={"path": "/endpoint"})
    if on_ambiguous == "fail":
        with pytest.raises(AirflowFailException):
            post(place, by="b", resend=True)
    else:
        assert post(place, by="b", on_ambiguous="resend")["already_sent"] == 1
    assert post(place, by="c")["already_sent"] == 1
    assert sandbox.stats()["messages"] == 1


def test_who_sends_over_a_claim_stops_its_holder(post: Callable[..., Any], place: str, sandbox: Sandbox):
    """A task that died before it sent would send on with its own claim; not when another one has sent meanwhile."""
    ledger = SendLedger(place)
    general = sandbox.connection["extra"]["destinations"]["general"]["id"]
    ledger.claim(ledger.url_of("Results", "New", general, RESULT), "feed/a/post/-1", "")
    sandbox.fault("drop", when="after", match={"path": "/endpoint"})
    with pytest.raises(RedoxTransportError):
        post(place, by="b", on_ambiguous="resend", retry=RetryPolicy(attempts=1))
    assert entry(place)["by"] == "feed/a/post/-1 and feed/b/post/-1"
    for by in "ab":
        with pytest.raises(RedoxAmbiguousOutcomeError, match="feed/a/post/-1 and feed/b/post/-1"):
            post(place, by=by, try_number=2)
    assert sandbox.stats()["messages"] == 1
    assert post(place, by="b", on_ambiguous="resend", try_number=2)["accepted"] == 1
    assert post(place, by="a", try_number=3)["already_sent"] == 1


def test_a_resend_passes_the_ledger_and_is_kept_in_it(post: Callable[..., Any], place: str, sandbox: Sandbox):
    """`resend=True` sends though another run has; the ledger then names the last."""
    post(place)
    assert "already_sent" not in post(place, by="b", resend=True)
    assert entry(place)["by"] == "feed/b/post/-1"
    assert sandbox.stats()["messages"] == 2


def test_a_ledger_that_fails_after_the_answer_does_not_unsend(
    post: Callable[..., Any], place: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """What Redox has accepted is a success, and the key stays taken."""

    def fail(*_: Any) -> None:
        raise PermissionError

    with monkeypatch.context() as broken:
        broken.setattr(SendLedger, "accepted", fail)
        assert post(place)["accepted"] == 1
    with pytest.raises(RedoxAmbiguousOutcomeError):
        post(place, by="b")
    assert sandbox.stats()["messages"] == 1


def test_a_key_that_was_given_back_meanwhile_is_free(place: str, monkeypatch: pytest.MonkeyPatch):
    """Between a claim that failed and the look at who holds it, the holder may have given it back."""
    ledger = SendLedger(place)
    url = ledger.url_of("x", RESULT)
    ledger.claim(url, "first", "digest")
    real, looked = Files.read, []

    def read(files: Files, wanted: str) -> bytes | None:
        if not looked:
            looked.append(wanted)
            ledger.release(url)
        return real(files, wanted)

    monkeypatch.setattr(Files, "read", read)
    assert ledger.claim(url, "second", "digest") is None
    monkeypatch.undo()
    assert ledger.claim(url, "third", "digest") == Entry("sending", "second", entry(place)["at"], hash="digest")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"status": 7}', b"\xff"])
def test_an_entry_that_cannot_be_read_is_taken(place: str, content: bytes):
    """Who cannot be named has it."""
    ledger = SendLedger(place)
    url = ledger.url_of("x", RESULT)
    ledger.claim(url, "first", "digest")
    Files(place).write(url, content)
    assert ledger.claim(url, "second", "digest") == Entry("sending", "unknown")


@pytest.mark.parametrize("content", [b"", b" ", b"0" * 63, b"0" * 65, b"<html>", b"Z" * 64])
def test_a_salt_that_is_none_is_named(place: str, content: bytes):
    """With another salt a ledger would know none of its keys again: one that is cut off or edited is refused."""
    Files(place).write(f"{place}/salt", content)
    with pytest.raises(RedoxConfigError, match="salt"):
        SendLedger(place).url_of("x", RESULT)


def test_a_salt_that_an_editor_ended_with_a_line_is_the_same(place: str):
    """White space around it is no other salt."""
    before = SendLedger(place).url_of("x", RESULT)
    Files(place).write(f"{place}/salt", contents(place).popitem()[1] + b"\n")
    assert SendLedger(place).url_of("x", RESULT) == before


def test_a_lost_salt_is_not_replaced(post: Callable[..., Any], place: str, sandbox: Sandbox):
    """Entries without a salt: every key would be free again. Nothing is sent, the error says what to do, and that helps."""
    post(place)
    salt = Files(place).read(f"{place}/salt") or b""
    Files(place).remove(f"{place}/salt")
    with pytest.raises(
        AirflowFailException, match="ledger_path: its file `salt` is missing, and the ledger has entries"
    ) as lost:
        post(place, by="b")
    assert "Restore it" in str(lost.value)
    assert not Files(place).exists(f"{place}/salt")
    Files(place).write(f"{place}/salt", salt)
    assert post(place, by="b")["already_sent"] == 1
    assert sandbox.stats()["messages"] == 1


def test_a_salt_that_was_made_just_now_is_not_lost(place: str, monkeypatch: pytest.MonkeyPatch):
    """Between the look for the salt and the look for entries another task may have begun the ledger."""
    real, looked = Files.read, []

    def read(files: Files, wanted: str) -> bytes | None:
        if not looked:
            looked.append(wanted)
            first = SendLedger(place)
            first.claim(first.url_of("x", RESULT), "first", "digest")
            return None
        return real(files, wanted)

    monkeypatch.setattr(Files, "read", read)
    second = SendLedger(place)
    found = second.claim(second.url_of("x", RESULT), "second", "digest")
    assert found is not None
    assert found.by == "first"


# ── one key, one content ──

OTHERS = {
    "a value": {**ORDER, "Order": {"Results": [{"ID": RESULT, "Value": "7.2"}]}},
    "a digit": {**ORDER, "Order": {"Results": [{"ID": RESULT, "Value": "7.10"}]}},
    "a field more": {**ORDER, "Visit": None},
    "a facility": {**ORDER, "Meta": {**ORDER["Meta"], "FacilityCode": "F"}},
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_content_of_the_same_key_is_refused(post: Callable[..., Any], place: str, sandbox: Sandbox, other: str):
    """The second is neither sent nor counted as accepted; both tasks are named, and nothing of the content."""
    post(place)
    for by, dag in (("b", "backfill"), ("a", "feed")):
        with pytest.raises(AirflowFailException, match="idempotency_key: feed/a/post/-1 sent another content") as refused:
            post(place, by=by, dag=dag, payload=OTHERS[other], on_refused="record", on_ambiguous="resend")
        assert f"{dag}/{by}/post/-1" in str(refused.value)
        assert "Quillfeather" not in str(refused.value)
        assert RESULT not in str(refused.value)
    assert post(place, by="c")["already_sent"] == 1
    assert sandbox.stats()["messages"] == 1
    assert post(place, by="b", payload=OTHERS[other], resend=True)["accepted"] == 1


def test_a_null_in_meta_is_no_other_content(post: Callable[..., Any], place: str, sandbox: Sandbox):
    """Redox's own samples hold `"FacilityCode": null`, which is filled in as if it were absent."""
    post(place)
    nulls = {**ORDER, "Meta": {**ORDER["Meta"], "FacilityCode": None, "EventDateTime": None, "Source": {"ID": None}}}
    assert post(place, by="b", payload=nulls)["already_sent"] == 1
    assert sandbox.stats()["messages"] == 1


def test_a_key_that_is_being_sent_with_another_content_is_refused(post: Callable[..., Any], place: str, sandbox: Sandbox):
    """It is no race that a retry could win: the two will never be one message."""
    ledger = SendLedger(place)
    general = sandbox.connection["extra"]["destinations"]["general"]["id"]
    ledger.claim(ledger.url_of("Results", "New", general, RESULT), "feed/other/post/-1", ledger.hash_of(b"another"))
    with pytest.raises(AirflowFailException, match="feed/other/post/-1 began to send another content"):
        post(place, on_ambiguous="resend")
    assert sandbox.stats()["messages"] == 0


def test_the_loser_of_a_race_finds_it_sent_when_it_tries_again(post: Callable[..., Any], place: str, sandbox: Sandbox):
    """While another task sends the same, Airflow retries; then it is sent, and the retry says so."""
    first = post(place)
    done = entry(place)
    (url,) = [path for path in contents(place) if path.endswith(".json")]
    files, where = Files(place), f"{place.partition('://')[0]}://{url.lstrip('/') if place.startswith('memory') else url}"
    files.write(where, json.dumps({**done, "status": "sending", "log_ids": []}).encode())
    with pytest.raises(RedoxAmbiguousOutcomeError, match="a retry waits for it") as lost:
        post(place, by="b")
    assert lost.value.retryable
    files.write(where, json.dumps(done).encode())
    assert post(place, by="b", try_number=2)["log_ids"] == first["log_ids"]
    assert sandbox.stats()["messages"] == 1


def test_an_entry_that_does_not_tell_its_content_is_not_believed(post: Callable[..., Any], place: str, sandbox: Sandbox):
    """One that is accepted and has no hash may be of any content."""
    ledger = SendLedger(place)
    general = sandbox.connection["extra"]["destinations"]["general"]["id"]
    ledger.accepted(ledger.url_of("Results", "New", general, RESULT), "feed/old/post/-1", "", ("log-1",))
    with pytest.raises(AirflowFailException, match="feed/old/post/-1 sent an unknown content"):
        post(place)
    assert sandbox.stats()["messages"] == 0


def test_a_file_of_another_name_is_the_same_content(post: Callable[..., Any], place: str, sandbox: Sandbox, tmp_path: Path):
    """What counts of an upload is what the file holds, wherever it lies in a run."""
    for name, content in (("monday.pdf", b"%PDF-1"), ("tuesday.pdf", b"%PDF-1"), ("other.pdf", b"%PDF-2")):
        (tmp_path / name).write_bytes(content)

    def order(name: str) -> dict[str, Any]:
        return {**ORDER, "Order": {"Results": [{"ID": RESULT, "Value": {"$upload": str(tmp_path / name)}}]}}

    assert "already_sent" not in post(place, payload=order("monday.pdf"))
    assert post(place, by="b", payload=order("tuesday.pdf"))["already_sent"] == 1
    with pytest.raises(AirflowFailException, match="another content"):
        post(place, by="c", payload=order("other.pdf"))
    assert sandbox.stats()["messages"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"idempotency_key": "Order"}, "idempotency_key: must be a JSON Pointer"),
        ({"idempotency_key": "/Order/Results/1/ID"}, "idempotency_key: /Order/Results/1/ID leads to no text or number"),
        ({"idempotency_key": "/Order"}, "idempotency_key: /Order leads to no"),
        ({"idempotency_key": None}, "idempotency_key, ledger_path: one needs the other"),
        ({"ledger_path": None}, "idempotency_key, ledger_path: one needs the other"),
    ],
)
def test_a_key_that_is_none_is_named_before_anything_is_sent(
    post: Callable[..., Any], place: str, sandbox: Sandbox, arguments: dict[str, Any], words: str
):
    """The error names the pointer, and nothing is sent or claimed."""
    with refused(words):
        post(place, **arguments)
    assert sandbox.ledger() == []
    assert contents(place) == {}


def claim(root: str, environment: dict[str, str], gate: Any, won: Any, number: int) -> None:
    """Be one of several processes that claim at once."""
    import os

    os.environ.update(environment)
    ledgers = [(one := SendLedger(root), one.url_of("x", f"{RESULT}-{key}")) for key in range(5)]
    gate.wait(60)
    for key, (ledger, url) in enumerate(ledgers):
        if ledger.claim(url, str(number), "digest") is None:
            won.put((key, number))


def race(root: str, environment: dict[str, str], processes: int) -> list[tuple[int, int]]:
    """Let processes claim five keys at once, and give who won which."""
    spawned = multiprocessing.get_context("spawn")
    gate, won = spawned.Barrier(processes), spawned.Queue()
    all_of_them = [spawned.Process(target=claim, args=(root, environment, gate, won, n)) for n in range(processes)]
    for one in all_of_them:
        one.start()
    for one in all_of_them:
        one.join(120)
        assert one.exitcode == 0
    found = []
    while not won.empty():
        found.append(won.get(timeout=5))
    return found


def test_of_processes_that_claim_at_once_one_gets_each_key(tmp_path: Path):
    """On a disk that they share, the salt too is made once: none takes a key that another has."""
    won = race(f"file://{tmp_path}/ledger", {}, 4)
    assert sorted(key for key, _ in won) == list(range(5))


def test_of_processes_that_claim_on_s3_one_gets_each_key(bucket: Bucket):
    """S3 makes an object only if there is none."""
    won = race(bucket.root, {"AIRFLOW_CONN_AWS_REDOX": bucket.server.connection_json}, 3)
    assert sorted(key for key, _ in won) == list(range(5))


def test_a_ledger_on_s3_sends_a_key_once(post: Callable[..., Any], bucket: Bucket, sandbox: Sandbox):
    """Through the driver that users have: accepted, found again, and nothing but hashes in the bucket."""
    post(bucket.root)
    assert post(bucket.root, by="b")["already_sent"] == 1
    assert sandbox.stats()["messages"] == 1
    assert all(re.search(r"/(salt|[0-9a-f]{2}/[0-9a-f]{40}\.json)$", key) for key in bucket.list())
