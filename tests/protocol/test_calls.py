"""What Redox can be asked: which requests may be repeated, where they may go, what a log may say of them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import (
    RedoxAmbiguousOutcomeError,
    RedoxConfigError,
    RedoxDestinationError,
    RedoxError,
    RedoxProtocolError,
    RedoxResponseError,
    RedoxSecurityError,
    RedoxServerError,
)
from airflow_provider_redox.protocol.calls import Calls
from airflow_provider_redox.protocol.effects import Stage
from airflow_provider_redox.protocol.raw import checked_url, label_of, may_repeat
from airflow_provider_redox.protocol.settings import origin
from airflow_provider_redox.storage.send_record import outcome_of

from .flows import World, answer, failure, said_by
from .material import settings

HOST = "https://api.redoxengine.com"
UUID = "11111111-1111-4111-8111-111111111111"
QUERY = {"Meta": {"DataModel": "PatientSearch", "EventType": "Query", "Destinations": [{"ID": UUID}]}}
WRITE = {"Meta": {"DataModel": "Results", "EventType": "New", "Destinations": [{"ID": UUID}]}}
DONE = answer(200, '{"Meta": {"Logs": [{"ID": "log-1"}]}}')


def calls(world: World, **extra: Any) -> Calls:
    return Calls(settings(**{"environment": "Staging", "destination": "hospital", **extra}), world.env())


# ── what may be repeated ──


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/anything", None),
        ("get", "/anything", None),
        ("HEAD", "/anything", None),
        ("POST", "/fhir/R4/slug/Staging/Patient/_search", b"family=Green"),
        ("POST", "/endpoint", json.dumps(QUERY).encode()),
        ("POST", "/query", json.dumps(QUERY).encode()),
    ],
)
def test_what_only_asks_may_be_repeated(method: str, path: str, body: bytes | None) -> None:
    """GET, HEAD, `_search` and a Data Model query may be sent again."""
    assert may_repeat(method, f"{HOST}{path}", body)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/endpoint", json.dumps(WRITE).encode()),
        ("POST", "/endpoint", None),
        ("POST", "/endpoint", b""),
        ("POST", "/endpoint", b"{broken"),
        ("POST", "/endpoint", b"\xff"),
        ("POST", "/endpoint", b"[" * 100_000),
        ("POST", "/endpoint", b"[]"),
        ("POST", "/other", json.dumps(QUERY).encode()),
        ("POST", "/fhir/R4/slug/Staging/Patient", b"{}"),
        ("POST", "/fhir/R4/slug/Staging/Observation/$observation-create", b"{}"),
        ("POST", "/endpoint?x=/_search", json.dumps(WRITE).encode()),
        ("POST", "/Patient/_searching", None),
        ("PUT", "/fhir/R4/slug/Staging/Patient/_search", None),
        ("PUT", "/fhir/R4/slug/Staging/Patient/1", b"{}"),
        ("PUT", "/endpoint", json.dumps(QUERY).encode()),
        ("PATCH", "/x", None),
        ("DELETE", "/x", None),
    ],
)
def test_nothing_else_may_be_repeated(method: str, path: str, body: bytes | None) -> None:
    """A write, an unreadable message and every other method are unsafe unless the caller says otherwise."""
    assert not may_repeat(method, f"{HOST}{path}", body)


# ── where a request may go ──


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/endpoint", f"{HOST}/endpoint"),
        ("endpoint", f"{HOST}/endpoint"),
        ("//endpoint", f"{HOST}/endpoint"),
        ("//evil.example/endpoint", f"{HOST}/evil.example/endpoint"),
        (f"{HOST}/endpoint", f"{HOST}/endpoint"),
        (f"{HOST}:443/endpoint", f"{HOST}:443/endpoint"),
        ("https://API.redoxengine.com/endpoint", "https://API.redoxengine.com/endpoint"),
        ("/x?y=1", f"{HOST}/x?y=1"),
        ("/Patient?identifier=http://hospital.example/mrn|1", f"{HOST}/Patient?identifier=http://hospital.example/mrn|1"),
        ("/Patient/a.b..c", f"{HOST}/Patient/a.b..c"),
        ("/Patient/a%2Fb", f"{HOST}/Patient/a%2Fb"),
        ("/Observation/$observation-create", f"{HOST}/Observation/$observation-create"),
    ],
)
def test_a_path_or_an_own_address_is_taken(path: str, url: str) -> None:
    """A path, with or without its slash, and an absolute address of the connection's own origin are taken."""
    assert checked_url(HOST, path) == url


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/endpoint",
        "https://api.redoxengine.com.evil.example/",
        "https://api.redoxengine.com@evil.example/",
        "https://user@api.redoxengine.com/",
        "https://api.redoxengine.com:8443/",
        "https://api.redoxengine.com:0/",
        "https://api.redoxengine.com:x/",
        "http://api.redoxengine.com/",
        "https://[evil.example/",
        "ftp://api.redoxengine.com/",
        "/a/../b",
        "/a/..",
        "..",
        ".",
        "/./b",
        "/%2e%2e/b",
        "/%2E./b",
        "/a/..%2fb",
        "/a%2f../b",
        "/a/..%5cb",
        "/a/..;/b",
        "/a/..?x=1",
        "/a\\b",
        "/a#b",
        "/a b",
        "/a\r\nX-Evil: 1",
        "/a\x00",
        "/ä",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    """Another origin, a climb in any spelling and characters that no URL may have are refused, and not shown."""
    with pytest.raises(RedoxSecurityError) as raised:
        checked_url(HOST, path)
    assert "vil" not in said_by(raised.value)


