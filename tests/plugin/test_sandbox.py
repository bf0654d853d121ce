"""The sandbox as tests hold it: what can be ordered, what can be looked at, and that two do not meet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import get_args, get_type_hints

import pytest

from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.sandbox.faults import KINDS, MATCHERS, OPTIONS
from airflow_provider_redox.sandbox.settings import CHECKS, LINK_STYLES
from airflow_provider_redox.testing import (
    FaultKind,
    FaultMatch,
    FaultOrder,
    LedgerEntry,
    RedoxSandbox,
    SandboxDidNotStartError,
    SandboxSettings,
    SentMessage,
)

MESSAGE = {"Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient"}, "Patient": {"Identifiers": []}}


@pytest.fixture(scope="module")
def lakeside() -> Iterator[RedoxSandbox]:
    """A second sandbox."""
    with RedoxSandbox.start("--population", "2") as running:
        yield running


def test_what_an_editor_offers_is_what_the_sandbox_takes():
    """The types of orders and settings name all that there is, and nothing else."""
    assert set(get_args(FaultKind)) == KINDS
    assert set(FaultMatch.__annotations__) == set(MATCHERS)
    assert set(FaultOrder.__annotations__) == {*OPTIONS, "match", "skip", "times", "when"}
    assert set(SandboxSettings.__annotations__) == set(CHECKS)
    assert get_args(get_type_hints(SandboxSettings)["link_style"]) == LINK_STYLES


def test_entries_and_messages_have_the_keys_of_their_types(redox_sandbox: RedoxSandbox):
    """What the ledger and the messages hold has the keys that their types name."""
    RedoxHook().post_data_model(MESSAGE, destination="general")
    (message,), entries = redox_sandbox.messages(), redox_sandbox.ledger()
    assert set(message) == set(SentMessage.__annotations__)
    assert all(set(entry) == set(LedgerEntry.__annotations__) - {"body_base64"} for entry in entries)


def test_the_ledger_tells_exchanges_searches_messages_and_lookups_apart(redox_sandbox: RedoxSandbox):
    """Each kind of request that a test asks about has a word of its own."""
    hook = RedoxHook()
    log_id = hook.post_data_model(MESSAGE, destination="general").log_ids[0]
    list(hook.fhir_search("Patient", {"_id": redox_sandbox.patients()[0]["id"]}))
    hook.get_log(log_id)
    assert [entry["path"] for entry in redox_sandbox.token_exchanges()] == ["/v2/auth/token"]
    assert [entry["path"].rpartition("/")[0][-8:] for entry in redox_sandbox.searches("Patient")] == ["/Patient"]
    assert redox_sandbox.searches("Observation") == []
    assert [message["operation"] for message in redox_sandbox.messages()] == ["PatientAdmin.NewPatient"]
    assert [log["id"] for log in redox_sandbox.logs()] == [log_id]
    assert [entry["path"].rpartition("/")[2] for entry in redox_sandbox.log_lookups()] == [log_id]
    assert len(redox_sandbox.ledger()) == 4


def test_a_patient_that_a_test_adds_is_found(redox_sandbox: RedoxSandbox):
    """A resource is added as it is, with an ID, a version and an update time where it had none."""
    (added,) = redox_sandbox.add({"resourceType": "Patient", "name": [{"family": "Quillfeather", "given": ["Ada"]}]})
    assert added["meta"]["versionId"] == "1"
    search = {"family": "Quillfeather", "given": "Ada", "_id": added["id"]}
    assert [found["id"] for found in RedoxHook().fhir_search("Patient", search)] == [added["id"]]
    redox_sandbox.reset()
    assert list(RedoxHook().fhir_search("Patient", search)) == []


def test_what_is_no_resource_is_refused_with_its_number(redox_sandbox: RedoxSandbox):
    """The control plane names which of the resources it was, and keeps none of them."""
    before = redox_sandbox.patients()
    with pytest.raises(ValueError, match="resource 1: not a FHIR resource"):
        redox_sandbox.add({"resourceType": "Patient"}, {"name": "no type"})
    assert redox_sandbox.patients() == before


def test_two_sandboxes_do_not_meet(redox_sandbox: RedoxSandbox, lakeside: RedoxSandbox, monkeypatch: pytest.MonkeyPatch):
    """Each has its port, its client, its faults and its ledger."""
    monkeypatch.setenv("AIRFLOW_CONN_LAKESIDE", json.dumps(lakeside.with_extra(cache_backend="memory")))
    lakeside.fault("status", status=503, when="before", match={"path": "/_search"}, times=None)
    assert redox_sandbox.url != lakeside.url
    found = list(RedoxHook().fhir_search("Patient", {"_id": redox_sandbox.patients()[0]["id"]}))
    assert len(found) == 1
    assert lakeside.ledger() == []
    RedoxHook("lakeside").post_data_model(MESSAGE, destination="general")
    assert redox_sandbox.messages() == []
    assert len(lakeside.messages()) == 1


def test_a_wrong_argument_is_told_by_the_command_itself():
    """Who starts one by hand gets an error that says what the command said."""
    with pytest.raises(SandboxDidNotStartError, match=r"^redox sandbox: --data /no/such is not a folder\.$"):
        RedoxSandbox.start("--data", "/no/such")
