"""What a connection may be used for: `extra.allow` refuses all the rest before anything is sent."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxResponseError
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.protocol.allowance import INTERACTIONS, parse_allowance
from airflow_provider_redox.protocol.attachments import Attachment
from airflow_provider_redox.protocol.looking import Knowledge, Platform, look
from airflow_provider_redox.protocol.platform import Sought, find_logs
from tests.support.sandbox import Sandbox

KEVA = "81c2f5eb-f99f-40c4-b504-59483e6148d7"
MESSAGE = {"Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"}, "Patient": {}}
QUESTION = {
    "Meta": {"DataModel": "PatientSearch", "EventType": "Query"},
    "Patient": {"Demographics": {"FirstName": "Keva", "LastName": "Green", "DOB": "1995-08-26"}},
}
NOTE = {"resourceType": "Observation", "status": "final"}
BUNDLE = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": NOTE}]}
PATH = f"fhir/R4/general-hospital/Development/Patient/{KEVA}"


def download(hook: RedoxHook) -> Any:
    attachment = Attachment("DocumentReference/1", "content[0]", url="Binary/1")
    return hook.client.calls.document(attachment, None)  # type: ignore[arg-type]


WAYS: dict[str, Callable[[RedoxHook], Any]] = {
    "search": lambda hook: next(hook.fhir_search("Observation", {"code": "4548-4"})),
    "read": lambda hook: hook.fhir_read("Patient", KEVA),
    "query": lambda hook: hook.query_data_model(QUESTION),
    "post": lambda hook: hook.post_data_model(MESSAGE),
    "writeback": lambda hook: hook.fhir_writeback("Observation", "$observation-create", BUNDLE),
    "upload": lambda hook: hook.upload(b"bytes"),
    "download": download,
    "log": lambda hook: hook.get_log("no-such-log"),
    "request": lambda hook: hook.request("GET", PATH),
}


def connect(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, allow: Any) -> RedoxHook:
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(sandbox.with_extra(allow=allow)))
    return RedoxHook()


def test_every_interaction_has_a_way() -> None:
    """The ways below are all that can be allowed."""
    assert set(WAYS) == set(INTERACTIONS)


@pytest.mark.parametrize("way", WAYS)
def test_only_what_is_allowed_is_sent(way: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interaction that is not in the list is refused without a request, not even for a token; one that is goes."""
    others = [one for one in INTERACTIONS if one != way]
    with pytest.raises(RedoxConfigError, match=rf"^extra\.allow\.interactions: .*'{way}'.*Nothing was sent"):
        WAYS[way](connect(sandbox, monkeypatch, {"interactions": others}))
    assert sandbox.ledger() == []
    with contextlib.suppress(RedoxResponseError):  # there is no such log
        WAYS[way](connect(sandbox, monkeypatch, {"interactions": [way]}))
    assert bool(sandbox.ledger()) == (way != "download")


def test_waiting_and_reconciling_look_logs_up(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may not look logs up may neither wait for a delivery nor ask what became of a message."""
    hook = connect(sandbox, monkeypatch, {"interactions": ["post"]})
    client, sought = hook.client, Sought("PatientAdmin", "NewPatient", "d-1", 0.0, 1.0)
    told: Callable[..., None] = lambda _: None  # noqa: E731
    for flow in (
        find_logs(client.settings, client.env, sought, {}),
        look(Platform(client.settings, client.env, None), {"log-1": 0.0}, Knowledge(), told),
    ):
        with pytest.raises(RedoxConfigError, match=r"^extra\.allow\.interactions: .*'log'"):
            client.run(flow)
    assert sandbox.ledger() == []


def test_a_document_is_no_back_door(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may download may not search, nor read what its types do not have, by a URL that is called a document's."""
    hook = connect(sandbox, monkeypatch, {"interactions": ["download"], "resource_types": ["DocumentReference"]})
    for url in ("Patient/123", "Patient?name=Smith&_count=1000", "Binary?_count=1000"):
        attachment = Attachment("urls[0]", "", url=url)
        with pytest.raises(RedoxConfigError, match=r"^extra\.allow"):
            hook.client.calls.document(attachment, None)  # type: ignore[arg-type]
    hook.client.calls.document(Attachment("urls[0]", "", url="Binary/1"), None)  # type: ignore[arg-type]
    assert sandbox.ledger() == []


def test_any_list_closes_the_back_door(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of any kind could be anything, so with `allow` it has to be allowed by name; HttpOperator's too."""
    hook = connect(sandbox, monkeypatch, {"resource_types": ["Observation"]})
    for back_door in (lambda: hook.request("GET", PATH), lambda: hook.run(PATH)):
        with pytest.raises(RedoxConfigError, match=r"extra\.allow\.interactions: .*'request'"):
            back_door()
    assert sandbox.ledger() == []


def test_types_models_and_destinations(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resource types, Data Models with or without an event, and destinations by name, slug or UUID are held to."""
    general = sandbox.connection["extra"]["destinations"]["general"]
    refused: list[tuple[dict[str, Any], str, str]] = [
        ({"resource_types": ["Patient"]}, "search", "resource_types: .*'Observation'"),
        ({"resource_types": ["Observation"]}, "read", "resource_types: .*'Patient'"),
        ({"resource_types": ["Patient"]}, "writeback", "resource_types: .*'Observation'"),
        ({"data_models": ["Scheduling"]}, "post", r"data_models: .*PatientAdmin\.NewPatient"),
        ({"data_models": ["PatientAdmin.Arrival"]}, "post", "data_models"),
        ({"data_models": ["PatientAdmin"]}, "query", r"data_models: .*PatientSearch\.Query"),
        ({"destinations": ["elsewhere"]}, "search", "destinations: .*this destination"),
        ({"destinations": ["elsewhere"]}, "post", "destinations"),
        ({"destinations": ["elsewhere"]}, "writeback", "destinations"),
    ]
    for allow, way, words in refused:
        with pytest.raises(RedoxConfigError, match=rf"^extra\.allow\.{words}"):
            WAYS[way](connect(sandbox, monkeypatch, allow))
    assert sandbox.ledger() == []
    allowed: list[tuple[dict[str, Any], str]] = [
        ({"resource_types": ["Observation"]}, "search"),
        ({"data_models": ["PatientAdmin"]}, "post"),
        ({"data_models": ["PatientAdmin.NewPatient"]}, "post"),
        ({"destinations": ["general"]}, "search"),
        ({"destinations": ["general"]}, "post"),
        ({"destinations": [general["slug"].upper()]}, "search"),
        ({"destinations": [general["id"]]}, "post"),
    ]
    for allow, way in allowed:
        WAYS[way](connect(sandbox, monkeypatch, allow))


@pytest.mark.parametrize(
    ("allow", "words"),
    [
        ({"interaction": ["search"]}, "did you mean interactions"),
        ({"interactions": ["searching"]}, "not known; did you mean search\\? Known are search, read"),
        ({"interactions": []}, "leave it out to allow all"),
        ({"resource_types": "Patient"}, "must be a list of names"),
        ({"destinations": [1]}, "must be a list of names"),
    ],
)
def test_what_cannot_be_meant_is_refused(allow: Any, words: str) -> None:
    """A misspelt list is an error, never a list that allows everything."""
    with pytest.raises(RedoxConfigError, match=words):
        parse_allowance(allow)
