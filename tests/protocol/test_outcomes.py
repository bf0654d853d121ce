"""The outcome table, stated here a second time from the rules, and the laws of patience."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_provider_redox.protocol.effects import Stage
from airflow_provider_redox.protocol.outcomes import RetryPolicy, Step, decide, http_date, retry_after

from .flows import NOW, answer, failure

EXPECTED_STAGES = {
    # stage: (may be repeated, may not)
    "nothing was sent": ("try again", "try again"),
    "the server's certificate was refused, nothing was sent": ("fail", "fail"),
    "sent, at least in part, and no answer came": ("try again", "ambiguous"),
    "the answer was cut off": ("try again", "ambiguous"),
    "the answer was larger than the limit": ("fail", "ambiguous"),
}
RENEW = "get another token, then try again once"


UNSAFE = {
    "done": {*range(200, 300)} - {206},
    RENEW: {401},
    "try again": {425, 429},  # "unwilling to process" and "too many requests": refused before it was processed
    "fail": {307, 308, *range(400, 500), 501, 505} - {401, 408, 409, 425, 429, 460, 499},
}
"""What follows an unsafe request, by status. Every other status is ambiguous: the request may have been processed."""


def expected(status: int, *, repeatable: bool) -> str:
    """Say what the rules say: Redox's error page, RFC 9110, and that what may have been processed is never sent again."""
    unsafe = next((step for step, statuses in UNSAFE.items() if status in statuses), "ambiguous")
    if unsafe != "ambiguous" or not repeatable:
        return unsafe
    return "fail" if status < 200 or 300 <= status < 400 or status == 409 else "try again"


@pytest.mark.parametrize(
    "status",
    [100, 101, 206, 300, 301, 302, 303, 304, 399, 408, 409, 460, 499, 500, 502, 503, 504, 507, 511, 520, 524, 598, 599],
)
def test_what_may_have_been_processed_is_ambiguous(status: int) -> None:
    """A 303 sends the reader to the result of what was done; a 409 may be said to a proxy's second copy of it."""
    assert decide(answer(status), repeatable=False) is Step.AMBIGUOUS


@pytest.mark.parametrize("status", [307, 308, 400, 403, 404, 405, 410, 412, 413, 415, 421, 422, 423, 424, 501, 505])
def test_what_was_not_processed_is_refused(status: int) -> None:
    """A status by which the server says that it did not do it: another attempt cannot double it."""
    assert decide(answer(status), repeatable=False) is Step.FAIL


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("status", [100, 101, 102, 103, *range(200, 600)])
def test_each_status_has_its_step(status: int, repeatable: bool) -> None:  # noqa: FBT001
    """Every status is followed by what the table says, for both kinds of request."""
    assert decide(answer(status), repeatable=repeatable).value == expected(status, repeatable=repeatable)


@pytest.mark.parametrize("stage", Stage)
def test_each_stage_has_its_step(stage: Stage) -> None:
    """Every way to get no whole answer is followed by what the table says, for both kinds of request."""
    steps = decide(failure(stage), repeatable=True).value, decide(failure(stage), repeatable=False).value
    assert steps == EXPECTED_STAGES[stage.value]


@pytest.mark.parametrize("status", [200, 201, 204, 299])
@pytest.mark.parametrize("stage", [Stage.CUT, Stage.OVERSIZE])
def test_a_success_whose_body_is_lost_is_ambiguous_for_an_unsafe_request(stage: Stage, status: int) -> None:
    """Redox stores a message before it answers 200, so a lost body is no reason to send again."""
    assert decide(failure(stage, status), repeatable=False) is Step.AMBIGUOUS


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("stage", [Stage.CUT, Stage.OVERSIZE])
@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 504])
def test_an_error_status_counts_though_its_body_is_lost(status: int, stage: Stage, repeatable: bool) -> None:  # noqa: FBT001
    """A status line that says no has said it, whatever became of the body."""
    assert decide(failure(stage, status), repeatable=repeatable).value == expected(status, repeatable=repeatable)


@pytest.mark.parametrize("repeatable", [True, False])
def test_a_busy_gateway_that_names_a_time_is_tried_again(repeatable: bool) -> None:  # noqa: FBT001
    """A 503 with Retry-After has not passed the request on."""
    assert decide(answer(503, retry_after="5"), repeatable=repeatable) is Step.RETRY


@pytest.mark.parametrize("status", [500, 502, 504])
def test_retry_after_makes_no_other_server_error_safe(status: int) -> None:
    """Only a 503 is made repeatable by Retry-After; a 504 with it may still complete."""
    assert decide(answer(status, retry_after="5"), repeatable=False) is Step.AMBIGUOUS


# ── patience ──

policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 3000),
    base=st.floats(0, 100),
    cap=st.floats(0, 100),
    rate_limit_floor=st.floats(0, 100),
    retry_after_cap=st.floats(0, 1000),
    deadline=st.floats(0, 5000),
)
retry_afters = st.sampled_from([None, "0", "7", "250", "-1", "1e9", "soon", "Thu, 01 Jan 2026 00:00:30 GMT"])
statuses = st.sampled_from([408, 429, 500, 502, 503, 504])


