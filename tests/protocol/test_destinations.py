"""Destinations: authors write a name, FHIR gets a slug, the Data Model API a UUID."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.destinations import Destination, find_destination, parse_destinations

from .flows import said_by

ONE, TWO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def refusal(entry: Any) -> RedoxConfigError:
    with pytest.raises(RedoxConfigError) as raised:
        parse_destinations({"general": entry})
    return raised.value


def test_a_described_destination_has_all_that_is_said_of_it() -> None:
    """Slug, IDs, facility code, tags and concurrency are read by name."""
    entry = {"slug": "s", "id": ONE, "ids": {"Order": TWO}, "facility_code": "F", "tags": ["a"], "max_concurrency": 4}
    expected = Destination("general", "s", ONE, {"Order": TWO}, "F", ("a",), 4)
    assert parse_destinations({"general": entry}) == {"general": expected}


def test_a_destination_may_be_described_in_part() -> None:
    """Nothing of a description is required: what is missing is missed where it is needed."""
    assert parse_destinations({"general": {}}) == {"general": Destination("general")}


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (None, "must be an object"),
        ("canary", "must be an object"),
        (["canary"], "must be an object"),
        ({"canary": 1}, "has a key that is not known; "),
        ({"slug": "../canary"}, "the slug may hold"),
        ({"slug": "canary/"}, "the slug may hold"),
        ({"slug": "canary?x"}, "the slug may hold"),
        ({"slug": "%2e%2e"}, "the slug may hold"),
        ({"slug": "canary\r\n"}, "the slug may hold"),
        ({"slug": ".."}, "the slug may hold"),
        ({"slug": ""}, "the slug may hold"),
        ({"slug": 7}, "the slug may hold"),
        ({"slug": "x" * 129}, "the slug may hold"),
        ({"id": "canary"}, "must be a UUID"),
        ({"id": ""}, "must be a UUID"),
        ({"id": 0}, "must be a UUID"),
        ({"id": f"{ONE}\n"}, "must be a UUID"),
        ({"ids": {"Order": "canary"}}, "must be a UUID"),
        ({"ids": {"Order": None}}, "must be a UUID"),
        ({"ids": [ONE]}, "must be a UUID"),
        ({"ids": None}, "must be a UUID"),
        ({"facility_code": ["canary"]}, "facility_code must be a text"),
        ({"facility_code": ""}, "facility_code must be a text"),
        ({"tags": "canary"}, "tags must be a list of texts"),
        ({"tags": [1]}, "tags must be a list of texts"),
        ({"max_concurrency": 0}, "max_concurrency must be a whole number above 0"),
        ({"max_concurrency": -1}, "max_concurrency must be a whole number above 0"),
        ({"max_concurrency": 1.5}, "max_concurrency must be a whole number above 0"),
        ({"max_concurrency": True}, "max_concurrency must be a whole number above 0"),
        ({"max_concurrency": "4"}, "max_concurrency must be a whole number above 0"),
    ],
)
def test_a_wrong_description_is_refused_by_name(entry: Any, sentence: str) -> None:
    """A description that cannot be meant is refused with the destination's name and without its value."""
    error = refusal(entry)
    assert str(error).startswith("extra.destinations: general")
    assert sentence in str(error)
    assert "canary" not in said_by(error)


@pytest.mark.parametrize("slug", ["redox-fhir-sandbox", "a", "A.b_c-1", "7up", "x" * 128])
def test_a_slug_is_one_part_of_a_path(slug: str) -> None:
    """Letters, digits, dots, underscores and hyphens make a slug."""
    assert parse_destinations({"d": {"slug": slug}})["d"].fhir_slug() == slug


def test_a_uuid_is_taken_in_capitals() -> None:
    """Upper and lower case do not matter in a UUID."""
    assert parse_destinations({"d": {"id": ONE.upper()}})["d"].id_for("Order") == ONE.upper()


