"""How far an inbox has been told of: nothing passed over, nothing told twice, whoever is restarted."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxProtocolError
from airflow_provider_redox.protocol.arrivals import Arrival, folder_of, stamp
from airflow_provider_redox.storage.inbox import arriving, watching
from airflow_provider_redox.storage.inbox.watching import Watch
from tests.inbox.boxes import LATER, Box, keys
from tests.support.s3 import Bucket


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(f"file://{tmp_path}/inbox/results")


def all_of(watch: Watch) -> list[str]:
    """Look, tell and settle until there is no more."""
    found: list[str] = []
    while fresh := watch.look(LATER):
        found += fresh
        watch.tell(fresh)
        watch.settle(fresh)
    return found


def enter(box: Box, at: float, key: str) -> str:
    """Let a message arrive at a moment, whenever it becomes visible."""
    name = Arrival(stamp(at), "Results", "New", "s", key)
    box.files.mark(f"{box.root}/arrivals/{name.folder}/{name.name}")
    return name.name


def test_messages_come_in_the_order_of_arrival(box: Box):
    """Whatever their log IDs."""
    box.put("c", "a", "b")
    assert keys(box.watch().look(LATER)) == ["c", "a", "b"]


@pytest.mark.parametrize("apart", [1.0, 100.0])
def test_what_arrives_during_a_listing_keeps_its_order(box: Box, monkeypatch: pytest.MonkeyPatch, apart: float):
    """A listing that has missed a message tells of none that came after it, in the same minute or the next."""
    watch, names, first = box.watch(), box.files.__class__.names, time.time() - 600
    enter(box, first, "a")
    missed: list[str] = []
    box.files.mark(f"{box.root}/arrivals/{folder_of(stamp(first + 1 + apart))}/strange")  # its minute has begun

    def listing(self: Any, url: str) -> list[str]:
        """List as a disk may: two files are made meanwhile, and the later one is in the list."""
        found = names(self, url)
        if any(name.endswith("_a") for name in found) and not missed:
            missed.append(enter(box, first + 1, "b"))
            later = enter(box, first + 1 + apart, "c")
            found += [later] if apart < 60 else []
        return found

    monkeypatch.setattr(box.files.__class__, "names", listing)
    told: list[str] = []
    for _ in range(4):
        fresh = watch.look(LATER)
        watch.tell(fresh)
        told += keys(fresh)
    assert missed
    assert told == ["a", "b", "c"]


def test_what_was_settled_is_not_told_again(box: Box):
    """Over any number of restarts; what arrived since is."""
    box.put("a", "b")
    assert keys(all_of(box.watch())) == ["a", "b"]
    assert box.watch().look(LATER) == []
    box.put("c")
    assert keys(all_of(box.watch())) == ["c"]
    assert all_of(box.watch()) == []


def test_what_was_told_and_not_settled_is_told_again_after_a_crash(box: Box):
    """And by the same process it is not."""
    box.put("a", "b")
    watch = box.watch()
    watch.tell(watch.look(LATER))
    assert watch.look(LATER) == []
    assert keys(box.watch().look(LATER)) == ["a", "b"]


def test_two_consumers_have_a_place_each(box: Box):
    """What one was told of, another is told of as well."""
    box.put("a")
    assert keys(all_of(box.watch(name="one"))) == ["a"]
    assert keys(all_of(box.watch(name="other"))) == ["a"]


def test_an_arrival_that_shows_late_is_not_passed_over(box: Box):
    """One whose moment lies before what was told of already, by less than `lateness`."""
    now = time.time()
    enter(box, now, "early")
    watch = box.watch()
    assert keys(all_of(watch)) == ["early"]
    enter(box, now - 60, "late")
    assert keys(all_of(watch)) == ["late"]
    enter(box, now - 61, "later")
    assert keys(all_of(box.watch())) == ["later"]


def test_the_clock_of_the_one_who_looks_does_not_matter(box: Box):
    """A receiver whose clock is an hour behind, or ahead, loses nothing."""
    for offset in (-3600, 0, 3600):
        enter(box, time.time() + offset, f"m{offset}")
    watch = box.watch()
    found = watch.look(time.time())
    assert len(found) == 3
    watch.tell(found)
    watch.settle(found)
    enter(box, time.time() - 30, "next")
    assert "next" in keys(watch.look(time.time()))


def test_only_what_is_wanted_is_told(box: Box):
    """By data model, event type and source, without a message being read."""
    box.put("a")
    box.put("b", DataModel="Scheduling", EventType="New Appointment")
    box.put("c", Source={"ID": "elsewhere"})
    for path in Path(box.root.removeprefix("file://"), "messages").rglob("*.json"):
        path.unlink()
    assert keys(box.watch(data_model="Results").look(LATER)) == ["a", "c"]
    assert keys(box.watch(data_model=["Scheduling", "Orders"]).look(LATER)) == ["b"]
    assert keys(box.watch(event_type="New Appointment").look(LATER)) == ["b"]
    assert keys(box.watch(source="elsewhere").look(LATER)) == ["c"]
    assert keys(box.watch(data_model="Results", source="elsewhere").look(LATER)) == ["c"]


def test_much_is_told_in_parts(box: Box, monkeypatch: pytest.MonkeyPatch):
    """A backlog is not gathered in memory: after each part the mark moves, and none is passed over."""
    monkeypatch.setattr(watching, "_ENOUGH", 10)
    for number in range(60):
        enter(box, 1_700_000_000 + number * 7, f"m{number}")
    watch = box.watch()
    first = watch.look(LATER)
    assert 10 <= len(first) < 20
    assert keys(first + [name for name in all_of(box.watch()) if name not in first]) == [
        f"m{number}" for number in range(60)
    ]


def test_a_listing_begins_where_the_mark_is(box: Box, monkeypatch: pytest.MonkeyPatch):
    """However much came before: no folder of an earlier minute is listed again."""
    for number in range(30):
        enter(box, 1_700_000_000 + number * 60, f"m{number}")
    watch = box.watch()
    all_of(watch)
    listed: list[str] = []
    names = box.files.names
    monkeypatch.setattr(watch.files, "names", lambda url: listed.append(url) or names(url))
    assert watch.look(LATER) == []
    assert len(listed) <= 8  # the newest is looked for first


def test_the_cursor_stays_small(box: Box):
    """It remembers what is newer than `lateness`, not all that ever came."""
    for number in range(500):
        enter(box, 1_700_000_000 + number, f"m{number}")
    watch = box.watch()
    all_of(watch)
    assert len(json.loads(box.files.read(watch.url) or b"")["told"]) <= 121


def test_what_waits_is_not_passed_by_the_mark(box: Box):
    """A message that is held back, to share an event, is still there after a restart."""
    for number in range(3):
        enter(box, 1_700_000_000 + number * 600, f"m{number}")
    watch = box.watch()
    first, *rest = watch.look(LATER)
    watch.tell([first])
    watch.settle([first], open_names=rest)
    assert keys(box.watch().look(LATER)) == ["m1", "m2"]


def test_it_may_begin_with_what_comes(box: Box):
    """`latest` passes over what is there the first time, and only then."""
    box.put("before")
    watch = box.watch()
    watch.begin_at_newest()
    assert watch.look(LATER) == []
    watch.settle([])
    box.put("after")
    found = watch.look(LATER)
    assert keys(found) == ["after"]
    watch.tell(found)
    watch.settle(found)
    again = box.watch()
    again.begin_at_newest()
    box.put("more")
    assert keys(again.look(LATER)) == ["more"]


@pytest.mark.parametrize("ahead", [-3600, 3600])
def test_it_begins_with_what_comes_by_the_clock_of_who_writes(box: Box, ahead: float):
    """A triggerer whose clock is an hour ahead of the receiver's passes over nothing that comes after it began."""
    enter(box, time.time() + ahead, "before")
    watch = box.watch()
    watch.begin_at_newest()
    enter(box, time.time() + ahead + 1, "after")
    assert keys(watch.look(time.time())) == ["after"]


