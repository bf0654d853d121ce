"""The slots outside a task, where Airflow offers little: best effort, never an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import redact

from airflow_provider_redox.client.slots import MemorySlot, NoSlot
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.protocol.token import Claim, Token
from airflow_provider_redox.token_cache import seal_of, shared_slots
from airflow_provider_redox.token_cache.seal import EntrySeal
from airflow_provider_redox.token_cache.variable import VariableSlot
from airflow_provider_redox.token_cache.xcom import XComSlot
from tests.client.drivers import connection_to, settings_of
from tests.support.sandbox import Sandbox

TOKEN = Token("t0k3n", 1.0, 2.0)


def held_by(hook: RedoxHook) -> Token:
    held = hook.client.memory.load()
    assert held is not None
    return held.token


@pytest.mark.parametrize(
    ("backend", "slot"), [(None, VariableSlot), ("variable", VariableSlot), ("xcom", XComSlot), ("memory", NoSlot)]
)
def test_the_slot_that_is_named(backend: str | None, slot: type) -> None:
    """extra.cache_backend names the slot; a Variable is the default."""
    shared = shared_slots(settings_of(connection_to("http://127.0.0.1", cache_backend=backend)))
    assert type(shared.token) is type(shared.claim) is slot


@pytest.mark.parametrize("backend", ["variable", "xcom", "memory"])
def test_outside_a_task(backend: str) -> None:
    """Outside a task, loading gives nothing and saving does nothing, without an error."""
    shared = shared_slots(settings_of(connection_to("http://127.0.0.1", cache_backend=backend)))
    assert not shared.token.save(TOKEN)
    assert not shared.claim.save(Claim("nonce", "", 1.0))
    assert (shared.token.load(), shared.claim.load()) == (None, None)


@pytest.mark.parametrize("backend", ["variable", "xcom", "memory"])
def test_a_hook_outside_a_task(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    """A hook works outside a task whatever the backend, and asks for one token in one process."""
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", json.dumps(sandbox.with_extra(cache_backend=backend)))
    for _ in range(3):
        hook = RedoxHook()
        hook.get_access_token()
        hook.client.close()
    assert len(sandbox.ledger("/v2/auth/token")) == 1


def test_a_variable_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Variable that Airflow finds anywhere, such as in the environment, is opened; rubbish there is nothing."""
    settings = settings_of(connection_to("http://127.0.0.1"))
    seal = seal_of(settings, Token)
    monkeypatch.setenv(f"AIRFLOW_VAR_{seal.name.upper()}", seal.close(TOKEN))
    assert VariableSlot(seal).load() == TOKEN
    monkeypatch.setenv(f"AIRFLOW_VAR_{seal.name.upper()}", "rubbish")
    assert VariableSlot(seal).load() is None


@pytest.mark.parametrize("state", ["expired", "from the future", "of another key", "rubbish"])
def test_a_bad_entry_is_a_new_token(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    """An entry that is expired, from a clock far ahead, foreign or broken costs a new token and no error."""
    settings = settings_of(sandbox.connection)
    other = settings_of(connection_to("http://127.0.0.1"))
    now = 4_000_000_000.0
    entry = {
        "expired": seal_of(settings, Token).close(Token("old", 1.0, 301.0)),
        "from the future": seal_of(settings, Token).close(Token("young", now, now + 300)),
        "of another key": EntrySeal(other.key, settings.fingerprint, Token).close(Token("foreign", 1.0, now)),
        "rubbish": "v1.AAAA",
    }[state]
    monkeypatch.setenv(f"AIRFLOW_VAR_REDOX_CACHE__{settings.fingerprint.upper()}", entry)
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", sandbox.connection_json)
    hook = RedoxHook()
    assert hook.get_access_token() not in ("old", "young", "foreign")
    hook.client.close()
    assert len(sandbox.ledger("/v2/auth/token")) == 1


def test_a_shared_token_is_used(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh token in the Variable is used, without a token request."""
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", sandbox.connection_json)
    settings = settings_of(sandbox.connection)
    hook = RedoxHook()
    token = hook.get_access_token()
    sealed = seal_of(settings, Token).close(held_by(hook))
    monkeypatch.setenv(f"AIRFLOW_VAR_REDOX_CACHE__{settings.fingerprint.upper()}", sealed)
    MemorySlot.forget_all()
    assert RedoxHook().get_access_token() == token
    assert len(sandbox.ledger("/v2/auth/token")) == 1


def test_a_refused_shared_token_is_not_used_again(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the shared token is refused, a new one is asked for, although the old one still lies there."""
    monkeypatch.setenv("AIRFLOW_CONN_REDOX_DEFAULT", sandbox.connection_json)
    settings = settings_of(sandbox.connection)
    hook = RedoxHook()
    hook.get_access_token()
    sealed = seal_of(settings, Token).close(held_by(hook))
    monkeypatch.setenv(f"AIRFLOW_VAR_REDOX_CACHE__{settings.fingerprint.upper()}", sealed)
    sandbox.control("POST", "revoke")
    MemorySlot.forget_all()
    hook.post_data_model({"Meta": {"DataModel": "PatientAdmin", "EventType": "Arrival"}}, destination="general")
    hook.client.close()
    assert [entry["status"] for entry in sandbox.ledger("/endpoint")] == [401, 200]


def test_the_name_is_not_sensitive() -> None:
    """Airflow's masker does not take the entry's name for a secret's: each masked value slows a long process down."""
    settings: Any = settings_of(connection_to("http://127.0.0.1"))
    shown = {seal_of(settings, Token).name: "as it is"}
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "change",
    [{"client_id": "other"}, {"scope": "s"}, {"audience": "https://x"}, {"auth_url": "{url}/other"}, {"kid": "other"}],
)
def test_what_tells_connections_apart(change: dict[str, str]) -> None:
    """Client, scope, audience, token URL and key ID each make another entry."""
    url = "http://127.0.0.1:1"
    extra = {name: value.format(url=url) for name, value in change.items()}
    one, other = settings_of(connection_to(url)), settings_of(connection_to(url, **extra))
    assert one.fingerprint != other.fingerprint


@pytest.mark.parametrize("change", [{"destination": "x"}, {"timeout": 5}, {"headers": {"x": "y"}}, {"ca_file": "/x"}])
def test_what_does_not(change: dict[str, Any]) -> None:
    """What has nothing to do with the token leaves connections on one entry."""
    one, other = settings_of(connection_to("http://127.0.0.1")), settings_of(connection_to("http://127.0.0.1", **change))
    assert one.fingerprint == other.fingerprint
