"""The outcome table: (may the request be repeated?) x (what happened) -> what follows.

Redox knows no idempotency key, so whether a request may be sent again depends on what it does and on how far
it got. A repeatable request (GET, `_search`, a Data Model query, the token request with a new `jti`) is tried
again while that can help. An unsafe one is tried again only where it cannot have been processed; where that is
not known the outcome is ambiguous, and whoever owns the message must decide.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime

from airflow_provider_redox.protocol.effects import Failure, Happened, Stage


class Step(enum.Enum):
    """What follows."""

    DONE = "done"
    RETRY = "try again"
    RENEW = "get another token, then try again once"
    FAIL = "fail"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True)
class Row:
    """What follows for a request that may be repeated, and for one that may not."""

    repeatable: Step
    unsafe: Step


STAGES: Mapping[Stage, Row] = {
    Stage.UNSENT: Row(Step.RETRY, Step.RETRY),
    Stage.UNTRUSTED: Row(Step.FAIL, Step.FAIL),
    Stage.UNANSWERED: Row(Step.RETRY, Step.AMBIGUOUS),
    Stage.CUT: Row(Step.RETRY, Step.AMBIGUOUS),
    Stage.OVERSIZE: Row(Step.FAIL, Step.AMBIGUOUS),
}

UNREADABLE = Row(Step.RETRY, Step.AMBIGUOUS)
"""A success status with a body that is not what was promised."""

_REFUSED = Row(Step.FAIL, Step.FAIL)
_DONE_PERHAPS = Row(Step.FAIL, Step.AMBIGUOUS)

STATUSES: Mapping[int, Row] = {
    206: UNREADABLE,  # a part, and none was asked for: Range is never sent
    307: _REFUSED,  # the request is to be made elsewhere, so it was not made here (RFC 9110 section 15.4.8)
    308: _REFUSED,
    401: Row(Step.RENEW, Step.RENEW),  # refused before it was processed
    408: Row(Step.RETRY, Step.AMBIGUOUS),
    409: _DONE_PERHAPS,  # also what a server says to the second copy of a request that a proxy sent twice
    425: Row(Step.RETRY, Step.RETRY),  # not processed (RFC 8470 section 5.2)
    429: Row(Step.RETRY, Step.RETRY),  # refused before it was processed
    460: Row(Step.RETRY, Step.AMBIGUOUS),  # a load balancer of AWS: the connection was closed while the server was at work
    499: Row(Step.RETRY, Step.AMBIGUOUS),  # nginx: the same
    501: _REFUSED,  # the server does not support such a request at all
    505: _REFUSED,
}

_OTHER_SERVER_ERROR = Row(Step.RETRY, Step.AMBIGUOUS)
_BUSY_WITH_RETRY_AFTER = Row(Step.RETRY, Step.RETRY)  # a gateway that names a time has not passed the request on
_SUCCESS = Row(Step.DONE, Step.DONE)
_SHORT_OF_AN_ANSWER = _DONE_PERHAPS
"""1xx, after which the real answer did not come; 3xx, which many servers send after they have processed a form."""


def decide(happened: Happened, *, repeatable: bool) -> Step:
    """Look up what follows."""
    row = _row(happened)
    return row.repeatable if repeatable else row.unsafe


def may_have_arrived(happened: Happened) -> bool:
    """Return whether a request with this outcome may have been processed, by the table's column for unsafe requests."""
    return decide(happened, repeatable=False) in (Step.AMBIGUOUS, Step.DONE)


def _row(happened: Happened) -> Row:
    if isinstance(happened, Failure) and (not happened.status or 200 <= happened.status < 300):
        return STAGES[happened.stage]
    if happened.status < 200 or (300 <= happened.status < 400 and happened.status not in STATUSES):
        return _SHORT_OF_AN_ANSWER
    if happened.status == 503 and "retry-after" in happened.headers:
        return _BUSY_WITH_RETRY_AFTER
    if happened.status in STATUSES:
        return STATUSES[happened.status]
    if 200 <= happened.status < 300:
        return _SUCCESS
    return _OTHER_SERVER_ERROR if happened.status >= 500 else _REFUSED


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient one request is. All times in seconds.

    :param attempts: tries in all.
    :param base: the first pause is drawn from 0 to this, each further from twice the range before (full jitter).
    :param cap: the longest pause of our own choosing.
    :param rate_limit_floor: the shortest pause after a 429 that names no time; Redox documents none.
    :param retry_after_cap: a longer time that the server names is not waited for.
    :param deadline: from the first try; a pause that would end later is not begun.
    """

    attempts: int = 5
    base: float = 1.0
    cap: float = 60.0
    rate_limit_floor: float = 30.0
    retry_after_cap: float = 300.0
    deadline: float = 900.0

    def pause(self, happened: Happened, *, attempt: int, elapsed: float, now: float, jitter: float) -> float | None:
        """Give the seconds to wait before the next try, or None when patience has run out.

        `jitter` lies in [0, 1); `now` is the wall clock, for a Retry-After that is a date.
        """
        if attempt >= self.attempts:
            return None
        stated = retry_after(happened.headers, now=now)
        if stated is not None and stated > self.retry_after_cap:
            return None
        drawn = jitter * min(self.cap, self.base * 2.0 ** min(attempt - 1, 60))
        floor = stated if stated is not None else (self.rate_limit_floor if happened.status == 429 else 0.0)
        pause = floor + drawn
        return pause if elapsed + pause <= self.deadline else None


@dataclass(slots=True)
class RetryBudget:
    """How many retries the requests to one destination may make together, so that an outage does not become a storm.

    Each retry takes one; each request that comes to a good end gives back a share of one. A server that fails now and
    then is tried again without end, one that fails most of the time is not. A hospital that is down uses up its own only.

    :param reserve: retries at the beginning, and at most.
    :param share: what a good end gives back.
    """

    reserve: float = 20.0
    share: float = 0.2
    _spent: dict[str | None, float] = field(default_factory=dict)

    def earn(self, destination: str | None = None) -> None:
        """Give back the share of a request that came to a good end."""
        if destination in self._spent:
            self._spent[destination] = max(self._spent[destination] - self.share, 0.0)

    def spend(self, destination: str | None = None) -> bool:
        """Take one retry. Says whether there was one."""
        spent = self._spent.get(destination, 0.0)
        if spent + 1 > self.reserve:
            return False
        self._spent[destination] = spent + 1
        return True


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Read Retry-After, in seconds or as a date (RFC 9110 section 10.2.3). None when absent, negative or garbage."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value) if value[:1].isdigit() else http_date(value) - now
    except (ValueError, OverflowError, TypeError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def http_date(value: str) -> float:
    """Read a date of HTTP as seconds since the epoch. Without a zone it is in UTC (RFC 9110 section 5.6.7), not local.

    Raises ValueError or TypeError for what is no date.
    """
    parsed = parsedate_to_datetime(value)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
