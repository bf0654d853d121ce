"""Waiting for delivery: what each status means, and when a wait is over."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.delivery import (
    KNOWN,
    Rules,
    Watch,
    Window,
    checked_log_ids,
    delivery_error,
    plain,
    status_of,
)
from airflow_provider_redox.protocol.platform import SETTLED_AFTER

NOW = 1000.0
PATIENT = Rules()
STRICT = Rules(failed="fail")


def watch(*log_ids: str, rules: Rules = PATIENT, grace: float = NOW + 300, deadline: float = math.inf) -> Watch:
    return Watch(dict.fromkeys(log_ids, NOW - 60), rules, grace, deadline)


@pytest.mark.parametrize(
    ("status", "rules", "ends"),
    [
        ("succeeded", PATIENT, "delivered"),
        ("pending", PATIENT, "open"),
        ("unknown", PATIENT, "open"),
        ("failed", PATIENT, "open"),
        ("failed", STRICT, "failed"),
        ("filtered", PATIENT, "failed"),
        ("filtered", Rules(filtered="accept"), "delivered"),
        ("HTTP 404", PATIENT, "open"),
        ("HTTP 404", STRICT, "open"),
    ],
)
def test_what_a_status_means(status: str, rules: Rules, ends: str):
    """Succeeded is delivered; failed and filtered are as the author chose; all else is not yet."""
    one = watch("a", rules=rules)
    one.tell({"a": status}, NOW)
    assert one.verdict(NOW).status == ends


@pytest.mark.parametrize("status", ["HTTP 404", "HTTP 403", "HTTP 400"])
def test_a_log_that_stays_hidden_is_lost_after_the_grace(status: str):
    """A new log may not be shown yet; once the grace is over, one that is not shown is a failure."""
    one = watch("a", grace=NOW + 300)
    one.tell({"a": status}, NOW + 299)
    assert one.verdict(NOW + 299).status == "open"
    one.tell({"a": status}, NOW + 300)
    assert one.verdict(NOW + 300).status == "failed"


def test_failed_may_turn_into_succeeded():
    """Redox tries again: a log that failed and then succeeded is delivered."""
    one = watch("a")
    for status in ("pending", "failed", "failed", "succeeded"):
        one.tell({"a": status}, NOW)
    assert one.verdict(NOW).status == "delivered"


def test_all_have_to_be_delivered():
    """As long as one log is open the wait goes on, and only that one is asked for."""
    one = watch("a", "b", "c")
    one.tell({"a": "succeeded", "c": "succeeded"}, NOW)
    assert one.verdict(NOW).status == "open"
    assert set(one.open()) == {"b"}
    one.tell({"b": "succeeded"}, NOW)
    assert (one.verdict(NOW).status, one.open()) == ("delivered", {})


def test_one_lost_message_ends_the_wait():
    """A failure is told at once, with the failed log first and the counts of all."""
    one = watch("a", "b", "c", rules=STRICT)
    one.tell({"a": "succeeded", "c": "failed"}, NOW)
    verdict = one.verdict(NOW)
    assert (verdict.status, verdict.log_ids, verdict.statuses) == ("failed", ("c", "b"), ("failed", "not seen"))
    assert verdict.counts == {"succeeded": 1, "failed": 1, "not seen": 1}
    assert one.open() == {}


def test_patience_runs_out():
    """At the deadline an open wait has timed out, and says what was still open, the failing ones first."""
    one = watch("a", "b", deadline=NOW + 10)
    one.tell({"a": "pending", "b": "failed"}, NOW)
    assert one.verdict(NOW + 9.9).status == "open"
    verdict = one.verdict(NOW + 10)
    assert (verdict.status, verdict.log_ids) == ("timeout", ("b", "a"))


def test_others_logs_change_nothing():
    """A status of a log that is not waited for is passed over; so is one of a log that is done with."""
    one = watch("a")
    one.tell({"x": "failed"}, NOW)
    assert one.verdict(NOW).counts == {"not seen": 1}
    one.tell({"a": "succeeded"}, NOW)
    one.tell({"a": "failed"}, NOW)
    assert one.verdict(NOW).status == "delivered"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([*KNOWN, "unknown", "HTTP 404"])), max_size=30))
def test_nothing_but_success_ends_well(told: list[tuple[str, str]]):
    """Whatever is told in whatever order, a wait is delivered only if each log has been told to have succeeded."""
    one = watch("a", "b", "c", grace=0.0)
    for log_id, status in told:
        one.tell({log_id: status}, NOW)
    if one.verdict(NOW).status == "delivered":
        assert {log_id for log_id, status in told if status == "succeeded"} == {"a", "b", "c"}


def test_a_window_is_looked_into_when_all_its_logs_can_be_seen():
    """Before that nothing is asked and nothing is over: an empty answer would prove nothing."""
    one = Watch({}, PATIENT, NOW, window=Window("dest", NOW - 60, NOW))
    assert one.due(NOW + SETTLED_AFTER - 1) is None
    assert one.verdict(NOW + SETTLED_AFTER - 1).status == "open"
    assert one.due(NOW + SETTLED_AFTER) == Window("dest", NOW - 60, NOW)


def test_a_window_becomes_its_logs():
    """The logs that were found are waited for by their IDs."""
    one = Watch({}, PATIENT, NOW, window=Window("dest", NOW - 60, NOW))
    one.found({"a": ("succeeded", NOW - 5), "b": ("pending", NOW - 4)}, NOW + 200)
    assert (one.due(NOW + 900), one.open(), one.verdict(NOW + 900).status) == (None, {"b": NOW - 4}, "open")
    one.tell({"b": "succeeded"}, NOW + 900)
    assert one.verdict(NOW + 900).status == "delivered"


def test_an_empty_window_is_a_failure():
    """Where no log is found nothing arrived, which is never a success."""
    one = Watch({}, PATIENT, NOW, window=Window("dest", NOW - 60, NOW))
    one.found({}, NOW + 200)
    assert one.verdict(NOW + 200).status == "failed"
    assert "no log was found" in str(delivery_error(one.verdict(NOW + 200)))


def test_an_error_is_something_an_alert_can_carry():
    """It says how many, which, with which status, and where to look; ten by name at most."""
    one = watch(*[f"log-{number:02}" for number in range(60)], rules=STRICT)
    one.tell({f"log-{number:02}": "failed" for number in range(15)}, NOW)
    said = str(delivery_error(one.verdict(NOW), "https://dashboard"))
    assert said.startswith("Redox did not deliver: 60 logs: 15 failed, 45 not seen. Not delivered: log-00 (failed), ")
    assert said.endswith("log-09 (failed), and more. See https://dashboard")
    assert len(one.verdict(NOW).log_ids) == 50


@pytest.mark.parametrize(
    ("log", "status"),
    [
        ({"status": "Succeeded"}, "succeeded"),
        ({"status": "failed", "attempts": {"latest": {"status": "succeeded"}}}, "failed"),
        ({"attempts": {"latest": {"status": "filtered"}}}, "filtered"),
        ({"status": None, "attempts": {"latest": {"status": "pending"}}}, "pending"),
        ({"status": "Quillfeather"}, "unknown"),
        ({"status": 404}, "unknown"),
        ({"status": "HTTP 404"}, "unknown"),
        ({}, "unknown"),
        (None, "unknown"),
        ({"attempts": {"latest": []}}, "unknown"),
    ],
)
def test_where_a_status_stands(log: object, status: str):
    """The log's own status, else its latest attempt's; a text that is no status of Redox's is never repeated."""
    assert status_of(log) == status


def test_a_status_is_read_in_any_case():
    """Upper and lower case do not matter."""
    assert plain("SUCCEEDED") == "succeeded"


@pytest.mark.parametrize("bad", ["", "a b", "../x", "a/b", "x" * 129, "é", 7, None])
def test_what_is_no_log_id_is_refused(bad: object):
    """The complaint does not repeat it."""
    with pytest.raises(RedoxConfigError, match="log_ids") as caught:
        checked_log_ids(["fine", bad])
    assert str(bad) not in str(caught.value) or bad == ""


def test_a_log_id_counts_once():
    """The order stays."""
    assert checked_log_ids(["b", "a", "b"]) == ["b", "a"]


@pytest.mark.parametrize("wrong", [{"filtered": "wait"}, {"failed": "accept"}])
def test_a_choice_that_there_is_not_is_refused(wrong: dict[str, str]):
    """The complaint names the argument and what it may be."""
    with pytest.raises(RedoxConfigError, match=next(iter(wrong))):
        Rules(**wrong)