def test_a_base_with_a_path_keeps_requests_below_it() -> None:
    """A connection behind a gateway's path does not leave it by an absolute address."""
    assert checked_url("https://g.example/redox", "/x") == "https://g.example/redox/x"
    with pytest.raises(RedoxSecurityError):
        checked_url("https://g.example/redox", "https://g.example/redoxes/x")


@given(
    st.text(max_size=30)
    | st.lists(
        st.sampled_from(["https://", "//", "/", "..", "%2e", "evil.example", "api.redoxengine.com", "@", "?", ":"]),
        max_size=7,
    ).map("".join)
)
def test_any_path_is_refused_or_stays_on_our_origin(path: str) -> None:
    """Whatever is given as a path, the request goes to the connection's own origin or nowhere."""
    try:
        url = urlsplit(checked_url(HOST, path))
    except RedoxSecurityError:
        return
    assert origin(url) == ("https", "api.redoxengine.com", 443)
    assert url.username is None


# ── what a log may say ──


@pytest.mark.parametrize(
    ("method", "path", "label"),
    [
        ("get", "/fhir/R4/slug/Staging/Patient/0000000001?name=Green", "GET /fhir/…"),
        ("POST", "/endpoint", "POST /endpoint/…"),
        ("GET", "/Keva%20Green/x", "GET /…/…"),
        ("GET", "/", "GET /…/…"),
        ("GET", f"/{'x' * 41}/y", "GET /…/…"),
    ],
)
def test_a_label_is_method_and_first_part_of_the_path(method: str, path: str, label: str) -> None:
    """A log line shows no ID, no query and no odd text of a URL."""
    assert label_of(method, f"{HOST}{path}") == label


# ── any request ──


def test_a_request_carries_the_connections_headers_and_its_own() -> None:
    """Source ID, the connection's headers and the call's are sent; the call's win, whatever their case."""
    world = World(answer())
    made = calls(world, source_id="source-1", headers={"X-A": "connection", "X-B": "connection"})
    world.run(made.request("get", "/x", headers={"x-b": "call"}))
    (sent,) = world.sent
    assert sent.method == "GET"
    headers = {"redox-source-id": "source-1", "x-a": "connection", "x-b": "call", "authorization": "Bearer token-1"}
    assert sent.headers == headers


@pytest.mark.parametrize(
    ("options", "body", "kind"),
    [
        ({}, None, None),
        ({"form": {"a": ["1", "2"]}}, b"a=1&a=2", "application/x-www-form-urlencoded"),
        ({"json": {"a": 1}}, b'{"a":1}', "application/json"),
        ({"json": []}, b"[]", "application/json"),
        ({"data": "ü"}, "ü".encode(), None),
        ({"data": b"\xff"}, b"\xff", None),
        ({"json": {}, "headers": {"Content-Type": "application/fhir+json"}}, b"{}", "application/fhir+json"),
    ],
)
def test_a_body_is_a_form_json_or_bytes(options: dict[str, Any], body: bytes | None, kind: str | None) -> None:
    """Each kind of body is encoded and named, and a content type of the caller's own wins."""
    world = World(answer())
    world.run(calls(world).request("POST", "/x", **options))
    assert (world.sent[0].body, world.sent[0].headers.get("content-type")) == (body, kind)


