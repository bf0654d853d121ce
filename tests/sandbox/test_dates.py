"""Dates as intervals: the prefixes of FHIR R4, on the wire and as laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.sandbox import intervals

from .conftest import KEVA, Client


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("1995-08-26", True),
        ("1995-08", True),
        ("1995", True),
        ("eq1995-08-26", True),
        ("1995-08-26T10:00:00Z", False),
        ("ne1995-08-26", False),
        ("ne1995-08-27", True),
        ("ne1995", False),
        ("gt1995-08-25", True),
        ("gt1995-08-26", False),
        ("gt1995", False),
        ("ge1995-08-26", True),
        ("ge1995", True),
        ("ge1996", False),
        ("lt1995-08-27", True),
        ("lt1995-08-26", False),
        ("le1995-08-26", True),
        ("le1994", False),
        ("sa1995-08-25", True),
        ("sa1995-08", False),
        ("eb1995-08-27", True),
        ("eb1995-08", False),
        ("1995-08-25,1995-08-26", True),
    ],
)
def test_a_birth_date_against_every_prefix(redox: Client, value: str, found: bool) -> None:  # noqa: FBT001  # a table
    """A date stands for its whole day, month or year; prefixes compare the ends of such intervals."""
    assert bool(redox.found("Patient", {"_id": KEVA, "birthdate": value})) is found


@pytest.mark.parametrize("value", ["1995-13-01", "1995-02-30", "95", "1995-8-26", "yesterday", "gt", "1995-08-26 10:00Z"])
def test_what_is_no_date_is_refused(redox: Client, value: str) -> None:
    """Dates that do not exist, and words, get 400."""
    assert redox.search("Patient", {"_id": KEVA, "birthdate": value}).status_code == 400


def test_a_period_is_matched_at_both_ends(redox: Client) -> None:
    """An encounter runs from its start to its end: within its day, past its start, not before it."""
    encounter = redox.found("Encounter", {"patient": KEVA})[0]
    start, end = encounter["period"]["start"], encounter["period"]["end"]

    def finds(value: str) -> bool:
        return encounter["id"] in {row["id"] for row in redox.found("Encounter", {"patient": KEVA, "date": value})}

    assert finds(f"ge{start}")
    assert finds(f"le{end}")
    assert finds(f"gt{start}")
    assert not finds(f"sa{start}")
    assert not finds(f"eb{start}")
    assert not finds(start)
    assert finds(start[:4]) == (start[:4] == end[:4])


def test_a_window_is_two_conditions(redox: Client) -> None:
    """A repeated date parameter is a window: each resource is in exactly one half of a divided time."""
    middle = "2024-06-01T00:00:00Z"
    before = redox.search("Observation", {"date": f"lt{middle}", "_summary": "count"}).json()["total"]
    after = redox.search("Observation", {"date": f"ge{middle}", "_summary": "count"}).json()["total"]
    both = [("date", f"lt{middle}"), ("date", f"ge{middle}"), ("_summary", "count")]
    assert redox.search("Observation", both).json()["total"] == 0
    assert before
    assert after
    assert before + after == redox.control("GET", "stats").json()["resources_by_type"]["Observation"]


def test_a_zone_is_part_of_a_time(redox: Client) -> None:
    """Noon in Chicago is 18:00 in UTC: the update of Keva's record six hours before midnight is not before it."""
    updated = redox.call("GET", redox.fhir(f"Patient/{KEVA}")).json()["meta"]["lastUpdated"]
    noon = f"{updated[:10]}T12:00:00-06:00"
    assert redox.found("Patient", {"_id": KEVA, "_lastUpdated": f"ge{noon}"})
    assert not redox.found("Patient", {"_id": KEVA, "_lastUpdated": f"lt{noon}"})


dates = st.dates().filter(lambda day: day.year < 9999).map(str)
partial = st.builds(lambda text, size: text[:size], dates, st.sampled_from([4, 7, 10]))


@given(partial, partial)
def test_ne_is_not_eq(target: str, wanted: str) -> None:
    """For every two dates, exactly one of eq and ne holds."""
    one, other = intervals.parse(target), intervals.parse(wanted)
    assert intervals.compare("eq", one, other) != intervals.compare("ne", one, other)


@given(partial, partial)
def test_two_dates_overlap_or_one_is_first(target: str, wanted: str) -> None:
    """At most one of sa and eb holds; sa implies gt, eb implies lt; gt without ge does not happen."""
    one, other = intervals.parse(target), intervals.parse(wanted)
    held = {prefix for prefix in intervals.PREFIXES if intervals.compare(prefix, one, other)}
    assert not {"sa", "eb"} <= held
    assert "sa" not in held or "gt" in held
    assert "eb" not in held or "lt" in held
    assert "gt" not in held or "ge" in held
    assert "lt" not in held or "le" in held


@given(dates)
def test_a_day_lies_in_its_month_and_its_year(day: str) -> None:
    """A day equals its month and its year as a search value, and neither starts after nor ends before it."""
    for size in (7, 4):
        assert intervals.compare("eq", intervals.parse(day), intervals.parse(day[:size]))