def test_an_empty_inbox_is_begun_at_its_beginning(box: Box):
    """Its first message is one that comes, also when the triggerer is restarted in between."""
    watch = box.watch()
    watch.begin_at_newest()
    watch.settle([])
    box.put("first")
    again = box.watch()
    again.begin_at_newest()
    assert keys(again.look(LATER)) == ["first"]


def clock_of(box: Box, monkeypatch: pytest.MonkeyPatch, offset: float) -> Box:
    """Restart the receiver of a box on a machine whose clock is so many seconds off."""
    clock = SimpleNamespace(time=lambda: time.time() + offset, monotonic=time.monotonic)
    monkeypatch.setattr(arriving, "time", clock)
    return Box(box.root)


@pytest.mark.parametrize("offset", [-180.0, -86_400.0, 86_400.0])
def test_a_receiver_that_restarts_with_another_clock_loses_nothing(box: Box, monkeypatch: pytest.MonkeyPatch, offset: float):
    """Three minutes or a day behind, or ahead and then right again: what it answers 200 is told, in its order."""
    box.put("a")
    watch = box.watch()
    told = keys(all_of(watch))
    for number, seconds in enumerate((offset, 0.0, offset)):
        clock_of(box, monkeypatch, seconds).put(f"m{number}")
        told += keys(all_of(watch))
    assert told == ["a", "m0", "m1", "m2"]