def test_a_request_has_one_body() -> None:
    """Form and JSON at once are refused."""
    with pytest.raises(RedoxConfigError, match="give one of form, json and data"):
        calls(World()).request("POST", "/x", form={"a": "1"}, json={})


@pytest.mark.parametrize(("path", "url"), [("/x", f"{HOST}/x?a=1&a=2&b=c+d"), ("/x?y=1", f"{HOST}/x?y=1&a=1&a=2&b=c+d")])
def test_params_go_into_the_url(path: str, url: str) -> None:
    """Query parameters are added to those of the path; a list is a repeated key."""
    world = World(answer())
    world.run(calls(world).request("GET", path, params={"a": [1, 2], "b": "c d"}))
    assert world.sent[0].url == url


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "OPTIONS", "", "GET /x HTTP/1.1\r\n"])
def test_another_method_is_refused(method: str) -> None:
    """A request has one of six methods."""
    with pytest.raises(RedoxConfigError, match=r"^method: must be one of GET"):
        calls(World()).request(method, "/x")


@pytest.mark.parametrize("name", ["Authorization", "host", "Cookie"])
def test_a_request_cannot_bring_its_own_identity(name: str) -> None:
    """The caller's headers set neither token nor host."""
    with pytest.raises(RedoxConfigError, match="is set by the provider itself"):
        calls(World()).request("GET", "/x", headers={name: "x"})


def test_a_post_is_unsafe_by_default() -> None:
    """A POST that nobody called idempotent is sent once where its outcome is unknown."""
    world = World(answer(500))
    with pytest.raises(RedoxAmbiguousOutcomeError):
        world.run(calls(world).request("POST", "/x", json={}))
    assert len(world.sent) == 1


def test_the_caller_may_say_that_a_request_is_idempotent() -> None:
    """A POST that the caller calls idempotent is tried again."""
    world = World(answer(500), answer())
    assert world.run(calls(world).request("POST", "/x", json={}, idempotent=True)).status == 200


def test_the_caller_may_say_that_a_get_is_unsafe() -> None:
    """A GET with an effect is sent once."""
    world = World(failure(Stage.UNANSWERED))
    with pytest.raises(RedoxAmbiguousOutcomeError):
        world.run(calls(world).request("GET", "/x", idempotent=False))


@pytest.mark.parametrize("status", [400, 404, 418])
def test_whoever_judges_an_answer_gets_it(status: int) -> None:
    """`answered` gives an error status back instead of raising."""
    world = World(answer(status))
    made = calls(world)
    assert world.run(made.answered(made.prepared("GET", "/x"))).status == status


def test_whoever_judges_an_answer_gets_no_redirect() -> None:
    """A redirect is an error there too."""
    world = World(answer(302))
    made = calls(world)
    with pytest.raises(RedoxSecurityError):
        world.run(made.answered(made.prepared("GET", "/x")))


def test_patience_ends_in_the_answer_for_whoever_judges_it() -> None:
    """`answered` gives the last 503 back after all tries."""
    world = World(*[answer(503)] * 5)
    made = calls(world)
    assert world.run(made.answered(made.prepared("GET", "/x"))).status == 503


# ── FHIR ──


def test_a_search_uses_destination_and_environment_of_the_connection() -> None:
    """A search without its own destination goes to the connection's."""
    search = calls(World()).search("Patient", {"family": "Green"})
    assert search.endpoint.url == f"{HOST}/fhir/R4/hospital/Staging"


def test_a_read_gives_the_resource() -> None:
    """A read is a GET that is tried again, and gives the answer that holds the resource."""
    world = World(answer(503), answer(200, '{"resourceType": "Patient", "id": "1"}'))
    assert world.run(calls(world).read("Patient", "1")).json() == {"resourceType": "Patient", "id": "1"}


