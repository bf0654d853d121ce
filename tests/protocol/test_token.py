"""The token request's form, the answer, and how long a token is fresh."""

from __future__ import annotations

import json
import math
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxProtocolError
from airflow_provider_redox.protocol.token import Token, parse_token, token_form

from .flows import NOW, complaint, said_by

GOOD = {"access_token": "abc.DEF-123_~+/==", "token_type": "Bearer", "expires_in": 300}


def _refused(answer: Any) -> RedoxProtocolError:
    with pytest.raises(RedoxProtocolError) as raised:
        parse_token(answer, now=NOW)
    return raised.value


def test_a_good_answer_is_a_token() -> None:
    """A token has the value, the time when it came, and its end expires_in seconds later."""
    assert parse_token(GOOD, now=NOW) == Token("abc.DEF-123_~+/==", NOW, NOW + 300)


def test_unknown_members_of_an_answer_are_ignored() -> None:
    """A scope in the answer, as older samples show it, changes nothing."""
    assert parse_token({**GOOD, "scope": "fhir:production"}, now=NOW) == parse_token(GOOD, now=NOW)


@pytest.mark.parametrize("kind", ["bearer", "BEARER", "Bearer"])
def test_the_token_type_is_bearer_in_any_case(kind: str) -> None:
    """RFC 6749 compares token types without regard to case."""
    assert parse_token({**GOOD, "token_type": kind}, now=NOW).expires_at == NOW + 300


def test_a_missing_token_type_is_bearer() -> None:
    """An answer that does not say what type its token has brings a bearer token."""
    assert parse_token({"access_token": "t", "expires_in": 300}, now=NOW).value == "t"


@pytest.mark.parametrize("kind", ["mac", "", None, 1, ["Bearer"]])
def test_another_token_type_is_refused(kind: Any) -> None:
    """A token that is no bearer token cannot be used as one."""
    assert "token_type is not Bearer" in str(_refused({**GOOD, "token_type": kind}))


@pytest.mark.parametrize(
    ("stated", "lifetime"),
    [(300, 300), (300.5, 300.5), ("300", 300), (1, 1), (3600, 3600), (3601, 3600), (1e12, 3600), (10**300, 3600)],
)
def test_a_lifetime_is_a_positive_number_of_at_most_an_hour(stated: Any, lifetime: float) -> None:
    """A number counts, as a text too; more than an hour is not believed."""
    assert parse_token({**GOOD, "expires_in": stated}, now=NOW).expires_at == NOW + lifetime


@pytest.mark.parametrize("answer", [{"access_token": "t"}, {"access_token": "t", "expires_in": None}])
def test_a_lifetime_that_is_not_stated_is_a_minute(answer: dict[str, Any]) -> None:
    """Without expires_in a token is taken to live sixty seconds."""
    assert parse_token(answer, now=NOW).expires_at == NOW + 60


@pytest.mark.parametrize(
    "stated",
    [0, -1, "0", "-300", "soon", "", math.nan, math.inf, -math.inf, "NaN", "inf", True, False, [300], {"s": 300}, 10**400],
)
def test_an_odd_lifetime_is_refused(stated: Any) -> None:
    """Nothing, less than nothing, no number and no end are refused: the token would be used for ever or never."""
    assert "odd expires_in" in str(_refused({**GOOD, "expires_in": stated}))


@pytest.mark.parametrize(
    "answer", [{}, {"expires_in": 300}, *({**GOOD, "access_token": one} for one in (None, "", 7, ["t"]))]
)
def test_an_answer_without_a_token_is_refused(answer: dict[str, Any]) -> None:
    """A 200 without an access_token that is text is an error."""
    assert "without an access_token" in str(_refused(answer))


@pytest.mark.parametrize("answer", [None, [], "token", 7, [GOOD]])
def test_an_answer_that_is_no_object_is_refused(answer: Any) -> None:
    """JSON that is no object holds no token."""
    assert "JSON that is not an object" in str(_refused(answer))


