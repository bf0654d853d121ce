"""Files beside messages: the request that uploads one, what its answer may be, and where a payload names them."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import (
    RedoxAmbiguousOutcomeError,
    RedoxConfigError,
    RedoxResponseError,
    RedoxSecurityError,
)
from airflow_provider_redox.protocol.calls import Calls
from airflow_provider_redox.protocol.effects import Stage
from airflow_provider_redox.protocol.uploads import (
    MAX_BYTES,
    PLACEHOLDER,
    File,
    Upload,
    marked,
    replace_uploads,
    uploads_in,
    with_uris,
    without_uploads,
)

from .flows import World, answer, failure, said_by
from .material import settings

URI = "https://blob.redoxengine.com/1"
DONE = answer(201, f'{{"URI": "{URI}"}}')
FILE = File(3, lambda: io.BytesIO(b"abc"), "pdf")


def upload(world: World, file: File = FILE, *, idempotent: bool = False, **extra: Any) -> Any:
    return world.run(Calls(settings(**extra), world.env()).upload(file, idempotent=idempotent))


# ── the request ──


def test_a_file_is_one_field_of_a_form() -> None:
    """It goes to blob_url as multipart/form-data, field `file`, with its length, the token and the source."""
    world = World(DONE)
    assert upload(world, source_id="source-1") == URI
    (request,) = world.sent
    assert (request.method, request.url) == ("POST", "https://blob.redoxengine.com/upload")
    assert request.headers["authorization"] == "Bearer token-1"
    assert request.headers["redox-source-id"] == "source-1"
    assert request.file is not None
    assert request.headers["content-length"] == str(request.file.length)
    boundary = request.headers["content-type"].removeprefix("multipart/form-data; boundary=")
    assert request.file.head.startswith(f"--{boundary}\r\n".encode())
    assert b'name="file"; filename="file.pdf"\r\nContent-Type: application/pdf\r\n\r\n' in request.file.head
    assert request.file.tail == f"\r\n--{boundary}--\r\n".encode()


def test_a_suffix_that_is_not_known_is_not_told() -> None:
    """What stands after a dot may be anything, a name too."""
    world = World(DONE)
    upload(world, File(1, lambda: io.BytesIO(b"x"), "Quillfeather"))
    assert world.sent[0].file is not None
    assert b'filename="file"\r\nContent-Type: application/octet-stream' in world.sent[0].file.head


@pytest.mark.parametrize(("size", "words"), [(0, "is empty"), (MAX_BYTES + 1, "31457281 bytes, and Redox takes 31457280")])
def test_a_file_has_one_byte_to_thirty_megabytes(size: int, words: str) -> None:
    """Another one is refused before anything is sent."""
    with pytest.raises(RedoxConfigError, match=words):
        upload(World(), File(size, io.BytesIO))
    assert upload(World(DONE), File(MAX_BYTES, io.BytesIO)) == URI


@pytest.mark.parametrize(
    ("happened", "error"),
    [(failure(Stage.UNANSWERED), RedoxAmbiguousOutcomeError), (answer(502), RedoxAmbiguousOutcomeError)],
    ids=str,
)
def test_an_upload_is_repeated_only_on_request(happened: Any, error: type[Exception]) -> None:
    """By default an unknown outcome is ambiguous; idempotent=True tries again."""
    with pytest.raises(error):
        upload(World(happened))
    world = World(happened, DONE)
    assert upload(world, idempotent=True) == URI
    assert len(world.sent) == 2


def test_a_refused_token_is_renewed_for_an_upload() -> None:
    """401 comes before the file is kept, so the file is sent once more with another token."""
    world = World(answer(401), DONE)
    assert upload(world) == URI
    assert [request.headers["authorization"] for request in world.sent] == ["Bearer token-1", "Bearer token-2"]


def test_a_free_account_may_not_upload() -> None:
    """403 is an error at once."""
    with pytest.raises(RedoxResponseError, match="403"):
        upload(World(answer(403)))


def test_a_redirect_is_not_followed() -> None:
    """A file and a token go to blob_url and to no other place."""
    world = World(answer(307, location="https://elsewhere.example/"))
    with pytest.raises(RedoxSecurityError):
        upload(world)
    assert len(world.sent) == 1


# ── the answer ──


@pytest.mark.parametrize(
    "reply",
    [
        answer(201, f'{{"URI": "{URI}"}}'),
        answer(200, f'{{"uri": "{URI}", "size": 3}}'),
        answer(200, f'{{"Url": "{URI}"}}'),
        answer(201, "", location=URI),
        answer(201, "{}", location=URI),
    ],
    ids=str,
)
def test_the_uri_is_found_where_it_is(reply: Any) -> None:
    """Redox answers {"URI": ...}; another spelling and a Location header are understood."""
    assert upload(World(reply)) == URI


@pytest.mark.parametrize(
    "reply",
    [
        answer(200, '{"url": "https://blob.redoxengine.com/upload", "files": {"file": "…"}}'),
        answer(200, "", location="https://login.example/"),
        answer(202, "{}", location=URI),
        answer(206, f'{{"URI": "{URI}"}}'),
    ],
    ids=str,
)
def test_an_echo_or_a_login_is_no_uri(reply: Any) -> None:
    """The address that was asked, or where somebody wants to be signed in, is not where the file is."""
    with pytest.raises(RedoxAmbiguousOutcomeError):
        upload(World(reply))


@pytest.mark.parametrize(
    "body", ["", "{}", "[]", '{"URI": 7}', '{"URI": ""}', '{"URI": "no uri"}', '{"URI": "https://x\\n"}', "<html>"]
)
def test_an_answer_without_a_uri_is_none(body: str) -> None:
    """A 2xx that does not say where the file is leaves its outcome unknown."""
    with pytest.raises(RedoxAmbiguousOutcomeError):
        upload(World(answer(201, body)))


# ── where files go ──


@pytest.mark.parametrize(
    ("host", "extra", "url"),
    [
        (None, {}, "https://blob.redoxengine.com"),
        (None, {"blob_url": "https://blob.example/base/"}, "https://blob.example/base"),
        ("http://127.0.0.1:8089", {}, "http://127.0.0.1:8089"),
        ("http://127.0.0.1:8089", {"blob_url": "http://localhost:1"}, "http://localhost:1"),
        ("https://api.ca.redoxengine.com", {"blob_url": "https://blob.ca.example"}, "https://blob.ca.example"),
        ("https://api.ca.redoxengine.com", {}, None),
    ],
)
def test_where_files_go(host: str | None, extra: dict[str, Any], url: str | None) -> None:
    """Redox's own host has Redox's own blob host, this machine has itself; any other host has to say."""
    assert settings(host=host, **extra).blob_url == url


def test_a_host_that_does_not_say_where_files_go_is_asked() -> None:
    """The error names the field, and nothing is sent."""
    with pytest.raises(RedoxConfigError, match=r"^extra\.blob_url: missing"):
        upload(World(), host="https://api.ca.redoxengine.com")


@pytest.mark.parametrize(
    "blob_url",
    [
        "http://blob.redoxengine.com",
        "ftp://blob.redoxengine.com",
        "blob.redoxengine.com",
        "https://canary@blob.redoxengine.com",
        "https://blob.redoxengine.com/?canary",
        "https://blob.redoxengine.com/#canary",
        "https://[canary",
    ],
)
def test_files_travel_encrypted_to_a_plain_address(blob_url: str) -> None:
    """Plain http is for this machine only; a user name, a query or a fragment is a mistake."""
    with pytest.raises(RedoxConfigError, match=r"^extra\.blob_url: ") as raised:
        settings(blob_url=blob_url)
    assert "canary" not in said_by(raised.value)


# ── in a payload ──


WRITTEN = {
    "Meta": {"DataModel": "Media"},
    "Media": {"FileContents": {"$upload": "/a.pdf"}, "More": [1, {"File": {"$upload": "/b.pdf"}}, {"$upload": "/a.pdf"}]},
}
PAYLOAD = marked(WRITTEN)


def test_a_payload_names_each_file_once() -> None:
    """Every path, with the place that names it first."""
    assert uploads_in(PAYLOAD) == {"/a.pdf": "/Media/FileContents", "/b.pdf": "/Media/More/1/File"}


def test_a_place_shows_field_names_only() -> None:
    """A key that does not look like a field of Redox's may be a value."""
    assert uploads_in({"Jane Quillfeather": Upload("/a")}) == {"/a": "/?"}