@pytest.mark.parametrize("body", ["[]", "{}", '"Canary"', "7", "null"])
def test_a_read_that_gives_no_resource_is_a_protocol_error(body: str) -> None:
    """JSON without a resourceType is no resource."""
    world = World(*[answer(200, body)] * 5)
    with pytest.raises(RedoxProtocolError) as raised:
        world.run(calls(world).read("Patient", "1"))
    assert "Canary" not in said_by(raised.value)


FAILED = (
    '{"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "not-found", "diagnostics": "Canary"}]}'
)


def test_a_read_that_gives_an_outcome_is_an_error_of_the_destination() -> None:
    """An OperationOutcome with status 200 is not the resource that was asked for."""
    world = World(answer(200, FAILED))
    with pytest.raises(RedoxDestinationError) as raised:
        world.run(calls(world).read("Patient", "1"))
    assert raised.value.issues == ("error not-found",)
    assert "Canary" not in said_by(raised.value)


BUNDLE = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": {"resourceType": "Observation"}}]}


WRITTEN = {"resourceType": "Bundle", "type": "batch-response", "entry": [{"response": {"status": "201 Created"}}]}
HEADER = {"resourceType": "MessageHeader", "id": "m-1", "eventUri": "urn:x", "source": {"endpoint": "urn:y"}}
OURS = {**BUNDLE, "entry": [{"resource": HEADER}, *BUNDLE["entry"]]}


@pytest.mark.parametrize(
    "happened",
    [
        answer(200, json.dumps(WRITTEN)),
        answer(200, '{"resourceType": "OperationOutcome", "issue": [{"severity": "warning"}]}'),
        answer(200, '{"Meta": {"Logs": [{"ID": "log-1"}]}}'),
        answer(200, json.dumps({**OURS, "entry": [{"resource": {**HEADER, "response": {"code": "ok"}}}]})),
        answer(201, "", location="https://api.redoxengine.com/fhir/R4/x/Observation/1/_history/1"),
        answer(202, ""),
        answer(204, ""),
        answer(200, "", redox_trace_id="trace-1"),
    ],
    ids=str,
)
def test_a_writeback_is_done_by_what_shows_it(happened: Any) -> None:
    """Redox does not say what a writeback answers: a FHIR resource, its logs, or no body from who can give none."""
    written = calls(World()).writeback("Observation", "$observation-create", OURS)
    assert World(happened).run(written).status == happened.status


@pytest.mark.parametrize(
    "happened",
    [
        answer(200, ""),
        answer(200, " \n"),
        answer(200, "{}"),
        answer(200, '{"status": "ok"}', redox_trace_id="trace-1"),
        answer(200, json.dumps(OURS)),
        answer(201, json.dumps({**OURS, "id": "stored-as-it-is", "meta": {"versionId": "1"}})),
        answer(200, json.dumps({"json": OURS, "url": "https://echo.example"})),
        answer(206, json.dumps(WRITTEN)),
    ],
    ids=str,
)
def test_what_shows_nothing_is_no_success_of_a_writeback(happened: Any) -> None:
    """Nothing, an object of nothing, our own Bundle: the outcome is unknown."""
    with pytest.raises(RedoxAmbiguousOutcomeError):
        World(happened).run(calls(World()).writeback("Observation", "$observation-create", OURS))


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        (["400 Bad Request"], RedoxDestinationError),
        (["422"], RedoxDestinationError),
        (["201 Created", "400 Bad Request"], RedoxAmbiguousOutcomeError),
        (["500"], RedoxAmbiguousOutcomeError),
        (["Canary"], RedoxAmbiguousOutcomeError),
    ],
)
def test_an_entry_that_was_not_written_is_no_success(statuses: list[str], kind: type[RedoxError]) -> None:
    """All refused is a refusal; some of them, or none that can be told, is for a person to look at."""
    body = {**WRITTEN, "entry": [{"response": {"status": status}} for status in statuses]}
    with pytest.raises(kind) as raised:
        World(answer(200, json.dumps(body))).run(calls(World()).writeback("Observation", "$observation-create", BUNDLE))
    assert "Canary" not in said_by(raised.value)


def test_an_outcome_of_an_entry_counts() -> None:
    """A Bundle of responses says of each entry what was wrong with it."""
    failed = {"status": "200", "outcome": json.loads(FAILED)}
    with pytest.raises(RedoxDestinationError):
        World(answer(200, json.dumps({**WRITTEN, "entry": [{"response": failed}]}))).run(
            calls(World()).writeback("Observation", "$observation-create", BUNDLE)
        )


