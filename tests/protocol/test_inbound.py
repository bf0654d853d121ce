"""What Redox sends to a destination: who may, challenges, and what a message is."""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxProtocolError
from airflow_provider_redox.protocol.arrivals import part
from airflow_provider_redox.protocol.inbound import (
    Challenge,
    Tokens,
    challenge_of_body,
    challenge_of_query,
    identify,
)

OLD, NEW = "old-token-of-the-destination", "new-token-of-the-destination"
tokens = Tokens([OLD, NEW])


def headers(**values: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in values.items()]


@pytest.mark.parametrize("token", [OLD, NEW])
def test_each_of_several_tokens_is_taken(token: str):
    """While one token replaces another, both are taken, in either header and in both."""
    assert tokens.authorise(headers(verification_token=token))
    assert tokens.authorise(headers(authorization=f"Bearer {token}"))
    assert tokens.authorise(headers(verification_token=token, authorization=f"bearer {token}"))
    assert tokens.authorise(headers(verification_token=token, authorization="Basic of-a-gateway-in-front"))


@pytest.mark.parametrize(
    "shown",
    [
        [],
        headers(verification_token=""),
        headers(verification_token=NEW[:-1]),
        headers(verification_token=NEW + " "),
        headers(authorization=NEW),
        headers(authorization=f"Basic {NEW}"),
        headers(authorization="Bearer "),
        headers(verification_token="wrong", authorization=f"Bearer {NEW}"),
        [*headers(verification_token=NEW), *headers(verification_token=NEW)],
        [*headers(authorization=f"Bearer {NEW}"), *headers(authorization=f"Bearer {OLD}")],
        headers(x_verification_token=NEW),
        [(b"verification-token", b"\xff\xfe")],
    ],
)
def test_anything_else_is_refused(shown: list[tuple[bytes, bytes]]):
    """A wrong token beside a right one, a header that stands twice, another scheme, or nothing: refused."""
    assert not tokens.authorise(shown)


@pytest.mark.parametrize("given_tokens", [[], [""], ["short"], [NEW, "a token with spaces in it"], ["tökentökentökentöken"]])
def test_a_token_that_could_be_guessed_is_no_token(given_tokens: list[str]):
    """None, or one below 16 characters, is refused at the start, and not shown."""
    with pytest.raises(RedoxConfigError) as caught:
        Tokens(given_tokens)
    assert not any(token in str(caught.value) for token in given_tokens if token)


def test_tokens_are_not_shown():
    """The repr of tokens holds none."""
    assert NEW not in repr(tokens)


def test_a_challenge_is_read_from_a_body_and_from_a_query():
    """Redox asks in either way."""
    asked = Challenge(NEW.encode(), "0a1b-2c3d")
    assert challenge_of_body(json.dumps({"verification-token": NEW, "challenge": "0a1b-2c3d"}).encode()) == asked
    assert challenge_of_query(f"verification-token={NEW}&challenge=0a1b-2c3d".encode()) == asked


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"challenge": "x"}',
        b'{"verification-token": 1, "challenge": "x"}',
        b'{"verification-token": "t", "challenge": "<script>"}',
        b'{"verification-token": "t", "challenge": ""}',
        b'{"verification-token": "t", "challenge": "x", "more": "' + b"y" * 5000 + b'"}',
        b"[" * 2000,
    ],
)
def test_what_is_no_challenge_is_none(body: bytes):
    """Anything else is not echoed: no page, no long text, no guess."""
    assert challenge_of_body(body) is None


@pytest.mark.parametrize("query", [b"", b"a=b", b"challenge=%3Cb%3E", b"challenge=a&challenge=b", b"&" * 100, b"\xff=\xff"])
def test_what_is_no_challenge_in_a_query_is_none(query: bytes):
    """A query that holds no challenge, or two, is none."""
    assert challenge_of_query(query) is None


def data_model(**meta: Any) -> bytes:
    whole = {"DataModel": "Results", "EventType": "New", **meta}
    return json.dumps({"Meta": {name: value for name, value in whole.items() if value is not ...}, "Orders": []}).encode()


