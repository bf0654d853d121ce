"""Only None means default, at the doors that are no operator: hooks, configuration, commands, receiver, TaskFlow."""

from __future__ import annotations

import argparse
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.checks import given as given_or_default
from airflow_provider_redox.checks import is_empty, meant, near
from airflow_provider_redox.cli import main as cli
from airflow_provider_redox.downstream import read_messages, read_resources
from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.receiver.settings import VARIABLES, ReceiverSettings
from airflow_provider_redox.storage.configured import option
from airflow_provider_redox.storage.inbox.parameters import check_parameters
from airflow_provider_redox.storage.layout import output_root
from tests.support.sandbox import Sandbox

NOTHING: list[Any] = ["", "  ", "None", "\n", [], (), {}]


@given(st.text(st.sampled_from(" \t\r\n\u3000"), max_size=5))
def test_whatever_is_blank_is_empty(text: str):
    """Space of any kind, as of a Unicode form, names nothing."""
    assert is_empty(text)


@given(st.one_of(st.integers(), st.booleans(), st.floats(), st.text(min_size=1).map(lambda text: f"x{text}")))
def test_a_value_is_not_empty_because_it_is_false(value: Any):
    """0 and False are values; only None gives the default."""
    assert given_or_default(value, "default", name="x") is value
    assert given_or_default(None, "default", name="x") == "default"


@pytest.mark.parametrize("value", NOTHING, ids=repr)
def test_nothing_is_refused_by_its_name(value: Any):
    """With the cure, before a reader's eye has left the line."""
    with pytest.raises(RedoxConfigError) as raised:
        given_or_default(value, "default", name="correlation_category")
    assert str(raised.value)[:100].startswith("correlation_category: is empty; give it a value, or leave it out")


def test_the_name_that_was_meant_is_found_whatever_its_case():
    """A misspelt word is shown the nearest, and few names are all shown."""
    assert near("PATIENTS", ["Patient", "Person"]) == "Patient"
    assert near("zzz", ["Patient"]) is None
    assert meant("lakesid", ["general", "lakeside"]) == "did you mean lakeside? Known are general, lakeside"
    assert meant("zzz", []) == "none is known"
    assert meant("scopes", [*map(str, range(50)), "scope"]) == "did you mean scope?"


CALLS: dict[str, Any] = {
    "search": lambda hook, **where: list(hook.fhir_search("Patient", {"_id": "1"}, **where)),
    "read": lambda hook, **where: hook.fhir_read("Patient", "1", **where),
    "post": lambda hook, **where: hook.post_data_model({"Meta": {"DataModel": "Results", "EventType": "New"}}, **where),
    "query": lambda hook, **where: hook.query_data_model({"Meta": {"DataModel": "Results", "EventType": "Query"}}, **where),
    "writeback": lambda hook, **where: hook.fhir_writeback("Observation", "$observation-create", {}, **where),
}


@pytest.mark.parametrize("name", ["destination", "environment"])
@pytest.mark.parametrize("call", CALLS)
def test_a_hook_asks_no_default_hospital_for_nothing(redox_connection: Sandbox, call: str, name: str):
    """A task of one's own is held to the same rule, before anything leaves."""
    if (call, name) == ("writeback", "environment"):
        pytest.skip("its Bundle is looked at first")
    for value in ("", "  ", "None"):
        with pytest.raises(RedoxConfigError, match=rf"^{name}: is empty"):
            CALLS[call](RedoxHook(), **{name: value})
    assert redox_connection.ledger() == []


@pytest.mark.parametrize("headers", ["", [], {"Redox-Source-Id": ""}, {"X-Purpose": "None"}, {"X-Purpose": None}])
def test_a_header_of_nothing_is_not_sent(redox_connection: Sandbox, headers: Any):
    """An empty source would be another source than the connection's."""
    with pytest.raises(RedoxConfigError, match=r"^headers: "):
        RedoxHook().fhir_read("Patient", "1", headers=headers)
    assert redox_connection.ledger() == []


@pytest.mark.parametrize("value", [None, "", "None", [], ["a", ""]])
def test_a_query_parameter_of_nothing_is_not_sent(redox_connection: Sandbox, value: Any):
    """`?patient=` asks for everybody."""
    with pytest.raises(RedoxConfigError, match=r"^query_params: patient (has an empty or unusable value|is an empty list)"):
        RedoxHook().request("GET", "fhir/R4/x/Development/Observation", params={"patient": value})
    assert redox_connection.ledger() == []