def test_a_part_that_was_written_is_ambiguous_though_another_has_an_outcome() -> None:
    """One entry was written, another was not: to send the Bundle again would write the first twice."""
    replies = [{"status": "201"}, {"status": "200", "outcome": json.loads(FAILED)}]
    body = {**WRITTEN, "entry": [{"response": reply} for reply in replies]}
    with pytest.raises(RedoxAmbiguousOutcomeError, match="1 of 2 entries"):
        World(answer(200, json.dumps(body))).run(calls(World()).writeback("Observation", "$observation-create", BUNDLE))


@pytest.mark.parametrize("code", ["timeout", "exception", "transient", "incomplete", "invalid", "throttled", "conflict"])
def test_a_destination_that_was_too_slow_may_have_done_it(code: str) -> None:
    """The outcome inside a success says no, or that nobody waited for the end."""
    failed = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": code}]}
    with pytest.raises(RedoxDestinationError) as raised:
        World(answer(200, json.dumps(failed))).run(calls(World()).writeback("Observation", "$observation-create", BUNDLE))
    unsure = code in ("timeout", "exception", "transient", "incomplete")
    assert outcome_of(raised.value) == ("ambiguous" if unsure else "refused")


@pytest.mark.parametrize(
    ("code", "outcome"), [(504, "ambiguous"), ("500", "ambiguous"), (303, "ambiguous"), (400, "refused"), (429, "refused")]
)
def test_a_status_of_the_destination_counts_as_one_of_redox(code: Any, outcome: str) -> None:
    """What the destination answered Redox is in Meta.Errors, and the same table tells what it means."""
    body = {"Meta": {"Errors": [{"ID": 1, "Module": "Send", "DestinationStatusCode": code}]}}
    with pytest.raises(RedoxDestinationError) as raised:
        World(answer(200, json.dumps(body))).run(calls(World()).post_message(WRITE))
    assert outcome_of(raised.value) == outcome


# ── any other request ──


@pytest.mark.parametrize("idempotent", [None, True])
@pytest.mark.parametrize(
    ("path", "sent", "happened"),
    [
        ("/x", {"a": 1}, answer(200, "<html>Sign in</html>")),
        ("/x", {"a": 1}, answer(200, "Sign in", content_type="text/html; charset=utf-8")),
        ("/endpoint", WRITE, answer(200, '{"Meta": {}}')),
        ("/endpoint", WRITE, answer(200, json.dumps(WRITE))),
        ("/fhir/R4/x/Staging/Observation/$observation-create", OURS, answer(200, json.dumps(OURS))),
    ],
)
def test_a_request_that_does_something_needs_an_answer(
    path: str,
    sent: Any,
    happened: Any,
    idempotent: bool | None,  # noqa: FBT001
) -> None:
    """A login page, or an answer that shows nothing to a message or a writeback: unknown, or tried again where it may be."""
    world = World(*[happened] * 5)
    with pytest.raises(RedoxProtocolError if idempotent else RedoxAmbiguousOutcomeError):
        world.run(calls(world).request("POST", path, json=sent, idempotent=idempotent))
    assert len(world.sent) == (5 if idempotent else 1)


@pytest.mark.parametrize("body", [FAILED, '{"Meta": {"Errors": [{"ID": 7}]}}'])
def test_an_error_inside_a_success_is_an_error_of_a_request(body: str) -> None:
    """A 200 that carries an error says no."""
    with pytest.raises(RedoxDestinationError):
        World(answer(200, body)).run(calls(World()).request("POST", "/x", json={"a": 1}))


@pytest.mark.parametrize("body", ["", "[]", "OK", "{}", '{"payload": {"id": 1}}'])
def test_any_other_answer_is_the_authors_to_read(body: str) -> None:
    """What an unknown endpoint answers with a success is not known here."""
    assert World(answer(200, body)).run(calls(World()).request("POST", "/platform/v1/x", json={"a": 1})).status == 200


