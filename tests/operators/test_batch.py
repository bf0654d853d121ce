"""A file of messages: each is sent once, in order where one is asked for, and the result says what became of it."""

from __future__ import annotations

import gzip
import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.exceptions import (
    RedoxAmbiguousOutcomeError,
    RedoxAuthError,
    RedoxConfigError,
    RedoxResponseError,
    RedoxTransportError,
)
from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
from airflow_provider_redox.operators.sends import batch_segment, batching
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.send_ledger import SendLedger
from airflow_provider_redox.storage.send_marker import Mark
from tests.support.json_texts import objects
from tests.support.sandbox import Sandbox

AGAIN = {"try_number": 2, "max_tries": 9}
"""A try that Airflow began by itself."""
CLEARED = {"try_number": 2, "max_tries": 1}
Execute = Callable[..., Any]


def message(number: int, **meta: Any) -> dict[str, Any]:
    patient = {"Identifiers": [{"ID": f"MRN-{number}", "IDType": "MR"}], "Demographics": {"LastName": "Quillfeather"}}
    return {"Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient", **meta}, "Patient": patient}


class Batch:
    """One task instance's file, results and operator."""

    def __init__(self, folder: Path, execute: Execute) -> None:
        self.path, self.output, self._execute = folder / "messages.ndjson", f"file://{folder}/out", execute

    def write(self, *messages: Any) -> None:
        texts = [one if isinstance(one, str) else json.dumps(one) for one in messages]
        self.path.write_text("\n".join(texts) + "\n")

    def operator(self, **arguments: Any) -> RedoxDataModelPostOperator:
        known = {"payload_path": f"file://{self.path}", "results_path": self.output, "segment_size": 4}
        operator = RedoxDataModelPostOperator(task_id="post", **{**known, **arguments})
        operator.hook.retry = RetryPolicy(attempts=2, base=0.001, rate_limit_floor=0)
        return operator

    def post(self, facts: dict[str, Any] | None = None, **arguments: Any) -> Any:
        return self._execute(self.operator(**arguments), **(facts or {}))

    def fails(self, error: type[Exception], facts: dict[str, Any] | None = None, **arguments: Any) -> str:
        """Post, and give what the task says when it fails."""
        with pytest.raises((AirflowFailException, error)) as caught:
            self.post(facts, **arguments)
        assert isinstance(caught.value.__cause__ if isinstance(caught.value, AirflowFailException) else caught.value, error)
        said = " ".join((str(caught.value), *getattr(caught.value, "__notes__", ())))
        assert "Quillfeather" not in said
        assert "MRN-" not in said
        return said

    def lines(self) -> list[dict[str, Any]]:
        (file,) = Path(self.output.removeprefix("file://")).rglob("type=DataModelPost/**/*.ndjson")
        text = file.read_text()
        assert "Quillfeather" not in text
        assert "MRN-" not in text
        return [json.loads(line) for line in text.splitlines()]

    def outcomes(self) -> list[str]:
        return [line["outcome"] for line in self.lines()]

    @property
    def state(self) -> list[str]:
        return sorted(path.name for path in Path(self.output.removeprefix("file://")).rglob("batch/*/*"))


@pytest.fixture
def batch(tmp_path: Path, execute: Execute) -> Batch:
    """A batch of ten messages."""
    made = Batch(tmp_path, execute)
    made.write(*(message(number) for number in range(10)))
    return made


def arrived(sandbox: Sandbox) -> list[str]:
    """The MRNs that the server has processed, in their order."""
    messages = sandbox.control("GET", "messages")
    return [one["body"]["Patient"]["Identifiers"][0]["ID"] for one in messages if one["kind"] == "notification"]


def mrns(*numbers: int) -> list[str]:
    return [f"MRN-{number}" for number in numbers]


def lose(sandbox: Sandbox, *numbers: int, when: str = "after", **order: Any) -> None:
    for number in numbers:
        sandbox.fault("drop", when=when, match={"path": "/endpoint", "body": f'"MRN-{number}"'}, **order)


def refuse(sandbox: Sandbox, *numbers: int, status: int = 400, **order: Any) -> None:
    for number in numbers:
        sandbox.fault("status", status=status, match={"path": "/endpoint", "body": f'"MRN-{number}"'}, **order)


# ── what is sent, and what is told ──


def test_every_message_is_sent_once_and_told_in_its_order(batch: Batch, sandbox: Sandbox):
    """One line for each message, in the file's order, with its log ID; the summary has the counts and no content."""
    summary = batch.post()
    assert Counter(arrived(sandbox)) == Counter(mrns(*range(10)))
    lines = batch.lines()
    assert [(line["index"], line["line"], line["outcome"]) for line in lines] == [(n, n + 1, "accepted") for n in range(10)]
    by_mrn = {one["body"]["Patient"]["Identifiers"][0]["ID"]: one["logs"] for one in sandbox.control("GET", "messages")}
    assert [line["log_ids"] for line in lines] == [by_mrn[f"MRN-{number}"] for number in range(10)]
    assert {**summary, "log_ids": len(summary["log_ids"]), "results_url": summary["results_url"].rpartition("/")[2]} == {
        "accepted": 10,
        "refused": 0,
        "ambiguous": 0,
        "log_ids": 10,
        "results_url": "post.DataModelPost.00000.ndjson",
    }
    assert summary["log_ids"] == [line["log_ids"][0] for line in lines]


