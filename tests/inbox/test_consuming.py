"""read_messages: each message in the hands of one run of each consumer, until it is done with."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_redox.downstream import read_messages
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxProtocolError
from airflow_provider_redox.storage.inbox import consuming
from airflow_provider_redox.storage.inbox.consuming import Consumer, Desk, InboxMessage, events_of
from airflow_provider_redox.storage.inbox.handing import hand
from airflow_provider_redox.storage.inbox.place import spread
from airflow_provider_redox.storage.inbox.watching import Wanted, Watch
from tests.inbox.boxes import LATER, Box
from tests.inbox.test_watching import PATTERN, written
from tests.support.receiver import message
from tests.support.s3 import Bucket


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(f"file://{tmp_path}/inbox/results")


def read(event: Any, run: str = "run-1", *, consumer: str = "load", **arguments: Any) -> list[InboxMessage]:
    """Take all messages as one run of a task; each is acknowledged when the next one is taken."""
    taken = []
    desk = [Desk(one, Consumer(consumer, run)) for one in events_of(event)]
    for one in (m for d in desk for m in d.messages(max_tries=None, done_too=False, **arguments)):
        taken.append(one)
        one.acknowledge()
    return taken


def ids(messages: list[InboxMessage]) -> list[str]:
    return [one.log_id for one in messages]


def test_messages_are_given_byte_for_byte_in_order(box: Box):
    """With what their names say of them."""
    box.put("b", "a")
    first, second = read_messages(box.event(), consumer="c")
    assert (first.log_id, second.log_id) == ("b", "a")
    assert (first.data_model, first.event_type) == ("Results", "New")
    assert first.json()["Patient"] == message()["Patient"]
    assert json.loads(first.body) == first.json()
    assert "Quillfeather" not in repr(first)


def test_an_event_that_is_told_twice_is_handled_once(box: Box):
    """By the same run and by another one."""
    box.put("a", "b")
    event = box.event()
    assert ids(read(event)) == ["a", "b"]
    assert ids(read(event)) == []
    assert ids(read(event, "run-2")) == []
    assert ids(read(event, "run-2", consumer="other")) == ["a", "b"]


def test_a_cleared_task_is_told_why_it_gets_nothing(box: Box, caplog: pytest.LogCaptureFixture):
    """Its messages are done: the log says how many, and what hands them out again."""
    box.put("a", "b")
    event = box.event()
    list(read_messages(event, consumer="c"))
    assert list(read_messages(event, consumer="c")) == []
    assert "2 of 2 messages are not handed out again" in caplog.text
    assert "include_done=True" in caplog.text
    assert ids(list(read_messages(event, consumer="c", include_done=True))) == ["a", "b"]


def test_two_messages_under_one_log_id_are_both_handed_out(box: Box, caplog: pytest.LogCaptureFixture):
    """The second has a key of its own; a redelivery, which has another AttemptID, is no second message."""
    first, second = message("one-id"), message("one-id")
    second["Orders"][0]["Results"][0]["Value"] = "5.1"
    taken = [box.inbox.take(json.dumps(one).encode()) for one in (first, message("one-id"), second, second)]
    assert taken == ["new", "again", "differs", "again"]
    handed = list(read_messages(box.event(), consumer="c"))
    assert [one.json() for one in handed] == [first, second]
    assert handed[0].log_id == "one-id"
    assert handed[1].log_id.startswith("one-id-")
    assert "Log ID one-id: another message is here under this ID" in caplog.text


def test_two_files_under_one_log_id_are_both_handed_out(tmp_path: Path):
    """In a bucket that others fill; a file that is a redelivery of another is not."""
    first, second = message("x"), message("x", EventType="Corrected")
    for number, content in enumerate((first, second, message("x"))):
        written(tmp_path, f"{number}/New/x.json", time.time() - 500 + number)
        (tmp_path / f"{number}/New/x.json").write_text(json.dumps(content))
    box = Box(f"file://{tmp_path}")
    event = box.event(name_pattern=PATTERN)
    assert [one.json() for one in read_messages(event, consumer="c")] == [first, second]
    assert list(read_messages(event, consumer="c")) == []


def test_a_worker_whose_clock_is_behind_has_its_message_told_again(box: Box, monkeypatch: pytest.MonkeyPatch):
    """It comes again after the newest arrival, which the watcher has seen, not before it."""
    box.put("a", "b")
    watch = box.watch()
    event = box.event(*watch.look(LATER), watch=watch)
    watch.settle(watch._told)
    clock = SimpleNamespace(time=lambda: time.time() - 3600)
    monkeypatch.setattr(consuming, "time", clock)
    next(read_messages(event, consumer="c")).retry(after=0)
    again = box.watch().look(LATER)
    assert [one.rpartition("_")[0].rpartition("_")[2] for one in again] == ["a"]


def test_what_one_run_holds_is_not_given_to_another(box: Box):
    """Two runs at once share the messages of two events that overlap."""
    box.put("a", "b", "c")
    event = box.event()
    first = read_messages(event, consumer="c1")
    assert next(first).log_id == "a"
    assert ids(read(event, "run-2", consumer="c1")) == ["b", "c"]
    assert ids(list(first)) == []


def test_a_message_that_failed_is_the_first_of_the_next_try(box: Box):
    """It stays open; those before it are done, and it counts how often it was handed out."""
    box.put("a", "b", "c")
    event = box.event()
    with pytest.raises(ValueError, match="no such table"):
        for one in read_messages(event, consumer="c"):
            if one.log_id == "b":
                raise ValueError("no such table")
    again = list(read_messages(event, consumer="c"))
    assert [(one.log_id, one.tries) for one in again] == [("b", 2), ("c", 1)]


def test_a_message_that_always_fails_is_given_up(box: Box):
    """After `max_tries`, so that those behind it come through."""
    box.put("poison", "good")
    event = box.event()
    for _ in range(2):
        assert next(read_messages(event, consumer="c", max_tries=2)).log_id == "poison"
    assert ids(list(read_messages(event, consumer="c", max_tries=2))) == ["good"]
    letter = json.loads(box.files.read(f"{box.root}/consumers/c/dead/poison.json") or b"")
    assert (letter["log_id"], letter["reason"]) == ("poison", "tried 2 times")


def test_a_dead_letter_is_kept_with_its_reason_and_never_given_again(box: Box):
    """Where it lies and why; no content."""
    box.put("a", "b")
    event = box.event()
    for one in read_messages(event, consumer="c"):
        if one.log_id == "a":
            one.dead_letter("no such order")
    letter = box.files.read(f"{box.root}/consumers/c/dead/a.json") or b""
    assert json.loads(letter)["reason"] == "no such order"
    assert b"Quillfeather" not in letter
    assert list(read_messages(event, consumer="c")) == []


def test_a_message_that_is_wanted_again_is_told_again_to_that_consumer_only(box: Box):
    """By a new event, when its time has come, as another try."""
    box.put("a", "b")
    event = box.event()
    watch = box.watch()
    seen = watch.look(LATER)
    watch.tell(seen)
    watch.settle(seen)
    for one in read_messages(event, consumer="c"):
        if one.log_id == "a":
            one.retry(after=3600)
    assert watch.look(time.time()) == []
    again = box.event(*watch.look(time.time() + 3601), watch=watch)
    assert [one["log_id"] for one in again["messages"]] == ["a"]
    assert list(read_messages(again, consumer="other")) == []
    assert [(one.log_id, one.tries) for one in read_messages(again, consumer="c")] == [("a", 2)]
    assert list(read_messages(again, consumer="c")) == []


def test_what_is_done_is_given_again_where_it_is_asked_for(box: Box):
    """To the run that did it: somebody cleared the task to do its work anew."""
    box.put("a")
    event = box.event()
    assert ids(list(read_messages(event, consumer="c"))) == ["a"]
    assert ids(list(read_messages(event, consumer="c", include_done=True))) == ["a"]


def test_a_message_that_is_gone_is_told_after_the_others(box: Box):
    """It does not keep them back, and is no success."""
    box.put("a", "b", "c")
    event = box.event()
    box.files.remove(f"{event['messages'][1]['url']}")
    given = []
    with pytest.raises(RedoxProtocolError, match="1 messages are not there any more, the first is b"):
        given.extend(one.log_id for one in read_messages(event, consumer="c"))
    assert ids(read(box.event(), "run-2", consumer="c")) == []
    assert box.files.exists(f"{box.root}/consumers/c/done/{spread('c')}/c")


def test_a_message_is_not_acknowledged_before_the_loop_goes_on(box: Box):
    """A loop that is left in the middle leaves its message open."""
    box.put("a", "b")
    event = box.event()
    for _ in read_messages(event, consumer="c"):
        break
    assert ids(read(event, "c", consumer="c")) == ["a", "b"]


class ByAsset(Mapping[Any, Any]):
    """As Airflow's own mapping: its keys are assets, and a text is no question that one may ask."""

    def __init__(self, events: list[Any]) -> None:
        self._events = {("asset",): events}

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            raise TypeError("Key should be either an asset or an asset alias")
        return self._events[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)


