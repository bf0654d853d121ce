"""probe: nothing without leave, reads only, answers that come out as the server was set, and a report that tells nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_redox.cli.keygen import new_key
from airflow_provider_redox.cli.probe import asking
from airflow_provider_redox.cli.probe.findings import LEFT_OUT, Gate
from airflow_provider_redox.cli.probe.questions import ALL
from tests.cli.conftest import Done, Run, key_lines
from tests.support.sandbox import Sandbox

GENERAL = ("--destination", "general", "--pause", "0", "--yes")
NEXT = ("next-link", "next-by-get", "next-by-post", "next-page")


def findings(done: Done) -> dict[str, dict[str, Any]]:
    return {one["question"]: one for one in done.json["findings"]}


def observed(done: Done, *questions: str) -> list[dict[str, Any]]:
    return [findings(done)[name]["observed"] for name in questions]


def failing(done: Done) -> list[str]:
    return [name for name, one in findings(done).items() if one["holds"] is False]


def values(document: Any) -> set[str]:
    """Every text that is a value in a JSON document."""
    if isinstance(document, dict | list):
        inner = document.values() if isinstance(document, dict) else document
        return {text for one in inner for text in values(one)}
    return {document} if isinstance(document, str) else set()


def test_every_assumption_holds_against_the_sandbox(run: Run, connection_file: Path, sandbox: Sandbox) -> None:
    """Every question is answered in its order, each assumption that can be decided holds, and the status is 0."""
    done = run("probe", "--conn-json", connection_file, *GENERAL)
    report = done.json
    assert (done.status, failing(done)) == (0, [])
    assert list(findings(done)) == [question.name for question in ALL]
    assert [name for name, one in findings(done).items() if "not_asked" in one["observed"]] == ["assertion-es384"]
    assert report["requests"] == len(sandbox.ledger()) <= 25
    assert (report["server"], report["destination"], report["algorithm"]) == ("this machine", "another", "RS384")
    assert observed(done, "token-lifetime", "token-answer", "total", "http-version") == [
        {"seconds": 300},
        {"keys": ["access_token", "expires_in", "token_type"], "token_type": "Bearer", "expires_in": "number"},
        {"present": True, "more_than_the_page": True},
        {"versions": ["1.1"]},
    ]
    assert (
        observed(done, "assertion-replayed", "assertion-without-exp", "assertion-ahead")
        == [{"refused": True, "status": 401}] * 3
    )
    assert all(name in done.err for name in findings(done))


def test_it_only_reads(run: Run, connection_file: Path, sandbox: Sandbox) -> None:
    """Token requests at the most six, else reads and searches at the named destination; the patient's names in no URL."""
    run("probe", "--conn-json", connection_file, *GENERAL)
    ledger = sandbox.ledger()
    tokens = [entry for entry in ledger if entry["path"] == "/v2/auth/token"]
    others = [entry for entry in ledger if entry not in tokens]
    assert len(tokens) <= 6
    assert all(entry["method"] == "GET" or entry["path"].endswith("/_search") for entry in others)
    assert all(entry["path"].startswith("/fhir/R4/general-hospital/") for entry in others)
    assert not any(re.search("keva|green|1995", entry["path"] + entry["query"], re.IGNORECASE) for entry in others)
    assert sandbox.control("GET", "messages") == []


def test_the_report_tells_nothing_of_anybody(run: Run, connection_file: Path, sandbox: Sandbox) -> None:
    """No secret, no client, no host, no word of the patient's record: neither in the report nor in the table."""
    done = run("probe", "--conn-json", connection_file, *GENERAL)
    ledger, extra = sandbox.ledger(), sandbox.connection["extra"]
    headers = [
        value.removeprefix("Bearer ")
        for entry in ledger
        for name, value in entry["headers"]
        if name.lower() == "authorization"
    ]
    assertions = [part for entry in ledger for part in re.findall(r"client_assertion=([\w.-]+)", entry["body"])]
    secrets = [*headers, *assertions, *key_lines(sandbox.connection["password"])]
    known = [extra["client_id"], extra["kid"], sandbox.url, "127.0.0.1", "general-hospital", extra["organization_id"]]
    patient = patient_of(sandbox, headers[0])
    named = [patient["id"], "Keva", "Green", "1995-08-26", *(one["value"] for one in patient["identifier"])]
    assert len(secrets) > 20
    for text in [*secrets, *known, *named]:
        assert text not in done.out + done.err
    words = {one for one in values(patient) if len(one) > 2}
    assert len(words) > 10
    assert words.isdisjoint(values(done.json["findings"]) - {"text"})