def test_a_receiver_whose_clock_is_behind_follows_the_other_one(box: Box, monkeypatch: pytest.MonkeyPatch):
    """Two of them share an inbox: the newest arrival is looked up again and again, not only at the start."""
    monkeypatch.setattr(arriving, "ASKED_AGAIN_AFTER", 0.0)
    box.put("a")
    behind = Box(box.root)
    behind.put("b")
    watch = box.watch()
    all_of(watch)
    clock_of(box, monkeypatch, 600.0).put("c")
    told = keys(all_of(watch))
    monkeypatch.setattr(arriving, "time", time)
    behind.put("d")
    assert [*told, *keys(all_of(watch))] == ["c", "d"]


def test_a_clock_that_is_far_behind_the_inbox_is_logged(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """So that somebody sets it."""
    clock_of(box, monkeypatch, 3600.0).put("a")
    monkeypatch.setattr(arriving, "time", time)
    Box(box.root).put("b")
    assert "s ahead of this machine's clock" in caplog.text


def test_a_filter_takes_each_spelling_of_a_word(box: Box):
    """`Clinical Summary`, `ClinicalSummary` and `clinicalsummary` are one data model, on either side."""
    box.put("a", DataModel="Clinical Summary", EventType="PatientPush")
    box.put("b", DataModel="ClinicalSummary", EventType="Patient Push")
    for spelling in ("Clinical Summary", "ClinicalSummary", "clinicalsummary"):
        watch = box.watch(data_model=spelling, event_type=["patientpush"])
        assert keys(watch.look(LATER)) == ["a", "b"]


def test_what_is_passed_over_is_logged_by_kind(box: Box, caplog: pytest.LogCaptureFixture):
    """Once for each: who misspelt a filter sees what there is instead of nothing."""
    box.put("a", "b")
    box.put("c", DataModel="Orders")
    watch = box.watch(data_model="Result")
    with caplog.at_level("INFO", "airflow_provider_redox"):
        assert watch.look(LATER) == []
    assert [record.getMessage().split(": ")[2].split(".")[0] for record in caplog.records] == ["Results New", "Orders New"]


def test_a_cursor_that_cannot_be_read_is_told(box: Box):
    """It is not taken for a beginning."""
    box.put("a")
    watch = box.watch()
    all_of(watch)
    box.files.write(watch.url, b"{half")
    with pytest.raises(RedoxProtocolError, match="cursor"):
        box.watch()


def test_strange_files_are_passed_over(box: Box):
    """A file in the inbox that is no arrival is no message."""
    box.put("a")
    box.files.mark(f"{box.root}/arrivals/2026-01-01/0000/notes.txt")
    box.files.mark(f"{box.root}/arrivals/2026-01-01/0000/99999999T999999999999Z_a_b_c_d")
    box.files.mark(f"{box.root}/arrivals/README")
    assert "a" in keys(all_of(box.watch()))


PATTERN = r"(?P<data_model>\w+)/(?P<event_type>\w+)/(?P<log_id>[\w-]+)\.json"


def written(root: Path, name: str, at: float) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    os.utime(path, (at, at))


def test_a_bucket_that_others_fill_is_watched_by_when_files_were_written(tmp_path: Path):
    """Names are theirs; the pattern says what a message is, and what it is of."""
    now = time.time()
    for name, at in (("Results/New/b.json", now - 500), ("Results/New/a.json", now - 400), ("Orders/New/c.json", now - 300)):
        written(tmp_path, name, at)
    written(tmp_path, "Results/New/b.json.tmp", now - 450)
    box = Box(f"file://{tmp_path}")
    event = box.event(name_pattern=PATTERN, data_model="Results")
    assert [(one["log_id"], one["url"]) for one in event["messages"]] == [
        ("b", f"file://{tmp_path}/Results/New/b.json"),
        ("a", f"file://{tmp_path}/Results/New/a.json"),
    ]
    watch = box.watch(name_pattern=PATTERN)
    assert len(all_of(watch)) == 3
    written(tmp_path, "Results/New/d.json", now - 310)
    assert [name.rpartition("/")[2] for name in all_of(box.watch(name_pattern=PATTERN))] == ["d.json"]


def test_a_bucket_with_a_folder_for_each_day_is_listed_from_the_marks_day(tmp_path: Path):
    """`%Y/%m/%d` in the path is each day."""
    now = time.time()
    for days_ago in (40, 3, 1, 0):
        at = now - days_ago * 86400
        written(tmp_path, time.strftime(f"%Y/%m/%d/m{days_ago}.json", time.gmtime(at)), at)
    wanted = watching.Wanted(f"{tmp_path}/%Y/%m/%d", name_pattern=r"\d+/\d+/\d+/(?P<log_id>\w+)\.json")
    found = all_of(wanted.open())
    assert [name.rpartition("/")[2] for name in found] == ["m3.json", "m1.json", "m0.json"]
    assert wanted.state == f"file://{tmp_path}/_redox"


@pytest.mark.parametrize("pattern", ["(", r"(?P<patient>\w+)"])
def test_a_pattern_that_says_nothing_is_refused(tmp_path: Path, pattern: str):
    """No regular expression, or a group that means nothing."""
    with pytest.raises(RedoxConfigError, match="name_pattern"):
        Box(f"file://{tmp_path}").watch(name_pattern=pattern)


def test_an_inbox_on_an_object_store(bucket: Bucket):
    """The same there: order, filters, restarts."""
    box = Box(f"{bucket.root}/inbox")
    box.put("b", "a")
    box.put("b")
    box.put("c", DataModel="Orders")
    watch = box.watch(data_model="Results")
    assert keys(all_of(watch)) == ["b", "a"]
    box.put("d")
    assert keys(all_of(box.watch(data_model="Results"))) == ["d"]


moves = st.lists(st.one_of(st.floats(0, 1000), st.sampled_from(["look", "settle", "crash"])), max_size=30)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=moves)
def test_whatever_happens_each_message_is_told_and_once_without_a_crash(
    tmp_path_factory: pytest.TempPathFactory, moves: list[object]
):
    """Arrivals that show up to `lateness` late, looks, settlings and crashes in any order."""
    box = Box(f"file://{tmp_path_factory.mktemp('box')}")
    watch, unsettled = box.watch(lateness=120), []
    put: list[str] = []
    told: list[str] = []
    newest, crashes = 1_700_000_000.0, 0
    for number, move in enumerate([*moves, "look"]):
        if isinstance(move, float):
            newest = max(newest, newest + move - 110)
            put.append(enter(box, newest - (move % 100), f"m{number}"))
        elif move == "look":
            fresh = watch.look(LATER)
            watch.tell(fresh)
            told += fresh
            unsettled += fresh
        elif move == "settle":
            watch.settle(unsettled, open_names=watch.look(LATER))
            unsettled = []
        else:
            watch, unsettled, crashes = box.watch(lateness=120), [], crashes + 1
    assert set(told) == set(put)
    assert crashes or len(told) == len(put)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.one_of(st.floats(-90_000, 90_000), st.just("look")), max_size=12))
