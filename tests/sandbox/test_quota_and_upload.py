"""The request quota, and the file store."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import pytest

from .conftest import KEVA, Client


def test_too_many_requests_are_refused_until_the_window_has_passed(redox: Client) -> None:
    """Within a window, requests above the quota get 429 with X-RateLimit-Limit and no Retry-After."""
    redox.token()
    redox.settings(quota=4, quota_window=0.6)
    answers = [redox.call("GET", redox.fhir(f"Patient/{KEVA}")) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].headers["X-RateLimit-Limit"] == "4"
    assert "Retry-After" not in answers[-1].headers
    time.sleep(0.65)
    assert redox.call("GET", redox.fhir(f"Patient/{KEVA}")).status_code == 200


@pytest.mark.parametrize("value", [7, "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_retry_after_is_a_setting(redox: Client, value: int | str) -> None:
    """With retry_after, a 429 says when to come back, in seconds or as a date."""
    redox.token()
    redox.settings(quota=1, retry_after=value)
    answer = redox.call("GET", redox.fhir(f"Patient/{KEVA}"))
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, str(value))


def test_the_control_plane_does_not_count(redox: Client) -> None:
    """Looking at the sandbox uses no quota."""
    redox.settings(quota=1)
    assert [redox.control("GET", "stats").status_code for _ in range(5)] == [200] * 5
    assert redox.ask_token().status_code == 200


def test_an_upload_gives_its_bytes_back(redox: Client) -> None:
    """The answer is 201 with a URI; reading the URI gives the same bytes."""
    content = bytes(range(256)) * 100 + b"\r\n--boundary\r\n\r\n"
    answer = redox.call("POST", "/upload", files={"other": b"x", "file": ("scan.pdf", content, "application/pdf")})
    assert answer.status_code == 201
    assert redox.call("GET", urlsplit(answer.json()["URI"]).path).content == content


def test_an_upload_needs_the_field_file(redox: Client) -> None:
    """Another field, or no multipart body at all, is 400."""
    assert redox.call("POST", "/upload", files={"document": b"x"}).status_code == 400
    assert redox.call("POST", "/upload", data=b"x").status_code == 400


def test_a_file_has_thirty_megabytes_at_most(redox: Client) -> None:
    """30 MB are taken, one byte more is 413."""
    limit = 30 * 1024 * 1024
    assert redox.call("POST", "/upload", files={"file": b"x" * limit}).status_code == 201
    assert redox.call("POST", "/upload", files={"file": b"x" * (limit + 1)}).status_code == 413
    assert redox.call("POST", "/upload", files={"file": b"x" * (limit * 3 // 2)}).status_code == 413
    redox.control("POST", "reset")
