"""The dialect of Airflow's HttpHook: what an HttpOperator does with a redox connection, and what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.http.operators.http import HttpOperator

from airflow_provider_redox.exceptions import (
    RedoxAmbiguousOutcomeError,
    RedoxConfigError,
    RedoxResponseError,
    RedoxSecurityError,
    RedoxTransportError,
)
from airflow_provider_redox.hooks.redox import RedoxHook
from tests.client.drivers import ACCEPTED, MESSAGE, PATIENT, connection_to
from tests.hooks.conftest import QUICK, Connect
from tests.support.sandbox import Sandbox
from tests.support.wire import TOKEN, Wire, answers, breaks_after, http

# The http provider's own imports are deprecated by newer Airflow versions.
pytestmark = pytest.mark.filterwarnings("ignore:.*determine_kwargs:FutureWarning")

READ = "/fhir/R4/general-hospital/Development/Patient"


def operated(**options: Any) -> Any:
    """Execute an HttpOperator on `redox_default`."""
    return HttpOperator(task_id="ask", http_conn_id="redox_default", **options).execute({})


@pytest.fixture
def wire(connect: Connect) -> Iterator[Wire]:
    """Run a server that answers everything with a Patient, and connect to it."""
    with Wire() as running:
        connect(connection_to(running.url))
        yield running


def hook(method: str = "POST") -> RedoxHook:
    return RedoxHook(method=method, retry=QUICK)


def last(wire: Wire) -> bytes:
    return wire.requests[-1]


def test_operator_get(redox_connection: Sandbox) -> None:
    """An HttpOperator with GET is authenticated and gives the text of the answer; data becomes the query."""
    redox_connection.settings(get_search=True, patient_search_rule=False)
    text = operated(method="GET", endpoint=READ, data={"_count": "1"})
    assert json.loads(text)["resourceType"] == "Bundle"
    assert redox_connection.ledger("/Patient")[0]["query"] == "_count=1"


def test_operator_post(redox_connection: Sandbox) -> None:
    """An HttpOperator with POST sends its data as the body, and Redox takes it."""
    text = operated(
        method="POST", endpoint="/endpoint", data=json.dumps(MESSAGE), headers={"Content-Type": "application/json"}
    )
    assert json.loads(text)["Meta"]["Logs"]
    assert redox_connection.stats()["messages"] == 1


def test_operator_shares_the_token(redox_connection: Sandbox) -> None:
    """Three operators and a hook in one process ask for one token."""
    redox_connection.settings(get_search=True, patient_search_rule=False)
    for _ in range(3):
        operated(method="GET", endpoint=READ, data={"_count": "1"})
    hook().get_access_token()
    assert redox_connection.stats()["tokens"] == 1


def test_operator_response_filter(wire: Wire) -> None:
    """A response_filter and a response_check get a requests.Response with text, JSON, status and headers."""
    seen: list[requests.Response] = []

    def check(response: requests.Response) -> bool:
        seen.append(response)
        return response.ok

    answer = operated(
        method="GET", endpoint="/fhir/x", response_check=check, response_filter=lambda response: response.json()["id"]
    )
    assert answer == "1"
    assert isinstance(seen[0], requests.Response)
    assert seen[0].headers["Content-Type"] == "application/json"


def test_operator_refused(connect: Connect) -> None:
    """An error status is our error, with nothing of the body in it."""
    with Wire(answers(), answers(http(PATIENT.encode(), status="404 Not Found"))) as wire:
        connect(connection_to(wire.url))
        with pytest.raises(RedoxResponseError) as caught:
            operated(method="GET", endpoint="/fhir/x")
        assert caught.value.status == 404
        assert PATIENT not in str(caught.value)


def test_check_response_off(connect: Connect) -> None:
    """With check_response False an error status is given back for the author to judge."""
    with Wire(answers(), answers(http(b"no such", status="404 Not Found", kind="text/plain"))) as wire:
        connect(connection_to(wire.url))
        answer = hook("GET").run("/fhir/x", extra_options={"check_response": False})
        assert (answer.status_code, answer.text, answer.ok) == (404, "no such", False)


def test_paging_by_hand(wire: Wire) -> None:
    """A pagination_function works, page by page, each authenticated."""
    pages = iter([{"data": {"page": "2"}}, None])
    texts = operated(method="GET", endpoint="/fhir/x", pagination_function=lambda _: next(pages))
    assert len(texts) == 2
    assert b"?page=2 " in last(wire)
    assert TOKEN.encode() in last(wire)


def test_advanced_retry_is_refused(wire: Wire) -> None:
    """retry_args, which would send anything again, is refused before anything is sent."""
    with pytest.raises(RedoxConfigError, match="retry_args"):
        operated(endpoint="/endpoint", data="{}", retry_args={"reraise": True})
    assert not wire.connections


def test_auth_type_is_refused(wire: Wire) -> None:
    """Another way to sign in is refused before anything is sent."""
    with pytest.raises(RedoxConfigError, match="auth_type"):
        operated(endpoint="/endpoint", data="{}", auth_type=requests.auth.HTTPBasicAuth)
    assert not wire.connections


@pytest.mark.parametrize("option", ["verify", "proxies", "cert", "made_up"])
def test_unknown_extra_options_are_refused(wire: Wire, option: str) -> None:
    """An extra option that would be ignored, or weaken the connection, is refused before anything is sent."""
    with pytest.raises(RedoxConfigError, match=f"extra_options: {option}"):
        operated(endpoint="/endpoint", extra_options={option: False})
    assert not wire.connections


def test_known_extra_options_change_nothing(wire: Wire) -> None:
    """HttpHook's own options are taken and decided by the connection."""
    operated(method="GET", endpoint="/fhir/x", extra_options={"timeout": 0.001, "allow_redirects": True, "stream": True})
    assert len(wire.requests) == 2