@pytest.mark.parametrize("path", ["Observation?patient=", "Observation?patient=&code=1", "Observation?code=1&patient=%20"])
def test_a_path_whose_query_lacks_a_value_is_refused(redox_connection: Sandbox, path: str):
    """FHIR ignores a parameter without a value (R4, search, 3.1.1.1.1), and would give everybody's."""
    with pytest.raises(RedoxConfigError, match=r"^path: its query has an empty value"):
        RedoxHook().request("GET", f"fhir/R4/x/Development/{path}")
    assert redox_connection.ledger() == []


@pytest.mark.parametrize("name", ["tag", "data_model"])
def test_a_tag_of_nothing_chooses_no_hospital(redox_connection: Sandbox, name: str):
    """`data_model=""` chose every destination that has an ID."""
    with pytest.raises(RedoxConfigError, match=f"^{name}: is empty"):
        RedoxHook().destinations(**{name: ""})


@pytest.mark.parametrize("value", ["", "  ", "None"])
def test_an_output_path_of_nothing_is_not_the_default_root(value: str):
    """What is purged is below it."""
    with pytest.raises(RedoxConfigError, match=r"^output_path: is empty"):
        output_root(value)


@pytest.mark.parametrize("name", ["output_root", "audit_path", "audit", "require_encrypted_output", "storage_options"])
@pytest.mark.parametrize("value", ["", " "])
def test_a_variable_of_the_configuration_that_is_empty_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    """As a deployment leaves it whose own variable is missing: results would go elsewhere, and disclosures nowhere."""
    monkeypatch.setenv(f"AIRFLOW__REDOX__{name.upper()}", value)
    with pytest.raises(RedoxConfigError, match=rf"^\[redox\] {name}: AIRFLOW__REDOX__{name.upper()} is set and empty"):
        option(name)


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_a_variable_of_the_receiver_that_is_empty_is_refused(name: str):
    """By its name, when the receiver starts; an empty METRICS_TOKEN or PER_SECOND was the default."""
    environ = {"REDOX_RECEIVER_INBOX": "/inbox", "REDOX_RECEIVER_TOKENS": "a-token-of-16-characters"}
    with pytest.raises(RedoxConfigError, match=f"^REDOX_RECEIVER_{name}: is set and empty"):
        ReceiverSettings.from_environment({**environ, f"REDOX_RECEIVER_{name}": " "})


def test_a_misspelt_variable_of_the_receiver_is_shown_the_one_that_was_meant():
    """It would be ignored in silence."""
    with pytest.raises(RedoxConfigError, match="did you mean TOKENS_FILE"):
        ReceiverSettings.from_environment({"REDOX_RECEIVER_TOKEN_FILE": "/x"})


def options() -> list[tuple[str, str]]:
    """Every option of every command that takes text, with its command."""
    (commands,) = (one for one in cli._parser()._actions if isinstance(one, argparse._SubParsersAction))
    return [
        (command, action.option_strings[0])
        for command, parser in commands.choices.items()
        for action in parser._actions
        if action.option_strings and action.nargs != 0 and not action.choices
    ]


@pytest.mark.parametrize(("command", "name"), options())
def test_an_option_of_a_command_that_is_empty_is_refused(capsys: pytest.CaptureFixture[str], command: str, name: str):
    """`purge --destination "$HOSPITAL"` without the variable destroys nothing."""
    with pytest.raises(SystemExit) as caught:
        cli.main([command, name, ""])
    assert caught.value.code == 2
    assert f"argument {name}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["name", "data_model", "event_type", "source", "name_pattern", "state_path"])
@pytest.mark.parametrize("value", ["", " ", [], ["Results", ""]])
def test_a_filter_of_an_inbox_that_is_empty_is_refused(name: str, value: Any):
    """It would let every message through."""
    with pytest.raises(RedoxConfigError, match=f"^{name}: is empty"):
        check_parameters({"inbox_path": "/inbox", name: value})


@pytest.mark.parametrize("name", ["inbox_path", "state_path", "consumer"])
def test_an_inbox_of_nothing_is_no_inbox(name: str):
    """`inbox_path=""` took events of any inbox."""
    event = {"inbox": "file:///elsewhere", "state": "file:///elsewhere", "messages": []}
    with pytest.raises(RedoxConfigError, match=f"^{name}: is empty"):
        list(read_messages(event, **{"consumer": "c", name: ""}))


def test_a_type_of_nothing_is_not_every_type():
    """`read_resources(manifest, "")` found nothing, in silence."""
    manifest = {"transactionTime": "t", "request": "r", "output": [], "error": [], "extension": {}}
    with pytest.raises(RedoxConfigError, match=r"^resource_type: is empty"):
        list(read_resources(manifest, ""))
