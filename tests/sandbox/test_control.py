"""The control plane: the ledger, the settings, the counts, the way back to the start."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from .conftest import KEVA, Client, message


def test_the_ledger_has_every_request_in_order(redox: Client) -> None:
    """An entry has number, time, method, path, query, headers, body, status, fault, and whether it was committed."""
    redox.token()
    redox.search("Patient", {"_id": KEVA}, headers={"X-Test": "a"})
    requests.get(f"{redox.url}/no/such/path?x=1", timeout=10)
    first, second, third = redox.ledger()
    assert [entry["n"] for entry in (first, second, third)] == [1, 2, 3]
    assert (first["path"], first["status"], first["committed"]) == ("/v2/auth/token", 200, True)
    assert (second["method"], second["body"], second["fault"]) == ("POST", f"_id={KEVA}", None)
    assert ["X-Test", "a"] in second["headers"]
    assert (third["path"], third["query"], third["status"], third["committed"]) == ("/no/such/path", "x=1", 404, False)


def test_the_ledger_keeps_bytes(redox: Client) -> None:
    """A body that is not UTF-8 stands in base64."""
    redox.call("PUT", "/x", data=b"\xff\x00")
    entry = redox.ledger()[-1]
    assert (entry["body"], entry["body_base64"]) == (None, "/wA=")


def test_the_ledger_can_be_cleared_and_narrowed(redox: Client) -> None:
    """DELETE starts again at 1; path and after narrow what is shown."""
    redox.token()
    redox.control("DELETE", "ledger")
    redox.call("GET", redox.fhir(f"Patient/{KEVA}"))
    redox.call("GET", "/elsewhere")
    assert [entry["n"] for entry in redox.ledger()] == [1, 2]
    assert [entry["n"] for entry in redox.control("GET", "ledger?path=elsewhere").json()] == [2]
    assert [entry["n"] for entry in redox.control("GET", "ledger?after=1").json()] == [2]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_verb_that_does_not_fit_is_405(redox: Client, method: str) -> None:
    """A known path with another verb gets 405 and says in Allow what it takes."""
    answer = redox.call(method, redox.fhir(f"Patient/{KEVA}"))
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")


def test_a_change_of_settings_is_checked(redox: Client) -> None:
    """A patch changes what it names and answers all settings; one wrong value and nothing changes."""
    assert redox.control("PATCH", "settings", {"page_size": 3}).json()["page_size"] == 3
    refused = redox.control("PATCH", "settings", {"page_size": 4, "link_style": "sideways"})
    assert (refused.status_code, "link_style" in refused.json()["error"]) == (400, True)
    assert redox.control("GET", "settings").json()["page_size"] == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"unknown": 1},
        {"page_size": 0},
        {"page_size": True},
        {"token_lifetime": "300"},
        {"quota": -1},
        {"get_search": 1},
        {"final_status": "lost"},
        {"final_status": []},
        {"foreign_origin": "evil"},
        {"destination_errors": {}},
        {"shift": 0.5},
        {"ignored_parameters": "status"},
        {"ignored_parameters": [1]},
        [],
    ],
)
def test_a_setting_that_does_not_fit_is_refused(redox: Client, changes: Any) -> None:
    """Unknown settings and values of the wrong kind get 400 and a sentence."""
    assert redox.control("PATCH", "settings", changes).status_code == 400


def test_a_reset_forgets_all_but_the_keys(redox: Client) -> None:
    """After a reset there are no requests, faults, messages, tokens or writes; the client can still sign."""
    redox.post(message("Device", "New", redox.extra["destinations"]["general"]["id"]))
    redox.settings(page_size=3, quota=5)
    redox.fault("drop", match={"path": "never"})
    before = redox.control("GET", "stats").json()
    assert (before["messages"], before["tokens"], before["live_tokens"]) == (1, 1, 1)
    redox.control("POST", "reset")
    after = redox.control("GET", "stats").json()
    empty = {"messages": 0, "tokens": 0, "live_tokens": 0, "requests": 0, "logs": 0, "uploads": 0}
    assert {name: after[name] for name in empty} == empty
    assert after["clients"] >= 1
    assert redox.control("GET", "faults").json() == []
    assert redox.control("GET", "settings").json()["page_size"] == 50
    assert redox.ask_token().status_code == 200


def test_a_reset_takes_writes_back(redox: Client) -> None:
    """What was written is gone, and what was changed is as it was."""
    header = {"resourceType": "MessageHeader", "eventUri": "urn:x", "source": {"endpoint": "urn:x"}}
    changed = {"resourceType": "Patient", "id": KEVA, "gender": "other"}
    body = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": header}, {"resource": changed}]}
    path, headers = redox.fhir("Patient/$patient-update"), {"Content-Type": "application/fhir+json"}
    assert redox.call("POST", path, json=body, headers=headers).status_code == 200
    assert redox.call("GET", redox.fhir(f"Patient/{KEVA}")).json()["gender"] == "other"
    redox.forget()
    assert redox.call("GET", redox.fhir(f"Patient/{KEVA}")).json()["gender"] == "female"


def test_an_unknown_control_path_says_what_there_is(redox: Client) -> None:
    """404 names the paths, 405 the verbs, and broken JSON is 400."""
    assert "ledger" in redox.control("GET", "nothing").json()["error"]
    assert redox.control("PUT", "ledger").status_code == 405
    assert requests.post(f"{redox.url}/_sandbox/faults", data="{", timeout=10).status_code == 400
