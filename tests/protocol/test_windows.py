"""Windows of time: half open, disjoint, never empty by accident."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.windows import check_bounds, instant_of, parse_windows

DAY = ("2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00")

moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def refused(given: object) -> str:
    with pytest.raises(RedoxConfigError) as caught:
        parse_windows(given)
    return str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        DAY,
        list(DAY),
        [DAY],
        ("2026-01-01 00:00:00+00:00", "2026-01-02 00:00:00+00:00"),
        ("2026-01-01T00:00:00Z", "2026-01-02T01:00:00+01:00"),
        (date(2026, 1, 1), "2026-01-02"),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, 2, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_a_window_is_two_instants_in_any_form_that_airflow_gives(given: object) -> None:
    """Text as templates render it, datetimes, dates; what comes out is in UTC."""
    (window,) = parse_windows(given)
    assert window.bounds == ["ge2026-01-01T00:00:00.000Z", "lt2026-01-02T00:00:00.000Z"]


@pytest.mark.parametrize("given", [(DAY[0], DAY[0]), (None, DAY[1]), (DAY[0], None), ("", ""), ("None", "None")])
def test_an_empty_or_absent_window_is_an_error_that_names_the_cure(given: object) -> None:
    """Airflow 3's cron gives start = end, a triggered run gives none: neither is an empty night."""
    words = refused(given)
    assert "CronDataIntervalTimetable" in words
    assert "since='last_success'" in words


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((DAY[1], DAY[0]), "its end lies before its start"),
        (("2026-01-01T00:00:00", DAY[1]), "its start has no time zone"),
        ((DAY[0], "tomorrow"), "its end is no instant"),
        ((DAY[0], 5), "its end is no instant"),
        ("2026-01-01", "must be two instants"),
        ((), "must be two instants"),
        ([DAY, "2026"], "must be two instants"),
        ([DAY, ("2026-01-01T12:00:00Z", "2026-01-03T00:00:00Z")], "overlap"),
    ],
)
def test_what_is_no_window_is_named(given: object, said: str) -> None:
    """Each with what is wrong about it."""
    assert said in refused(given)


@given(moments, st.integers(1, 10**9), st.integers(1, 50))
def test_the_parts_of_a_window_leave_no_seam(start: datetime, milliseconds: int, parts: int) -> None:
    """Each begins where the one before ends, the first and the last at the window's ends, and none is empty."""
    end = start + timedelta(milliseconds=max(milliseconds, parts))
    (whole,) = parse_windows((start, end))
    windows = whole.split(parts)
    assert len(windows) == parts
    assert all(one.end == other.start for one, other in pairwise(windows))
    assert (windows[0].start, windows[-1].end) == (start, end)
    assert all(one.start < one.end for one in windows)
    assert len(parse_windows([(one.start, one.end) for one in windows])) == parts


@pytest.mark.parametrize("parts", [0, -1, 86_400_001])
def test_a_window_is_not_cut_finer_than_milliseconds(parts: int) -> None:
    """Nor into nothing."""
    with pytest.raises(RedoxConfigError, match="window_parts"):
        parse_windows(DAY)[0].split(parts)


@given(moments, moments, st.integers(-14, 14))
def test_instants_compare_as_text(one: datetime, other: datetime, hours: int) -> None:
    """Whatever their zone, to the millisecond."""
    texts = [instant_of(moment.astimezone(timezone(timedelta(hours=hours))).isoformat()) for moment in (one, other)]
    cut = [moment.replace(microsecond=moment.microsecond // 1000 * 1000) for moment in (one, other)]
    assert (texts[0] < texts[1]) == (cut[0] < cut[1])


def test_what_is_no_instant_is_the_earliest() -> None:
    """A server's garbage moves no watermark."""
    assert instant_of("yesterday") == ""


NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "now", "is_early"),
    [
        ("ge2026-03-10", datetime(2026, 3, 10, 0, 0, 5, tzinfo=UTC), True),  # ds of an Airflow 3 run at midnight
        ("ge2026-03-09", datetime(2026, 3, 10, 0, 0, 5, tzinfo=UTC), False),  # ds of Airflow 2
        ("ge2026-03-10", NOON, False),  # midnight has come everywhere
        ("2026-03-10", NOON, True),
        ("gt2026-03-10", NOON, True),
        ("gt2026-03", NOON, True),
        ("ge2026-03", NOON, False),
        ("gt2025-12", NOON, False),
        ("sa2026-03-09", NOON, False),
        ("sa2026-03-10T12:00:01Z", NOON, True),
        ("ge2026-03-10T12:00:00+00:00", NOON, False),
        ("ge2026-03-10T07:00:01-05:00", NOON, True),
        ("ge2026-03-10T12:00:00+02:00", NOON, False),
        ("lt2999", NOON, False),  # everything until now: the next run asks for it again
        (["ge2026-03-09", "lt2026-03-10"], datetime(2026, 3, 10, 0, 0, 5, tzinfo=UTC), True),  # it ends later in Hawaii
        (["ge2026-03-09T00:00:00Z", "lt2026-03-10T00:00:00Z"], datetime(2026, 3, 10, 0, 0, 5, tzinfo=UTC), False),
        (["gt2020", "le2026-03-10"], NOON, True),
        ("{since}", NOON, False),
        ("ge2026-13-01", NOON, False),  # the server's to refuse
        (5, NOON, False),
    ],
)
def test_a_bound_in_the_future_is_refused(value: object, now: datetime, is_early: bool) -> None:  # noqa: FBT001
    """A search of `_lastUpdated` begins and ends when that time has come, in any zone that the server may be in."""
    if is_early:
        with pytest.raises(RedoxConfigError, match="search_params: _lastUpdated reaches into the future"):
            check_bounds({"_lastUpdated": value}, now)
    else:
        check_bounds({"_lastUpdated": value}, now)
    check_bounds({"date": value}, now)  # appointments lie ahead


@pytest.mark.parametrize(("ahead", "may_retry"), [(timedelta(seconds=2), True), (timedelta(minutes=6), False)])
def test_a_bound_a_moment_ahead_may_be_tried_again(ahead: timedelta, may_retry: bool) -> None:  # noqa: FBT001
    """A worker's clock that is two seconds behind the scheduler's is no reason to fail a night for good."""
    bounds = ["ge2026-03-09T00:00:00Z", f"lt{(NOON + ahead).isoformat()}"]
    with pytest.raises(RedoxConfigError) as raised:
        check_bounds({"_lastUpdated": bounds}, NOON)
    assert raised.value.retryable is may_retry


@given(moments, st.sampled_from(["ge", "gt", "sa"]), st.timedeltas(timedelta(seconds=1), timedelta(days=400)))
def test_an_instant_is_early_exactly_until_it_has_come(now: datetime, prefix: str, apart: timedelta) -> None:
    """Whatever the prefix: a lower bound after now is refused, one before now is not."""
    check_bounds({"_lastUpdated": f"{prefix}{(now - apart).isoformat()}"}, now)
    with pytest.raises(RedoxConfigError):
        check_bounds({"_lastUpdated": f"{prefix}{(now + apart).isoformat()}"}, now)
