"""Whatever comes in, from a server, from storage, from a connection or from an author: a value, or an error of ours.

And no error, in its whole chain, holds what came in. `FUZZ=5000` in the environment looks longer.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_redox.cli.connections import from_json
from airflow_provider_redox.downstream import read_resources
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxError, RedoxProtocolError
from airflow_provider_redox.operators.pulls.drain import Drain, resumable_results
from airflow_provider_redox.protocol import (
    acceptance,
    answers,
    data_model,
    failures,
    fhir,
    message_header,
    pages,
    platform,
    uploads,
)
from airflow_provider_redox.protocol.acceptance import Question
from airflow_provider_redox.protocol.effects import RedoxResponse, Request
from airflow_provider_redox.protocol.filters import Filters
from airflow_provider_redox.protocol.inbound import identify
from airflow_provider_redox.protocol.keys import parse_keys
from airflow_provider_redox.protocol.outcomes import RetryPolicy, retry_after
from airflow_provider_redox.protocol.pointers import find
from airflow_provider_redox.protocol.settings import Settings
from airflow_provider_redox.protocol.token import LONGEST_LIFETIME, parse_token
from airflow_provider_redox.seal import Seal
from airflow_provider_redox.storage.checkpoint import Checkpoint, Saved
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.inputs import read_json
from airflow_provider_redox.storage.layout import Layout, Owner
from airflow_provider_redox.storage.results import Results
from airflow_provider_redox.storage.send_ledger import SendLedger
from airflow_provider_redox.storage.send_marker import Mark, VariableMarker
from airflow_provider_redox.storage.send_record import SendRecord, Trace
from tests.client.drivers import connection_to, pem, settings_of
from tests.security.witness import chain

fuzz = settings(
    max_examples=int(os.environ.get("FUZZ", "30")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
CANARY = "Zyxwvu, 4711"
SETTINGS = settings_of(connection_to("https://redox.example", source_id="source-1"))
LAYOUT = Layout("file:///nowhere", "general", "Development", Owner("dag", "run", "task"))

texts = st.text(max_size=20) | st.just(CANARY) | st.builds(lambda one, two: one + CANARY + two, st.text(), st.text())
odd = st.sampled_from(["\ud800", "\0", "\r\nX: 1", "﻿", "١٢", "NaN", "1e999", "9" * 5000, "../..", "{{ 1 }}", "a" * 5000])
numbers = st.integers() | st.floats() | st.sampled_from([10**400, -1, 0, math.inf, math.nan, 1e308])
leaves = st.none() | st.booleans() | numbers | texts | odd
NAMES = (
    *(
        "resourceType",
        "type",
        "id",
        "meta",
        "entry",
        "resource",
        "link",
        "relation",
        "url",
        "search",
        "mode",
        "total",
        "issue",
    ),
    *("severity", "code", "diagnostics", "details", "coding", "text", "expression", "Meta", "Errors", "Logs", "ID"),
    *(
        "Text",
        "Type",
        "Module",
        "DestinationStatusCode",
        "Destinations",
        "DataModel",
        "EventType",
        "access_token",
        "expires_in",
    ),
    *("token_type", "error", "error_description", "payload", "results", "page", "URI", "response", "identifier", "output"),
    *(
        "count",
        "sha256",
        "status",
        "hash",
        "outcome",
        "sent_at",
        "open_from",
        "log_ids",
        "by",
        "at",
        "keys",
        "kty",
        "crv",
        "n",
    ),
    *("e", "d", "p", "q", "x", "y", "kid", "alg", "versionId", "lastUpdated", "$upload", "self", "next"),
)
names = st.sampled_from(NAMES)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(names | texts, inner, max_size=6)


values = st.recursive(leaves, nested, max_leaves=25)
objects = st.dictionaries(names | texts, values, max_size=8)


def as_json(value: Any) -> bytes:
    """Write JSON as a careless server would: NaN, lone surrogates and numbers without measure are in it."""
    return json.dumps(value).encode()


bodies = st.binary(max_size=200) | values.map(as_json) | objects.map(as_json)


class Body(bytes):
    """Bytes whose repr is short."""

    def __repr__(self) -> str:
        return f"Body({bytes(self[:60])!r}, {len(self)} bytes)"


hostile = st.sampled_from(
    [
        b"[" * 100_000,
        b'{"resourceType":' * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": 1e999, "b": NaN, "c": -Infinity}',
        b'{"resourceType": "Bundle", "resourceType": "Patient", "type": "searchset", "Meta": {}, "Meta": {"Errors": [1]}}',
        b'{"resourceType": "Bundle", "type": "searchset", "total": 1e400}',
        b'{"resourceType": "Bundle", "type": "searchset", "total": 99999999999999999999999999}',
        b'{"resourceType": "\\ud800", "id": "\\udfff"}',
        b'\xef\xbb\xbf{"resourceType": "Patient"}',
        b'\xff\xfe{\x00"\x00',
        b'"' + CANARY.encode() + b"\xff",
        b'{"Meta": {"Logs": [{"ID": {"a": 1}}, 3, null, {"ID": 1e400}], "Errors": {"a": 1}}}',
    ]
).map(Body)
headers = st.dictionaries(
    st.sampled_from(["content-type", "date", "retry-after", "redox-trace-id", "x-ratelimit-limit", "location"]),
    texts | odd | st.dates().map(str),
)


def survives(read: Callable[[], Any], *, raising: type[BaseException] | tuple[type[BaseException], ...] = RedoxError) -> Any:
    """Give what comes of it; an error is of the kinds named, and holds nothing of what came in."""
    try:
        return read()
    except raising as error:
        told = chain(error)
        assert CANARY not in told
        assert json.dumps(CANARY)[1:-1] not in told
        return None


SENT = Request("POST", "https://api.redoxengine.com/x", "POST /x", body=b'{"entry": [{"resource": {"id": "m-1"}}]}')
READERS: dict[str, Callable[[RedoxResponse], Any]] = {
    "a page": pages.read_page,
    "a resource": lambda response: answers.read_resource(response, "Patient", "1"),
    "a writeback": lambda response: answers.read_written(response, SENT),
    "any request": lambda response: answers.read_taken(response, SENT),
    "a log": platform.read_log,
    "logs": platform._read,
    "a message's answer": data_model.read_answer,
    "a message's acceptance": lambda response: acceptance.read_accepted(response, Question("results", "new", 2)),
    "a query's answer": lambda response: acceptance.read_answered(response, Question("results", "query")),
    "an upload's answer": lambda response: uploads.read_uri(response, "https://blob.redoxengine.com/upload"),
    "an error": failures.raise_refusal,
    "a token's refusal": lambda response: failures.token_refusal(response, now=0.0),
    "a token": lambda response: parse_token(response.json(), now=0.0),
}
"""What reads an answer of a server: one that is new joins by a line."""


@pytest.mark.parametrize("reader", READERS)
@given(body=bodies | hostile, status=st.sampled_from([200, 201, 400, 401, 404, 422, 429, 500, 503]), said=headers)
@example(
    body=b'{"Meta": {"Errors": [{"Module": "DataModels", "Text": "Required field missing - Zyxwvu, 4711"}]}}',
    status=400,
    said={},
)
@fuzz
def test_any_answer(reader: str, body: bytes, status: int, said: Mapping[str, str]) -> None:
    """Whatever a server answers, reading it gives something or an error of ours, which does not hold the answer."""
    survives(lambda: READERS[reader](RedoxResponse(status, dict(said), body)))


@given(body=bodies | hostile)
@fuzz
def test_any_token_answer(body: bytes) -> None:
    """Whatever the token endpoint answers, a token that comes of it fits into a header and ends within an hour."""
    token = survives(lambda: parse_token(RedoxResponse(200, {}, body).json(), now=1000.0), raising=RedoxProtocolError)
    if token is not None:
        assert token.value.isascii()
        assert token.value.isprintable()
        assert len(token.value) < 16 * 1024
        assert 0 < token.expires_at - 1000.0 <= LONGEST_LIFETIME


@given(value=texts | odd | st.text(alphabet="0123456789.-+eE ,:GMTMonJa") | st.datetimes().map(str))
@example(value="-1")
@example(value="1e9")
@example(value="Mon, 01 Jan 9999 00:00:00 GMT")
@example(value="Mon, 01 Jan 0001 00:00:00 +2359")
@example(value="9" * 5000)
@fuzz
def test_any_retry_after(value: str) -> None:
    """Whatever a server says, the wait is none, or as long as patience allows."""
    response = RedoxResponse(429, {"retry-after": value})
    stated = retry_after(response.headers, now=1_800_000_000.0)
    assert stated is None or (stated >= 0 and math.isfinite(stated))
    pause = RetryPolicy().pause(response, attempt=1, elapsed=0.0, now=1_800_000_000.0, jitter=0.5)
    assert pause is None or 0 <= pause <= 900


@given(link=texts | odd | st.text(alphabet="htps:/@.#?%2eE\\[]01redox"), relative=st.booleans())
@fuzz
def test_any_next_link(link: str, *, relative: bool) -> None:
    """Whatever a link says, it is refused by an error of ours, or is below our own base; as a self link it is no error."""
    endpoint = fhir.endpoint(SETTINGS, "general-hospital", "Development")
    followed = survives(lambda: endpoint.follow(link if relative else f"{endpoint.url}{link}"))
    assert followed is None or followed.startswith(endpoint.url)
    assert not Filters.of(b"family=x").heard(link).confirmed or "family" in link


def mutated(text: str) -> st.SearchStrategy[str]:
    """Give a text with a piece of it replaced, taken out or doubled."""
    places = st.integers(0, len(text))
    return st.builds(lambda one, two, new: text[: min(one, two)] + new + text[max(one, two) :], places, places, texts | odd)


@given(text=texts | odd | mutated(pem()) | objects.map(json.dumps) | bodies.map(lambda body: body.decode("latin-1")))
@fuzz
def test_any_key(text: str) -> None:
    """Whatever is pasted as a key, it is a key or a RedoxConfigError, which holds neither it nor a line of it."""
    try:
        parse_keys(text)
    except RedoxConfigError as error:
        told = chain(error)
        assert CANARY not in told
        assert not any(line in told for line in text.splitlines() if len(line) > 40)


@given(extra=st.dictionaries(st.sampled_from(sorted(connection_to("")["extra"])) | names | texts, values))
@fuzz
def test_any_extra(extra: dict[str, Any]) -> None:
    """Whatever the extra of a connection holds, there are settings or a RedoxConfigError without any of it."""
    keys = parse_keys(pem())
    survives(lambda: Settings.from_fields(keys=keys, extra=extra), raising=RedoxConfigError)


@given(text=texts | odd | objects.map(json.dumps) | values.map(json.dumps))
@fuzz
def test_any_connection_file(text: str) -> None:
    """Whatever a file holds that a command is given as a connection, it is one or a RedoxConfigError."""
    survives(lambda: from_json(text), raising=RedoxConfigError)


@given(message=objects | st.fixed_dictionaries({"Meta": objects}) | values)
@fuzz
def test_any_message(message: Any) -> None:
    """Whatever an author sends, it is encoded or refused by a RedoxConfigError without its content."""

    def send() -> None:
        whole = data_model.complete(message, SETTINGS, destinations=None, environment=None, now=0.0)
        data_model.request(SETTINGS, whole, {})
        data_model.is_query(whole)

    survives(send, raising=RedoxConfigError)
    survives(lambda: uploads.uploads_in(message), raising=RedoxConfigError)
    survives(lambda: data_model.encode(message), raising=RedoxConfigError)


@given(bundle=objects | values | st.fixed_dictionaries({"resourceType": st.just("Bundle"), "entry": st.lists(objects)}))
@fuzz
def test_any_bundle_to_write(bundle: Any) -> None:
    """Whatever an author writes back, it is completed or refused by a RedoxConfigError without its content."""

    def write() -> None:
        whole = message_header.completed(
            bundle, resource_type="Observation", operation="$observation-create", message_id="m-1"
        )
        data_model.encode(whole, where="bundle")

    survives(write, raising=RedoxConfigError)


@given(params=objects | values)
@fuzz
def test_any_search(params: Any) -> None:
    """Whatever an author searches for, it is a form or a RedoxConfigError without the values."""
    form = survives(lambda: fhir.search_form(params), raising=RedoxConfigError)
    assert form is None or form.isascii()


@given(message=objects, pointer=texts | odd | st.lists(names).map(lambda steps: "/" + "/".join(steps)))
@fuzz
def test_any_pointer(message: Any, pointer: str) -> None:
    """Whatever a pointer leads to, it is a key or a RedoxConfigError that does not quote the message."""
    if CANARY in pointer:  # the author's own word may be told
        return
    found = survives(lambda: find(message, pointer, where="idempotency_key"), raising=RedoxConfigError)
    assert found is None or isinstance(found, str)


manifests = objects | st.fixed_dictionaries(
    {"output": st.lists(st.fixed_dictionaries({"type": texts, "url": odd}) | objects, max_size=3) | values}
)


@given(manifest=manifests)
@fuzz
def test_any_manifest(manifest: Any) -> None:
    """Whatever is read downstream as a manifest, there are resources or an error of ours."""
    survives(lambda: list(read_resources(manifest)), raising=(RedoxError, OSError))


@given(content=bodies | hostile)
@fuzz
def test_any_stored_manifest(content: bytes, tmp_path: Path) -> None:
    """Whatever lies in the place of an earlier manifest, a new result replaces it; read, it is one or an error of ours."""
    layout = Layout(f"file://{tmp_path}", "general", "Development", Owner("dag", "run", "task"))
    Files(layout.root).write(layout.manifest, content)
    survives(lambda: list(read_resources(layout.manifest)), raising=(RedoxError, OSError))
    with Results(layout) as results:
        results.commit(transaction_time="2026-11-23T10:00:00.000Z", request="https://x/_search", extension={})
    assert json.loads(Files(layout.root).read(layout.manifest) or b"")["output"] == []


@given(content=bodies | hostile)
@fuzz
def test_any_file_of_an_author(content: bytes, tmp_path: Path) -> None:
    """Whatever a JSON file to be sent holds, it is JSON or a RedoxConfigError without its content."""
    (tmp_path / "file").write_bytes(content)
    survives(lambda: read_json(str(tmp_path / "file"), where="bundle_path", limit=10_000_000), raising=RedoxConfigError)


def checkpoint_at(root: Path) -> tuple[Checkpoint, Layout, Seal]:
    layout = Layout(f"file://{root}", "general", "Development", Owner("dag", "run", "task"))
    seal = Seal(SETTINGS.key, purpose="checkpoint", bound_to=layout.workspace)
    return Checkpoint(Files(layout.root), seal=seal, search="digest"), layout, seal


saved = st.fixed_dictionaries(
    {"search": st.just("digest") | texts, "point": st.fixed_dictionaries({"progress": values, "at": numbers}) | values},
    optional={"parts": values, "journal": texts, "whole": st.booleans(), "tries": numbers},
)


@given(content=bodies | hostile, sealed=st.booleans(), state=saved)
@fuzz
def test_any_checkpoint(content: bytes, *, sealed: bool, state: Any, tmp_path: Path) -> None:
    """Whatever lies in the place of a checkpoint, sealed by another version of us too, a search goes on or begins anew."""
    checkpoint, layout, seal = checkpoint_at(tmp_path)
    lying = seal.close(as_json(state)).encode() if sealed else content
    Files(layout.root).write(layout.checkpoint(1), lying)
    loaded = survives(lambda: checkpoint.load(layout.checkpoint(1)))
    assert loaded is None or isinstance(loaded, Saved)
    Files(layout.root).write(layout.attempted(1), b"{}")
    with Results(layout, checkpoint=checkpoint) as results:
        survives(lambda: results.restore(lambda kind, line: None))
    Files(layout.root).write(layout.checkpoint(1), lying)
    with patch("airflow_provider_redox.operators.pulls.drain.digest_of", lambda *_: "digest"):
        drained = resumable_results(layout, SETTINGS, many=False, compression=None)
    with drained:
        survives(Drain(1, None, str, drained, None)._take_up)  # type: ignore[arg-type]


@given(body=bodies | hostile | st.fixed_dictionaries({"Meta": objects}).map(as_json))
@fuzz
def test_any_pushed_message(body: bytes) -> None:
    """Whatever is pushed to the receiver, it is none, or is named by letters, digits and signs that lead nowhere else."""
    identity = survives(lambda: identify(body), raising=RedoxProtocolError)
    if identity is not None:
        parts = (identity.key, identity.data_model, identity.event_type, identity.source)
        assert all(re.fullmatch(r"[A-Za-z0-9-]+", part, re.ASCII) for part in parts), parts


@given(content=bodies | hostile, salt=st.binary(max_size=70) | st.just(b"0f" * 32))
@fuzz
def test_any_ledger(content: bytes, salt: bytes, tmp_path: Path) -> None:
    """Whatever lies in a ledger, a key that is there is taken by somebody; who it is may be unknown."""
    root = f"file://{tmp_path}/{os.urandom(4).hex()}"
    Files(root).write(f"{root}/salt", salt)
    ledger = SendLedger(root)
    url = survives(lambda: ledger.url_of("PatientAdmin", "NewPatient", CANARY))
    if url is None:
        assert not re.fullmatch(rb"[0-9a-f]{64}", salt.strip())
        return
    assert CANARY not in url
    Files(root).write(url, content)
    entry = ledger.claim(url, "dag/run/task/-1", "digest")
    assert entry is not None
    assert isinstance(entry.by, str)


@given(content=bodies | hostile | objects.map(as_json))
@fuzz
def test_any_send_record(content: bytes, tmp_path: Path) -> None:
    """Whatever lies in the place of a message's line, something was sent: the next try does not send by itself."""
    layout = Layout(f"file://{tmp_path}", "general", "Development", Owner("dag", "run", "task"))
    record = SendRecord(layout, layout.result("PatientAdmin", 0), known={"data_model": "PatientAdmin"})
    Files(layout.root).write(record.url, content)
    earlier = record.earlier()
    assert isinstance(earlier, Trace)


@given(content=texts | odd | objects.map(json.dumps) | bodies.map(lambda body: body.decode("latin-1")))
@fuzz
def test_any_marker(content: str) -> None:
    """Whatever lies in the Variable of a send, something was sent."""
    from airflow.providers.common.compat.sdk import Variable

    with patch.object(Variable, "get", lambda *_args, **_kwargs: content):
        mark = VariableMarker("redox_send__x").read()
    assert isinstance(mark, Mark)