def patient_of(sandbox: Sandbox, token: str) -> dict[str, Any]:
    import requests

    url = f"{sandbox.url}/fhir/R4/general-hospital/Development/Patient/_search"
    form = {"given": "Keva", "family": "Green", "birthdate": "1995-08-26"}
    answer = requests.post(url, data=form, headers={"Authorization": f"Bearer {token}"}, timeout=10)
    return answer.json()["entry"][0]["resource"]


def test_relative_links(run: Run, connection_file: Path, sandbox: Sandbox) -> None:
    """Links without an origin are told as such, and lead on."""
    sandbox.settings(link_style="relative")
    done = run("probe", "--conn-json", connection_file, *GENERAL)
    link = {"form": "relative", "origin": "own", "below_the_base": True, "parameters": ["_page"], "followed": True}
    assert observed(done, "next-link") == [link]
    assert (done.status, findings(done)["next-page"]["holds"]) == (0, True)


def test_pages_by_post_only_and_a_short_life(run: Run, connection_file: Path, sandbox: Sandbox) -> None:
    """GET is refused and POST is not: as assumed. A lifetime other than the documented one is the one thing that is not."""
    sandbox.settings(link_style="post-only", token_lifetime=123)
    done = run("probe", "--conn-json", connection_file, *GENERAL)
    by_get, by_post = observed(done, "next-by-get", "next-by-post")
    assert (by_get["status"], by_get["given"], by_post["status"], by_post["given"]) == (405, False, 200, True)
    assert [findings(done)[name]["holds"] for name in NEXT] == [True] * 4
    assert observed(done, "token-lifetime") == [{"seconds": 123}]
    assert (done.status, failing(done)) == (1, ["token-lifetime"])


def test_foreign_links_and_a_clock_far_off(run: Run, connection_file: Path, sandbox: Sandbox) -> None:
    """A foreign link is told and not followed; with a clock an hour off the rest is asked by the server's own."""
    sandbox.settings(link_style="foreign", clock_offset=3600)
    done = run("probe", "--conn-json", connection_file, *GENERAL)
    (link,) = observed(done, "next-link")
    assert (link["origin"], link["followed"]) == ("other", False)
    assert all("not_asked" in one for one in observed(done, *NEXT[1:]))
    assert 3598 <= observed(done, "clock")[0]["seconds"] <= 3602
    assert observed(done, "sign-in")[0]["by_which_clock"] == "the server's"
    assert (done.status, failing(done)) == (1, ["sign-in", "clock", "next-link"])


def test_links_in_a_circle_and_a_wrong_total(run: Run, connection_file: Path, sandbox: Sandbox) -> None:
    """A page that leads to itself, a total that is too small, and a lifetime that is no number are each told."""
    sandbox.settings(link_style="loop", total_offset=-500, clock_offset=7, token_response={"expires_in": "300"})
    done = run("probe", "--conn-json", connection_file, *GENERAL)
    assert failing(done) == ["token-answer", "token-lifetime", "total", "next-page"]
    assert observed(done, "token-answer")[0]["expires_in"] == "text"
    assert 6 <= observed(done, "clock")[0]["seconds"] <= 8


def test_an_elliptic_key(run: Run, sandbox: Sandbox) -> None:
    """With an EC key the question whether ES384 is taken is answered, by signing in with it."""
    key = new_key("ES384")
    sandbox.control("POST", "clients", {"client_id": "curved", "jwks": {"keys": [key.public_jwk()]}})
    connection = {**sandbox.with_extra(client_id="curved", kid=key.kid), "password": key.pem()}
    done = run("probe", "--conn-json", "-", *GENERAL, stdin=json.dumps(connection))
    assert done.status == 0
    assert observed(done, "assertion-es384") == [{"accepted": True, "status": 200}]


def test_an_unknown_patient(run: Run, connection_file: Path) -> None:
    """Who finds nobody is asked about nobody's pages."""
    done = run("probe", "--conn-json", connection_file, *GENERAL, "--family", "Nobody")
    assert failing(done) == ["test-patient"]
    assert all("not_asked" in one for one in observed(done, "page-size", *NEXT))
    assert "Nobody" not in done.out + done.err


def test_a_key_that_is_refused(run: Run, sandbox: Sandbox) -> None:
    """Without a token there is one request, the shape of the refusal is told, and the status is 1."""
    done = run("probe", "--conn-json", "-", *GENERAL, stdin=json.dumps(sandbox.with_extra(client_id="nobody")))
    assert (done.status, done.json["requests"]) == (1, 1)
    assert observed(done, "token-error") == [
        {
            "status": 401,
            "content_type": "application/json",
            "body": {"error": "text", "error_description": "text", "error_uri": "text"},
            "error": "invalid_client",
        }
    ]
    assert "not_asked" in observed(done, "search-by-post")[0]


