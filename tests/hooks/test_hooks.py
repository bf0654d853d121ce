"""RedoxHook and RedoxAsyncHook: the same calls, blocking and awaiting, on a connection of Airflow's."""

from __future__ import annotations

import asyncio
import inspect
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_provider_redox.client.slots import MemorySlot
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxProtocolError
from airflow_provider_redox.hooks.redox import RedoxAsyncHook, RedoxHook
from airflow_provider_redox.protocol.keys import LocalKey, parse_keys
from tests.client.drivers import ACCEPTED, MESSAGE, connection_to
from tests.hooks.conftest import QUICK, Connect
from tests.support.sandbox import Sandbox
from tests.support.wire import Wire, answers, http


class Both:
    """A call of both hooks' common names, run to its end."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call by name."""
        if self.kind == "blocking":
            hook = RedoxHook(retry=QUICK)
            answer = getattr(hook, name)(*args, **kwargs)
            answer = list(answer) if inspect.isgenerator(answer) else answer
            hook.client.close()
            return answer
        return asyncio.run(self._awaited(name, args, kwargs))

    async def _awaited(self, name: str, args: Any, kwargs: Any) -> Any:
        async with RedoxAsyncHook(retry=QUICK) as hook:
            answer = getattr(hook, name)(*args, **kwargs)
            return [one async for one in answer] if inspect.isasyncgen(answer) else await answer


@pytest.fixture(params=["blocking", "awaiting"])
def call(request: pytest.FixtureRequest) -> Both:
    return Both(request.param)


def test_search(redox_connection: Sandbox, call: Both) -> None:
    """A search gives dicts, of all pages."""
    redox_connection.settings(page_size=30, patient_search_rule=False)
    found = call("fhir_search", "Patient", {})
    assert (
        len({patient["id"] for patient in found}) == len(found) == redox_connection.stats()["resources_by_type"]["Patient"]
    )


def test_a_search_is_held_to_its_question(redox_connection: Sandbox, call: Both) -> None:
    """Somebody else's resource is an error in both hooks, before it is given."""
    other = {"resourceType": "Observation", "id": "o", "subject": {"reference": "Patient/q"}}
    page = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": other}]}
    redox_connection.fault("body", body=page, match={"path": "/Observation"})
    with pytest.raises(RedoxProtocolError, match="do not match the parameter patient"):
        call("fhir_search", "Observation", {"patient": "p"})


def test_read(redox_connection: Sandbox, call: Both) -> None:
    """A resource is read by type and ID."""
    redox_connection.settings(patient_search_rule=False)
    wanted = call("fhir_search", "Patient", {})[0]
    assert call("fhir_read", "Patient", wanted["id"]) == wanted


def test_post_and_log(redox_connection: Sandbox, call: Both) -> None:
    """A message gives log IDs, and each leads to a log."""
    accepted = call("post_data_model", MESSAGE)
    assert call("get_log", accepted.log_ids[0])["id"] == accepted.log_ids[0]


def test_query(redox_connection: Sandbox, call: Both) -> None:
    """A query gives the destination's answer."""
    question = {"Meta": {"DataModel": "Scheduling", "EventType": "Booked"}}
    assert call("query_data_model", question, destination="general")["Meta"]["DataModel"] == "Scheduling"


def test_writeback(connect: Connect, call: Both) -> None:
    """A writeback sends the Bundle to the operation's path and gives the whole answer."""
    with Wire() as wire:
        connect(connection_to(wire.url))
        bundle = {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Observation", "id": "o1"}}]}
        answer = call("fhir_writeback", "Observation", "$observation-create", bundle)
        assert answer.json()["resourceType"] == "Patient"
        assert b"POST /fhir/R4/general-hospital/Development/Observation/$observation-create " in wire.received


def test_a_writeback_needs_no_header(redox_connection: Sandbox, call: Both) -> None:
    """Where the Bundle has no MessageHeader, one is built that the server takes."""
    observation = {"resourceType": "Observation", "id": "o1", "status": "final", "code": {"text": "pulse"}}
    bundle = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": observation}]}
    assert call("fhir_writeback", "Observation", "$observation-create", bundle).status == 200
    assert len(redox_connection.control("GET", "messages")) == 1


def test_upload(redox_connection: Sandbox, call: Both, tmp_path: Path) -> None:
    """A file, or bytes, is uploaded and gives its URI."""
    (tmp_path / "scan.pdf").write_bytes(b"abc")
    uris = {call("upload", tmp_path / "scan.pdf"), call("upload", f"file://{tmp_path}/scan.pdf"), call("upload", b"abc")}
    assert len(uris) == redox_connection.stats()["uploads"] == 3
    with pytest.raises(RedoxConfigError, match="there is no file"):
        call("upload", f"{tmp_path}/gone")


def test_request(connect: Connect, call: Both) -> None:
    """Any path below the host can be asked; params are the query, json the body."""
    with Wire() as wire:
        connect(connection_to(wire.url))
        answer = call("request", "POST", "/query", params={"a": "b c"}, json={"x": 1})
        assert answer.status == 200
        assert wire.requests[1].startswith(b"POST /query?a=b+c HTTP/1.1\r\n")
        assert wire.requests[1].endswith(b'\r\n\r\n{"x":1}')


def test_destinations(redox_connection: Sandbox, call: Both) -> None:
    """The destinations that the connection describes are there without a request."""
    assert [destination.slug for destination in call("destinations")] == ["general-hospital", "lakeside-clinic"]
    assert not redox_connection.ledger()


def test_access_token(redox_connection: Sandbox, call: Both) -> None:
    """The access token is one that works, and the next hook gives the same."""
    assert call("get_access_token") == call("get_access_token")
    assert redox_connection.stats()["tokens"] == 1


def test_headers(connect: Connect, call: Both) -> None:
    """The connection's headers go with every request, and a call may add its own."""
    with Wire(answers(http(ACCEPTED))) as wire:
        connect(connection_to(wire.url, headers={"X-Network": "carequality"}))
        call("post_data_model", MESSAGE, headers={"X-Purpose": "treatment"})
        assert b"\r\nx-network: carequality\r\n" in wire.requests[1].lower()
        assert b"\r\nx-purpose: treatment\r\n" in wire.requests[1].lower()


def test_one_name_each() -> None:
    """What the blocking hook can do the awaiting one can, under the same name."""

    def names(hook: type) -> set[str]:
        return {name for name in vars(hook) if not name.startswith("_")}

    of_airflow = {"conn_name_attr", "conn_type", "default_conn_name", "hook_name"}
    of_airflow |= {"get_connection_form_widgets", "get_ui_field_behaviour", "test_connection"}
    of_the_dialect = {"run", "run_with_advanced_retry", "get_conn"}
    assert names(RedoxHook) - of_airflow - of_the_dialect == names(RedoxAsyncHook) - {"close"}


def test_one_token_for_many_hooks(redox_connection: Sandbox) -> None:
    """Twenty hooks of one connection in twenty threads ask for one token."""

    def ask(_: int) -> str:
        hook = RedoxHook(retry=QUICK)
        token = hook.get_access_token()
        hook.client.close()
        return token

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(ask, range(20)))) == 1
    assert len(redox_connection.ledger("/v2/auth/token")) == 1


