"""Both drivers against the sandbox: the calls, one connection, one token."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_redox.client.asynchronous import AsyncClient
from airflow_provider_redox.client.driver import real_environment
from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.exceptions import RedoxAuthError, RedoxRateLimitError
from airflow_provider_redox.protocol.effects import Bearer, Flow
from tests.client.conftest import Driver
from tests.client.drivers import MESSAGE, QUICK, connection_to, settings_of, with_token
from tests.support.sandbox import Sandbox
from tests.support.wire import Wire, answers, http

BUNDLE = {
    "resourceType": "Bundle",
    "type": "message",
    "entry": [
        {
            "resource": {
                "resourceType": "MessageHeader",
                "eventUri": "https://fhir.redoxengine.com/EventDefinition/ObservationCreate",
                "source": {"endpoint": "urn:test"},
            }
        }
    ],
}


def tokens_asked(sandbox: Sandbox) -> int:
    return len(sandbox.ledger("/v2/auth/token"))


def patients(sandbox: Sandbox) -> int:
    return int(sandbox.stats()["resources_by_type"]["Patient"])


def test_a_flow_knows_of_what_could_not_be_done(sandbox: Sandbox, driver: Driver) -> None:
    """A token that is not to be had is an error in the flow that wants it, so that it can end what it began."""

    def wants_a_token() -> Flow[str]:
        try:
            yield Bearer()
        except RedoxAuthError:
            return "ended well"
        return "a token came"

    nobody = sandbox.with_extra(client_id="nobody")
    assert driver(nobody).run(wants_a_token()) == "ended well"
    assert driver(sandbox.connection).run(wants_a_token()) == "a token came"


def test_search_many_pages(sandbox: Sandbox, driver: Driver) -> None:
    """A search over many pages gives each resource once."""
    sandbox.settings(page_size=30, patient_search_rule=False)
    found = [patient["id"] for patient in driver(sandbox.connection).search()]
    assert len(found) == len(set(found)) == patients(sandbox)
    assert len(sandbox.ledger("/fhir/")) == -(-len(found) // 30)


def test_search_parameters_travel_in_the_body(sandbox: Sandbox, driver: Driver) -> None:
    """A search's parameters are in the form of the first request and in no URL of ours."""
    driver(sandbox.connection).search(given="Keva", family="Green", birthdate="1995-08-26")
    first = sandbox.ledger("/_search")[0]
    assert "given=Keva" in first["body"]
    assert not first["query"]


def test_read(sandbox: Sandbox, driver: Driver) -> None:
    """A resource is read by its ID."""
    sandbox.settings(patient_search_rule=False)
    drive = driver(sandbox.connection)
    wanted = drive.search()[7]
    assert drive.run(drive.calls.read("Patient", wanted["id"])).json() == wanted


def test_post_and_get_log(sandbox: Sandbox, driver: Driver) -> None:
    """A message's log ID leads to its log."""
    drive = driver(sandbox.connection)
    accepted = drive.post()
    log = drive.run(drive.calls.log(accepted.log_ids[0]))
    assert log["id"] == accepted.log_ids[0]


def test_query(sandbox: Sandbox, driver: Driver) -> None:
    """A Data Model query gives the destination's answer."""
    drive = driver(sandbox.connection)
    question = {"Meta": {"DataModel": "Scheduling", "EventType": "Booked"}}
    answer = drive.run(drive.calls.query(drive.calls.complete_message(question))).json()
    assert answer["Meta"]["DataModel"] == "Scheduling"


def test_writeback_is_sent_as_it_is(sandbox: Sandbox, driver: Driver) -> None:
    """A writeback's Bundle arrives as the author made it, once, under the operation's own path."""
    drive = driver(sandbox.connection)
    sandbox.fault("status", status=200, body={"resourceType": "Bundle"}, match={"path": "observation-create"})
    answer = drive.run(drive.calls.writeback("Observation", "$observation-create", BUNDLE))
    (sent,) = sandbox.ledger("/Observation/")
    assert (answer.status, sent["method"]) == (200, "POST")
    assert sent["path"].endswith("/Observation/$observation-create")


def test_one_connection(driver: Driver) -> None:
    """Requests one after the other use one TCP connection, the token's own included."""
    with Wire() as wire:
        drive = driver(connection_to(wire.url))
        for _ in range(5):
            drive.read()
        assert len(wire.requests) == 6
        assert len(wire.connections) == 1


def test_error_answers_keep_the_connection(driver: Driver) -> None:
    """An error answer that was read to its end does not cost the connection."""
    with Wire(answers(http(b"busy", status="503 Busy")), answers()) as wire:
        driver(with_token(connection_to(wire.url))).read()
        assert len(wire.requests) == 2
        assert len(wire.connections) == 1


