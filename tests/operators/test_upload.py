"""Uploads from storage: by themselves, and as parts of a message."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, BaseOperator

from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError, RedoxConfigError
from airflow_provider_redox.hooks.redox import RedoxHook
from airflow_provider_redox.operators.data_model import RedoxDataModelPostOperator
from airflow_provider_redox.operators.upload import RedoxUploadOperator
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from airflow_provider_redox.protocol.uploads import MAX_BYTES
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.send_marker import Mark
from airflow_provider_redox.storage.send_record import SendRecord
from tests.security.witness import chain
from tests.support.refusals import refused
from tests.support.sandbox import Sandbox
from tests.support.tasks import Pulled


def operator(**arguments: Any) -> RedoxUploadOperator:
    made = RedoxUploadOperator(task_id="upload", **arguments)
    made.hook.retry = RetryPolicy(attempts=3, base=0.01, cap=0.02)
    return made


@pytest.fixture
def scans(tmp_path: Path) -> list[str]:
    """Two files, named after patients as files are."""
    for name in ("quillfeather.pdf", "featherstone.tif"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    return [f"{tmp_path}/quillfeather.pdf", f"file://{tmp_path}/featherstone.tif"]


def fetched(uri: str) -> bytes:
    headers = {"Authorization": f"Bearer {RedoxHook().get_access_token()}"}
    return requests.get(uri, headers=headers, timeout=10).content


def test_files_are_uploaded_in_their_order(execute: Callable[..., Any], output: str, scans: list[str], sandbox: Sandbox):
    """Each URI gives its file's bytes back, and no file's name leaves the worker."""
    result = execute(operator(paths=scans, output_path=output))
    assert result["uploaded"] == 2
    assert [fetched(uri) for uri in result["uris"]] == [b"quillfeather.pdf" * 1000, b"featherstone.tif" * 1000]
    heads = [entry["body"].partition("\r\n\r\n")[0] for entry in sandbox.ledger("/upload")]
    assert ['filename="file.pdf"' in heads[0], 'filename="file.tif"' in heads[1]] == [True, True]


@pytest.mark.parametrize("body", [{}, {"Meta": {}}, "", {"url": "http://127.0.0.1/upload", "files": 1}])
def test_an_upload_without_a_uri_is_ambiguous(
    execute: Callable[..., Any], output: str, scans: list[str], sandbox: Sandbox, body: Any
):
    """A success that does not say where the file is; no retry uploads a second copy by itself."""
    if isinstance(body, dict) and "url" in body:
        body = {**body, "url": f"{RedoxHook().client.settings.blob_url}/upload"}
    sandbox.fault("body", body=body, match={"path": "/upload"})
    for try_number in (1, 2):
        with pytest.raises(AirflowFailException) as caught:
            execute(operator(path=scans[0], output_path=output), try_number=try_number, max_tries=9)
        assert isinstance(caught.value.__cause__, RedoxAmbiguousOutcomeError)
    assert len(sandbox.ledger("/upload")) == 1


def test_the_uri_of_another_file_is_no_evidence(
    execute: Callable[..., Any], output: str, scans: list[str], sandbox: Sandbox, tmp_path: Path
):
    """A cache that answers every upload alike; two files of one content may well have one URI."""
    (tmp_path / "copy.pdf").write_bytes(Path(scans[0]).read_bytes())
    same = {"URI": "https://blob.redoxengine.com/1"}
    sandbox.fault("body", body=same, status=201, match={"path": "/upload"}, times=None)
    copies = execute(operator(paths=[scans[0], str(tmp_path / "copy.pdf")], output_path=f"{output}/copies"))
    assert copies["uris"] == [same["URI"]] * 2
    with pytest.raises(AirflowFailException, match="file 2: the answer gives the URI of an earlier file"):
        execute(operator(paths=scans, output_path=output))


def test_one_file_is_a_list_of_one(execute: Callable[..., Any], output: str, scans: list[str]):
    """The result has one shape."""
    assert len(execute(operator(path=scans[0], output_path=output))["uris"]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "path, paths: give one of them"),
        ({"path": "/x", "paths": ["/x"]}, "path, paths: give one of them"),
        ({"paths": []}, "paths: is empty"),
        ({"paths": "/x"}, "paths: must be a list"),
        ({"path": "/no/such/file"}, "path: there is no file"),
        ({"path": "relative"}, "path: must be an absolute path"),
        ({"path": "/x", "on_ambiguous": "reconcile"}, "on_ambiguous: must be one of fail, resend"),
    ],
)
def test_bad_paths_are_named_before_anything_is_sent(
    execute: Callable[..., Any], sandbox: Sandbox, arguments: dict[str, Any], words: str
):
    """What cannot be right is a RedoxConfigError, with nothing sent."""
    with refused(words):
        execute(operator(**arguments))
    assert sandbox.ledger() == []


def test_every_file_is_looked_at_before_the_first_is_sent(
    execute: Callable[..., Any], scans: list[str], sandbox: Sandbox, tmp_path: Path
):
    """One that is gone, or too large, is found while nothing has been uploaded; it is named by number."""
    with (tmp_path / "large").open("wb") as large:
        large.truncate(MAX_BYTES + 1)
    for bad, words in (
        (f"{tmp_path}/gone", r"paths\[2\]: there is no file"),
        (f"{tmp_path}/large", r"paths\[2\]: .* 31457281"),
    ):
        with pytest.raises(AirflowFailException, match=words):
            execute(operator(paths=[*scans, bad]))
    assert sandbox.ledger() == []


def test_an_upload_is_sent_once(execute: Callable[..., Any], output: str, scans: list[str], sandbox: Sandbox):
    """An unknown outcome fails for good, and neither Airflow's retry nor a clear sends again, but one with resend=True."""
    sandbox.fault("drop", when="after", match={"path": "/upload"})
    for facts in ({}, {"try_number": 2, "max_tries": 0}, {"try_number": 2, "max_tries": 1}):
        with pytest.raises(AirflowFailException) as caught:
            execute(operator(path=scans[0], output_path=output), **facts)
        assert isinstance(caught.value.__cause__, RedoxAmbiguousOutcomeError)
    assert sandbox.stats()["uploads"] == 1
    execute(operator(path=scans[0], output_path=output, resend=True), try_number=2, max_tries=1)
    assert sandbox.stats()["uploads"] == 2


