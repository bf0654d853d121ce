"""The assertion: predictable to the byte, and what an independent library reads from it."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import ECKey, RSAKey

from airflow_provider_redox.protocol.assertion import assemble, signing_input

from .flows import NOW
from .material import CLIENT_ID, KINDS, signing_key

AUDIENCE = "https://api.redoxengine.com/v2/auth/token"


def _input(kind: str = "RSA 2048", **changes: object) -> bytes:
    fields = {"client_id": CLIENT_ID, "audience": AUDIENCE, "kid": "kid-1", "now": NOW + 0.75, "jti": "jti-1"}
    return signing_input(**{**fields, "algorithm": signing_key(kind).algorithm, **changes})  # type: ignore[arg-type]


def _signed(kind: str) -> str:
    message = _input(kind)
    return assemble(message, signing_key(kind).sign(message))


def _part(text: bytes | str, number: int) -> dict[str, object]:
    part = (text.encode() if isinstance(text, str) else text).split(b".")[number]
    parsed: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    return parsed


def test_the_bytes_to_sign_are_these() -> None:
    """Header and claims are base64url without padding, in this order, without spaces."""
    short = _input(client_id="c", audience="a", kid="k", jti="j", now=1000.9, algorithm="RS384")
    header, claims = short.split(b".")
    assert header == base64.urlsafe_b64encode(b'{"alg":"RS384","typ":"JWT","kid":"k"}').rstrip(b"=")
    assert claims == base64.urlsafe_b64encode(b'{"iss":"c","sub":"c","aud":"a","iat":990,"exp":1240,"jti":"j"}').rstrip(b"=")


def test_the_same_inputs_make_the_same_assertion() -> None:
    """An RSA assertion is the same to the byte for the same clock and jti."""
    assert _signed("RSA 2048") == _signed("RSA 2048")


@pytest.mark.parametrize("kind", KINDS)
def test_an_independent_library_verifies_the_signature(kind: str) -> None:
    """Another library reads RS384 and ES384 assertions with the public key alone."""
    key = (RSAKey if kind.startswith("RSA") else ECKey).import_key(signing_key(kind).public_jwk())
    verified = jws.deserialize_compact(_signed(kind), key, algorithms=["RS384", "ES384"])
    assert json.loads(verified.payload)["iss"] == CLIENT_ID


@pytest.mark.parametrize("kind", ["RSA 2048", "EC P-384"])
def test_a_changed_claim_does_not_verify(kind: str) -> None:
    """A signature belongs to its claims: put under others it is bad."""
    key = (RSAKey if kind.startswith("RSA") else ECKey).import_key(signing_key(kind).public_jwk())
    other = assemble(_input(kind, client_id="another"), signing_key(kind).sign(_input(kind)))
    with pytest.raises(BadSignatureError):
        jws.deserialize_compact(other, key, algorithms=["RS384", "ES384"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_header_is_algorithm_type_and_key_id(kind: str) -> None:
    """The header has alg, typ and kid and no other member: no jku, no jwk, no x5c."""
    assert _part(_signed(kind), 0) == {"alg": signing_key(kind).algorithm, "typ": "JWT", "kid": "kid-1"}


def test_the_claims_are_exactly_these() -> None:
    """Iss and sub are the client, aud is one text, iat is ten seconds back and exp four minutes ahead."""
    assert _part(_input(), 1) == {
        "iss": CLIENT_ID,
        "sub": CLIENT_ID,
        "aud": AUDIENCE,
        "iat": int(NOW) - 10,
        "exp": int(NOW) + 240,
        "jti": "jti-1",
    }


@given(st.floats(min_value=1e9, max_value=4e9))
def test_an_assertion_lives_at_most_five_minutes_and_never_starts_in_the_future(now: float) -> None:
    """Whatever the clock says, iat is not ahead of it, exp is, and between them lie at most 300 seconds."""
    claims = _part(_input(now=now), 1)
    issued, expires = claims["iat"], claims["exp"]
    assert isinstance(issued, int)
    assert isinstance(expires, int)
    assert issued <= now < expires <= issued + 300
    assert expires <= now + 300


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_in_a_claim_stays_one_claim(client_id: str, jti: str) -> None:
    """Quotes, newlines and other scripts in a value change that value only, and the assertion stays ASCII."""
    made = _input(client_id=client_id, jti=jti)
    assert (_part(made, 1)["sub"], _part(made, 1)["jti"]) == (client_id, jti)
    assert assemble(made, b"\xff\xfe").isascii()


def test_an_assertion_has_three_parts_without_padding() -> None:
    """A compact JWS is three base64url texts with two dots, and no equals sign."""
    assert assemble(b"aa.bb", b"\xfb\xff") == "aa.bb.-_8"