@given(
    policies,
    statuses,
    retry_afters,
    st.integers(1, 3000),
    st.floats(0, 5000),
    st.floats(0, 1, exclude_max=True),
)
def test_a_pause_obeys_every_limit(
    policy: RetryPolicy, status: int, stated: str | None, attempt: int, elapsed: float, jitter: float
) -> None:
    """A pause is never negative, never above cap and floor together, and never after the last try or the deadline."""
    happened = answer(status, **({"retry_after": stated} if stated else {}))
    pause = policy.pause(happened, attempt=attempt, elapsed=elapsed, now=NOW, jitter=jitter)
    if pause is None:
        return
    floor = retry_after(happened.headers, now=NOW)
    floor = floor if floor is not None else (policy.rate_limit_floor if status == 429 else 0.0)
    assert floor <= pause <= floor + policy.cap
    assert floor <= max(policy.retry_after_cap, policy.rate_limit_floor)
    assert attempt < policy.attempts
    assert elapsed + pause <= policy.deadline


@given(policies, statuses, st.floats(0, 100), st.floats(0, 1, exclude_max=True))
def test_there_is_no_pause_after_the_last_try(policy: RetryPolicy, status: int, elapsed: float, jitter: float) -> None:
    """The last try is the last."""
    happened = answer(status)
    assert policy.pause(happened, attempt=policy.attempts, elapsed=elapsed, now=NOW, jitter=jitter) is None


def _pause(attempt: int = 1, jitter: float = 0.5, status: int = 500, elapsed: float = 0.0, **headers: str) -> float | None:
    happened = answer(status, **headers)
    return RetryPolicy(attempts=2000).pause(happened, attempt=attempt, elapsed=elapsed, now=NOW, jitter=jitter)


def test_pauses_double_up_to_the_cap() -> None:
    """With the same luck each pause is twice the one before, until a minute is reached."""
    assert [_pause(attempt, 0.5) for attempt in (1, 2, 3, 4, 5, 6, 7, 8, 1500)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_pause_is_drawn_from_the_whole_range() -> None:
    """Full jitter: with the worst luck there is no pause at all."""
    assert _pause(7, 0.0) == 0.0


def test_a_rate_limit_without_a_time_waits_half_a_minute() -> None:
    """Redox names no time with a 429, so at least thirty seconds pass."""
    assert _pause(status=429, jitter=0.0) == 30.0


def test_a_rate_limit_with_a_time_waits_that_long() -> None:
    """A Retry-After that comes with a 429 is honoured to the second, and some jitter added."""
    assert _pause(status=429, jitter=0.5, retry_after="12") == 12.5


def test_a_time_of_zero_is_believed() -> None:
    """Retry-After: 0 is a time, not the absence of one."""
    assert _pause(status=429, jitter=0.0, retry_after="0") == 0.0


@pytest.mark.parametrize("stated", ["301", "1e9", "999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_time_beyond_five_minutes_is_not_waited_for(stated: str) -> None:
    """A server that asks for more than five minutes is given up on at once."""
    assert _pause(status=429, retry_after=stated) is None


@pytest.mark.parametrize("stated", ["-1", "soon", "", "Thu, 01 Jan 2015 00:00:00 GMT", "9" * 400, "nan"])
def test_a_time_that_is_none_is_the_same_as_no_time(stated: str) -> None:
    """A negative, unreadable or past Retry-After leaves the floor of a 429 in place."""
    assert _pause(status=429, jitter=0.0, retry_after=stated) == 30.0


@pytest.mark.parametrize(("elapsed", "pause"), [(869.9, 30.0), (870.0, 30.0), (870.1, None)])
def test_a_pause_that_would_end_after_the_deadline_is_not_begun(elapsed: float, pause: float | None) -> None:
    """A pause may end at the deadline and not later."""
    assert _pause(status=429, jitter=0.0, elapsed=elapsed) == pause


# ── Retry-After ──


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("30", 30),
        (" 30 ", 30),
        ("1.5", 1.5),
        ("1e9", 1e9),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60),
        ("Thursday, 01-Jan-26 00:01:00 GMT", 60),
        ("Thu Jan  1 00:01:00 2026", 60),
        ("Thu, 01 Jan 2026 01:01:00 +0100", 60),
        ("-1", None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("²", None),
        ("30 seconds", None),
        ("9" * 400, None),
        ("Thu, 01 Jan 2025 00:00:00 GMT", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Thu, 99 Jan 2026 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    """Retry-After is read in seconds or as any of HTTP's three dates; what is neither, or past, is nothing."""
    assert retry_after({"retry-after": value}, now=NOW) == seconds


def test_an_absent_retry_after_is_nothing() -> None:
    """Without the header there is no time."""
    assert retry_after({}, now=NOW) is None


def test_the_year_9999_is_a_finite_number() -> None:
    """The last date that HTTP can write is far away and no error."""
    seconds = retry_after({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, now=NOW)
    assert seconds is not None
    assert math.isfinite(seconds)
    assert seconds > 1e11


@given(st.text(max_size=40))
def test_any_retry_after_is_a_time_or_nothing(value: str) -> None:
    """Whatever the header says, the answer is a finite number that is not negative, or nothing."""
    seconds = retry_after({"retry-after": value}, now=NOW)
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


@given(st.integers(0, 10**9), st.integers(0, 10**6))
def test_seconds_do_not_depend_on_the_clock(seconds: int, now: int) -> None:
    """A Retry-After in seconds is the same at any time of day."""
    assume(seconds < 10**9)
    assert retry_after({"retry-after": str(seconds)}, now=now) == seconds


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be a machine nine hours ahead of UTC."""
    monkeypatch.setitem(os.environ, "TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "date", ["Thu Jan  1 00:00:00 2026", "Thu, 01 Jan 2026 00:00:00 -0000", "Thu, 01 Jan 2026 00:00:00"]
)
@pytest.mark.usefixtures("far_east")
def test_a_date_without_a_zone_is_in_utc(date: str) -> None:
    """HTTP's dates are in UTC, whatever zone this machine is in."""
    assert http_date(date) == NOW
