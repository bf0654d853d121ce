"""One request as a flow, and the token under it: driven by hand, answered from lists."""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import (
    RedoxAmbiguousOutcomeError,
    RedoxAuthError,
    RedoxDestinationError,
    RedoxError,
    RedoxProtocolError,
    RedoxRateLimitError,
    RedoxResponseError,
    RedoxSecurityError,
    RedoxServerError,
    RedoxTransportError,
)
from airflow_provider_redox.protocol.effects import (
    Bearer,
    Happened,
    RedoxResponse,
    Request,
    Send,
    Sign,
    Stage,
    Tell,
    Turn,
    Wait,
)
from airflow_provider_redox.protocol.exchange import exchange, mint
from airflow_provider_redox.protocol.outcomes import RetryBudget, RetryPolicy
from airflow_provider_redox.protocol.settings import Settings

from .flows import NOW, Reply, World, answer, failure, said_by
from .material import CLIENT_ID, settings, signing_key

REQUEST = Request("POST", "https://api.redoxengine.com/endpoint", "POST /endpoint", {"accept": "application/json"}, b"{}")
DONE = answer(200, '{"done": true}')


def read_json(response: RedoxResponse) -> Any:
    return response.json()


def run(*happened: Reply, repeatable: bool, world: World | None = None) -> tuple[Any, World]:
    """Exchange the request in a world where this happens."""
    world = world or World(*happened)
    return world.run(exchange(REQUEST, read_json, repeatable=repeatable, env=world.env())), world


def fail(*happened: Reply, repeatable: bool) -> tuple[RedoxError, World]:
    """Exchange the request in a world where this happens, and give the error that it ends in."""
    world = World(*happened)
    with pytest.raises(RedoxError) as raised:
        world.run(exchange(REQUEST, read_json, repeatable=repeatable, env=world.env()))
    return raised.value, world


# ── a request ──


def test_a_request_is_sent_once_with_a_bearer_token() -> None:
    """A request waits for its turn, then for a token, which would age meanwhile; the reader makes the result."""
    flow = exchange(REQUEST, read_json, repeatable=False, env=World().env())
    assert next(flow) == Turn()
    assert flow.send(None) == Bearer(refused=None)
    sent = flow.send("the-token")
    assert isinstance(sent, Send)
    assert sent.request.headers == {"accept": "application/json", "authorization": "Bearer the-token"}
    assert (sent.request.method, sent.request.url, sent.request.body) == ("POST", REQUEST.url, b"{}")
    with pytest.raises(StopIteration) as stopped:
        flow.send(DONE)
    assert stopped.value.value == {"done": True}


def test_the_token_is_in_no_repr() -> None:
    """A request with its token shows method and label in its repr, no header, body or address."""
    assert repr(REQUEST.with_headers(authorization="Bearer secret")) == "Request(method='POST', label='POST /endpoint')"
    assert "secret" not in repr(Bearer(refused="secret"))
    assert "secret" not in repr(Sign(b"secret"))


@pytest.mark.parametrize("repeatable", [True, False])
def test_a_refused_token_is_renewed_once(repeatable: bool) -> None:  # noqa: FBT001
    """A 401 asks for a token that is not the refused one, and sends the request again at once."""
    result, world = run(answer(401), DONE, repeatable=repeatable)
    assert result == {"done": True}
    assert [effect for effect in world.asked if isinstance(effect, Bearer)] == [Bearer(None), Bearer("token-1")]
    assert [request.headers["authorization"] for request in world.sent] == ["Bearer token-1", "Bearer token-2"]
    assert world.waits == []


@pytest.mark.parametrize("repeatable", [True, False])
def test_a_second_refusal_of_the_token_is_final(repeatable: bool) -> None:  # noqa: FBT001
    """A new token that is refused too is an error of the key, after exactly two sends."""
    error, world = fail(answer(401), answer(401, redox_trace_id="trace-1"), repeatable=repeatable)
    assert isinstance(error, RedoxAuthError)
    assert (error.status, error.trace_id, len(world.sent)) == (401, "trace-1", 2)


def test_a_token_is_renewed_once_in_the_whole_exchange() -> None:
    """A refusal after another try does not get a second renewal."""
    error, world = fail(answer(401), answer(503), answer(401), repeatable=True)
    assert isinstance(error, RedoxAuthError)
    assert len(world.sent) == 3