def test_an_id_belongs_to_its_data_model() -> None:
    """The ID of a data model is taken before the general one, and the general one for all others."""
    one = Destination("d", id=ONE, ids={"Clinical Summary": TWO})
    assert [one.id_for(model) for model in ("Clinical Summary", "ClinicalSummary", "Order")] == [TWO, TWO, ONE]


@pytest.mark.parametrize(("model", "known"), [("Order", True), ("order", True), ("Results", False)])
def test_a_destination_knows_whether_it_has_an_id(model: str, known: bool) -> None:  # noqa: FBT001
    """A destination with IDs for some data models has none for the others."""
    assert Destination("d", ids={"Order": ONE}).has_id_for(model) is known
    assert Destination("d", id=ONE).has_id_for(model)


def test_a_missing_id_is_named() -> None:
    """A destination without an ID for a data model says which is missing."""
    with pytest.raises(RedoxConfigError, match=r"^extra\.destinations: d has no id for Order"):
        Destination("d", slug="s").id_for("Order")


def test_a_missing_slug_is_named() -> None:
    """A destination that only the Data Model API knows says that FHIR needs a slug."""
    with pytest.raises(RedoxConfigError, match=r"^extra\.destinations: d has no slug"):
        Destination("d", id=ONE).fhir_slug()


KNOWN = {"general": Destination("general", slug="hospital"), "lab": Destination("lab", id=ONE)}


@pytest.mark.parametrize(
    ("name", "default", "found"),
    [
        ("general", None, KNOWN["general"]),
        ("general", "lab", KNOWN["general"]),
        (None, "lab", KNOWN["lab"]),
        (TWO, None, Destination(TWO, id=TWO)),
        ("other-slug", None, Destination("other-slug", slug="other-slug")),
    ],
)
def test_a_destination_is_found_by_name_uuid_or_slug(name: str | None, default: str | None, found: Destination) -> None:
    """A known name comes first; a text that is none stands for itself, as UUID or slug; nothing means the default."""
    assert find_destination(KNOWN, name, default=default) == found


def test_no_destination_is_refused() -> None:
    """Where nobody names a destination the error says where to name one."""
    with pytest.raises(RedoxConfigError, match=r"^destination: name one in the operator, or set extra\.destination"):
        find_destination(KNOWN, None)


@pytest.mark.parametrize("name", ["../canary", "can ary", "canary?", "canary#", "%2e", "canary\r\n", "/", "..", "cänary"])
def test_a_text_that_is_no_destination_is_refused(name: str) -> None:
    """What is neither name nor slug nor UUID gets into no URL; the known names are listed."""
    with pytest.raises(RedoxConfigError, match=r"^destination: not a known name, a slug or a UUID; known are general, lab"):
        find_destination(KNOWN, name)


@pytest.mark.parametrize("name", ["", "  ", "None"])
def test_an_empty_name_is_not_the_default(name: str) -> None:
    """What an empty template leaves goes to nobody, and not to the connection's own destination."""
    with pytest.raises(RedoxConfigError, match=r"^destination: is empty; give it a value, or leave it out"):
        find_destination({"lab": Destination("lab", id=ONE)}, name, default="lab")


@pytest.mark.parametrize("name", ["lakesid", "Lakeside", "lake-side", "generall"])
def test_a_misspelt_name_is_shown_the_one_that_was_meant(name: str) -> None:
    """It looks like a slug, and would ask a hospital of that slug, or none."""
    described = {"lakeside": Destination("lakeside", slug="lakeside-clinic"), "general": Destination("general", slug="g")}
    with pytest.raises(RedoxConfigError) as raised:
        find_destination(described, name)
    said = str(raised.value)
    assert said.startswith("destination: no such name in extra.destinations; did you mean ")
    assert "Known are general, lakeside" in said


@pytest.mark.parametrize("name", ["lakeside-clinic", "redox-fhir-sandbox", TWO])
def test_a_slug_that_is_like_no_name_is_a_slug(name: str) -> None:
    """Who describes some destinations may name others by their slug or UUID."""
    described = {"lakeside": Destination("lakeside", slug="lakeside-clinic")}
    assert name in (find_destination(described, name).slug, find_destination(described, name).id)