def test_close_ends_the_connections(driver: Driver) -> None:
    """After close there is no connection left, and the next call opens a new one."""
    with Wire() as wire:
        drive = driver(with_token(connection_to(wire.url)))
        drive.read()
        if drive.kind == "blocking":
            drive.client.close()
        else:
            drive.face.runner.run(drive.client.close())  # type: ignore[union-attr]
        drive.read()
        assert len(wire.connections) == 2


def test_own_headers(driver: Driver) -> None:
    """A request names this package and its version, and its token only in Authorization."""
    with Wire() as wire:
        driver(with_token(connection_to(wire.url, source_id="source-7"))).read()
        head = wire.requests[0].lower()
        assert b"user-agent: airflow-provider-redox/" in head
        assert b"redox-source-id: source-7" in head
        assert head.count(b"t0k3n") == 1
        assert b"\r\nauthorization: bearer t0k3n" in head


def test_a_server_sets_no_cookies(driver: Driver) -> None:
    """A Set-Cookie is not sent back."""
    with Wire(answers(http(b'{"resourceType": "Patient"}', Set_Cookie="session=abc"))) as wire:
        drive = driver(with_token(connection_to(wire.url)))
        drive.read()
        drive.read()
        assert b"cookie" not in wire.requests[1].lower()


def test_one_token_for_a_hundred_threads(sandbox: Sandbox) -> None:
    """A hundred threads that need a token at once on one client ask for one."""
    client = SyncClient(settings_of(sandbox.connection), env=real_environment(QUICK))
    with ThreadPoolExecutor(100) as pool:
        found = list(pool.map(lambda _: client.perform(Bearer()), range(100)))
    client.close()
    assert len(set(found)) == 1
    assert tokens_asked(sandbox) == 1


def test_one_token_for_a_hundred_coroutines(sandbox: Sandbox) -> None:
    """A hundred tasks of one loop, on several clients of one connection, ask for one token."""

    async def ask() -> set[str]:
        clients = [AsyncClient(settings_of(sandbox.connection), env=real_environment(QUICK)) for _ in range(5)]
        found = await asyncio.gather(*(client.perform(Bearer()) for client in clients * 20))
        for client in clients:
            await client.close()
        return set(found)

    assert len(asyncio.run(ask())) == 1
    assert tokens_asked(sandbox) == 1


def test_one_token_for_both_drivers(sandbox: Sandbox) -> None:
    """A blocking and an awaiting client of one connection in one process share a token."""

    async def ask() -> str:
        client = AsyncClient(settings_of(sandbox.connection))
        token = str(await client.perform(Bearer()))
        await client.close()
        return token

    client = SyncClient(settings_of(sandbox.connection))
    first = client.perform(Bearer())
    client.close()
    assert asyncio.run(ask()) == first
    assert tokens_asked(sandbox) == 1


def test_connections_do_not_share_tokens(sandbox: Sandbox, driver: Driver) -> None:
    """A token is not given to a connection with another scope."""
    first = driver(sandbox.connection).token()
    second = driver(sandbox.with_extra(scope="fhir:development")).token()
    assert first != second


def test_revoked_in_the_middle_of_paging(sandbox: Sandbox, driver: Driver) -> None:
    """A token that is refused between two pages is renewed once, and no resource is lost or doubled."""
    sandbox.settings(page_size=30, patient_search_rule=False)
    pages = driver(sandbox.connection).pages()
    found = [next(pages)["id"] for _ in range(45)]
    sandbox.control("POST", "revoke")
    found += [patient["id"] for patient in pages]
    assert len(found) == len(set(found)) == patients(sandbox)
    assert tokens_asked(sandbox) == 2
    assert [entry["status"] for entry in sandbox.ledger("/fhir/")].count(401) == 1


def test_a_hundred_threads_renew_once(sandbox: Sandbox) -> None:
    """Threads whose token is refused together ask for one new one."""
    client = SyncClient(settings_of(sandbox.connection), env=real_environment(QUICK))
    refused = client.perform(Bearer())
    with ThreadPoolExecutor(50) as pool:
        found = set(pool.map(lambda _: client.perform(Bearer(refused)), range(50)))
    client.close()
    assert len(found) == 1
    assert refused not in found
    assert tokens_asked(sandbox) == 2