def test_each_try_asks_for_a_token_anew() -> None:
    """A pause may outlast a token, so every try asks for a fresh one."""
    _, world = run(answer(503), DONE, repeatable=True)
    assert [effect for effect in world.asked if isinstance(effect, Bearer)] == [Bearer(None), Bearer(None)]


@pytest.mark.parametrize("repeatable", [True, False])
def test_a_rate_limit_waits_and_tries_again(repeatable: bool) -> None:  # noqa: FBT001
    """A 429 was not processed: both kinds of request wait at least half a minute and go again."""
    result, world = run(answer(429), DONE, repeatable=repeatable)
    assert result == {"done": True}
    assert world.waits == [30.5]


def test_a_rate_limit_waits_as_long_as_it_says() -> None:
    """A 429 with Retry-After waits that long."""
    _, world = run(answer(429, retry_after="7"), DONE, repeatable=False)
    assert world.waits == [7.5]


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize(
    "happened", [failure(Stage.UNSENT), answer(503, retry_after="1")], ids=["nothing was sent", "busy until"]
)
def test_what_was_not_processed_is_sent_again(happened: Happened, repeatable: bool) -> None:  # noqa: FBT001
    """A request that never left, or that a busy gateway put off, is sent again."""
    result, world = run(happened, DONE, repeatable=repeatable)
    assert (result, len(world.sent)) == ({"done": True}, 2)


UNKNOWN: list[Happened] = [
    failure(Stage.UNANSWERED),
    failure(Stage.CUT, 200),
    failure(Stage.OVERSIZE, 200),
    *(answer(status, redox_trace_id="trace-1") for status in (408, 500, 502, 503, 504, 507, 599)),
]


@pytest.mark.parametrize("happened", UNKNOWN, ids=str)
def test_an_unsafe_request_whose_outcome_is_unknown_is_not_sent_again(happened: Happened) -> None:
    """Where an unsafe request may have been processed, the error says so and there is exactly one send."""
    error, world = fail(happened, repeatable=False)
    assert isinstance(error, RedoxAmbiguousOutcomeError)
    assert (len(world.sent), world.waits) == (1, [])
    assert (error.status, error.trace_id) == (happened.status, happened.headers.get("redox-trace-id"))
    assert "may or may not have been processed" in str(error)


@pytest.mark.parametrize("happened", [one for one in UNKNOWN if "OVERSIZE" not in str(one)], ids=str)
def test_a_repeatable_request_is_sent_again_after_the_same(happened: Happened) -> None:
    """What leaves an unsafe request in doubt is only another try for a repeatable one."""
    result, world = run(happened, DONE, repeatable=True)
    assert (result, len(world.sent)) == ({"done": True}, 2)


def test_an_answer_that_is_too_large_is_not_asked_for_again() -> None:
    """The answer to a question will be as large the next time."""
    error, world = fail(failure(Stage.OVERSIZE, 200), repeatable=True)
    assert isinstance(error, RedoxProtocolError)
    assert len(world.sent) == 1


def test_an_unreadable_success_is_asked_for_again() -> None:
    """A repeatable request whose 200 cannot be read is sent again."""
    result, world = run(answer(200, "<html>"), DONE, repeatable=True)
    assert (result, len(world.sent), len(world.waits)) == ({"done": True}, 2, 1)


def test_an_unreadable_success_stays_a_protocol_error_in_the_end() -> None:
    """A repeatable request whose 200 can never be read ends in the reader's own complaint."""
    error, world = fail(*[answer(200, "<html>", content_type="text/html")] * 5, repeatable=True)
    assert type(error) is RedoxProtocolError
    assert "not JSON (text/html, 6 bytes)" in str(error)
    assert len(world.sent) == 5


def test_an_unreadable_success_of_an_unsafe_request_is_ambiguous() -> None:
    """Redox stores a message before it answers 200: an unreadable 200 is sent once and says what it was."""
    error, world = fail(answer(200, "<html>"), repeatable=False)
    assert isinstance(error, RedoxAmbiguousOutcomeError)
    assert (error.status, len(world.sent)) == (200, 1)
    assert "success status but an unreadable body" in str(error)