def test_the_rate_limit_ends_it(run: Run, connection_file: Path, sandbox: Sandbox) -> None:
    """After a 429 nothing more is sent; what was found stays, and the rest is not asked rather than wrong."""
    sandbox.settings(quota=4)
    done = run("probe", "--conn-json", connection_file, *GENERAL)
    assert (done.json["requests"], len(sandbox.ledger()), failing(done)) == (5, 5, [])
    assert observed(done, "next-by-post", "metadata") == [{"not_asked": "the server answered 429, the rate limit"}] * 2
    assert observed(done, "response-headers")[0]["values"]["x-ratelimit-limit"] == [4]


def test_the_number_of_requests_ends_it(
    call: Run, connection_file: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever there is to ask, no more requests are sent than were announced."""
    monkeypatch.setattr(asking, "MOST", 3)
    done = call("probe", "--conn-json", connection_file, *GENERAL)
    assert (done.status, len(sandbox.ledger())) == (0, 3)
    assert observed(done, "metadata") == [{"not_asked": "3 requests were sent"}]


def test_what_the_server_cannot_do_decides_nothing(run: Run, connection_file: Path, sandbox: Sandbox) -> None:
    """A 502 is told and is no proof against an assumption; the request is not repeated."""
    sandbox.fault("status", status=502, match={"path": "/Patient/_search"})
    done = run("probe", "--conn-json", connection_file, *GENERAL)
    search = findings(done)["search-by-post"]
    assert (search["observed"]["status"], search["holds"]) == (502, None)


def test_an_echo_is_left_out(run: Run, connection_file: Path, sandbox: Sandbox) -> None:
    """A server that writes patients and IDs into headers, codes and names is not quoted."""
    body = {
        "error": "Keva Green",
        "Keva Green": 1,
        "mrn_0000000001": 2,
        "Smith Joan": 4,
        sandbox.connection["extra"]["client_id"]: 3,
    }
    sandbox.fault("status", status=400, body=body, match={"path": "token"}, skip=1, times=None)
    sandbox.fault("headers", headers={"cache-control": "patient=Green", "X-Keva": "1"}, match={"path": "fhir"}, times=None)
    done = run("probe", "--conn-json", connection_file, *GENERAL)
    assert observed(done, "token-error")[0]["error"] == "another"
    assert observed(done, "response-headers")[0]["values"]["cache-control"] == [LEFT_OUT]
    assert not re.search("keva|green|smith|0000000001", done.out + done.err, re.IGNORECASE)
    assert sandbox.connection["extra"]["client_id"] not in done.out + done.err


def test_nothing_without_leave(run: Run, connection_file: Path, sandbox: Sandbox) -> None:
    """Without --yes it says what it would send and to whom, sends nothing, and ends with 2."""
    done = run("probe", "--conn-json", connection_file, "--destination", "general")
    assert (done.status, done.out, sandbox.ledger()) == (2, "", [])
    assert all(word in done.err for word in (sandbox.url, "general-hospital", "Development", "at most 25 requests", "--yes"))


def test_never_production(call: Run, connection_file: Path, sandbox: Sandbox) -> None:
    """Production is not among the environments."""
    done = call("probe", "--conn-json", connection_file, *GENERAL, "--environment", "Production")
    assert (done.status, sandbox.ledger()) == (2, [])


def test_the_output(call: Run, connection_file: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    """--output writes the report to a file that is not there yet; one that is, is kept, and nothing is sent."""
    assert call("probe", "--conn-json", connection_file, *GENERAL, "--output", tmp_path / "report.json").out == ""
    assert json.loads((tmp_path / "report.json").read_text())["requests"] > 10
    sent = len(sandbox.ledger())
    done = call("probe", "--conn-json", connection_file, *GENERAL, "--output", tmp_path / "report.json")
    assert (done.status, len(sandbox.ledger())) == (2, sent)


@pytest.mark.parametrize(
    "text", ["general-hospital", "Keva", "at KEVA, too", "5d0ffb1c-7b0a-4f0c", "123456789", "x" * 25, "é", "a\nb"]
)
def test_the_gate_is_shut(text: str) -> None:
    """What is known, looks like an ID or is no plain text is left out, as a value and as a name."""
    gate = Gate()
    gate.keep("general-hospital", "keva", "", None)
    assert gate.clean({text: [text]}) == {LEFT_OUT: [LEFT_OUT]}


@pytest.mark.parametrize(
    "value", ["application/fhir+json; charset=utf-8", "error not-found", "x-ratelimit-limit", 10_000_000, True, None]
)
def test_the_gate_is_open(value: Any) -> None:
    """Codes, names, numbers, booleans pass."""
    assert Gate({"ratel", "not-f"}).clean([value]) == [value]