def test_a_refused_message_is_sent_again_with_the_new_token(sandbox: Sandbox, driver: Driver) -> None:
    """A 401 means not processed: a message that may not be repeated is sent again, and stored once."""
    drive = driver(sandbox.connection)
    drive.token()
    sandbox.control("POST", "revoke")
    drive.post()
    assert [entry["status"] for entry in sandbox.ledger("/endpoint")] == [401, 200]
    assert sandbox.stats()["messages"] == 1


def test_refused_twice(sandbox: Sandbox, driver: Driver) -> None:
    """A second 401 in a row is an authentication error, after one renewal and two requests."""
    sandbox.fault("status", status=401, times=None, match={"path": "/fhir/"})
    with pytest.raises(RedoxAuthError):
        driver(sandbox.connection).read()
    assert len(sandbox.ledger("/fhir/")) == 2
    assert tokens_asked(sandbox) == 2


def test_expired_tokens_are_renewed(sandbox: Sandbox, driver: Driver) -> None:
    """A token that has lived its life is replaced before it is used, so that no request is refused."""
    sandbox.settings(token_lifetime=1, patient_search_rule=False)
    drive = driver(sandbox.connection)
    drive.search(_count="200")
    time.sleep(0.95)
    drive.search(_count="200")
    assert tokens_asked(sandbox) == 2
    assert all(entry["status"] == 200 for entry in sandbox.ledger("/fhir/"))


def test_each_try_of_the_token_request_has_its_own_assertion(sandbox: Sandbox, driver: Driver) -> None:
    """A token request that is tried again carries a new assertion, as a replayed one would be refused."""
    sandbox.fault("status", status=500, when="after", match={"path": "/v2/auth/token"})
    driver(sandbox.connection).token()
    first, second = (entry["body"] for entry in sandbox.ledger("/v2/auth/token"))
    assert first != second


def test_rate_limit_is_waited_for(sandbox: Sandbox, driver: Driver) -> None:
    """A 429 is waited out as Retry-After says, for a message too, which is then stored once."""
    sandbox.fault("status", status=429, headers={"Retry-After": "0"}, match={"path": "/endpoint"})
    driver(sandbox.connection).post()
    assert sandbox.stats()["messages"] == 1


def test_rate_limit_beyond_patience(sandbox: Sandbox, driver: Driver) -> None:
    """A Retry-After that is too long is not waited for; the error tells it."""
    sandbox.fault("status", status=429, headers={"Retry-After": "4000"}, match={"path": "/fhir/"})
    with pytest.raises(RedoxRateLimitError) as caught:
        driver(sandbox.connection).read()
    assert caught.value.retry_after == 4000


@pytest.mark.parametrize("body", [b"", b"x" * 5_000_000], ids=["empty", "5 MB"])
def test_bodies_arrive_whole(driver: Driver, body: bytes) -> None:
    """What is sent is what arrives, and its length is stated."""
    with Wire() as wire:
        drive = driver(with_token(connection_to(wire.url)))
        drive.run(drive.calls.request("POST", "/fhir/x", data=body))
        head, _, sent = wire.requests[0].partition(b"\r\n\r\n")
        assert sent == body
        assert f"content-length: {len(body)}".encode() in head.lower()


def test_an_encoded_path_is_sent_as_it_is(driver: Driver) -> None:
    """Percent-encoded and special characters of a path reach the server unchanged."""
    path = "/fhir/R4/a%2Fb/Development/Patient/$match%7E%41?name=%C3%A9%2B+x&_tag=a%7Cb%41"
    with Wire() as wire:
        drive = driver(with_token(connection_to(wire.url)))
        drive.run(drive.calls.request("GET", path))
        assert wire.requests[0].split(b" ")[1].decode() == path


def test_message_is_not_changed(sandbox: Sandbox, driver: Driver) -> None:
    """The author's message is left as it was; Meta is completed on a copy."""
    before = repr(MESSAGE)
    driver(sandbox.connection).post()
    assert repr(MESSAGE) == before


@pytest.mark.parametrize(("identifier", "path"), [("eq" * 44, "eq" * 44), ("a_b:c", "a_b:c"), ("a|b", "a%7Cb")])
def test_a_resource_with_an_id_that_fhir_does_not_know_is_read(driver: Driver, identifier: str, path: str) -> None:
    """An ID that a server gave, longer than 64 characters or with other signs in it, is asked for as it is."""
    resource = f'{{"resourceType": "Patient", "id": "{identifier}"}}'.encode()
    with Wire(answers(http(resource))) as wire:
        drive = driver(with_token(connection_to(wire.url)))
        assert drive.run(drive.calls.read("Patient", identifier)).json()["id"] == identifier
        assert wire.requests[0].startswith(f"GET /fhir/R4/general-hospital/Development/Patient/{path} ".encode())