def test_a_file_that_was_uploaded_keeps_its_uri(
    execute: Callable[..., Any], output: str, scans: list[str], sandbox: Sandbox
):
    """When the second of two files fails, a later try uploads that one only; another content is not taken for it."""
    sandbox.fault("status", status=400, match={"path": "/upload"}, skip=1)
    with pytest.raises(AirflowFailException):
        execute(operator(paths=scans, output_path=output))
    result = execute(operator(paths=scans, output_path=output), try_number=2, max_tries=1)
    assert [fetched(uri)[:5] for uri in result["uris"]] == [b"quill", b"feath"]
    assert sandbox.stats()["uploads"] == 2
    Path(scans[0]).write_bytes(b"another")
    with pytest.raises(AirflowFailException, match="another file"):
        execute(operator(paths=scans, output_path=output), try_number=3, max_tries=2)


def test_an_author_may_have_it_repeated(execute: Callable[..., Any], scans: list[str], sandbox: Sandbox):
    """A second copy that no message names does no harm, if the author says so."""
    sandbox.fault("drop", when="after", match={"path": "/upload"}, times=1)
    assert execute(operator(path=scans[0], idempotent=True), try_number=2, max_tries=5)["uploaded"] == 1
    assert operator(path="/x", retries=3, idempotent=True).retries == 3


def test_an_upload_whose_answer_was_lost_is_ambiguous(
    execute: Callable[..., Any], output: str, scans: list[str], sandbox: Sandbox, markers: dict[str, Mark]
):
    """Where the store failed when the answer came, a later try knows that it arrived, and not where."""
    with pytest.MonkeyPatch.context() as patched:
        real = SendRecord._note
        fails = lambda self, outcome, **facts: real(self, outcome, **facts) if outcome == "sending" else 1 / 0  # noqa: E731
        patched.setattr(SendRecord, "_note", fails)
        execute(operator(path=scans[0], output_path=output))
    with pytest.raises(AirflowFailException, match="nobody knows its URI") as caught:
        execute(operator(path=scans[0], output_path=output), try_number=2, max_tries=1)
    assert isinstance(caught.value.__cause__, RedoxAmbiguousOutcomeError)
    assert sandbox.stats()["uploads"] == 1