def shapes(event: dict[str, Any]) -> dict[str, Any]:
    extra = {"from_trigger": True, "payload": event}
    return {
        "what a sensor returns": event,
        "the extra of an asset event": extra,
        "an asset event": SimpleNamespace(extra=extra),
        "a list of them": [SimpleNamespace(extra=extra), SimpleNamespace(extra=extra)],
        "all that started the run": {"asset": [SimpleNamespace(extra=extra)]},
        "all that started the run, as Airflow 3 has it": ByAsset([SimpleNamespace(extra=extra)]),
        "as JSON": json.loads(json.dumps({"extra": extra})),
    }


@pytest.mark.parametrize("shape", list(shapes({})))
def test_an_event_is_taken_in_every_shape_that_airflow_gives_it(box: Box, shape: str):
    """Each message once."""
    box.put("a", "b")
    assert ids(list(read_messages(shapes(box.event())[shape], consumer="c"))) == ["a", "b"]


@pytest.mark.parametrize("event", [None, 5, "s3://b/x", {"messages": 1}, {"messages": [{}], "inbox": "x", "state": "x"}])
def test_what_is_no_event_is_refused(event: Any):
    """It is said what it should be."""
    with pytest.raises(RedoxConfigError, match="event"):
        list(read_messages(event, consumer="c"))


