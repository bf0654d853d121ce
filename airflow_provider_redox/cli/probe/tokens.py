"""The questions to the token endpoint: one request each, six at the most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_redox.cli.probe.asking import Asker, facts, json_of, media_type, refused, shape
from airflow_provider_redox.cli.probe.assertions import Signer
from airflow_provider_redox.cli.probe.findings import Finding, Question, names
from airflow_provider_redox.exceptions import RedoxProtocolError
from airflow_provider_redox.protocol.effects import Happened
from airflow_provider_redox.protocol.failures import CLOCK_TOLERANCE
from airflow_provider_redox.protocol.token import parse_token

DOCUMENTED_LIFETIME = 300
AHEAD = 60

SIGN_IN = Question(
    "sign-in",
    "Does the token endpoint take an assertion as the provider makes it?",
    "Yes, with 200",
)
CLOCK = Question(
    "clock",
    "By how many seconds is the server's clock ahead of this machine's?",
    f"By no more than {CLOCK_TOLERANCE:.0f}, either way",
)
ANSWER = Question(
    "token-answer",
    "Which keys has the answer, and which type the token?",
    "access_token, a token_type of Bearer, and expires_in as a number",
)
LIFETIME = Question(
    "token-lifetime",
    "How many seconds does a token hold, as the answer says?",
    f"{DOCUMENTED_LIFETIME}, as documented; the provider goes by what the answer says",
)
REPLAYED = Question(
    "assertion-replayed",
    "Is the same assertion refused when it comes a second time?",
    "Nothing depends on it: each request has an assertion with a jti of its own",
)
WITHOUT_EXP = Question(
    "assertion-without-exp",
    "Is an assertion without exp refused?",
    "Nothing depends on it: the provider always sends exp",
)
IN_FUTURE = Question(
    "assertion-ahead",
    f"Is an assertion refused whose iat lies {AHEAD} s in the future?",
    "Yes, only a few seconds are tolerated; this is why the provider dates iat back",
)
ES384 = Question(
    "assertion-es384",
    "Is an assertion accepted that is signed with ES384?",
    "Yes, with a key on the curve P-384",
)
ERROR = Question(
    "token-error",
    "How does the token endpoint refuse an assertion with a wrong signature?",
    "With 400 or 401 and a JSON object that has error (RFC 6749 section 5.2)",
)

_ERRORS = (
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "server_error",
    "temporarily_unavailable",
)


@dataclass(slots=True)
class Tokens:
    """The token of this probe, once there is one, and the assertion that brought it."""

    asker: Asker
    token: str = field(default="", repr=False)
    _assertion: str = field(default="", repr=False)
    _offset: float = 0.0

    def questions(self) -> Iterator[Finding]:
        """Sign in, then ask with odd assertions. Without a token only the refusal is told."""
        answer = self._sign_in()
        first = self.asker.client.seen[-1].clock_offset if not self._offset else self._offset
        yield self._signed_in(answer)
        yield _clock(first)
        yield self._es384(answer)
        if not self.token:
            yield _error(answer)
            return
        yield from self._about(answer)
        yield from self._oddities()

    def _sign_in(self) -> Happened:
        """Ask for the token; once more by the server's clock when ours is far off, so that the rest can be asked."""
        answer = self._exchange(Signer(self.asker.client))
        offset = self.asker.client.seen[-1].clock_offset
        if refused(answer) and offset is not None and abs(offset) > CLOCK_TOLERANCE:
            self._offset = offset
            answer = self._exchange(Signer(self.asker.client, offset))
        return answer

    def _exchange(self, signer: Signer) -> Happened:
        self._assertion = signer.proper()
        self.asker.gate.keep(self._assertion)
        answer = self.asker.ask(signer.request(self._assertion))
        body = json_of(answer)
        found = body.get("access_token") if isinstance(body, dict) and answer.status == 200 else None
        self.token = found if isinstance(found, str) else ""
        self.asker.gate.keep(self.token)
        return answer

    def _signed_in(self, answer: Happened) -> Finding:
        by = "the server's" if self._offset else "this machine's"
        return SIGN_IN.answered(holds=bool(self.token) and not self._offset, **facts(answer), by_which_clock=by)

    def _es384(self, answer: Happened) -> Finding:
        if self.asker.client.settings.algorithm != "ES384":
            return ES384.not_asked("the key is RSA, and signs RS384")
        return ES384.answered(holds=bool(self.token), accepted=bool(self.token), status=answer.status)

    def _about(self, answer: Happened) -> Iterator[Finding]:
        body: dict[str, Any] = json_of(answer)
        stated = body.get("expires_in")
        is_number = isinstance(stated, int | float) and not isinstance(stated, bool)
        kind = "Bearer" if str(body.get("token_type")).lower() == "bearer" else "another or none"
        yield ANSWER.answered(
            holds=_parses(body) and is_number, keys=names(body), token_type=kind, expires_in=shape(stated, depth=1)
        )
        seconds = stated if is_number else None
        yield LIFETIME.answered(holds=seconds == DOCUMENTED_LIFETIME, seconds=seconds)

    def _oddities(self) -> Iterator[Finding]:
        """Ask by the server's own clock, so that each assertion is odd in one way only."""
        signer = Signer(self.asker.client, self.asker.client.seen[-1].clock_offset or 0.0)
        for question, odd in (
            (REPLAYED, self._assertion),
            (WITHOUT_EXP, signer.without_exp()),
            (IN_FUTURE, signer.ahead(AHEAD)),
        ):
            answer = self._ask(signer, odd)
            said = refused(answer)
            yield question.answered(holds=said if question is IN_FUTURE else None, refused=said, status=answer.status)
        yield _error(self._ask(signer, signer.unsigned()))

    def _ask(self, signer: Signer, odd: str) -> Happened:
        self.asker.gate.keep(odd)
        answer = self.asker.ask(signer.request(odd))
        body = json_of(answer)
        self.asker.gate.keep(str(body.get("access_token", "")) if isinstance(body, dict) else None)
        return answer


def _parses(body: Any) -> bool:
    try:
        return bool(parse_token(body, now=0.0))
    except RedoxProtocolError:
        return False


def _clock(offset: float | None) -> Finding:
    seconds = None if offset is None else round(offset)
    return CLOCK.answered(holds=None if seconds is None else abs(seconds) <= CLOCK_TOLERANCE, seconds=seconds)


def _error(answer: Happened) -> Finding:
    body = json_of(answer)
    code = body.get("error") if isinstance(body, dict) else None
    said = code if code in _ERRORS else None if code is None else "another"
    holds = answer.status in (400, 401) and isinstance(code, str)
    return ERROR.answered(
        holds=holds, status=answer.status, content_type=media_type(answer), body=shape(body), error=said
    )