def test_redirects(connect: Connect) -> None:
    """No redirect is followed, not even where the author allows it."""
    with Wire() as target:
        away = http(b"", status="307 Temporary Redirect", Location=f"{target.url}/x")
        with Wire(answers(), answers(away)) as wire:
            connect(connection_to(wire.url))
            with pytest.raises(RedoxSecurityError):
                operated(endpoint="/endpoint", data=PATIENT, extra_options={"allow_redirects": True})
        assert not target.connections


@pytest.mark.parametrize("endpoint", ["{other}/x", "//127.0.0.1:{port}/x", "http://redox.example.com@127.0.0.1:{port}/x"])
def test_other_origins(connect: Connect, endpoint: str) -> None:
    """An absolute endpoint of another origin gets no request, by run and by the session alike."""
    with Wire() as other, Wire() as wire:
        connect(connection_to(wire.url))
        aim = endpoint.format(other=other.url, port=other.port)
        if "://" in aim:
            with pytest.raises(RedoxSecurityError):
                operated(method="GET", endpoint=aim)
            with pytest.raises(RedoxSecurityError), hook().get_conn() as session:
                session.get(aim)
        else:
            operated(method="GET", endpoint=aim)  # on the connection's own host this is only an odd path
        assert not other.connections


def test_the_sessions_own_redirects(wire: Wire) -> None:
    """The session has no way out: http and https lead through our client, anything else nowhere."""
    with hook().get_conn() as session:
        assert session.get(f"{wire.url}/fhir/x").json()["id"] == "1"
        with pytest.raises(requests.exceptions.InvalidSchema):
            session.get("ftp://127.0.0.1/x")


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_authors_authorization(wire: Wire, name: str) -> None:
    """An Authorization header from the author is refused, before anything is sent."""
    with pytest.raises(RedoxConfigError):
        operated(method="GET", endpoint="/fhir/x", headers={name: "Bearer mine"})
    assert not wire.connections


def test_authors_basic_auth(wire: Wire) -> None:
    """A user and password given to requests are refused as well."""
    with pytest.raises(RedoxConfigError, match="uthorization"):
        hook().run("/endpoint", data="{}", auth=("user", "password"))
    assert not wire.connections


def test_headers_of_the_connection(connect: Connect) -> None:
    """Source ID and headers of the connection go along; the author's own win."""
    with Wire() as wire:
        connect(connection_to(wire.url, source_id="source-7", headers={"X-One": "1", "X-Two": "2"}))
        operated(method="GET", endpoint="/fhir/x", headers={"X-Two": "mine"})
        head = last(wire).lower()
    for line in (b"redox-source-id: source-7", b"x-one: 1", b"x-two: mine", b"user-agent: airflow-provider-redox/"):
        assert b"\r\n" + line in head
    assert head.count(b"x-two") == 1