def test_xcom_holds_fifty_log_ids_at_most(batch: Batch):
    """However many messages there are; all of them are in the result."""
    batch.write(*(message(number) for number in range(60)))
    summary = batch.post(segment_size=25)
    assert (summary["accepted"], len(summary["log_ids"])) == (60, 50)
    assert len(batch.lines()) == 60


def test_a_message_is_sent_as_its_text(batch: Batch, sandbox: Sandbox):
    """Digits, exponents, escapes, order and spaces are the file's; what Meta lacks stands at Meta's end."""
    text = (
        '{ "Note": "{{ ti.dag_id }} \\u00fc\\/", "Value": [1.10, 1E-05, 1e5, -0, 1e400, null, 12345678901234567890],'
        ' "Meta": {"EventType" : "NewPatient", "DataModel": "PatientAdmin" }, "Patient": {}}'
    )
    batch.write(text)
    batch.post(destination="lakeside")
    (body,) = [entry["body"] for entry in sandbox.ledger("/endpoint")]
    before, after = text.split(' }, "Patient"')
    assert body.startswith(f'{before},"')
    assert body.endswith(f' }}, "Patient"{after}')
    filled = json.loads("{" + body.removeprefix(f"{before},").removesuffix(f' }}, "Patient"{after}') + "}")
    assert (filled["Destinations"][0]["Name"], filled["Test"]) == ("lakeside", True)
    assert filled["EventDateTime"].endswith("Z")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies=st.lists(objects, min_size=1, max_size=8))
def test_any_line_arrives_with_its_own_bytes(
    execute: Execute, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory, bodies: list[str]
):
    """Whatever JSON the lines of a file are: every value arrives as it was spelt, and only Meta has gained members."""
    head = '{"Meta":{"DataModel" : "PatientAdmin","EventType":"N\\u0065wPatient" '
    rest = ['},"Patient":{},"Body":' + body.replace("\n", " ") + "}" for body in bodies]
    batch, before = Batch(tmp_path_factory.mktemp("law"), execute), len(sandbox.ledger("/endpoint"))
    batch.path.write_bytes("\n".join(head + one for one in rest).encode())
    batch.post(max_concurrency=1)
    sent = [entry["body"] for entry in sandbox.ledger("/endpoint")][before:]
    assert len(sent) == len(rest)
    for one, body in zip(rest, sent, strict=True):
        assert body.startswith(head[:-1])
        assert body.endswith(f" {one}")
        assert set(json.loads(body)["Meta"]) > {"DataModel", "EventType", "Destinations", "EventDateTime"}


def test_a_file_may_be_gzipped_have_blank_lines_or_nothing(batch: Batch, sandbox: Sandbox):
    """Lines keep the numbers that an editor shows; a file without messages is no error."""
    batch.path.write_bytes(gzip.compress(f"\n\n{json.dumps(message(1))}\n\n{json.dumps(message(2))}".encode()))
    batch.post()
    assert [(line["index"], line["line"]) for line in batch.lines()] == [(0, 3), (1, 5)]
    shutil.rmtree(batch.output.removeprefix("file://"))
    batch.path.write_text("\n")
    assert {**batch.post(), "results_url": 0} == {
        "accepted": 0,
        "refused": 0,
        "ambiguous": 0,
        "log_ids": [],
        "results_url": 0,
    }
    assert sorted(arrived(sandbox)) == mrns(1, 2)


def test_a_segment_costs_three_writes(batch: Batch, monkeypatch: pytest.MonkeyPatch):
    """Intents, results, and the marker; the plan and the result are written once."""
    written: list[str] = []
    for name in ("write", "write_new"):
        real = getattr(Files, name)

        def counted(self: Files, url: str, content: bytes, real: Any = real) -> Any:
            written.append(url.rpartition("/")[2])
            return real(self, url, content)

        monkeypatch.setattr(Files, name, counted)
    batch.post()
    assert written == [
        "plan.json",
        *(f"{number:06d}.01.{kind}" for number in range(3) for kind in ("intents.json", "results.ndjson")),
    ]


# ── what is wrong with a line ──


