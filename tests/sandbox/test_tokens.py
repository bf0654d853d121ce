"""The token endpoint and the bearer token."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import pytest
import requests
from joserfc.jwk import ECKey, RSAKey

from .conftest import KEVA, Client


def test_a_good_assertion_gets_a_bearer_token(redox: Client) -> None:
    """A token answer has an opaque token, its type, its lifetime in seconds, and is not to be stored."""
    answer = redox.ask_token()
    body = answer.json()
    assert answer.status_code == 200
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 300)
    assert body["access_token"].count(".") == 0
    assert answer.headers["Cache-Control"] == "no-store"


def at(seconds: int) -> Callable[[], int]:
    """Return a time relative to the moment of the test."""
    return lambda: int(time.time()) + seconds


@pytest.mark.parametrize(
    ("claims", "named"),
    [
        ({"iss": "someone-else", "sub": "someone-else"}, "iss"),
        ({"iss": None}, "iss"),
        ({"sub": "someone-else"}, "sub"),
        ({"sub": None}, "sub"),
        ({"aud": "https://api.redoxengine.com/v2/auth/token"}, "aud"),
        ({"aud": None}, "aud"),
        ({"iat": None}, "iat"),
        ({"iat": at(60), "exp": at(300)}, "iat"),
        ({"iat": at(-400), "exp": at(100)}, "iat"),
        ({"exp": None}, "exp"),
        ({"exp": "soon"}, "exp"),
        ({"iat": at(-100), "exp": at(-1)}, "exp"),
        ({"iat": at(0), "exp": at(302)}, "exp"),
        ({"jti": None}, "jti"),
        ({"jti": 7}, "jti"),
    ],
)
def test_a_wrong_claim_is_refused_by_name(redox: Client, claims: dict[str, object], named: str) -> None:
    """An assertion with a wrong claim gets 401 invalid_client, and the description begins with the claim."""
    ready = {name: value() if callable(value) else value for name, value in claims.items()}
    answer = redox.ask_token(redox.sign(redox.claims(**ready)))
    assert answer.status_code == 401
    assert answer.json()["error"] == "invalid_client"
    assert answer.json()["error_description"].startswith(f"{named}:")
    assert answer.json()["error_uri"] == ""


def test_the_audience_is_one_string(redox: Client) -> None:
    """An audience in a list is refused, even if it is the right one."""
    answer = redox.ask_token(redox.sign(redox.claims(aud=[f"{redox.url}/v2/auth/token"])))
    assert answer.json()["error_description"].startswith("aud:")


def test_clocks_may_differ_by_a_few_seconds(redox: Client) -> None:
    """An assertion issued up to ten seconds in the future is accepted."""
    now = int(time.time())
    assert redox.ask_token(redox.sign(redox.claims(iat=now + 8, exp=now + 248))).status_code == 200


@pytest.mark.parametrize(
    ("header", "named"),
    [({"alg": "RS256"}, "alg"), ({"kid": "unknown"}, "kid"), ({"kid": None}, "kid"), ({"typ": "at+jwt"}, "typ")],
)
def test_a_wrong_header_is_refused_by_name(redox: Client, header: dict[str, object], named: str) -> None:
    """The header has alg RS384 or ES384, a registered kid, and typ JWT."""
    answer = redox.ask_token(redox.sign(**header))
    assert answer.status_code == 401
    assert answer.json()["error_description"].startswith(f"{named}:")


def test_a_signature_by_another_key_is_refused(redox: Client) -> None:
    """The registered kid does not help a key that is not the registered one."""
    answer = redox.ask_token(redox.sign(key=RSAKey.generate_key(2048)))
    assert answer.json()["error_description"].startswith("signature:")


def test_an_assertion_works_once(redox: Client) -> None:
    """The same assertion is refused the second time, as a replay of its jti."""
    assertion = redox.sign()
    assert redox.ask_token(assertion).status_code == 200
    assert redox.ask_token(assertion).json()["error_description"].startswith("jti:")


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
        ({"grant_type": None}, "invalid_request"),
        ({"client_assertion_type": "jwt"}, "invalid_request"),
        ({"client_assertion": None}, "invalid_request"),
        ({"client_assertion": "a.b.c"}, "invalid_client"),
        ({"client_assertion": "e30.e30.e30"}, "invalid_client"),
    ],
)
def test_a_wrong_form_gets_an_oauth_error(redox: Client, form: dict[str, str | None], error: str) -> None:
    """A form that is not the documented one gets the error code that RFC 6749 has for it."""
    answer = redox.ask_token(**form)
    assert answer.status_code in {400, 401}
    assert answer.json()["error"] == error


def test_the_token_form_is_urlencoded(redox: Client) -> None:
    """JSON is no token request."""
    answer = requests.post(f"{redox.url}/v2/auth/token", json={"grant_type": "client_credentials"}, timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_client_may_have_several_keys_of_both_kinds(redox: Client, p384: ECKey) -> None:
    """Any key of a client signs for it, each with its own algorithm only."""
    rsa = RSAKey.generate_key(2048, {"kid": "rsa-2"})
    other = str(uuid.uuid4())
    jwks = {"keys": [p384.as_dict(private=False), rsa.as_dict(private=False)]}
    assert redox.control("POST", "clients", {"client_id": other, "jwks": jwks}).status_code == 200
    claims = {"iss": other, "sub": other}
    assert redox.ask_token(redox.sign(redox.claims(**claims), rsa, kid="rsa-2")).status_code == 200
    assert redox.ask_token(redox.sign(redox.claims(**claims), p384, kid="ec-1", alg="ES384")).status_code == 200
    assert redox.ask_token(redox.sign(redox.claims(**claims), kid="rsa-2")).status_code == 401
    wrong = redox.sign(redox.claims(**claims), p384, kid="rsa-2", alg="ES384")
    assert redox.ask_token(wrong).json()["error_description"].startswith("alg:")


@pytest.mark.filterwarnings("ignore:Key size")
@pytest.mark.parametrize("make", [lambda: RSAKey.generate_key(1024), lambda: ECKey.generate_key("P-256")])
def test_a_weak_key_is_not_registered(redox: Client, make: Callable[[], RSAKey | ECKey]) -> None:
    """RSA below 2048 bits and curves other than P-384 are refused."""
    jwks = {"keys": [make().as_dict(private=False) | {"kid": "weak"}]}
    assert redox.control("POST", "clients", {"client_id": "weak", "jwks": jwks}).status_code == 400


def test_a_private_key_is_not_registered(redox: Client) -> None:
    """A key set with a private half in it is refused."""
    jwks = {"keys": [redox.key.as_dict(private=True) | {"kid": "k"}]}
    answer = redox.control("POST", "clients", {"client_id": "careless", "jwks": jwks})
    assert (answer.status_code, "private" in answer.text) == (400, True)


@pytest.mark.parametrize("value", ["", "Bearer ", "Bearer wrong", "Basic abc", "bearer-ish"])
def test_without_a_live_token_every_api_answers_401(redox: Client, value: str) -> None:
    """A missing, unknown or differently typed token gets 401 and a plain sentence, on every API."""
    for method, path in [
        ("POST", redox.fhir("Patient/_search")),
        ("GET", redox.fhir(f"Patient/{KEVA}")),
        ("POST", "/endpoint"),
        ("POST", "/upload"),
        ("GET", "/platform/v1/organizations/100042/logs/x"),
    ]:
        answer = redox.call(method, path, headers={"Authorization": value})
        assert answer.status_code == 401
        assert answer.headers["Content-Type"].startswith("text/plain")


def test_a_token_dies_after_its_lifetime(redox: Client) -> None:
    """A token is refused once its lifetime is over; the setting token_lifetime says how long that is."""
    redox.settings(token_lifetime=0.3)
    assert redox.call("GET", redox.fhir(f"Patient/{KEVA}")).status_code == 200
    time.sleep(0.35)
    assert redox.call("GET", redox.fhir(f"Patient/{KEVA}")).status_code == 401


def test_revoking_kills_all_live_tokens(redox: Client) -> None:
    """After a revoke, the token that just worked is refused and a new one works."""
    assert redox.call("GET", redox.fhir(f"Patient/{KEVA}")).status_code == 200
    assert redox.control("POST", "revoke").json() == {"revoked": 1}
    assert redox.call("GET", redox.fhir(f"Patient/{KEVA}")).status_code == 401
    redox._token = ""
    assert redox.call("GET", redox.fhir(f"Patient/{KEVA}")).status_code == 200


def test_the_token_answer_can_be_bent(redox: Client) -> None:
    """The setting token_response replaces parts of the answer; null takes one away."""
    redox.settings(token_response={"expires_in": "300", "token_type": None, "scope": "x"})
    body = redox.ask_token().json()
    assert (body["expires_in"], body["scope"], "token_type" in body) == ("300", "x", False)


def test_the_server_clock_can_be_moved(redox: Client) -> None:
    """With a clock offset of minutes, an honest assertion is from the wrong time, and Date shows it."""
    redox.settings(clock_offset=-120)
    answer = redox.ask_token()
    assert answer.json()["error_description"].startswith("iat:")
    assert 100 < time.time() - parsedate_to_datetime(answer.headers["Date"]).timestamp() < 140


def test_every_answer_has_a_trace_id_and_a_date(redox: Client) -> None:
    """Good or bad, an answer carries Redox-Trace-Id, a UUID that is new each time, and Date."""
    answers = [redox.ask_token(), redox.call("GET", "/nowhere"), redox.search("Patient", {"_id": KEVA})]
    traces = {str(uuid.UUID(answer.headers["Redox-Trace-Id"])) for answer in answers}
    assert len(traces) == 3
    assert all(answer.headers["Date"].endswith("GMT") for answer in answers)