@pytest.mark.parametrize("trouble", [FileNotFoundError, PermissionError, OSError])
def test_a_file_that_goes_away_is_not_named(
    execute: Callable[..., Any], scans: list[str], monkeypatch: pytest.MonkeyPatch, trouble: type[OSError]
):
    """It was found, and is gone when it is opened: the error has the argument and no part of the file's name."""

    def gone(self: Files, url: str) -> Any:
        raise trouble(2, "no such file", url)

    monkeypatch.setattr(Files, "open", gone)
    with pytest.raises((AirflowFailException, OSError)) as caught:
        execute(operator(path=scans[0]))
    assert "path: " in str(caught.value)
    assert "quillfeather" not in chain(caught.value)


# ── in a message ──


def media(*paths: Any, **more: Any) -> dict[str, Any]:
    contents = [{"$upload": path} for path in paths]
    return {
        "Meta": {"DataModel": "Media", "EventType": "New"},
        "Media": {"FileContents": contents[0], "More": contents, **more},
    }


@pytest.fixture
def post(execute: Callable[..., Any], output: str, redox_connection: Sandbox) -> Callable[[Any], Any]:
    """Post a message, and give the body that arrived."""

    def run(payload: Any) -> Any:
        execute(RedoxDataModelPostOperator(task_id="post", payload=payload, results_path=output))
        (arrived,) = redox_connection.control("GET", "messages")
        return arrived["body"]

    return run


def test_a_messages_files_are_uploaded_and_replaced(post: Callable[[Any], Any], redox_connection: Sandbox, scans: list[str]):
    """Each file is uploaded once and stands in the message as its URI; no name of a file is in it."""
    arrived = post(media(*scans))
    assert fetched(arrived["Media"]["FileContents"]) == b"quillfeather.pdf" * 1000
    assert arrived["Media"]["More"][0] == arrived["Media"]["FileContents"]
    assert arrived["Media"]["FileContents"].startswith(f"{redox_connection.url}/blob/")
    assert redox_connection.stats()["uploads"] == 2
    assert "quillfeather" not in json.dumps(arrived)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"Other": {"$upload": "/no/such/file"}}, r"payload: /Media/Other: there is no file"),
        ({"Other": {"$upload": 7}}, r"payload: /Media/Other: must be"),
        ({"Other": object()}, "payload: /Media/Other: .*cannot be sent"),
        ({"Other": "x" * (40 * 1024 * 1024)}, "4194[0-9]+ bytes, and Redox takes 41943040"),
    ],
    ids=["gone", "no path", "no JSON", "too large"],
)
def test_a_message_that_cannot_be_sent_uploads_nothing(
    post: Callable[[Any], Any], redox_connection: Sandbox, scans: list[str], more: dict[str, Any], words: str
):
    """All that can be known before the first upload is checked before it."""
    with pytest.raises(AirflowFailException, match=words) as caught:
        post(media(*scans, **more))
    assert "quillfeather" not in str(caught.value)
    assert redox_connection.ledger() == []


def test_an_accepted_message_needs_its_files_no_more(
    execute: Callable[..., Any], output: str, redox_connection: Sandbox, scans: list[str]
):
    """A clear of what was accepted says so, though the uploaded file is gone by then."""
    arguments = {"task_id": "post", "payload": media(scans[0]), "results_path": output}
    execute(RedoxDataModelPostOperator(**arguments))
    Path(scans[0]).unlink()
    assert execute(RedoxDataModelPostOperator(**arguments), try_number=2, max_tries=1)["already_sent"] == 1
    assert redox_connection.stats()["uploads"] == 1


# ── who may name a file ──


def relayed(path: str) -> dict[str, Any]:
    """A message as a hospital could send it."""
    return {"Meta": {"DataModel": "Media", "EventType": "New"}, "Media": {"FileContents": {"$upload": path}}}


