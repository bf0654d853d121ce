"""What a Python value becomes, at every door the same, and the place of what becomes nothing."""

from __future__ import annotations

import json
from collections import UserString, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.data_model import complete, encode
from airflow_provider_redox.protocol.fhir import search_form
from airflow_provider_redox.protocol.raw import request

from .flows import said_by
from .material import settings

AMSTERDAM = timezone(timedelta(hours=2))
ID = "0f4bd1d1-451d-4351-8cfd-b767d1b488d6"


class Colour(Enum):
    RED = "red"


class Loud(StrEnum):
    YES = "yes"


class Old(str, Enum):  # noqa: UP042  (written before there was StrEnum)
    KIND = "kind"


class Level(IntEnum):
    HIGH = 3


class Shout(str):
    """Text that shows itself as something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "Canary"


@dataclass
class Patient:
    name: str = "Canary"


Point = namedtuple("Point", "x y")


def in_json(value: Any) -> str:
    return encode({"Meta": {"EventDateTime": value}}).decode().removeprefix('{"Meta":{"EventDateTime":').removesuffix("}}")


def in_search(value: Any) -> str:
    ((_, text),) = parse_qsl(search_form({"date": value}).decode(), keep_blank_values=True)
    return text


def in_query(value: Any) -> str:
    url = request("https://x", "GET", "a", {}, None, params={"date": value}).url
    ((_, text),) = parse_qsl(url.partition("?")[2], keep_blank_values=True)
    return text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2026, 1, 31, 5, 6, 7, tzinfo=UTC), "2026-01-31T05:06:07Z"),
        (datetime(2026, 1, 31, 5, 6, 7, 8, tzinfo=AMSTERDAM), "2026-01-31T05:06:07.000008+02:00"),
        (pendulum.datetime(2026, 1, 31, 5, tz="Europe/Amsterdam"), "2026-01-31T05:00:00+01:00"),
        (pendulum.datetime(2026, 1, 31), "2026-01-31T00:00:00Z"),
        (date(2026, 1, 31), "2026-01-31"),
        (pendulum.date(2026, 1, 31), "2026-01-31"),
        (UUID(ID), ID),
        (Colour.RED, "red"),
        (Loud.YES, "yes"),
        (Old.KIND, "kind"),
        (Shout("itself"), "itself"),
        ("1E5", "1E5"),
        (" 007 ", " 007 "),
    ],
    ids=str,
)
def test_a_value_that_is_text_is_the_same_text_at_every_door(value: Any, text: str) -> None:
    """A message, a search and a query say the same; an instant keeps the zone that its author gave."""
    assert (in_json(value), in_search(value), in_query(value)) == (f'"{text}"', text, text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("7.50"), "7.50"),
        (Decimal("1E+5"), "1E+5"),
        (Decimal("1e400"), "1E+400"),
        (2**70, str(2**70)),
        (Level.HIGH, "3"),
        (True, "true"),
        (False, "false"),
        (1.5, "1.5"),
    ],
    ids=str,
)
def test_a_number_and_a_truth_are_the_same_at_every_door(value: Any, text: str) -> None:
    """A Decimal keeps its digits, one above every float too; True is true and not True."""
    assert (in_json(value), in_search(value), in_query(value)) == (text, text, text)


UNSENDABLE = [
    (datetime(2026, 1, 31), "a datetime without a time zone"),  # noqa: DTZ001
    (pendulum.naive(2026, 1, 31), "a datetime without a time zone"),
    (datetime(2026, 1, 1, tzinfo=timezone(timedelta(minutes=19, seconds=32))), "time zone is not of whole minutes"),
    (time(5, 6), "an object of the type time"),
    (timedelta(1), "an object of the type timedelta"),
    (b"Canary", "bytes, which cannot be sent"),
    (bytearray(b"Canary"), "bytes, which cannot be sent"),
    ({"Canary"}, "a set, which has no order"),
    (float("nan"), "NaN or infinity"),
    (Decimal("-Infinity"), "NaN or infinity"),
    (Decimal("sNaN"), "NaN or infinity"),
    ("Canary\ud800", "half of a character"),
    (Patient(), "an object of the type Patient"),
    (UserString("Canary"), "an object of the type UserString"),
    (Point(1, "Canary"), "an object of the type Point"),
    (object(), "an object of the type object"),
    (print, "an object of the type builtin_function_or_method"),
]


@pytest.mark.parametrize(("value", "words"), UNSENDABLE, ids=lambda one: type(one).__name__)
def test_what_cannot_be_sent_is_refused_by_its_place(value: Any, words: str) -> None:
    """The error names the door and the place in its first hundred characters, and never the value."""
    for door, place in (
        (in_json, "payload: /Meta/EventDateTime: "),
        (in_search, "search_params: date: "),
        (in_query, "query_params: date: "),
    ):
        with pytest.raises(RedoxConfigError) as raised:
            door(value)
        assert str(raised.value).startswith(f"{place}{words}") or words in str(raised.value)
        assert str(raised.value).startswith(place)
        assert "Canary" not in said_by(raised.value)


def test_a_messages_own_meta_and_the_operators_are_held_to_it() -> None:
    """Before anything is filled in, and with the name of the argument."""
    whole = {"Meta": {"DataModel": "Results", "EventType": "New"}, "Visit": [{"At": datetime(2026, 1, 1)}]}  # noqa: DTZ001
    for message, meta, place in (
        (whole, None, "payload: /Visit/0/At: a datetime without"),
        ({**whole, "Visit": []}, {"Sent": {b"x"}}, "meta: /Sent: a set"),
    ):
        with pytest.raises(RedoxConfigError, match=f"^{place}"):
            complete(message, settings(), destinations=None, environment=None, now=0.0, defaults=meta)


def test_a_mapping_and_a_sequence_of_any_kind_are_an_object_and_a_list() -> None:
    """What a mapped task returned is a sequence, and no list."""
    assert encode(MappingProxyType({"a": (1, range(2))})) == b'{"a":[1,[0,1]]}'


@pytest.mark.parametrize(
    "text",
    [
        "ge2026-01-01 00:00:00+00:00",
        "2026-01-01 00:00",
        "lt2026-01-01 00:00:00.123Z",
        "2026-01-01,2026-01-02 00:00:00",
        "2013-04-05T18:50:00 05:30",
    ],
)
def test_an_instant_with_a_space_is_refused_with_the_cure(text: str) -> None:
    """It is how a template renders a datetime, and servers find nothing, or everything, for it."""
    for door in (in_search, in_query):
        with pytest.raises(RedoxConfigError, match=r"date holds an instant with a space in it.*logical_date \| ts"):
            door(text)


@pytest.mark.parametrize("text", ["ge2026-01-01T00:00:00+00:00", "2026-01-01 visit", "a 2026-01-01 00:00", "Green Ada"])
def test_other_text_with_a_space_is_text(text: str) -> None:
    """Only what is nothing but an instant is taken for one; a plus is encoded, so that none arrives as a space."""
    assert in_search(text) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_what_json_has_is_sent_as_it_is(value: Any) -> None:
    """Order included."""
    sent = encode({"a": value})
    assert json.loads(sent) == {"a": value}
    assert repr(json.loads(sent)) == repr({"a": json.loads(json.dumps(value))})


@given(st.datetimes(timezones=st.timezones()) | st.datetimes())
def test_an_instant_is_sent_whole_or_refused(moment: datetime) -> None:
    """With its zone and every digit, or not at all."""
    try:
        text = json.loads(in_json(moment))
    except RedoxConfigError:
        assert moment.tzinfo is None or (moment.utcoffset() or timedelta()).seconds % 60
        return
    assert datetime.fromisoformat(text) == moment
    assert datetime.fromisoformat(text).utcoffset() == moment.utcoffset()
