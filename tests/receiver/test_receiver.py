"""The receiver, a process of its own, pushed to over HTTP."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_redox.receiver import store
from airflow_provider_redox.receiver.settings import ReceiverSettings
from airflow_provider_redox.receiver.store import Store
from tests.support.receiver import OTHER_TOKEN, TOKEN, ReceiverProcess, arrivals_in, message, messages_in
from tests.support.s3 import KEY_ID, SECRET, Bucket

pytest.importorskip("uvicorn", reason="this Airflow brings no ASGI server")
LIMIT = 100_000
METRICS_TOKEN = "who-may-read-the-metrics"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ReceiverProcess, Path]]:
    inbox = tmp_path_factory.mktemp("inbox")
    settings = {"MAX_BYTES": str(LIMIT), "BODY_SECONDS": "1", "METRICS_TOKEN": METRICS_TOKEN}
    receiver = ReceiverProcess.start(inbox, **settings)
    yield receiver, inbox
    receiver.stop()


@pytest.fixture
def receiver(running: tuple[ReceiverProcess, Path]) -> ReceiverProcess:
    return running[0]


@pytest.fixture
def inbox(running: tuple[ReceiverProcess, Path]) -> Path:
    return running[1]


def raw(receiver: ReceiverProcess, data: bytes) -> bytes:
    """Send bytes as they are, and give all that comes back until the connection is closed, or reset with bytes unread."""
    received = b""
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=30) as line, contextlib.suppress(OSError):
        line.sendall(data)
        while block := line.recv(65536):
            received += block
    return received


def test_a_message_lies_in_the_inbox_byte_for_byte_when_it_is_answered(receiver: ReceiverProcess, inbox: Path):
    """200 means that the file is there, readable by its owner only, and its arrival beside it."""
    sent = message("whole-1")
    body = json.dumps(sent, indent=3).encode() + b"\n"
    assert receiver.push(body).status_code == 200
    assert messages_in(inbox)["whole-1"] == body
    assert [name.split("_")[1:] for name in arrivals_in(inbox) if name.endswith("whole-1")] == [
        ["Results", "New", "7ce6f387-c33c-417d-8682-81e83628cbd9", "whole-1"]
    ]
    (path,) = inbox.rglob("whole-1.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_same_message_ten_times_is_one(receiver: ReceiverProcess, inbox: Path):
    """Redelivered one after the other or all at once, it is answered 200 and kept once."""
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: receiver.push(message("ten-times")).status_code, range(10)))
    assert answers == [200] * 10
    assert receiver.push(message("ten-times")).status_code == 200
    assert sum(name.endswith("ten-times") for name in arrivals_in(inbox)) == 1


def test_a_message_whose_arrival_was_never_written_arrives_when_it_is_sent_again(receiver: ReceiverProcess, inbox: Path):
    """A receiver that died between the two has not answered, so Redox comes again."""
    receiver.push(message("half-done"))
    (arrival,) = inbox.rglob("*_half-done")
    arrival.unlink()
    assert receiver.push(message("half-done")).status_code == 200
    assert sum(name.endswith("half-done") for name in arrivals_in(inbox)) == 1


def test_feeds_are_kept_apart_and_in_order(receiver: ReceiverProcess, inbox: Path):
    """Each path is a feed with a folder of its own; what comes one after the other sorts so."""
    for number in range(5):
        assert receiver.push(message(f"o{number}"), feed="ordered").status_code == 200
        assert receiver.push(message(f"o{number}"), feed="").status_code == 200
    for feed in ("ordered", "default"):
        assert [name.rpartition("_")[2] for name in arrivals_in(inbox, feed)] == [f"o{number}" for number in range(5)]


@pytest.mark.parametrize("token", [TOKEN, OTHER_TOKEN])
def test_the_challenge_is_answered(receiver: ReceiverProcess, token: str):
    """By POST with the token in the body, with or without it in the headers, and by GET; the answer holds the challenge."""
    asked = {"verification-token": token, "challenge": "6c1b2f9e-0000-4000-8000-1234567890ab"}
    answers = [
        requests.post(f"{receiver.url}/results", json=asked, timeout=10),
        receiver.push(asked, token=token),
        requests.get(f"{receiver.url}/results", params=asked, timeout=10),
    ]
    assert [(answer.status_code, answer.text) for answer in answers] == [(200, asked["challenge"])] * 3
    assert all(answer.headers["content-type"].startswith("text/plain") for answer in answers)


def test_a_challenge_with_a_wrong_token_is_refused(receiver: ReceiverProcess):
    """In each of its ways, also when the headers' token is right."""
    asked = {"verification-token": "not-the-right-token", "challenge": "x"}
    answers = [
        requests.post(f"{receiver.url}/results", json=asked, timeout=10),
        receiver.push(asked),
        requests.get(f"{receiver.url}/results", params=asked, timeout=10),
    ]
    assert [(answer.status_code, answer.text) for answer in answers] == [(401, "")] * 3