def test_a_data_model_message_is_known_by_its_log_id():
    """Log ID, data model, event type and the source's ID."""
    found = identify(data_model(Source={"ID": "s1", "Name": "General"}, Logs=[{"ID": "l1", "AttemptID": "a"}, {"ID": "l2"}]))
    assert (found.key, found.data_model, found.event_type, found.source) == ("l1", "Results", "New", "s1")


def test_the_attempt_is_no_part_of_what_a_message_is():
    """A redelivery has another attempt ID and is the same message."""
    assert identify(data_model(Logs=[{"ID": "l1", "AttemptID": "a"}])) == identify(
        data_model(Logs=[{"ID": "l1", "AttemptID": "b"}])
    )


@pytest.mark.parametrize("logs", [..., None, [], [{}], [{"ID": None}], [{"ID": ""}]])
def test_a_message_without_a_log_id_is_known_by_its_bytes(logs: Any):
    """The same bytes are the same message, others are another."""
    found = identify(data_model(Logs=logs))
    assert found == identify(data_model(Logs=logs))
    assert found.key.startswith("sha256-")
    assert found.key != identify(data_model(Logs=logs, EventType="Replace")).key


def test_a_fhir_bundle_is_known_by_its_message_header():
    """Its ID and its bytes, the last part of its event's URI, and the source's endpoint."""
    header = {
        "resourceType": "MessageHeader",
        "id": "h1",
        "eventUri": "https://fhir.redoxengine.com/EventDefinition/ResultCreated",
        "source": {"endpoint": "urn:uuid:7ce6f387-c33c-417d-8682-81e83628cbd9"},
    }
    body = json.dumps({"resourceType": "Bundle", "type": "message", "id": "b1", "entry": [{"resource": header}]}).encode()
    found = identify(body)
    assert (found.key.partition("-")[0], found.data_model, found.event_type) == ("h1", "FHIR", "ResultCreated")
    assert identify(body) == found
    assert identify(body.replace(b"b1", b"b2")).key != found.key  # another message, by a sender who gives IDs twice
    assert found.source == "7ce6f387-c33c-417d-8682-81e83628cbd9"


@pytest.mark.parametrize("identifier", ["1", "d9f5d293-7110-461e-a875-3beb089e79f3", "x" * 64, "../up" * 50])
def test_an_id_that_two_senders_chose_is_not_one_message(identifier: str):
    """Under one ID, however long, other bytes are told apart by 64 bits of their hash. A key is a part of a name."""

    def key(value: str) -> str:
        entries = [{"resource": {"resourceType": "MessageHeader", "id": identifier}}, {"resource": {"valueString": value}}]
        body = json.dumps({"resourceType": "Bundle", "type": "message", "entry": entries}).encode()
        found = identify(body).key
        assert found.endswith(f"-{hashlib.sha256(body).hexdigest()[:16]}")
        return found

    assert key("first") == key("first") != key("another hospital's")
    assert part(key("first")) == key("first")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"Meta": {}}',
        b'{"Meta": {"DataModel": "Results"}}',
        b'{"Meta": {"DataModel": 1, "EventType": "New"}}',
        b'{"resourceType": "Patient"}',
        b'{"resourceType": "Bundle"}',
        b'{"Meta": {"DataModel": "Results", "EventType": "New"}',
        b'{"Meta": {"DataModel": "Results", "EventType": "New"}, "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b"\xff\xfe",
        b"<html></html>",
    ],
)
def test_what_is_no_message_is_told(body: bytes):
    """An error that repeats nothing of it."""
    with pytest.raises(RedoxProtocolError) as caught:
        identify(body)
    assert caught.value.__cause__ is None


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_no_json_breaks_it(value: Any):
    """Any JSON is a message or told not to be one."""
    body = json.dumps({"Meta": {"DataModel": "Results", "EventType": "New", "Logs": value, "Source": value}}).encode()
    with contextlib.suppress(RedoxProtocolError):
        assert len(identify(body).key) <= 64