@pytest.mark.parametrize("body", ["<html>", "[]", "OK"])
def test_a_page_of_something_else_says_nothing_of_a_writeback(body: str) -> None:
    """A 200 that is no JSON object is no answer of Redox's: the outcome is unknown."""
    world = World(answer(200, body))
    with pytest.raises(RedoxAmbiguousOutcomeError):
        world.run(calls(world).writeback("Observation", "$observation-create", BUNDLE))


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "MessageHeader", "response": {"code": "fatal-error"}},
        {"resourceType": "OperationOutcome", "issue": [{"severity": "fatal", "code": "exception"}]},
    ],
)
def test_a_failure_inside_the_answering_bundle_is_no_success(resource: dict[str, Any]) -> None:
    """A message Bundle that answers with a failure is an error of the destination."""
    world = World(answer(200, json.dumps({"resourceType": "Bundle", "entry": [{"resource": resource}]})))
    with pytest.raises(RedoxDestinationError):
        world.run(calls(world).writeback("Observation", "$observation-create", BUNDLE))


def test_a_writeback_with_a_failed_outcome_is_an_error_of_the_destination() -> None:
    """A 200 that carries an OperationOutcome of severity error is no success."""
    world = World(answer(200, FAILED))
    with pytest.raises(RedoxDestinationError) as raised:
        world.run(calls(world).writeback("Observation", "$observation-create", BUNDLE))
    assert raised.value.issues == ("error not-found",)


@pytest.mark.parametrize("happened", [answer(500), answer(504), failure(Stage.UNANSWERED), failure(Stage.CUT, 200)], ids=str)
def test_a_writeback_is_not_sent_twice(happened: Any) -> None:
    """A writeback whose outcome is unknown is ambiguous."""
    world = World(happened)
    with pytest.raises(RedoxAmbiguousOutcomeError):
        world.run(calls(world).writeback("Observation", "$observation-create", BUNDLE))
    assert len(world.sent) == 1


@pytest.mark.parametrize("bundle", [None, [], "x", {}, {"resourceType": "Patient"}])
def test_a_writeback_sends_a_bundle(bundle: Any) -> None:
    """Anything but a Bundle is refused before it is sent."""
    with pytest.raises(RedoxConfigError, match=r"^bundle: must be a FHIR Bundle"):
        calls(World()).writeback("Observation", "$observation-create", bundle)


# ── Data Model ──


def test_a_notification_is_sent_once() -> None:
    """A message that writes is ambiguous where its outcome is unknown."""
    world = World(answer(502))
    with pytest.raises(RedoxAmbiguousOutcomeError):
        world.run(calls(world).post_message(WRITE))
    assert len(world.sent) == 1


def test_an_accepted_notification_gives_its_logs() -> None:
    """A message that Redox took gives the IDs of its logs."""
    world = World(DONE)
    assert world.run(calls(world).post_message(WRITE)).log_ids == ("log-1",)


def test_an_answer_without_meta_leaves_a_notification_in_doubt() -> None:
    """A 200 that is no Data Model answer does not show that the message was taken, nor that it was not."""
    world = World(answer(200, "{}"))
    with pytest.raises(RedoxAmbiguousOutcomeError):
        world.run(calls(world).post_message(WRITE))


def test_a_query_that_is_posted_is_repeated() -> None:
    """A message that only asks is tried again, with whichever method it is sent."""
    world = World(answer(502), DONE)
    assert world.run(calls(world).post_message(QUERY)).log_ids == ("log-1",)


def test_a_query_gives_the_answer() -> None:
    """A query is tried again and gives the whole answer."""
    found = {"Meta": {"DataModel": "PatientSearch", "EventType": "Response"}, "Patients": []}
    world = World(answer(504), answer(200, json.dumps(found)))
    assert world.run(calls(world).query(QUERY)).json() == found


def test_an_echo_of_a_query_is_tried_again() -> None:
    """The question is not an answer; it may be asked again, and an answer that is none to the end is an error."""
    world = World(*[answer(200, json.dumps(QUERY))] * 5)
    with pytest.raises(RedoxProtocolError, match="the answer is not of the event"):
        world.run(calls(world).query(QUERY))
    assert len(world.sent) == 5


def test_how_to_take_an_answer_that_is_not_whole_is_checked() -> None:
    """A word that is none is named before anything is sent."""
    with pytest.raises(RedoxConfigError, match="on_incomplete"):
        calls(World()).query(QUERY, on_incomplete="record")