@pytest.mark.parametrize(
    "value", ["can\r\nary", "canary\n", "\ncanary", "can ary", "cänary", "canary\x00", "can=ary", "canary;x", '"canary"']
)
def test_a_token_with_other_characters_is_refused(value: str) -> None:
    """A token that could break out of its header is refused and not shown."""
    error = _refused({**GOOD, "access_token": value})
    assert "characters no token may have" in str(error)
    assert "can" not in said_by(error).replace("cannot", "")


@given(st.dictionaries(st.sampled_from(["access_token", "token_type", "expires_in"]), st.text().map("canary{}".format)))
def test_a_refused_answer_is_not_quoted(answer: dict[str, str]) -> None:
    """Whatever texts an answer has, an error about it holds none of them."""
    assert "canary" not in complaint(lambda: parse_token(answer, now=NOW))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(GOOD)), inner, max_size=3),
    max_leaves=6,
)


@given(json_values)
def test_any_json_is_a_token_or_a_protocol_error(answer: Any) -> None:
    """Whatever JSON the endpoint answers, it is a token with a sane end or a RedoxProtocolError."""
    try:
        token = parse_token(answer, now=NOW)
    except RedoxProtocolError:
        return
    assert NOW < token.expires_at <= NOW + 3600


@given(life=st.floats(0.001, 3600), passed=st.floats(0, 4000))
def test_a_token_is_fresh_until_the_smaller_margin_before_its_end(life: float, passed: float) -> None:
    """A token is fresh while more than 30 seconds or a tenth of its life, whichever is less, are left."""
    token = Token("t", 0.0, life)
    left = life - passed
    assume(abs(left - min(30.0, life / 10)) > 1e-6)
    assert token.is_fresh(passed) is (left > min(30.0, life / 10))


@pytest.mark.parametrize(("passed", "fresh"), [(0, True), (269.9, True), (270, False), (300, False), (1e9, False)])
def test_a_redox_token_is_fresh_for_four_and_a_half_minutes(passed: float, fresh: bool) -> None:  # noqa: FBT001
    """Of five minutes the last thirty seconds are not used."""
    assert Token("t", NOW, NOW + 300).is_fresh(NOW + passed) is fresh


def test_a_token_from_another_machines_future_is_fresh() -> None:
    """A token that a worker with a faster clock cached is used."""
    assert Token("t", NOW + 60, NOW + 360).is_fresh(NOW)


def test_a_token_from_a_far_future_is_not_fresh() -> None:
    """A token that was issued more than an hour from now belongs to a clock that was wrong."""
    assert not Token("t", NOW + 3601, NOW + 3901).is_fresh(NOW)


def test_a_tokens_repr_does_not_show_it() -> None:
    """The repr of a token holds its times and not its value."""
    assert "secret" not in repr(Token("secret", NOW, NOW + 300))


def test_the_form_has_the_fields_of_the_client_assertion_grant() -> None:
    """The token request has grant type, assertion type and assertion, and no scope unless one is set."""
    assert parse_qsl(token_form(assertion="a.b.c", scope=None).decode(), strict_parsing=True) == [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", "a.b.c"),
    ]


@given(st.text(min_size=1))
def test_a_scope_arrives_as_it_was_set(scope: str) -> None:
    """Spaces, ampersands and other scripts in a scope stay in the scope."""
    fields = dict(parse_qsl(token_form(assertion="a.b.c", scope=scope).decode("ascii"), keep_blank_values=True))
    assert fields["scope"] == scope
    assert len(fields) == 4


def test_an_empty_scope_is_not_sent() -> None:
    """An empty scope is no scope."""
    assert b"scope" not in token_form(assertion="a.b.c", scope="")


def test_a_token_goes_through_json_unchanged() -> None:
    """The answer's bytes are JSON, and a token is what they say."""
    assert parse_token(json.loads(json.dumps(GOOD)), now=NOW).value == GOOD["access_token"]