BAD = [
    ("not json Quillfeather", "line 3: must be a JSON object"),
    ("[]", "line 3: must be a JSON object"),
    ('{"Meta": nil}', "line 3: not JSON: "),
    ('{"Meta": {"DataModel": "A", "DataModel": "B"}}', "line 3: /Meta/DataModel: duplicate name"),
    ('{"Meta": {}, "A": [{"ID": 1, "I\\u0044": 2}]}', "line 3: /A/0/ID: duplicate name"),
    ('{"Meta": {}, "Value": NaN}', "line 3: not JSON: NaN and infinity"),
    ('{"Meta": {}, "Name": "\\ud800"}', "line 3: /Name: a lone surrogate"),
    ('{"Patient": {}}', "line 3: must be an object with a Meta object"),
    (json.dumps(message(1, Destinations=[{"ID": ""}])), r"line 3: Meta\.Destinations\[0\] has no ID"),
    (json.dumps(message(1, Test=False)), r"line 3: Meta\.Test must be true"),
    (
        json.dumps({**message(1), "Media": {"$upload": "/"}}).replace("$upl", "\\u0024\\u0075pl"),
        r"line 3: /Media: \$upload is data",
    ),
    (json.dumps({**message(1), "Media": {"$upload": "/etc/passwd"}}), r"line 3: /Media: \$upload is data here"),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_a_bad_line_is_named_and_nothing_is_sent(batch: Batch, sandbox: Sandbox, text: str, words: str):
    """`on_invalid="fail"`: the whole file is looked at before the first message leaves."""
    batch.write(message(1), "", text)
    with pytest.raises(AirflowFailException, match=words):
        batch.post()
    assert sandbox.ledger("/endpoint") == []


@pytest.mark.parametrize(("text", "words"), BAD)
def test_a_bad_line_is_recorded_and_the_others_are_sent(batch: Batch, sandbox: Sandbox, text: str, words: str):
    """`on_invalid="refuse"`: its line in the result says what is wrong with it."""
    batch.write(message(1), "", text, message(2))
    batch.fails(RedoxResponseError, on_invalid="refuse")
    assert batch.outcomes() == ["accepted", "refused", "accepted"]
    assert batch.lines()[1]["issues"][0].startswith("payload_path: line 3")
    assert sorted(arrived(sandbox)) == mrns(1, 2)
    summary = batch.post(AGAIN, on_invalid="refuse", on_refused="record")
    assert (summary["accepted"], summary["refused"], summary["already_sent"]) == (2, 1, 2)
    assert words.split(":")[0] in batch.lines()[1]["issues"][0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"payload": {"Meta": {}}}, "payload, payload_path: give one of them"),
        ({"payload_path": None}, "payload, payload_path: give one of them"),
        ({"payload_path": "/no/such/file"}, "payload_path: there is no file"),
        ({"payload_path": "relative"}, "payload_path: must be an absolute path"),
        ({"max_concurrency": 0}, "max_concurrency: must be a whole number"),
        ({"segment_size": True}, "segment_size: must be a whole number"),
        ({"on_invalid": "skip"}, "on_invalid: must be one of fail, refuse"),
        ({"on_ambiguous": "reconcile", "platform_conn_id": "redox_default"}, "correlation_key: missing"),
        ({"ordering_key": "/Visit/ID"}, "line 1: ordering_key: /Visit/ID leads to no text"),
        ({"idempotency_key": "/Visit/ID", "ledger_path": "/tmp/x"}, "line 1: idempotency_key: /Visit/ID leads to no text"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_sent(
    batch: Batch, sandbox: Sandbox, arguments: dict[str, Any], words: str
):
    """What cannot be right is a RedoxConfigError."""
    assert words in batch.fails(RedoxConfigError, **arguments)
    assert sandbox.ledger("/endpoint") == []


# ── what a next try does ──


def test_what_was_accepted_is_not_sent_again(batch: Batch, sandbox: Sandbox):
    """A clear of a batch that is whole sends nothing, and gives the same result."""
    first = batch.post()
    before = batch.lines()
    assert batch.post(CLEARED) == {**first, "already_sent": 10}
    assert batch.lines() == before
    assert len(arrived(sandbox)) == 10


def test_what_nobody_knows_is_listed_and_the_rest_is_sent(batch: Batch, sandbox: Sandbox, markers: dict[str, Mark]):
    """The task fails and names the lines; neither a retry nor a clear sends them again, and the marker stays."""
    lose(sandbox, 2, 7)
    said = batch.fails(RedoxAmbiguousOutcomeError)
    assert "Of 10 messages 8 accepted, 2 ambiguous (lines 3, 8)" in said
    for facts in (AGAIN, CLEARED):
        assert "2 ambiguous (lines 3, 8)" in batch.fails(RedoxAmbiguousOutcomeError, facts)
    assert [number for number, outcome in enumerate(batch.outcomes()) if outcome == "ambiguous"] == [2, 7]
    assert Counter(arrived(sandbox)) == Counter(mrns(*range(10)))
    ((_, mark),) = markers.items()
    assert (mark.status, len(mark.batch), mark.segment) == ("sending", 16, 2)


@pytest.mark.usefixtures("shared_disk")
def test_what_nobody_knows_is_sent_again_if_the_author_says_so(batch: Batch, sandbox: Sandbox, markers: dict[str, Mark]):
    """`on_ambiguous="resend"` sends those again, and those only, with the same bytes."""
    lose(sandbox, 2, 7)
    batch.fails(RedoxAmbiguousOutcomeError)
    assert batch.post(AGAIN, on_ambiguous="resend")["accepted"] == 10
    counts = Counter(arrived(sandbox))
    assert [number for number in range(10) if counts[f"MRN-{number}"] == 2] == [2, 7]
    bodies = [entry["body"] for entry in sandbox.ledger("/endpoint") if '"MRN-2"' in entry["body"]]
    assert len(bodies) == 2
    assert len(set(bodies)) == 1
    assert markers == {}


@pytest.mark.usefixtures("shared_disk")
def test_a_refused_message_fails_the_task_at_the_end(batch: Batch, sandbox: Sandbox, markers: dict[str, Mark]):
    """All the others are sent first; a later try sends the refused ones again, unless refusals are to be recorded."""
    refuse(sandbox, 3)
    said = batch.fails(RedoxResponseError)
    assert "Of 10 messages 9 accepted, 1 refused (lines 4)" in said
    summary = batch.post(CLEARED, on_refused="record")
    assert (summary["accepted"], summary["refused"], summary["already_sent"]) == (9, 1, 9)
    assert len(arrived(sandbox)) == 9
    assert batch.post(CLEARED)["accepted"] == 10
    assert Counter(arrived(sandbox)) == Counter(mrns(*range(10)))
    assert markers == {}


def test_an_outage_leaves_messages_unsent_and_not_unknown(batch: Batch, sandbox: Sandbox):
    """After ten failures in a row no further message is begun; a retry goes on there."""
    batch.write(*(message(number) for number in range(40)))
    sandbox.fault("status", status=502, match={"path": "/endpoint"}, skip=5, times=None)
    said = batch.fails(RedoxAmbiguousOutcomeError, max_concurrency=2)
    outcomes = Counter(batch.outcomes())
    assert outcomes["accepted"] == 5
    assert 10 <= outcomes["ambiguous"] <= 12
    assert outcomes["unsent"] == 40 - 5 - outcomes["ambiguous"]
    assert "It was ended by RedoxAmbiguousOutcomeError" in said
    sandbox.control("DELETE", "faults")
    batch.fails(RedoxAmbiguousOutcomeError, AGAIN)
    assert Counter(batch.outcomes()) == {"accepted": 40 - outcomes["ambiguous"], "ambiguous": outcomes["ambiguous"]}
    assert len(arrived(sandbox)) == 40 - outcomes["ambiguous"]


def test_a_server_that_is_not_there_is_tried_again_by_airflow(
    batch: Batch, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """Nothing left, so Airflow may retry; the retry sends all of it."""
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps({**sandbox.connection, "port": 9}))
    with pytest.raises(RedoxTransportError, match="10 unsent"):
        batch.post(max_concurrency=1)
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", sandbox.connection_json)
    assert batch.post(AGAIN)["accepted"] == 10
    assert len(arrived(sandbox)) == 10


def test_a_refused_key_ends_the_batch_at_once(batch: Batch, sandbox: Sandbox):
    """No other message would fare better, so none is tried, and Airflow does not retry."""
    sandbox.fault("status", status=401, match={"path": "/auth/token"}, times=None)
    said = batch.fails(RedoxTransportError, max_concurrency=1)
    assert "10 unsent" in said
    assert RedoxAuthError.__name__ in said
    assert sandbox.ledger("/endpoint") == []
    assert len(sandbox.ledger("/auth/token")) <= 2


def test_a_busy_server_is_no_refusal(batch: Batch, sandbox: Sandbox):
    """A 429 until patience ran out says nothing of the message: it is unsent, and a retry sends it."""
    sandbox.fault("status", status=429, headers={"Retry-After": "0"}, match={"body": '"MRN-4"'}, times=2)
    with pytest.raises(RedoxTransportError, match=r"1 unsent \(lines 5\)"):
        batch.post(on_refused="record")
    assert batch.post(AGAIN, on_refused="record")["accepted"] == 10


def test_resend_sends_everything_again_once(batch: Batch, sandbox: Sandbox):
    """`resend=True` counts for the first try after a clear; a retry of that one goes on with it."""
    batch.post()
    lose(sandbox, 5, when="before")
    batch.fails(RedoxAmbiguousOutcomeError, CLEARED, resend=True)
    assert Counter(Counter(arrived(sandbox)).values()) == {2: 9, 1: 1}
    batch.fails(RedoxAmbiguousOutcomeError, {"try_number": 3, "max_tries": 9}, resend=True)
    assert batch.post({"try_number": 3, "max_tries": 9}, resend=True, on_ambiguous="resend")["accepted"] == 10
    assert Counter(Counter(arrived(sandbox)).values()) == {2: 10}


@pytest.mark.parametrize("change", ["a line", "its end", "a blank line"])
def test_a_changed_file_is_not_mixed_with_the_old_one(batch: Batch, sandbox: Sandbox, change: str):
    """A file that is another one than in the earlier try is an error, and nothing of it is sent."""
    lose(sandbox, 2)
    batch.fails(RedoxAmbiguousOutcomeError)
    numbers = list(range(10))
    changed = [message(number) for number in numbers]
    texts = {
        "a line": [message(77), *changed[1:]],
        "its end": [*changed, message(77)],
        "a blank line": [changed[0], "", *changed[1:]],
    }
    batch.write(*texts[change])
    assert "not the file, or not the key, of the earlier tries" in batch.fails(RedoxConfigError, AGAIN)
    assert len(arrived(sandbox)) == 10
    assert batch.post(CLEARED, resend=True)["accepted"] == len([one for one in texts[change] if one])


def test_a_file_that_changes_while_it_is_sent_is_noticed(batch: Batch, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """What is sent is what was looked at first: a segment that is another one stops the batch before it goes."""
    real = batching.Batching._survey

    def survey(self: batching.Batching, *sizes: int) -> Any:
        found = real(self, *sizes)
        batch.write(*(message(number) for number in range(6)), message(77), *(message(number) for number in range(7, 10)))
        return found

    monkeypatch.setattr(batching.Batching, "_survey", survey)
    assert "has changed while it was being read" in batch.fails(RedoxConfigError)
    assert sorted(arrived(sandbox)) == mrns(0, 1, 2, 3)


def test_another_destination_is_another_batch(batch: Batch, sandbox: Sandbox):
    """The same file to another place is refused when it lies in the same folder."""
    batch.post(destinations=["general", "lakeside"])
    said = batch.fails(RedoxAmbiguousOutcomeError, CLEARED, destinations=["lakeside"])
    assert "to other destinations by an earlier try" in said
    assert len(arrived(sandbox)) == 10


def test_a_batch_that_was_sent_under_another_name_is_not_sent_again(
    batch: Batch, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """Its plan lies below the environment; a clear finds it also where the connection names another one now."""
    batch.post()
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(sandbox.with_extra(environment="Staging")))
    assert "under another name of the destination or the environment" in batch.fails(RedoxAmbiguousOutcomeError, CLEARED)
    assert len(arrived(sandbox)) == 10


@pytest.mark.usefixtures("shared_disk")
def test_storage_that_is_gone_is_noticed_by_the_marker(batch: Batch, sandbox: Sandbox, markers: dict[str, Mark]):
    """With the disk gone the database knows that a batch was open, and nothing is sent until the author says so."""
    lose(sandbox, 2)
    batch.fails(RedoxAmbiguousOutcomeError)
    shutil.rmtree(batch.output.removeprefix("file://"))
    for facts in (AGAIN, CLEARED):
        assert "storage has nothing of it any more" in batch.fails(RedoxAmbiguousOutcomeError, facts)
    assert len(arrived(sandbox)) == 10
    assert batch.post(CLEARED, resend=True)["accepted"] == 10
    assert markers == {}
    assert batch.post(CLEARED)["already_sent"] == 10
    assert len(arrived(sandbox)) == 20


def test_what_was_accepted_beside_a_refused_message_is_not_sent_again_without_storage(
    batch: Batch, sandbox: Sandbox, markers: dict[str, Mark]
):
    """A batch that failed for a refused message is not over: with its storage gone the next try sends nothing."""
    refuse(sandbox, 2)
    batch.fails(RedoxResponseError)
    shutil.rmtree(batch.output.removeprefix("file://"))
    assert "storage has nothing of it any more" in batch.fails(RedoxAmbiguousOutcomeError, AGAIN)
    assert len(arrived(sandbox)) == 9


def test_a_batch_that_is_over_is_known_without_its_disk(batch: Batch, sandbox: Sandbox, markers: dict[str, Mark]):
    """A worker's disk counts as nothing: the marker stays, and a clear without `resend` sends nothing again."""
    assert batch.post()["accepted"] == 10
    shutil.rmtree(batch.output.removeprefix("file://"))
    assert "storage has nothing of it any more" in batch.fails(RedoxAmbiguousOutcomeError, CLEARED)
    assert len(arrived(sandbox)) == 10


def test_a_segment_whose_state_is_gone_is_noticed(batch: Batch, sandbox: Sandbox, markers: dict[str, Mark]):
    """What the marker says was begun, and storage knows nothing of, is not sent as if it were new."""
    lose(sandbox, 9)
    batch.fails(RedoxAmbiguousOutcomeError)
    for path in Path(batch.output.removeprefix("file://")).rglob("batch/*/000001.*"):
        path.unlink()
    assert "storage has nothing of it any more" in batch.fails(RedoxAmbiguousOutcomeError, AGAIN)
    assert len(arrived(sandbox)) == 10


def test_a_line_that_has_become_right_is_sent(batch: Batch, sandbox: Sandbox, markers: dict[str, Mark]):
    """What could not be sent is sent when the author has mended that, and nothing is taken for lost."""
    batch.write(*({**message(number), **({"Visit": {"ID": "1"}} if number in (0, 9) else {})} for number in range(10)))
    lose(sandbox, 9)
    batch.fails(RedoxAmbiguousOutcomeError, on_invalid="refuse", ordering_key="/Visit/ID")
    assert sorted(arrived(sandbox)) == mrns(0, 9)
    said = batch.fails(RedoxAmbiguousOutcomeError, AGAIN, on_invalid="refuse")
    assert "9 accepted, 1 ambiguous (lines 10)" in said
    assert Counter(arrived(sandbox)) == Counter(mrns(*range(10)))


@pytest.mark.parametrize("damage", [b"{", b"\xff", b'{"at": 1, "messages": ' + b"[" * 100_000])
def test_intents_that_cannot_be_read_stop_everything(batch: Batch, sandbox: Sandbox, damage: bytes):
    """A file that is damaged says that something was sent."""
    batch.post()
    next(Path(batch.output.removeprefix("file://")).rglob("*.intents.json")).write_bytes(damage)
    assert "cannot be read" in batch.fails(RedoxAmbiguousOutcomeError, CLEARED)
    assert len(arrived(sandbox)) == 10


def test_a_second_worker_stops_where_another_goes_on(batch: Batch, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """Of two workers that send one batch, each message is sent by one; the other finds its intents taken, and stops."""
    real, others = batching.Batching._intend, []

    def intend(self: batching.Batching, plan: Any, number: int, *rest: Any) -> None:
        if number == 1 and not others:
            others.append(True)
            others.append(batch.post(AGAIN))
        real(self, plan, number, *rest)

    monkeypatch.setattr(batching.Batching, "_intend", intend)
    with pytest.raises(RedoxAmbiguousOutcomeError, match="Another worker is sending this batch"):
        batch.post()
    assert others[1]["accepted"] == 10
    assert Counter(arrived(sandbox)) == Counter(mrns(*range(10)))


def test_two_first_tries_make_one_plan(batch: Batch, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """Who comes second with a plan of its own sends nothing."""
    real, others = batching.Batching._begin, []

    def begin(self: batching.Batching, *arguments: Any) -> Any:
        if not others:
            others.append(True)
            others.append(batch.post())
        return real(self, *arguments)

    monkeypatch.setattr(batching.Batching, "_begin", begin)
    with pytest.raises(RedoxAmbiguousOutcomeError, match="Another worker is sending this batch"):
        batch.post()
    assert Counter(arrived(sandbox)) == Counter(mrns(*range(10)))


@pytest.mark.parametrize("how", [KeyboardInterrupt, RuntimeError])
def test_a_task_that_is_ended_writes_down_what_it_knows(
    batch: Batch, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, how: type[BaseException]
):
    """What was answered is known to the next try, and what was not begun is sent by it."""
    real = batch_segment.SegmentRun._collect

    def collect(self: Any, *arguments: Any) -> None:
        real(self, *arguments)
        if len(arrived(sandbox)) >= 6:
            raise how

    with monkeypatch.context() as ended, pytest.raises(how):
        ended.setattr(batch_segment.SegmentRun, "_collect", collect)
        batch.post(max_concurrency=1)
    assert batch.post(AGAIN)["accepted"] == 10
    assert Counter(arrived(sandbox)) == Counter(mrns(*range(10)))


def test_results_that_a_store_does_not_take_at_once_are_written_later(
    batch: Batch, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """A store's bad second costs no knowledge of what was accepted."""
    real, failed = Files.write, []

    def write(self: Files, url: str, content: bytes) -> None:
        if "000001.01.results" in url and len(failed) < 2:
            failed.append(url)
            raise OSError("not now")
        real(self, url, content)

    monkeypatch.setattr(Files, "write", write)
    monkeypatch.setattr(batch_segment, "PAUSES", (0.01, 0.01))
    assert batch.post()["accepted"] == 10
    assert len(failed) == 2
    assert len(arrived(sandbox)) == 10


def test_results_that_cannot_be_written_stop_the_batch(batch: Batch, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """No further segment goes out, and the one that did is unknown to the next try: listed, and not sent again."""
    real = Files.write

    def write(self: Files, url: str, content: bytes) -> None:
        if "000001.01.results" in url:
            raise OSError("not now")
        real(self, url, content)

    with monkeypatch.context() as broken:
        broken.setattr(Files, "write", write)
        broken.setattr(batch_segment, "PAUSES", (0.01,))
        with pytest.raises(OSError, match="not now"):
            batch.post()
    assert len(arrived(sandbox)) == 8
    assert "4 ambiguous (lines 5, 6, 7, 8)" in batch.fails(RedoxAmbiguousOutcomeError, AGAIN)
    assert Counter(arrived(sandbox)) == Counter(mrns(*range(10)))


# ── side by side ──


def test_messages_go_side_by_side(batch: Batch, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """As many at once as `max_concurrency` says, and never more."""
    watched = Watched(monkeypatch)
    batch.write(*(message(number) for number in range(20)))
    batch.post(max_concurrency=4, segment_size=20)
    assert watched.most == 4


class Watched:
    """Counts the messages that are under way; each waits until another one is, or a moment has passed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, moment: float = 0.05) -> None:
        self.now, self.most, self.lock = 0, 0, threading.Lock()
        self.order: list[str] = []
        real = SyncClient._send

        def send(client: SyncClient, request: Any) -> Any:
            if not request.url.endswith("/endpoint"):
                return real(client, request)
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
                self.order.append(json.loads(request.body)["Patient"]["Identifiers"][0]["ID"])
            threading.Event().wait(moment)
            try:
                return real(client, request)
            finally:
                with self.lock:
                    self.now -= 1

        monkeypatch.setattr(SyncClient, "_send", send)


def test_a_destination_is_sent_no_more_at_once_than_it_takes(
    batch: Batch, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    """`max_concurrency` of a destination in the connection holds for the batch, whatever the operator says."""
    described = sandbox.connection["extra"]["destinations"]
    limited = {**described, "general": {**described["general"], "max_concurrency": 2}}
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(sandbox.with_extra(destinations=limited)))
    watched = Watched(monkeypatch)
    batch.post(max_concurrency=8, segment_size=20)
    assert watched.most == 2


def test_messages_of_one_ordering_key_arrive_in_their_order(batch: Batch, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """Each waits for the one before it; those of other keys do not."""
    watched = Watched(monkeypatch, moment=0.01)
    batch.write(*({**message(number), "Visit": {"ID": str(number % 3)}} for number in range(18)))
    batch.post(ordering_key="/Visit/ID", max_concurrency=8, segment_size=7)
    assert watched.most == 3
    for key in range(3):
        assert [one for one in arrived(sandbox) if int(one[4:]) % 3 == key] == mrns(*range(key, 18, 3))


@pytest.mark.parametrize("size", [2, 20])
@pytest.mark.parametrize("what", ["lost", "refused"])
def test_what_is_not_settled_holds_back_what_comes_after_it(batch: Batch, sandbox: Sandbox, size: int, what: str):
    """A message overtakes none of its ordering key, in the same segment or in a later one, in this try or in the next."""
    batch.write(*({**message(number), "Visit": {"ID": str(number % 2)}} for number in range(8)))
    (lose if what == "lost" else refuse)(sandbox, 2, **({"when": "before"} if what == "lost" else {}))
    how = {"ordering_key": "/Visit/ID", "segment_size": size}
    said = batch.fails(Exception, **how)
    held = "1 ambiguous (lines 3), 2 unsent (lines 5, 7)" if what == "lost" else "1 refused (lines 3), 2 unsent (lines 5, 7)"
    assert held in said
    assert sorted(arrived(sandbox)) == mrns(0, 1, 3, 5, 7)
    if what == "lost":
        assert held in batch.fails(RedoxAmbiguousOutcomeError, AGAIN, **how)
        assert len(arrived(sandbox)) == 5
    assert batch.post(AGAIN, **how, on_ambiguous="resend")["accepted"] == 8
    assert [one for one in arrived(sandbox) if int(one[4:]) % 2 == 0] == mrns(0, 2, 4, 6)


def test_a_refusal_that_is_recorded_holds_nothing_back(batch: Batch, sandbox: Sandbox):
    """With `on_refused="record"` a refused message is settled, and is never sent later."""
    batch.write(*({**message(number), "Visit": {"ID": "1"}} for number in range(4)))
    refuse(sandbox, 1)
    how = {"ordering_key": "/Visit/ID", "on_refused": "record"}
    summary = batch.post(**how)
    assert (summary["accepted"], summary["refused"]) == (3, 1)
    assert {**batch.post(CLEARED, **how), "already_sent": 0} == {**summary, "already_sent": 0}
    assert arrived(sandbox) == mrns(0, 2, 3)


# ── a ledger ──


KEYED = {"idempotency_key": "/Patient/Identifiers/0/ID"}


def test_a_key_that_stands_twice_in_a_file_is_sent_once(batch: Batch, sandbox: Sandbox, tmp_path: Path):
    """The second message with a key is told as sent already, in the same segment or in a later one."""
    batch.write(*(message(number % 4) for number in range(10)))
    summary = batch.post(**KEYED, ledger_path=f"file://{tmp_path}/ledger")
    assert (summary["accepted"], summary["already_sent"]) == (10, 6)
    assert sorted(arrived(sandbox)) == mrns(0, 1, 2, 3)


def test_a_key_that_stands_twice_is_sent_once_by_a_resend_too(batch: Batch, sandbox: Sandbox, tmp_path: Path):
    """`resend=True` sends each key once more, however often it stands in the file."""
    batch.write(*(message(number % 4) for number in range(10)))
    shared = {**KEYED, "ledger_path": f"file://{tmp_path}/ledger"}
    batch.post(**shared)
    assert batch.post(CLEARED, **shared, resend=True)["accepted"] == 10
    assert Counter(arrived(sandbox)) == Counter(mrns(0, 1, 2, 3) * 2)


def test_the_same_file_in_another_run_sends_nothing(batch: Batch, sandbox: Sandbox, tmp_path: Path):
    """Keys are shared over runs, with what single messages have sent too."""
    shared = {**KEYED, "ledger_path": f"file://{tmp_path}/ledger"}
    single = RedoxDataModelPostOperator(task_id="one", payload=message(3), results_path=f"file://{tmp_path}/one", **shared)
    batch._execute(single)
    first = batch.post(**shared)
    assert (first["accepted"], first["already_sent"]) == (10, 1)
    shutil.rmtree(batch.output.removeprefix("file://"))
    second = batch.post(**shared)
    assert (second["accepted"], second["already_sent"], second["log_ids"]) == (10, 10, first["log_ids"])
    assert Counter(arrived(sandbox)) == Counter(mrns(*range(10)))


def test_a_ledger_settles_what_a_kill_left_open(batch: Batch, sandbox: Sandbox, tmp_path: Path, monkeypatch: Any):
    """What the ledger says was accepted is known, though the segment's results were never written."""
    shared = {**KEYED, "ledger_path": f"file://{tmp_path}/ledger"}
    real = Files.write

    def write(self: Files, url: str, content: bytes) -> None:
        if "000000.01.results" in url:
            raise KeyboardInterrupt
        real(self, url, content)

    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(Files, "write", write)
        batch.post(**shared)
    assert batch.post(AGAIN, **shared)["accepted"] == 10
    assert Counter(arrived(sandbox)) == Counter(mrns(*range(10)))


def other(number: int) -> dict[str, Any]:
    return {**message(number), "Visit": {"VisitNumber": "another"}}


@pytest.mark.parametrize("on_refused", ["fail", "record"])
def test_one_key_with_two_contents_is_refused_by_line(batch: Batch, sandbox: Sandbox, tmp_path: Path, on_refused: str):
    """In one file or over runs: the second content is not sent, its line says so with both tasks, the others are sent."""
    shared = {**KEYED, "ledger_path": f"file://{tmp_path}/ledger", "on_refused": on_refused}
    single = RedoxDataModelPostOperator(task_id="one", payload=message(7), results_path=f"file://{tmp_path}/one", **shared)
    batch._execute(single)
    batch.write(message(0), message(1), other(0), message(2), other(7), message(1))
    if on_refused == "record":
        assert {"accepted": 4, "refused": 2, "already_sent": 1}.items() <= batch.post(**shared).items()
    else:
        assert "2 refused (lines 3, 5)" in batch.fails(RedoxResponseError, **shared)
    assert batch.outcomes() == ["accepted", "accepted", "refused", "accepted", "refused", "accepted"]
    said = [line["issues"][0] for line in batch.lines() if line["outcome"] == "refused"]
    assert all("idempotency_key: " in one and "sent another content with the key of this message" in one for one in said)
    assert "/one/" in said[1]
    assert all("/post/" in one for one in said)
    assert sorted(arrived(sandbox)) == mrns(0, 1, 2, 7)


def test_who_loses_a_race_for_a_key_tries_again(batch: Batch, sandbox: Sandbox, tmp_path: Path):
    """What another task is sending is unsent here: Airflow retries, and finds that it was sent, or given back."""
    root = f"file://{tmp_path}/ledger"
    ledger, general = SendLedger(root), sandbox.connection["extra"]["destinations"]["general"]["id"]
    urls = [ledger.url_of("PatientAdmin", "NewPatient", general, f"MRN-{number}") for number in (2, 5)]
    for url in urls:
        assert ledger.claim(url, "feed/other/post/-1", "") is None
    with pytest.raises(RedoxTransportError, match=r"2 unsent \(lines 3, 6\)") as lost:
        batch.post(**KEYED, ledger_path=root)
    assert lost.value.retryable
    assert "feed/other/post/-1" in batch.lines()[2]["issues"][0]
    assert sorted(arrived(sandbox)) == mrns(0, 1, 3, 4, 6, 7, 8, 9)
    ledger.release(urls[0])
    same = RedoxDataModelPostOperator(
        task_id="one", payload=message(5), results_path=f"file://{tmp_path}/one", **KEYED, ledger_path=root, resend=True
    )
    batch._execute(same)
    summary = batch.post(AGAIN, **KEYED, ledger_path=root)
    assert (summary["accepted"], summary["already_sent"]) == (10, 9)
    assert Counter(arrived(sandbox)) == Counter(mrns(*range(10)))


# ── what an answer shows ──


def test_a_log_is_of_one_message(batch: Batch, sandbox: Sandbox):
    """A cache between us and Redox that gives each message the first one's answer makes no acceptance of them."""
    cached = {"Meta": {"Logs": [{"ID": "log-of-the-first"}]}}
    sandbox.fault("body", body=cached, match={"path": "/endpoint"}, times=None)
    said = batch.fails(RedoxAmbiguousOutcomeError, max_concurrency=1)
    assert "1 accepted, 9 ambiguous" in said
    assert batch.outcomes() == ["accepted"] + ["ambiguous"] * 9
    batch.fails(RedoxAmbiguousOutcomeError, AGAIN)
    assert len(sandbox.ledger("/endpoint")) == 10


def test_one_log_for_two_hospitals_is_ambiguous_by_line(batch: Batch, sandbox: Sandbox):
    """The line has the log ID, the others are accepted, and nothing is sent again."""
    one = {"Meta": {"Logs": [{"ID": "log-1"}]}}
    sandbox.fault("body", body=one, match={"path": "/endpoint", "body": '"MRN-3"'})
    assert "1 ambiguous (lines 4)" in batch.fails(RedoxAmbiguousOutcomeError, destinations=["general", "lakeside"])
    assert batch.lines()[3]["log_ids"] == ["log-1"]
    batch.fails(RedoxAmbiguousOutcomeError, AGAIN, destinations=["general", "lakeside"])
    assert sorted(arrived(sandbox)) == mrns(*range(10))
