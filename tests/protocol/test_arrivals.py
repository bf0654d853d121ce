"""The names of messages in an inbox."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.protocol.arrivals import Arrival, Filter, folder_of, moment, parse, part, stamp, word

texts = st.one_of(
    st.text(max_size=300), st.integers(), st.none(), st.just(""), st.sampled_from(["../../x", "a/b", "a_b", "é"])
)
moments = st.floats(min_value=0, max_value=4_000_000_000)


@given(texts)
def test_a_part_holds_nothing_that_leads_elsewhere(text: object):
    """Whatever a message says, a part of a name has letters, digits and hyphens only, and 64 of them at most."""
    assert re.fullmatch(r"[A-Za-z0-9-]{1,64}", part(text))


@given(st.text(max_size=100), st.text(max_size=100))
def test_what_differs_stays_different(one: str, other: str):
    """Two texts that differ make two parts that differ."""
    assert (part(one) == part(other)) == (one == other) or {part(one), part(other)} == {"-"} or "-" in (one, other)


@pytest.mark.parametrize("text", ["d9f5d293-7110-461e-a875-3beb089e79f3", "Results", "New"])
def test_a_plain_name_stays_as_it_is(text: str):
    """A UUID, a data model and an event type are their own parts."""
    assert part(text) == text


@given(moments, texts, texts, texts, texts, st.integers(0, 9999), st.sampled_from(["", "0123456789abcdef"]))
def test_a_name_is_read_back(
    at: float, model: object, event: object, source: object, key: object, tries: int, consumer: str
):
    """What a name is made of is what is read from it."""
    made = Arrival(stamp(at), part(model), part(event), part(source), part(key), tries if consumer else 0, consumer)
    assert parse(made.name) == made
    assert len(made.name) < 255


@given(moments, moments)
def test_names_sort_by_arrival(one: float, other: float):
    """The earlier of two moments has the name, and the folder, that sorts first."""
    earlier, later = sorted((one, other))
    assert stamp(earlier) <= stamp(later)
    assert folder_of(stamp(earlier)) <= folder_of(stamp(later))


@given(moments)
def test_a_stamp_keeps_microseconds(at: float):
    """The moment that a stamp was made of can be had from it."""
    assert abs(moment(stamp(at)) - at) < 2e-6


@pytest.mark.parametrize("name", ["", "x", "20261125T024322123456Z", ".partial", "20261125T024322123456Z_a_b_c_d.partial"])
def test_what_is_no_name_is_none(name: str):
    """A file that is not an arrival is passed over."""
    assert parse(name) is None


def test_a_filter_is_of_the_words_that_the_message_uses():
    """An author writes `Clinical Summary` as the message does, though the name has it otherwise."""
    arrival = Arrival(stamp(0), word("Clinical Summary"), word("PatientPush"), part("general"), "k")
    assert Filter.of(data_model="Clinical Summary", event_type=["PatientPush", "VisitPush"], source=None).wants(arrival)
    assert not Filter.of(data_model="Results", event_type=None, source=None).wants(arrival)
    assert not Filter.of(data_model=None, event_type=None, source=["other"]).wants(arrival)
    assert Filter.of(data_model=None, event_type=None, source=None).wants(arrival)