@pytest.mark.parametrize(
    "change",
    [
        {"url": "file:///etc/passwd"},
        {"url": "INBOX/../../../etc/passwd"},
        {"log_id": "../../x"},
        {"log_id": "a/b"},
    ],
)
def test_an_event_that_names_another_place_is_refused(box: Box, change: dict[str, str]):
    """Whoever may create asset events may not have a worker read, or write, what it likes."""
    box.put("a")
    event = box.event()
    event["messages"][0].update({name: value.replace("INBOX", box.root) for name, value in change.items()})
    with pytest.raises(RedoxConfigError, match="outside its inbox"):
        list(read_messages(event, consumer="c"))
    assert not box.files.names(f"{box.root}/consumers/c")


def test_an_event_of_another_inbox_is_refused_where_the_author_names_one(box: Box, tmp_path: Path):
    """`inbox_path` is the author's word against the event's."""
    box.put("a")
    with pytest.raises(RedoxConfigError, match="another inbox"):
        list(read_messages(box.event(), consumer="c", inbox_path=f"{tmp_path}/elsewhere"))
    assert ids(list(read_messages(box.event(), consumer="c", inbox_path=str(tmp_path / "inbox" / "results")))) == ["a"]


@pytest.mark.parametrize("state", ["file:///tmp/elsewhere", "INBOX/../..", "INBOX/messages"])
def test_an_event_that_keeps_its_state_elsewhere_is_refused(box: Box, state: str):
    """Claims and dead letters are written there; the author says where that may be."""
    box.put("a")
    event = {**box.event(), "state": state.replace("INBOX", box.root)}
    with pytest.raises(RedoxConfigError, match="state_path"):
        list(read_messages(event, consumer="c", inbox_path=box.root))


def test_what_an_event_says_of_a_message_shapes_no_path(box: Box):
    """Data model, event type and source go into the name of a message that is wanted again."""
    box.put("a")
    event = box.event()
    event["messages"][0].update(data_model="../../x", event_type="a_b/c", source="")
    before = {path for path in Path(box.root[7:]).parents[1].rglob("*") if path.is_file()}
    for one in read_messages(event, consumer="c"):
        one.retry(after=0)
    made = {path for path in Path(box.root[7:]).parents[1].rglob("*") if path.is_file()} - before
    assert sorted(path.relative_to(box.root[7:]).parts[0] for path in made) == ["arrivals", "consumers", "consumers"]