def test_what_is_no_message_goes_into_quarantine_and_does_not_block(receiver: ReceiverProcess, inbox: Path):
    """It is kept once, however often it comes, and answered 200."""
    for _ in range(2):
        assert receiver.push(b"<not json/>", feed="odd").status_code == 200
    (kept,) = (inbox / "odd" / "quarantine").rglob("*.bin")
    assert kept.read_bytes() == b"<not json/>"
    assert arrivals_in(inbox, "odd") == []


def test_an_author_may_refuse_what_is_no_message(tmp_path: Path):
    """With ON_MALFORMED=refuse it is kept, and answered 400, which pauses the feed."""
    receiver = ReceiverProcess.start(tmp_path, ON_MALFORMED="refuse")
    assert receiver.push(b"[]").status_code == 400
    assert receiver.push(message()).status_code == 200
    receiver.stop()
    assert [path.read_bytes() for path in tmp_path.rglob("*.bin")] == [b"[]"]


def post(path: str = "/results", headers: str = f"verification-token: {TOKEN}\r\n", body: bytes = b"{}") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


ATTACKS: dict[str, tuple[bytes, int]] = {
    "no token": (post(headers="", body=json.dumps(message()).encode()), 401),
    "wrong token": (post(headers="verification-token: nothing-like-the-token\r\n"), 401),
    "no token and a large body announced": (
        post(headers="", body=b"")[:-4].replace(b"Length: 0", b"Length: 999999999") + b"\r\n\r\n",
        401,
    ),
    "no token and a body in chunks without end": (
        b"POST /results HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 8,
        401,
    ),
    "the token twice": (post(headers=f"verification-token: {TOKEN}\r\n" * 2), 401),
    "a wrong token beside a right one": (post(headers=f"verification-token: x\r\nAuthorization: Bearer {TOKEN}\r\n"), 401),
    "the token in the query": (post(f"/results?verification-token={TOKEN}", headers=""), 400),
    "anything in the query": (post("/results?a=b"), 400),
    "too large, announced": (post(body=b"")[:-4].replace(b"Length: 0", b"Length: 100001") + b"\r\n\r\n", 413),
    "too large, in chunks": (
        f"POST /results HTTP/1.1\r\nHost: x\r\nverification-token: {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        + (b"8000\r\n" + b"x" * 32768 + b"\r\n") * 4,
        413,
    ),
    "compressed": (post(headers=f"verification-token: {TOKEN}\r\nContent-Encoding: gzip\r\n"), 415),
    "a path that leads up": (post("/../../etc"), 404),
    "a path that leads up, encoded": (post("/%2e%2e%2fetc"), 404),
    "a path with folders": (post("/results/more"), 404),
    "a path with a NUL": (post("/a%00b"), 404),
    "a path that is a token": (post(f"/{TOKEN}{TOKEN}{TOKEN}"), 404),
    "another method": (b"PUT /results HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "two lengths": (post(headers=f"verification-token: {TOKEN}\r\nContent-Length: 4\r\n"), 400),
    "length and chunks": (post(headers=f"verification-token: {TOKEN}\r\nTransfer-Encoding: chunked\r\n"), 400),
    "a length that is no number": (post(body=b"").replace(b"Length: 0", b"Length: +1"), 400),
    "a header that is folded": (post(headers=f"verification-token: wrong\r\n {TOKEN}\r\n"), 400),
    "a header with a space before its colon": (post(headers=f"verification-token : {TOKEN}\r\n"), 400),
    "a head without end": (b"POST /results HTTP/1.1\r\n" + b"x-filler: " + b"y" * 70_000, 400),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused(receiver: ReceiverProcess, inbox: Path, attack: str):
    """With the status that is meant, the connection closed, nothing kept, and no token or path in the log."""
    data, status = ATTACKS[attack]
    before = sorted(inbox.rglob("*"))
    received = raw(receiver, data)
    assert received.startswith(f"HTTP/1.1 {status} ".encode()) or f"status={status}" in receiver.last(), received[:300]
    assert TOKEN.encode() not in received
    assert [path for path in sorted(inbox.rglob("*")) if path not in before] == []
    assert TOKEN not in receiver.said
    assert "etc" not in receiver.said


def test_a_request_that_hides_behind_another_is_one_of_its_own(receiver: ReceiverProcess, inbox: Path):
    """What follows a refused request on its connection is not looked at."""
    hidden = post(body=json.dumps(message("hidden")).encode())
    received = raw(receiver, post(headers="", body=b"x" * 5000) + hidden)
    assert received.count(b"HTTP/1.1 ") == 1
    assert "hidden" not in messages_in(inbox)


def test_a_slow_body_is_given_up(receiver: ReceiverProcess, inbox: Path):
    """After BODY_SECONDS the request is answered 408 and the connection closed."""
    head = f"POST /results HTTP/1.1\r\nHost: x\r\nverification-token: {TOKEN}\r\nContent-Length: 50000\r\n\r\n"
    assert raw(receiver, head.encode() + b"{").startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "log_id",
    ["../../../tmp/up", "/etc/passwd", "a/b", "..", ".", "", "x" * 5000, "nul\0", "new\nline", "naïve", "a_b", "~", "C:\\x"],
)
def test_an_id_leads_nowhere(receiver: ReceiverProcess, inbox: Path, log_id: str):
    """Whatever a message calls itself, it lies in the feed's folder of messages, under a safe name."""
    before = {path for path in inbox.parent.rglob("*") if path.is_file()}
    assert receiver.push(message(log_id), feed="paths").status_code == 200
    made = {path for path in inbox.parent.rglob("*") if path.is_file()} - before
    assert sorted(path.relative_to(inbox).parts[:2] for path in made) == [("paths", "arrivals"), ("paths", "messages")]


def test_names_of_an_author_are_safe_in_a_name(receiver: ReceiverProcess, inbox: Path):
    """Data model, event type and source shape no path either."""
    sent = message("odd-names", DataModel="../../Results", EventType="New/../x_y", Source={"ID": "..", "Name": "a/b"})
    assert receiver.push(sent, feed="names").status_code == 200
    (arrival,) = (path for path in (inbox / "names" / "arrivals").rglob("*") if path.is_file())
    assert arrival.name.count("_") == 4
    assert len(arrival.relative_to(inbox).parts) == 5


def test_health_is_told_to_anybody_and_metrics_to_who_may(receiver: ReceiverProcess):
    """Metrics count by feed and outcome and hold no ID."""
    receiver.push(message("measured"), feed="measured")
    assert requests.get(f"{receiver.url}/health", timeout=10).text == "ok"
    assert requests.get(f"{receiver.url}/metrics", timeout=10).status_code == 401
    assert (
        requests.get(f"{receiver.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10).status_code == 401
    )
    told = requests.get(f"{receiver.url}/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}, timeout=10).text
    assert 'redox_receiver_requests_total{feed="measured",outcome="new"} 1' in told
    assert "redox_receiver_storage_seconds_count" in told
    assert "Quillfeather" not in told


def test_the_log_has_no_patient_no_token_and_no_body(receiver: ReceiverProcess):
    """A line for each request says feed, status, outcome, size and duration."""
    receiver.push(message("logged"), feed="logged")
    requests.get(f"{receiver.url}/results", params={"verification-token": TOKEN, "challenge": "c"}, timeout=10)
    line = next(line for line in receiver.lines if "feed=logged" in line)
    assert "status=200 outcome=new bytes=" in line
    for secret in (TOKEN, OTHER_TOKEN, "Quillfeather", "Ashgrove", "challenge=c", "5.10"):
        assert secret not in receiver.said


def test_storage_that_is_down_is_a_503_until_it_is_back(tmp_path: Path):
    """Redox keeps the message. Health says so, and the feed goes on when the storage is there again."""
    inbox = tmp_path / "inbox"
    receiver = ReceiverProcess.start(inbox)
    (inbox / "_health").unlink()
    inbox.rmdir()
    inbox.write_text("a file where a folder should be")
    refused = receiver.push(message("kept"))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    assert requests.get(f"{receiver.url}/health", timeout=10).status_code == 503
    inbox.unlink()
    assert receiver.push(message("kept")).status_code == 200
    assert requests.get(f"{receiver.url}/health", timeout=10).status_code == 200
    said = receiver.stop()
    assert list(messages_in(inbox)) == ["kept"]
    assert "kept" not in said


def a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The receiver's storage in this process, which is tried at each look."""
    monkeypatch.setattr(store, "_BETWEEN_PROBES", 0.0)
    monkeypatch.setenv("REDOX_RECEIVER_INBOX", str(tmp_path / "inbox"))
    monkeypatch.setenv("REDOX_RECEIVER_TOKENS", TOKEN)
    return Store(ReceiverSettings.from_environment())


def test_health_finds_out_by_itself_that_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Before a push fails: a folder that is gone or read-only, and a disk with no space for a few kilobytes."""

    async def looks() -> list[bool]:
        one = a_store(tmp_path, monkeypatch)
        seen = [await one.check()]
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        seen.append(await one.check())
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        seen.append(await one.check())
        shutil.rmtree(tmp_path / "inbox")
        (tmp_path / "inbox").write_text("a file where a folder should be")
        seen.append(await one.check())
        one.close()
        return seen

    assert asyncio.run(looks()) == [True, False, True, False]


def test_too_many_at_once_are_told_to_wait(tmp_path: Path):
    """Above PER_SECOND it answers 429, and what was answered 200 is there."""
    receiver = ReceiverProcess.start(tmp_path, PER_SECOND="1")
    answers = [receiver.push(message(f"m{number}")).status_code for number in range(4)]
    receiver.stop()
    assert answers[0] == 200
    assert 429 in answers
    assert len(messages_in(tmp_path)) == answers.count(200)


@pytest.mark.parametrize("trailer", [b"x-trailer: " + b"a" * 65_000 + b"\r\n", b"x: y\r\n" * 10_000, b"a" * 65_000])
def test_trailers_fill_no_memory(tmp_path: Path, trailer: bytes):
    """What follows a body in chunks, long, many or without an end, is not kept: the connection ends after a few KB."""
    receiver = ReceiverProcess.start(tmp_path)
    before = receiver.memory()
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=30) as line, contextlib.suppress(OSError):
        line.sendall(b"POST /results HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        sent = 0
        while sent < 64 * 1024 * 1024:
            line.sendall(trailer)
            sent += len(trailer)
    assert sent < 16 * 1024 * 1024
    assert receiver.memory() - before < 16 * 1024 * 1024
    receiver.stop()


def test_a_trailer_is_no_header(receiver: ReceiverProcess, inbox: Path):
    """A few of them are passed over: the message is taken, and a token among them is none."""
    body = json.dumps(message("with-trailers")).encode()
    chunked = f"{len(body):x}\r\n".encode() + body + f"\r\n0\r\nverification-token: {TOKEN}\r\n\r\n".encode()
    head = "POST /trailers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    assert raw(receiver, f"{head}\r\n".encode() + chunked).startswith(b"HTTP/1.1 401 ")
    shown = f"{head}Connection: close\r\nverification-token: {TOKEN}\r\n\r\n"
    assert raw(receiver, shown.encode() + chunked).startswith(b"HTTP/1.1 200 ")
    assert list(messages_in(inbox, "trailers")) == ["with-trailers"]


def test_memory_is_bounded(tmp_path: Path):
    """What is above MAX_PENDING_BYTES is answered 503 and can come later."""
    receiver = ReceiverProcess.start(tmp_path, MAX_PENDING_BYTES="100000")
    assert receiver.push(message(filler="x" * 200_000)).status_code == 503
    assert receiver.push(message(filler="x" * 50_000)).status_code == 200
    assert receiver.push(message(filler="x" * 50_000)).status_code == 200
    receiver.stop()


def test_a_message_of_forty_megabytes_is_taken(tmp_path: Path):
    """The largest that Redox sends, and not one byte more."""
    receiver = ReceiverProcess.start(tmp_path)
    frame = len(json.dumps(message("l" * 36, filler="")).encode())
    largest = message("l" * 36, filler="x" * (40 * 1024 * 1024 - frame))
    assert receiver.push(largest).status_code == 200
    with contextlib.suppress(requests.ConnectionError):  # it is refused at its head, and the connection is closed
        assert receiver.push(json.dumps(largest).encode() + b" ").status_code == 413
    assert "status=413" in receiver.last()
    receiver.stop()
    assert len(messages_in(tmp_path)["l" * 36]) == 40 * 1024 * 1024


def test_a_receiver_that_is_killed_loses_nothing_that_it_took(tmp_path: Path):
    """SIGKILL under load: every message that was answered 200 is there, with its arrival."""
    receiver = ReceiverProcess.start(tmp_path)
    taken: list[str] = []

    def push(number: int) -> None:
        try:
            if receiver.push(message(f"k{number}")).status_code == 200:
                taken.append(f"k{number}")
        except requests.ConnectionError:
            pass
        if number == 60:
            receiver.process.send_signal(signal.SIGKILL)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(push, range(150)))
    receiver.stop(signal.SIGKILL)
    assert 40 < len(taken) < 150
    assert set(taken) <= set(messages_in(tmp_path))
    assert set(taken) <= {name.rpartition("_")[2] for name in arrivals_in(tmp_path)}


def test_it_needs_no_airflow(tmp_path: Path):
    """Neither Airflow nor its configuration is loaded by a receiver whose inbox names no connection."""
    code = (
        "import sys; from airflow_provider_redox.receiver.app import from_environment; "
        "from airflow_provider_redox.storage.inbox.place import InboxFiles; from_environment(); "
        f"InboxFiles('{tmp_path}').names('{tmp_path}'); print([m for m in sys.modules if m.split('.')[0] == 'airflow'])"
    )
    env = {"REDOX_RECEIVER_INBOX": str(tmp_path), "REDOX_RECEIVER_TOKENS": TOKEN}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"INBOX": "relative/path"}, "REDOX_RECEIVER_INBOX"),
        ({"TOKENS": "tooshort"}, "REDOX_RECEIVER_TOKENS"),
        ({"TOKENS_FILE": "/nowhere"}, "REDOX_RECEIVER_TOKENS"),
        ({"MAX_BYTES": "many"}, "REDOX_RECEIVER_MAX_BYTES"),
        ({"ON_MALFORMED": "panic"}, "REDOX_RECEIVER_ON_MALFORMED"),
        ({"STORAGE_OPTIONS": "[]"}, "REDOX_RECEIVER_STORAGE_OPTIONS"),
        ({"TOKEN": TOKEN}, "REDOX_RECEIVER_TOKEN"),
    ],
)
def test_a_wrong_setting_is_one_sentence(tmp_path: Path, settings: dict[str, str], named: str):
    """It names the variable and not its value, and ends with 2."""
    told = {"INBOX": str(tmp_path), "TOKENS": TOKEN, **settings}
    env = {f"REDOX_RECEIVER_{name}": value for name, value in told.items()}
    command = [sys.executable, "-m", "airflow_provider_redox.receiver", "--port", "0"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(f"redox receiver: {named}: ")
    assert "tooshort" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_kubernetes_tells_of_a_service_is_no_setting(tmp_path: Path):
    """A service named redox-receiver puts such variables into every pod."""
    told = {"SERVICE_HOST": "10.0.0.1", "PORT": "tcp://10.0.0.1:8090", "PORT_8090_TCP_ADDR": "10.0.0.1"}
    ReceiverProcess.start(tmp_path, **told).stop()


def test_tokens_may_lie_in_a_file(tmp_path: Path):
    """One a line, as a secret that is mounted."""
    (tmp_path / "tokens").write_text(f"{TOKEN}\n{OTHER_TOKEN}\n")
    receiver = ReceiverProcess.start(tmp_path / "inbox", TOKENS=None, TOKENS_FILE=str(tmp_path / "tokens"))
    assert receiver.push(message(), token=OTHER_TOKEN).status_code == 200
    receiver.stop()


@pytest.mark.parametrize("by", ["options", "connection"])
def test_an_inbox_on_an_object_store(bucket: Bucket, by: str, monkeypatch: pytest.MonkeyPatch):
    """With the driver's own credentials, or those of an Airflow connection: written once, and down is 503."""
    options = {"endpoint_url": bucket.server.url, "key": KEY_ID, "secret": SECRET}
    told: dict[str, Any] = {"STORAGE_OPTIONS": json.dumps(options)} if by == "options" else {}
    root = f"s3://{bucket.name}/inbox" if by == "options" else f"s3://aws_redox@{bucket.name}/inbox"
    receiver = ReceiverProcess.start(root, **told)
    assert [receiver.push(message("on-s3")).status_code for _ in range(2)] == [200, 200]
    bucket.deny("s3:PutObject")
    assert receiver.push(message("refused")).status_code == 503
    bucket.allow()
    assert receiver.push(message("refused")).status_code == 200
    said = receiver.stop()
    assert SECRET not in said
    keys = [key for key in bucket.list() if key != "inbox/_health"]
    assert len(keys) == 4
    assert sorted(key.rpartition("/")[2] for key in keys if "/messages/" in key) == ["on-s3.json", "refused.json"]