def test_files_are_uploaded_once_and_replaced() -> None:
    """Each path is uploaded once, and each place gets its URI, on a copy."""
    asked: list[str] = []
    sent = replace_uploads(PAYLOAD, lambda path: asked.append(path) or f"urn:{path}")  # type: ignore[func-returns-value]
    assert asked == ["/a.pdf", "/b.pdf"]
    assert sent["Media"] == {"FileContents": "urn:/a.pdf", "More": [1, {"File": "urn:/b.pdf"}, "urn:/a.pdf"]}
    assert PAYLOAD["Media"]["FileContents"] == Upload("/a.pdf")
    assert WRITTEN["Media"]["FileContents"] == {"$upload": "/a.pdf"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_a_payload_without_files_is_given_back(payload: Any) -> None:
    """Nothing is uploaded and nothing is copied."""
    assert replace_uploads(payload, lambda _: 1 / 0) is payload  # type: ignore[arg-type,return-value]
    assert without_uploads(payload) is payload
    assert with_uris(payload, {}) == payload


def test_a_payload_can_be_checked_before_anything_is_uploaded() -> None:
    """With placeholders it has the shape that will be sent."""
    assert without_uploads(PAYLOAD)["Media"]["More"] == [1, {"File": PLACEHOLDER}, PLACEHOLDER]


@pytest.mark.parametrize(
    "mark", [{"$upload": 7}, {"$upload": ""}, {"$upload": None}, {"$upload": "/a", "Canary": 1}, {"$upload": ["/a"]}]
)
def test_a_mark_is_nothing_but_a_path(mark: Any) -> None:
    """What is not {"$upload": "path"} is refused with its place, before anything is uploaded."""
    with pytest.raises(RedoxConfigError, match=r"^payload: /Media/FileContents: must be ") as raised:
        replace_uploads(marked({"Media": {"FileContents": mark}}), lambda _: 1 / 0)  # type: ignore[arg-type,return-value]
    assert "Canary" not in said_by(raised.value)


@given(json_values, st.sampled_from(["/etc/passwd", "file:///key.pem", ""]))
def test_a_mark_that_is_data_is_refused(payload: Any, path: str) -> None:
    """What did not come through `marked` is data, however deep: it uploads nothing, and is not sent as a mark either."""
    data = [{"Media": [payload, {"FileContents": {"$upload": path}}]}]
    for reading in (uploads_in, without_uploads, lambda one: replace_uploads(one, lambda _: 1 / 0)):  # type: ignore[arg-type,return-value]
        with pytest.raises(RedoxConfigError, match=r"^payload: /0/Media/1/FileContents: \$upload is data here"):
            reading(data)  # type: ignore[operator]