def test_a_write_is_not_sent_as_a_query() -> None:
    """A message that is no known query is refused where a query is meant: it would be sent again."""
    with pytest.raises(RedoxConfigError, match="not a known query"):
        calls(World()).query(WRITE)


def test_a_message_is_completed_from_the_connection() -> None:
    """Completion takes time, destination and environment from the connection."""
    made = calls(World(), destinations={"hospital": {"id": UUID}})
    whole = made.complete_message({"Meta": {"DataModel": "Results", "EventType": "New"}})
    assert whole["Meta"]["Destinations"] == [{"ID": UUID, "Name": "hospital"}]
    assert whole["Meta"]["Test"] is True


# ── the Platform API and destinations ──


@pytest.mark.parametrize("body", ['{"payload": {"result": {"id": "l"}}}', '{"payload": {"id": "l"}}'])
def test_a_log_is_read_from_either_envelope(body: str) -> None:
    """The Platform API wraps a log in `payload.result`, and used to in `payload`."""
    world = World(answer(200, body))
    assert world.run(calls(world, organization_id="17").log("log/1?x#y")) == {"id": "l"}
    assert world.sent[0].url == f"{HOST}/platform/v1/organizations/17/logs/log%2F1%3Fx%23y"
    assert world.sent[0].label == "GET /platform/v1/organizations/{id}/logs/{id}"


@pytest.mark.parametrize("log_id", ["..", ".", ""])
def test_an_id_that_climbs_is_refused(log_id: str) -> None:
    """An ID of dots would name another address, so it is refused."""
    with pytest.raises(RedoxConfigError, match="log_id"):
        calls(World(), organization_id="17").log(log_id)


@pytest.mark.parametrize("body", ["{}", "[]", '{"payload": []}', '{"payload": {"result": 7}}'])
def test_an_answer_without_a_log_is_a_protocol_error(body: str) -> None:
    """What holds no log is not taken for one."""
    world = World(*[answer(200, body)] * 5)
    with pytest.raises(RedoxProtocolError):
        world.run(calls(world, organization_id="17").log("l"))


def test_a_log_that_is_missing_is_a_response_error() -> None:
    """A new log may not be visible at once: a 404 says so."""
    world = World(answer(404))
    with pytest.raises(RedoxResponseError) as raised:
        world.run(calls(world, organization_id="17").log("l"))
    assert raised.value.status == 404


def test_a_log_needs_an_organization() -> None:
    """The Platform API's paths have the organization in them."""
    with pytest.raises(RedoxConfigError, match=r"^extra\.organization_id: missing"):
        calls(World()).log("l")


def test_a_log_is_a_question() -> None:
    """A look-up is tried until patience runs out."""
    world = World(*[answer(504)] * 5)
    with pytest.raises(RedoxServerError):
        world.run(calls(world, organization_id="17").log("l"))


def test_destinations_are_listed_by_tag_and_data_model() -> None:
    """All described destinations, those with a tag, and those with an ID for a data model can be listed."""
    described = {
        "a": {"slug": "a", "tags": ["east"]},
        "b": {"id": UUID},
        "c": {"ids": {"Clinical Summary": UUID}, "tags": ["east", "lab"]},
    }
    made = calls(World(), destinations=described)
    assert [one.name for one in made.destinations()] == ["a", "b", "c"]
    assert [one.name for one in made.destinations(tag="east")] == ["a", "c"]
    assert [one.name for one in made.destinations(data_model="ClinicalSummary")] == ["b", "c"]
    assert [one.name for one in made.destinations(tag="lab", data_model="Order")] == []


@pytest.mark.parametrize(
    "event",
    ['"EventType":"NewPatient","EventType":"Query"', '"EventType":"Query","Event\\u0054ype":"NewPatient"'],
    ids=["last", "escaped"],
)
def test_a_body_that_readers_could_take_differently_is_no_query(event: str) -> None:
    """Redox may read the other one of two events: what may be a write is not repeated."""
    body = '{"Meta":{"DataModel":"PatientSearch",%s}}'
    assert may_repeat("POST", "https://x/endpoint", (body % '"EventType":"Query"').encode())
    assert not may_repeat("POST", "https://x/endpoint", (body % event).encode())
