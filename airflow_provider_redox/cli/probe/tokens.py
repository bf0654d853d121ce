"""The questions to the token endpoint: one request each, six at the most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_redox.cli.probe import questions as q
from airflow_provider_redox.cli.probe.asking import Asker, facts, field_name, json_of, judged, media_type, refused, shape
from airflow_provider_redox.cli.probe.assertions import Signer
from airflow_provider_redox.cli.probe.findings import Finding, names
from airflow_provider_redox.exceptions import RedoxProtocolError
from airflow_provider_redox.protocol.effects import Happened
from airflow_provider_redox.protocol.failures import CLOCK_TOLERANCE
from airflow_provider_redox.protocol.token import is_sendable, parse_token

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
    _clock: float | None = None

    def questions(self) -> Iterator[Finding]:
        """Sign in and look at the answer. Without a token only the refusal is told."""
        answer = self._sign_in()
        self._clock = self._offset or self.asker.client.seen[-1].clock_offset
        yield self._signed_in(answer)
        yield _clock(self._clock)
        yield self._es384(answer)
        if not self.token:
            yield _error(answer)
            return
        yield from self._about(answer)

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
        self.token = found if isinstance(found, str) and is_sendable(found) else ""
        self.asker.gate.keep(self.token)
        return answer

    def _signed_in(self, answer: Happened) -> Finding:
        by = "the server's" if self._offset else "this machine's"
        return q.SIGN_IN.answered(holds=bool(self.token) and not self._offset, **facts(answer), by_which_clock=by)

    def _es384(self, answer: Happened) -> Finding:
        if self.asker.client.settings.algorithm != "ES384":
            return q.ES384.not_asked("the key is RSA, and signs RS384")
        return q.ES384.answered(holds=bool(self.token), accepted=bool(self.token), status=answer.status)

    def _about(self, answer: Happened) -> Iterator[Finding]:
        body: dict[str, Any] = json_of(answer)
        stated = body.get("expires_in")
        is_number = isinstance(stated, int | float) and not isinstance(stated, bool)
        kind = "Bearer" if str(body.get("token_type")).lower() == "bearer" else "another or none"
        yield q.ANSWER.answered(
            holds=_parses(body) and is_number,
            keys=names(map(field_name, body)),
            token_type=kind,
            expires_in=shape(stated, depth=1),
        )
        seconds = stated if is_number else None
        yield q.LIFETIME.answered(holds=seconds == q.DOCUMENTED_LIFETIME, seconds=seconds)

    def oddities(self) -> Iterator[Finding]:
        """Ask with odd assertions; last of all, as the server may mind.

        They are made by the server's own clock, so that each is odd in one way only.
        """
        signer = Signer(self.asker.client, self._clock or 0.0)
        for question, odd in (
            (q.REPLAYED, self._assertion),
            (q.WITHOUT_EXP, signer.without_exp()),
            (q.IN_FUTURE, signer.ahead(q.AHEAD)),
        ):
            answer = self._ask(signer, odd)
            said = refused(answer)
            yield question.answered(holds=said if question is q.IN_FUTURE else None, refused=said, status=answer.status)
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
    return q.CLOCK.answered(holds=None if seconds is None else abs(seconds) <= CLOCK_TOLERANCE, seconds=seconds)


def _error(answer: Happened) -> Finding:
    body = json_of(answer)
    code = body.get("error") if isinstance(body, dict) else None
    said = code if code in _ERRORS else None if code is None else "another"
    holds = judged(answer, verdict=answer.status in (400, 401) and isinstance(code, str))
    return q.ERROR.answered(holds=holds, status=answer.status, content_type=media_type(answer), body=shape(body), error=said)