def test_a_claim_that_cannot_be_read_is_named(box: Box):
    """The message is neither lost nor handed out twice by a guess."""
    box.put("a")
    list(read_messages(box.event(), consumer="c"))
    (claim,) = (path for path in Path(box.root[7:]).rglob("*") if path.is_file() and "claims" in path.parts)
    claim.write_bytes(b"\xff\xfe")
    with pytest.raises(RedoxProtocolError, match="cannot be read; remove this claim"):
        list(read_messages(box.event(), consumer="c"))


def test_outside_a_task_a_consumer_has_to_be_named(box: Box):
    """There is nobody else whose messages these would be."""
    with pytest.raises(RedoxConfigError, match="consumer"):
        next(read_messages(box.event()))


def test_a_wait_that_cannot_be_is_refused(box: Box):
    """Before anything is written."""
    box.put("a")
    (one,) = (
        m
        for d in [Desk(e, Consumer("c", "r")) for e in events_of(box.event())]
        for m in d.messages(max_tries=None, done_too=False)
    )
    with pytest.raises(RedoxConfigError, match="after"):
        one.retry(after=-1)
    assert one.is_open


def test_messages_of_others_are_known_by_what_they_say(tmp_path: Path):
    """Where names hold no log ID, the message itself does, and the same one under two names is handed out once."""
    for number, name in enumerate(["x/one.json", "x/two.json", "x/odd.json"]):
        written(tmp_path, name, 1_700_000_000 + number)
        (tmp_path / name).write_text(json.dumps(message("l1")) if number < 2 else "[]")
    event = Box(f"file://{tmp_path}").event(name_pattern=r".*\.json")
    assert [one["log_id"] for one in event["messages"]] == [None] * 3
    first, odd = read_messages(event, consumer="c")
    assert (first.log_id, first.data_model) == ("l1", "Results")
    assert (odd.body, odd.data_model) == (b"[]", "-")


def test_a_message_of_others_can_be_wanted_again(tmp_path: Path):
    """It is copied to where the state is, and told of from there."""
    written(tmp_path, "Results/New/a.json", 1_700_000_000)
    box = Box(f"file://{tmp_path}")
    watch = box.watch(name_pattern=PATTERN)
    watch.tell(watch.look(LATER))
    desk = Desk(next(events_of(box.event(name_pattern=PATTERN))), Consumer("d", "r"))
    (mine,) = desk.messages(max_tries=None, done_too=False)
    mine.retry(after=0)
    names = watch.look(LATER)
    event = box.event(*names, watch=watch, name_pattern=PATTERN)
    assert event["messages"][0]["url"].startswith(f"file://{tmp_path}/_redox/messages/")
    assert [(m.log_id, m.tries, m.body) for m in read_messages(event, consumer="d")] == [("a", 2, b"{}")]


def test_a_message_on_an_object_store_is_claimed_by_one(bucket: Bucket):
    """Claims, acknowledgements and dead letters work there as on a disk."""
    box = Box(f"{bucket.root}/inbox")
    box.put("a", "b")
    event = box.event()
    assert ids(read(event)) == ["a", "b"]
    assert ids(read(event, "run-2")) == []


def test_two_tries_of_a_sensor_are_handed_the_same(box: Box, monkeypatch: pytest.MonkeyPatch):
    """One that wakes up after another try of its run was handed messages is handed those, and none is lost."""
    box.put("a")
    wanted, run = Wanted(box.root, name="sensor"), ("dag", "run", "task", "-1")
    look, others = Watch.look, []

    def look_while_another_try_goes_on(self: Watch, now: float) -> list[str]:
        """Let a message come, and another try take both, after this one has looked."""
        found = look(self, now)
        if not others:
            others.append(None)
            box.put("b")
            others[0] = hand(wanted, run, max_messages=10, now=LATER)
        return found

    monkeypatch.setattr(Watch, "look", look_while_another_try_goes_on)
    assert hand(wanted, run, max_messages=10, now=LATER) == others[0]
    assert [one["log_id"] for one in others[0]["messages"]] == ["a", "b"]
    assert hand(wanted, ("dag", "run2", "task", "-1"), max_messages=10, now=LATER) is None