@pytest.mark.parametrize(
    ("data", "body", "kind"),
    [
        ({"a": "1 2", "b": ["x", "y"]}, b"a=1+2&b=x&b=y", b"application/x-www-form-urlencoded"),
        ("ü", "ü".encode(), None),
        (b"\x00\xff", b"\x00\xff", None),
    ],
)
def test_bodies(wire: Wire, data: Any, body: bytes, kind: bytes | None) -> None:
    """A dict is sent as a form, text as UTF-8, bytes as they are."""
    hook().run("/endpoint", data=data)
    assert last(wire).partition(b"\r\n\r\n")[2] == body
    assert kind is None or kind in last(wire).lower()


def test_json(wire: Wire) -> None:
    """The json argument of requests works."""
    hook().run("/endpoint", json={"x": "y"})
    assert json.loads(last(wire).partition(b"\r\n\r\n")[2]) == {"x": "y"}
    assert b"content-type: application/json" in last(wire).lower()


def test_streams_are_refused(wire: Wire) -> None:
    """A body that can be read only once is refused, as a token renewal has to send it again."""
    with pytest.raises(RedoxConfigError, match="streams"):
        hook().run("/endpoint", data=iter([b"x"]))  # type: ignore[arg-type]
    assert not wire.connections


def test_a_message_is_not_sent_twice(connect: Connect) -> None:
    """A message of an HttpOperator whose outcome is unknown is ambiguous, and the server saw it once."""
    with Wire(answers(), breaks_after()) as wire:
        connect(connection_to(wire.url))
        with pytest.raises(AirflowFailException):
            operated(endpoint="/endpoint", data=json.dumps(MESSAGE))
        assert wire.received.count(b"POST /endpoint ") == 1


@pytest.mark.parametrize(
    ("method", "endpoint", "data"),
    [
        ("GET", "/fhir/x", {}),
        ("POST", "/fhir/R4/a/Development/Patient/_search", "family=x"),
        ("POST", "/endpoint", '{"Meta": {"DataModel": "Scheduling", "EventType": "Booked"}}'),
    ],
)
def test_questions_are_asked_again(connect: Connect, method: str, endpoint: str, data: Any) -> None:
    """What may be repeated is, until patience runs out."""
    with Wire(answers(), breaks_after()) as wire:
        connect(connection_to(wire.url))
        with pytest.raises(RedoxTransportError):
            hook(method).run(endpoint, data)
        assert len(wire.requests) == 3


def test_an_answer_is_bytes_decoded_as_it_says(connect: Connect) -> None:
    """The text of an answer follows its charset, and is UTF-8 where it names none."""
    latin = http("é".encode("latin-1"), kind="text/plain; charset=iso-8859-1")
    with Wire(answers(), answers(latin), answers(http("é".encode(), kind="application/json"))) as wire:
        connect(connection_to(wire.url))
        assert hook("GET").run("/x").text == "é"
        assert hook("GET").run("/x").text == "é"


def test_the_url_of_an_answer_holds_no_query(wire: Wire) -> None:
    """The answer's URL, which others log, holds no query; the query was sent."""
    answer = hook("GET").run("/fhir/x", {"family": PATIENT})
    assert PATIENT not in answer.url
    assert PATIENT.encode() in last(wire)


def test_a_message_posted_by_hand_is_accepted(connect: Connect) -> None:
    """A 200 of a message is given as it came."""
    with Wire(answers(http(ACCEPTED))) as wire:
        connect(connection_to(wire.url))
        assert json.loads(operated(endpoint="endpoint", data="{}")) == json.loads(ACCEPTED)


def test_an_unknown_outcome_is_final_for_http_operator(sandbox: Sandbox, connect: Connect) -> None:
    """HttpOperator's retries would send a message again, so an unknown outcome is an AirflowFailException."""
    connect(sandbox.connection)
    sandbox.fault("status", status=502, when="after", match={"path": "/endpoint"}, times=None)
    message = {"Meta": {"DataModel": "PatientAdmin", "EventType": "NewPatient", "Destinations": []}}
    with pytest.raises(AirflowFailException) as caught:
        RedoxHook(method="POST").run("endpoint", json.dumps(message), {"Content-Type": "application/json"})
    assert isinstance(caught.value.__cause__, RedoxAmbiguousOutcomeError)
    assert len(sandbox.ledger("/endpoint")) == 1