def test_one_token_for_many_async_hooks(redox_connection: Sandbox) -> None:
    """Twenty awaiting hooks in one loop ask for one token."""

    async def ask() -> str:
        async with RedoxAsyncHook(retry=QUICK) as hook:
            return await hook.get_access_token()

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(ask() for _ in range(20)))

    assert len(set(asyncio.run(all_of_them()))) == 1
    assert len(redox_connection.ledger("/v2/auth/token")) == 1


def test_a_new_secret_is_a_new_token(sandbox: Sandbox, connect: Connect) -> None:
    """After the connection was changed, the old token is not used."""
    connect(sandbox.connection)
    first = Both("blocking")("get_access_token")
    connect(sandbox.with_extra(scope="other"))
    assert Both("blocking")("get_access_token") != first


def test_an_async_hook_can_be_closed_unused() -> None:
    """Closing a hook that made no request is no error, and looks up no connection."""
    hook = RedoxAsyncHook("nowhere")
    asyncio.run(hook.close())
    assert hook._client is None


def test_nothing_is_looked_up_before_the_first_use() -> None:
    """Making a hook needs no connection."""
    assert "client" not in vars(RedoxHook("nowhere"))
    assert RedoxAsyncHook("nowhere")._client is None


def test_a_query_is_not_sent_as_a_write(redox_connection: Sandbox, call: Both) -> None:
    """query_data_model refuses a message that is no known query, before anything is sent."""
    with pytest.raises(RedoxConfigError, match="not a known query"):
        call("query_data_model", MESSAGE)
    assert not redox_connection.ledger("/endpoint")


def test_a_key_is_rotated_without_a_dag_change(sandbox: Sandbox, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """Old and new key in one JWKS: before Redox knows the new one the old one serves, afterwards the new one does."""
    new = LocalKey(rsa.generate_private_key(65537, 2048), "RS384", "new-key")
    old = parse_keys(sandbox.connection["password"])[0]
    entries = [
        {**jwt.get_algorithm_by_name("RS384").to_jwk(key.private, as_dict=True), "kid": kid}
        for key, kid in ((new, "new-key"), (old, sandbox.connection["extra"]["kid"]))
    ]
    connect({**sandbox.with_extra(kid=None), "password": json.dumps({"keys": entries})})
    assert RedoxHook().get_access_token()
    assert "refused the key new-key" in caplog.text
    MemorySlot.forget_all()
    client_id = sandbox.connection["extra"]["client_id"]
    public = {**old.public_jwk(), "kid": sandbox.connection["extra"]["kid"]}
    sandbox.control("POST", "clients", {"client_id": client_id, "jwks": {"keys": [new.public_jwk(), public]}})
    caplog.clear()
    assert RedoxHook().get_access_token()
    assert "refused" not in caplog.text
    sandbox.control("POST", "clients", {"client_id": client_id, "jwks": {"keys": [public]}})


def test_one_async_hook_makes_one_client(sandbox: Sandbox, connect: Connect) -> None:
    """Calls that are gathered on a new hook share one client, and so its connections and its place in the queue."""
    connect(sandbox.connection)

    async def gathered() -> int:
        async with RedoxAsyncHook() as hook:
            return len({id(client) for client in await asyncio.gather(*(hook.client() for _ in range(4)))})

    assert asyncio.run(gathered()) == 1


def test_wrong_arguments_of_a_search_are_named_at_the_call(sandbox: Sandbox, connect: Connect) -> None:
    """A search that cannot be right fails where it is written, not where its first resource is taken."""
    connect(sandbox.connection)
    with pytest.raises(RedoxConfigError, match="search_params"):
        RedoxHook().fhir_search("Patient", {"_id": None})