@pytest.mark.parametrize("repeatable", [True, False])
def test_an_error_of_the_destination_is_final(repeatable: bool) -> None:  # noqa: FBT001
    """What the reader calls a failure of the destination is passed on at once, not tried again."""

    def read(_: RedoxResponse) -> Any:
        raise RedoxDestinationError("the destination failed", status=200)

    world = World(DONE)
    with pytest.raises(RedoxDestinationError):
        world.run(exchange(REQUEST, read, repeatable=repeatable, env=world.env()))
    assert len(world.sent) == 1


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_a_redirect_is_refused(status: int, repeatable: bool) -> None:  # noqa: FBT001
    """No redirect is followed, with whatever status and address it comes."""
    error, world = fail(answer(status, location="https://evil.example/"), repeatable=repeatable)
    refused = repeatable or status in (307, 308)
    assert isinstance(error, RedoxSecurityError if refused else RedoxAmbiguousOutcomeError)
    assert error.may_have_arrived == (status not in (307, 308))
    assert "redirect" in str(error)
    assert "evil" not in said_by(error)
    assert len(world.sent) == 1


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 412, 413, 415, 422, 501, 505])
def test_a_refusal_is_final(status: int, repeatable: bool) -> None:  # noqa: FBT001
    """What Redox refuses for good is sent once and fails with its status."""
    error, world = fail(answer(status), repeatable=repeatable)
    assert isinstance(error, RedoxResponseError)
    assert (error.status, len(world.sent)) == (status, 1)
    assert (error.retryable, error.may_have_arrived) == (False, False)


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("stage", [Stage.CUT, Stage.OVERSIZE])
@pytest.mark.parametrize("status", [400, 413, 501])
def test_a_refusal_counts_though_its_body_is_lost(status: int, stage: Stage, repeatable: bool) -> None:  # noqa: FBT001
    """A status line that says no is a refusal, not a lost answer that Airflow would have sent again."""
    error, world = fail(failure(stage, status), repeatable=repeatable)
    assert isinstance(error, RedoxResponseError)
    assert (error.status, error.retryable, error.may_have_arrived) == (status, False, False)
    assert len(world.sent) == 1


def test_a_part_is_no_answer() -> None:
    """A 206 to a request that asked for the whole: tried again where that is safe, and ambiguous where it is not."""
    error, _ = fail(answer(206, '{"Meta": {"Logs": [{"ID": "log-1"}]}}'), repeatable=False)
    assert isinstance(error, RedoxAmbiguousOutcomeError)
    error, world = fail(*[answer(206)] * 5, repeatable=True)
    assert isinstance(error, RedoxProtocolError)
    assert len(world.sent) == 5


@pytest.mark.parametrize("repeatable", [True, False])
def test_an_untrusted_server_is_not_asked_again(repeatable: bool) -> None:  # noqa: FBT001
    """A certificate that is refused is refused for good: nothing was sent, and no retry helps."""
    error, world = fail(failure(Stage.UNTRUSTED), repeatable=repeatable)
    assert isinstance(error, RedoxTransportError)
    assert (error.retryable, len(world.sent)) == (False, 1)


@pytest.mark.parametrize(
    ("happened", "kind", "repeatable"),
    [
        (failure(Stage.UNSENT), RedoxTransportError, True),
        (failure(Stage.UNSENT), RedoxTransportError, False),
        (failure(Stage.UNANSWERED), RedoxTransportError, True),
        (failure(Stage.CUT, 200), RedoxTransportError, True),
        (answer(429), RedoxRateLimitError, True),
        (answer(429), RedoxRateLimitError, False),
        (answer(408), RedoxServerError, True),
        (answer(500), RedoxServerError, True),
        (answer(502), RedoxServerError, True),
        (answer(503), RedoxServerError, True),
        (answer(504), RedoxServerError, True),
        (answer(503, retry_after="1"), RedoxServerError, False),
    ],
)
def test_patience_ends_in_the_error_that_fits(happened: Happened, kind: type[RedoxError], repeatable: bool) -> None:  # noqa: FBT001
    """After five tries the error says what happened in the last, and that a later retry may help."""
    error, world = fail(*[happened] * 5, repeatable=repeatable)
    assert type(error) is kind
    assert error.retryable
    assert (len(world.sent), len(world.waits)) == (5, 4)


def test_the_last_answer_decides_the_error() -> None:
    """A rate limit after server errors ends in a rate limit error."""
    error, _ = fail(*[answer(500)] * 4, answer(429, retry_after="17"), repeatable=True)
    assert isinstance(error, RedoxRateLimitError)
    assert error.retry_after == 17