@pytest.mark.parametrize("part", ["whole", "subtree", "XCom", "mapped", "meta"])
def test_a_message_that_came_as_data_chooses_no_file(
    execute: Callable[..., Any], output: str, redox_connection: Sandbox, scans: list[str], part: str
):
    """By a template, an XCom or a mapped task: a mark that the DAG does not have is refused, and nothing is uploaded."""
    message = relayed(scans[0])
    with DAG("relay", schedule=None, render_template_as_native_obj=True, user_defined_macros={"message": message}):
        source = BaseOperator(task_id="source")
        payload: Any = {
            "whole": "{{ message }}",
            "subtree": {"Meta": message["Meta"], "Media": "{{ message.Media }}"},
            "meta": {"Meta": message["Meta"], "Media": {}},
        }.get(part, source.output)
        meta = {"Extra": message["Media"]} if part == "meta" else None
        arguments = {"task_id": "post", "results_path": output, "meta": meta}
        if part == "mapped":
            RedoxDataModelPostOperator.partial(**arguments).expand(payload=payload)
        else:
            operator = RedoxDataModelPostOperator(payload=payload, **arguments)
    if part == "mapped":
        operator = RedoxDataModelPostOperator(payload=message, **arguments, dag=None)
        operator._expanded = (operator.payload,)  # what the run of tests/operators/test_templates.py finds
    if part == "XCom":
        operator.payload = Pulled(message)
    with pytest.raises(
        AirflowFailException, match=r"payload: /(Media/FileContents|Meta/Extra/FileContents): \$upload is data"
    ):
        execute(operator)
    assert redox_connection.ledger() == []


def test_a_path_may_be_a_template(execute: Callable[..., Any], output: str, redox_connection: Sandbox, scans: list[str]):
    """The mark stands in the DAG; its path is an argument like any other."""
    with DAG("scan", schedule=None, user_defined_macros={"scan": scans[0]}):
        operator = RedoxDataModelPostOperator(task_id="post", payload=relayed("{{ scan }}"), results_path=output)
    execute(operator)
    (arrived,) = redox_connection.control("GET", "messages")
    assert fetched(arrived["body"]["Media"]["FileContents"]) == b"quillfeather.pdf" * 1000


@pytest.mark.parametrize("kind", ["PEM", "JWK", "base64"])
@pytest.mark.parametrize("way", ["mark", "operator", "hook", "link"])
def test_a_private_key_is_never_uploaded(
    execute: Callable[..., Any], output: str, redox_connection: Sandbox, tmp_path: Path, kind: str, way: str
):
    """The connection's own key file foremost, by whichever path, and whoever named it."""
    pem = redox_connection.connection["password"]
    numbers = json.dumps({"kty": "RSA", "n": "x" * 340, "e": "AQAB", "d": "x" * 340})
    key = tmp_path / "key"
    key.write_text({"PEM": pem, "JWK": numbers, "base64": base64.b64encode(pem.encode()).decode()}[kind])
    path = tmp_path / "scan.pdf"
    path.symlink_to(key) if way == "link" else path.write_bytes(key.read_bytes())
    with pytest.raises(
        (AirflowFailException, RedoxConfigError), match="is a private key, which is never uploaded"
    ) as caught:
        if way == "operator":
            execute(operator(path=str(path), output_path=output))
        elif way == "hook":
            RedoxHook().upload(path)
        else:
            execute(RedoxDataModelPostOperator(task_id="post", payload=relayed(str(path)), results_path=output))
    assert "scan.pdf" not in str(caught.value)
    assert redox_connection.ledger("/upload") == []


@pytest.mark.parametrize("way", ["post", "query"])
def test_a_mark_in_a_hooks_message_is_refused(redox_connection: Sandbox, way: str):
    """It would be sent as it stands: hook.upload gives the URI to put there."""
    question = {"Meta": {"DataModel": "PatientSearch", "EventType": "Query"}, "Patient": {"$upload": "/etc/passwd"}}
    with pytest.raises(RedoxConfigError, match=r"^payload: /(Media/FileContents|Patient): \$upload is data here"):
        if way == "post":
            RedoxHook().post_data_model(relayed("/etc/passwd"))
        else:
            RedoxHook().query_data_model(question)
    assert redox_connection.ledger("/endpoint") == []
