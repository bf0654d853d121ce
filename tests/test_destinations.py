"""`redox_destinations`: the names that a connection describes, for a mapped task each."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_redox.destinations import redox_destinations
from tests.client.drivers import connection_to

HOSPITALS = {
    "general": {"slug": "general-hospital", "tags": ["nightly"], "id": "0f4bd1d1-451d-4351-8cfd-b767d1b488d6"},
    "lakeside": {"slug": "lakeside-clinic", "tags": ["nightly", "east"]},
    "harbour": {"slug": "harbour", "ids": {"Scheduling": "af394f14-b34a-464f-8d24-895f370af4c9"}},
}


def found(monkeypatch: pytest.MonkeyPatch, hospitals: dict[str, Any] = HOSPITALS, **chosen: Any) -> list[str]:
    connection = connection_to("https://api.redoxengine.com", destinations=hospitals)
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(connection))
    names: list[str] = redox_destinations.function(**chosen)
    return names


def test_all_in_their_order(monkeypatch: pytest.MonkeyPatch):
    """Without a choice every destination is given, as the connection has them."""
    assert found(monkeypatch) == ["general", "lakeside", "harbour"]


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ({"tag": "nightly"}, ["general", "lakeside"]),
        ({"data_model": "Scheduling"}, ["general", "harbour"]),
        ({"tag": "nightly", "data_model": "Scheduling"}, ["general"]),
        ({"names": ["harbour", "general"]}, ["general", "harbour"]),
    ],
)
def test_a_choice(monkeypatch: pytest.MonkeyPatch, chosen: dict[str, Any], names: list[str]):
    """Tag, data model and names choose among them."""
    assert found(monkeypatch, **chosen) == names


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"names": ["general", "lakesid"]}, r"names\[1\].*did you mean lakeside"),
        ({"names": ["x"]}, "known are general, lakeside, harbour"),
        ({"names": ["general", "general"]}, "a second time"),
        ({"names": "general"}, "must be a list"),
        ({"tag": "west"}, "no destination in extra.destinations fits"),
        ({"names": ["harbour"], "tag": "nightly"}, "no destination in extra.destinations fits"),
    ],
)
def test_a_choice_that_cannot_be_meant(monkeypatch: pytest.MonkeyPatch, chosen: dict[str, Any], words: str):
    """A name that is not there, and a choice that leaves none, fail at once: nothing would be pulled, and nobody told."""
    with pytest.raises(AirflowFailException, match=words):
        found(monkeypatch, **chosen)


def test_two_hospitals_with_one_slug(monkeypatch: pytest.MonkeyPatch):
    """A slug that stands for two destinations would pull one hospital twice under two names; both are named."""
    hospitals = HOSPITALS | {"north": {"slug": "General-Hospital"}}
    with pytest.raises(AirflowFailException, match="north has the same slug as general"):
        found(monkeypatch, hospitals)