def test_a_time_beyond_patience_ends_the_tries() -> None:
    """A Retry-After of ten minutes is told to the caller instead of being waited for."""
    error, world = fail(answer(429, retry_after="600"), repeatable=True)
    assert isinstance(error, RedoxRateLimitError)
    assert (error.retry_after, world.waits) == (600, [])


def test_the_deadline_counts_from_the_first_try() -> None:
    """Tries that each take minutes end when the deadline leaves no room for a pause."""

    def slow(_: Request) -> Happened:
        world.clock += 400
        return answer(504)

    world = World(*[slow] * 5)
    with pytest.raises(RedoxServerError):
        world.run(exchange(REQUEST, read_json, repeatable=True, env=world.env()))
    assert len(world.sent) == 3


def test_tries_are_numbered() -> None:
    """Each send says which try it is; a renewal of the token is not a try of its own."""
    _, world = run(answer(500), answer(401), answer(500), DONE, repeatable=True)
    assert [effect.attempt for effect in world.asked if isinstance(effect, Send)] == [1, 2, 2, 3]


HAPPENINGS = st.one_of(
    st.sampled_from(Stage).map(failure),
    st.builds(failure, st.sampled_from([Stage.CUT, Stage.OVERSIZE]), st.sampled_from([200, 401, 429, 500, 503])),
    st.sampled_from([200, 201, 301, 400, 401, 404, 408, 413, 429, 500, 501, 502, 503, 504]).map(answer),
    st.just(answer(200, "<html>")),
    st.just(answer(503, retry_after="1")),
)


def may_have_been_processed(happened: Happened) -> bool:
    """Say whether a request that met this may have had its effect. The rule, stated apart from the table."""
    if happened.status in (401, 429) or (happened.status == 503 and "retry-after" in happened.headers):
        return False
    never_left = getattr(happened, "stage", None) in (Stage.UNSENT, Stage.UNTRUSTED)
    return not never_left


@given(st.lists(HAPPENINGS, max_size=8))
def test_an_unsafe_request_is_sent_at_most_once_where_it_may_have_been_processed(happenings: list[Happened]) -> None:
    """Over any history, after a send that may have been processed there is no other; success means one such send."""
    met: list[Happened] = []

    def meet(happened: Happened) -> Reply:
        return lambda _: met.append(happened) or happened  # type: ignore[func-returns-value]

    world = World(*map(meet, [*happenings, DONE]))
    retry = RetryPolicy(deadline=1e9)
    try:
        world.run(exchange(REQUEST, read_json, repeatable=False, env=world.env(retry=retry)))
    except RedoxError:
        pass
    else:
        assert 200 <= met[-1].status < 300
    assert not any(may_have_been_processed(happened) for happened in met[:-1])
    assert len(met) <= retry.attempts + 1


@given(st.lists(HAPPENINGS, max_size=8), st.floats(0, 1, exclude_max=True))
def test_patience_is_bounded_over_any_history(happenings: list[Happened], jitter: float) -> None:
    """Over any history there are at most five tries and a renewal, and the pauses end before the deadline."""
    world = World(*happenings, DONE)
    with contextlib.suppress(RedoxError):
        world.run(exchange(REQUEST, read_json, repeatable=True, env=world.env(jitter=jitter)))
    assert len(world.sent) <= 6
    assert sum(world.waits) <= RetryPolicy().deadline


# ── the token under it ──


def token_answer(value: str = "new", **more: Any) -> RedoxResponse:
    return answer(200, json.dumps({"access_token": value, "token_type": "Bearer", "expires_in": 300, **more}))


def assertions(world: World) -> list[str]:
    """Give the assertions that were sent."""
    return [parse_qs((request.body or b"").decode())["client_assertion"][0] for request in world.sent]


def claims(assertion: str) -> dict[str, Any]:
    part = assertion.split(".")[1]
    parsed: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return parsed


def fail_to_mint(*happened: Reply) -> tuple[RedoxError, World]:
    world = World(*happened)
    with pytest.raises(RedoxError) as raised:
        world.run(mint(settings(), env=world.env()))
    return raised.value, world