def test_whatever_the_clocks_of_receivers_show_each_message_is_told_once_in_order(
    tmp_path_factory: pytest.TempPathFactory, moves: list[object]
):
    """Each is restarted with any clock; there is no message that a consumer is not told of."""
    box = Box(f"file://{tmp_path_factory.mktemp('box')}")
    watch, put, told = box.watch(), [], []
    for number, move in enumerate([*moves, "look"]):
        if move == "look":
            told += keys(all_of(watch))
        else:
            with pytest.MonkeyPatch.context() as monkeypatch:
                clock_of(box, monkeypatch, float(move)).put(f"m{number}")  # type: ignore[arg-type]
            put.append(f"m{number}")
    assert told == put


def test_names_of_others_are_not_taken_for_our_own(tmp_path: Path):
    """A folder or a file that looks like a message wanted once more, or like an arrival, is a file like any other."""
    now = time.time()
    written(tmp_path, "lab_again/New/a.json", now - 400)
    written(tmp_path, "Results_New_src_id", now - 350)
    box = Box(f"file://{tmp_path}")
    pattern = r"(?P<data_model>\w+)(/(?P<event_type>\w+)/(?P<log_id>[\w-]+)\.json)?"
    watch = box.watch(name_pattern=pattern)
    names = watch.look(now)
    urls = [one["url"] for one in watch.tell(names)]
    assert urls == [f"file://{tmp_path}/lab_again/New/a.json", f"file://{tmp_path}/Results_New_src_id"]
    assert len(all_of(box.watch(name_pattern=pattern))) == 2
    assert all_of(box.watch(name_pattern=pattern)) == []