def test_the_token_request_goes_to_the_token_endpoint() -> None:
    """A token request is a form POST to auth_url with a signed assertion, and carries no bearer token."""
    made = settings(scope="fhir:development", headers={"x-gateway": "g"}, source_id="s")
    world = World(token_answer(), sign=signing_key().sign)
    world.run(mint(made, env=world.env()))
    (sent,) = world.sent
    assert (sent.method, sent.url) == ("POST", "https://api.redoxengine.com/v2/auth/token")
    assert sent.headers == {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    assert parse_qs((sent.body or b"").decode())["scope"] == ["fhir:development"]
    assert claims(assertions(world)[0])["sub"] == CLIENT_ID


def test_what_is_signed_is_what_is_sent() -> None:
    """The assertion is the signed bytes with the signature that was given for them."""
    world = World(token_answer(), sign=lambda message: b"signed:" + message[:4])
    world.run(mint(settings(), env=world.env()))
    (signed,) = [effect.message for effect in world.asked if isinstance(effect, Sign)]
    head, _, signature = assertions(world)[0].rpartition(".")
    assert head.encode() == signed
    assert base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)) == b"signed:" + signed[:4]


REFUSED_KEY = answer(401, '{"error": "invalid_client"}')


def two_keys() -> Settings:
    keys = (signing_key(), signing_key("RSA 3072"))
    return replace(settings(), keys=tuple(replace(key, kid=kid) for key, kid in zip(keys, ("new", "old"), strict=True)))


def kids(world: World) -> list[str | None]:
    return [effect.kid for effect in world.asked if isinstance(effect, Sign)]


def test_a_refused_key_gives_way_to_the_next_with_a_warning() -> None:
    """While a key is rotated the connection holds both: the first that Redox accepts is used, and the log says so."""
    world = World(REFUSED_KEY, token_answer())
    assert world.run(mint(two_keys(), env=world.env())).value
    assert kids(world) == ["new", "old"]
    (told,) = [effect.words for effect in world.asked if isinstance(effect, Tell)]
    assert "refused the key new" in told


def test_an_accepted_key_is_the_only_one_tried() -> None:
    """With the first key accepted the others sign nothing."""
    world = World(token_answer())
    world.run(mint(two_keys(), env=world.env()))
    assert kids(world) == ["new"]


def test_when_all_keys_are_refused_the_error_names_them() -> None:
    """The error of the last key also says which keys were tried."""
    world = World(REFUSED_KEY, REFUSED_KEY)
    with pytest.raises(RedoxAuthError) as caught:
        world.run(mint(two_keys(), env=world.env()))
    assert "new, old" in caught.value.__notes__[0]


@pytest.mark.parametrize("happened", [answer(500), answer(429), failure(Stage.UNSENT)], ids=str)
def test_only_a_refusal_changes_the_key(happened: Happened) -> None:
    """A server that is busy or away is asked again with the same key."""
    world = World(happened, token_answer())
    world.run(mint(two_keys(), env=world.env()))
    assert kids(world) == ["new", "new"]


@pytest.mark.parametrize(
    "happened",
    [failure(Stage.UNSENT), failure(Stage.UNANSWERED), answer(429), answer(500), answer(503), answer(200, "<html>")],
    ids=str,
)
def test_each_try_for_a_token_has_a_new_assertion(happened: Happened) -> None:
    """A replayed assertion is refused, so each try has its own jti and its own times."""
    world = World(happened, happened, token_answer())
    world.run(mint(settings(), env=world.env()))
    sent = [claims(assertion) for assertion in assertions(world)]
    assert [one["jti"] for one in sent] == world.jtis[:3]
    assert sent[2]["iat"] == int(NOW + sum(world.waits)) - 10


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refused_client_is_an_auth_error_with_redoxs_words(status: int) -> None:
    """The token endpoint's error and description are told, once, without another try."""
    body = '{"error": "invalid_client", "error_description": "kid: no such key", "error_uri": ""}'
    error, world = fail_to_mint(answer(status, body, redox_trace_id="trace-1"))
    assert isinstance(error, RedoxAuthError)
    assert f"HTTP {status} (invalid_client: kid: no such key) (trace trace-1)" in str(error)
    assert (error.status, error.trace_id, len(world.sent), error.retryable) == (status, "trace-1", 1, False)


def test_a_refused_client_is_told_what_to_check() -> None:
    """A blank description, as Redox gives for a wrong claim, leaves the list of what to check."""
    error, _ = fail_to_mint(answer(401, '{"error": "invalid_request", "error_description": "", "error_uri": ""}'))
    assert "(invalid_request)" in str(error)
    for name in ("extra.client_id", "extra.kid", "extra.audience"):
        assert name in str(error)


def test_an_assertion_in_the_answer_is_not_told() -> None:
    """An endpoint that echoes the assertion does not get it into the error."""

    def echo(request: Request) -> Happened:
        sent = parse_qs((request.body or b"").decode())["client_assertion"][0]
        return answer(400, json.dumps({"error": "invalid_client", "error_description": f"bad assertion {sent}"}))

    error, world = fail_to_mint(echo)
    for part in assertions(world)[0].split(".")[:2]:
        assert part[:30] not in said_by(error)
    assert "bad assertion …" in str(error)


@pytest.mark.parametrize("body", ["<html>", "", "[]", '"text"', '{"error": 5}', '{"error_description": ["x"]}', "\x00"])
def test_a_refusal_without_words_is_still_an_auth_error(body: str) -> None:
    """Whatever body a 401 of the token endpoint has, it is an auth error."""
    assert isinstance(fail_to_mint(answer(401, body))[0], RedoxAuthError)


def test_control_characters_of_a_description_are_dropped() -> None:
    """A description cannot write a second line into a log."""
    error, _ = fail_to_mint(answer(400, json.dumps({"error": "e", "error_description": "a\r\nINFO all is well\x1b[2J"})))
    assert "\n" not in str(error)
    assert "\x1b" not in str(error)


@pytest.mark.parametrize(
    ("date", "said"),
    [
        ("Thu, 01 Jan 2026 00:01:00 GMT", "clock is 60 s behind Redox's"),
        ("Wed, 31 Dec 2025 23:59:00 GMT", "clock is 60 s ahead of Redox's"),
        ("Thu Jan  1 00:00:11 2026", "clock is 11 s behind Redox's"),
    ],
)
def test_a_wrong_clock_is_named(date: str, said: str) -> None:
    """Where the answer's Date is more than ten seconds from ours, the error says by how much and which way."""
    assert said in str(fail_to_mint(answer(401, date=date))[0])


@pytest.mark.parametrize("date", ["Thu, 01 Jan 2026 00:00:09 GMT", "Wed, 31 Dec 2025 23:59:51 GMT", "yesterday", ""])
def test_a_right_or_unknown_clock_is_not_named(date: str) -> None:
    """Within ten seconds, or without a readable Date, the clock is not suspected."""
    assert "clock" not in str(fail_to_mint(answer(401, date=date))[0])


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_of_the_token_endpoint_is_refused(status: int) -> None:
    """An assertion is sent nowhere else."""
    error, world = fail_to_mint(answer(status, location="https://evil.example/token"))
    assert isinstance(error, RedoxSecurityError)
    assert len(world.sent) == 1


@pytest.mark.parametrize(
    ("happened", "kind"),
    [
        (answer(408), RedoxServerError),
        (answer(429), RedoxRateLimitError),
        (answer(500), RedoxServerError),
        (failure(Stage.UNSENT), RedoxTransportError),
        (answer(200, "{}"), RedoxProtocolError),
        (answer(200, '{"access_token": "t", "token_type": "mac"}'), RedoxProtocolError),
    ],
)
def test_patience_with_the_token_endpoint_ends_in_the_error_that_fits(happened: Happened, kind: type[RedoxError]) -> None:
    """What may pass is tried five times and then named; none of it blames the key."""
    error, world = fail_to_mint(*[happened] * 5)
    assert type(error) is kind
    assert error.retryable
    assert len(world.sent) == 5


def test_pauses_of_a_token_request_are_waits_of_the_flow() -> None:
    """A token request waits as any other does."""
    world = World(answer(429), token_answer())
    world.run(mint(settings(), env=world.env()))
    assert [effect for effect in world.asked if isinstance(effect, Wait)] == [Wait(30.5)]


def test_all_requests_share_a_budget_of_retries() -> None:
    """When the budget is spent a request is not tried again; those that come to a good end fill it up."""
    world = World(answer(503), answer(503), DONE, answer(503), DONE)
    budget = RetryBudget(reserve=2, share=0.5)
    env = replace(world.env(), budget=budget)
    exchanged = lambda: world.run(exchange(REQUEST, read_json, repeatable=True, env=env))  # noqa: E731
    assert exchanged() == {"done": True}
    with pytest.raises(RedoxServerError):
        exchanged()
    assert len(world.sent) == 4
    assert exchanged() == {"done": True}
    assert budget.spend()
    assert not budget.spend()
