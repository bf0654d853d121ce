"""Looking logs up for all who wait, as cheaply as can be: a page of a search shows fifty logs, an ID one.

One look goes over the search from the oldest log that is waited for, and matches on our side: Redox cannot search by
many IDs. Others' traffic lies in that window too. So what a page brought in earlier looks decides where the window
begins: logs that are older are asked for by their IDs. A search is broken off when it has cost as many requests as
asking for each log would have, so a look never costs more than twice the best. What the search did not show, as it is
new or hidden, is asked for by ID, the one that was asked for least recently first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from airflow_provider_redox.exceptions import (
    RedoxAuthError,
    RedoxConfigError,
    RedoxProtocolError,
    RedoxRateLimitError,
    RedoxResponseError,
    RedoxSecurityError,
    RedoxServerError,
)
from airflow_provider_redox.protocol import delivery, failures
from airflow_provider_redox.protocol.effects import Flow, RedoxResponse, Tell, Turn, Wait
from airflow_provider_redox.protocol.exchange import Environment, ask
from airflow_provider_redox.protocol.platform import (
    PAGE,
    PAGES_AT_MOST,
    SKEW,
    Found,
    check_fitting,
    iso,
    log_request,
    moment_of,
    page_of_logs,
    read_log,
)
from airflow_provider_redox.protocol.settings import Settings

DATA_MODES = ("realtime", "backfill")

_FADING = 0.9
_TROUBLES = 3
_OF_ONE_LOG = (400, 403, 404, 410, 422)
"""Statuses that speak of one log and not of the connection."""

T = TypeVar("T")
Told = Callable[[Mapping[str, str]], None]


@dataclass(slots=True)
class Knowledge:
    """What earlier looks learned. Losing it costs requests, nothing else.

    :param density: logs of everybody in a second, as far as a search showed; None before the first.
    :param searchable: whether the search is allowed to this key, as far as is known.
    :param lag: by how many seconds a log turned out to be older than was thought: others may be, too.
    :param made: when logs were made.
    """

    density: float | None = None
    searchable: bool = True
    lag: float = 0.0
    made: dict[str, float] = field(default_factory=dict)
    _asked: dict[str, int] = field(default_factory=dict)
    _turn: int = 0

    def forget_but(self, wanted: Iterable[str]) -> None:
        """Keep only what concerns these logs."""
        kept = set(wanted)
        self.made = {log_id: moment for log_id, moment in self.made.items() if log_id in kept}
        self._asked = {log_id: turn for log_id, turn in self._asked.items() if log_id in kept}

    def saw(self, rows: int, seconds: float) -> None:
        """Note how many logs a search showed of so long a time. The densest of the times looked at is what counts."""
        self.density = max(rows / max(seconds, 1.0), self.density or 0.0)

    def fade(self) -> None:
        """Believe a little less in what was seen, so that a search is tried again some time."""
        self.density = None if self.density is None else self.density * _FADING
        self.lag *= _FADING

    def since(self, wanted: Mapping[str, float]) -> dict[str, float]:
        """Give the logs with the time of their making as far as it is known, the oldest first."""
        known = {log_id: self.made.get(log_id, since - self.lag) for log_id, since in wanted.items()}
        return dict(sorted(known.items(), key=lambda pair: pair[1]))

    def least_recent(self, log_ids: Iterable[str]) -> list[str]:
        """Order logs: first those that were not asked for by ID for the longest time."""
        return sorted(log_ids, key=lambda log_id: self._asked.get(log_id, 0))

    def asked(self, log_id: str) -> None:
        """Note that a log was asked for by its ID."""
        self._turn += 1
        self._asked[log_id] = self._turn


@dataclass(frozen=True, slots=True)
class Platform:
    """Whom to ask, and in which data.

    :param data_mode: `realtime` or `backfill`; None leaves it to Redox.
    """

    settings: Settings
    env: Environment
    data_mode: str | None = None

    @property
    def filters(self) -> dict[str, str]:
        """What every search asks for."""
        return {"dataMode": self.data_mode} if self.data_mode else {}


def look(
    platform: Platform, wanted: Mapping[str, float], knowledge: Knowledge, told: Told, *, by_id: int | None = None
) -> Flow[None]:
    """Look logs up once, and tell their statuses as they come.

    :param wanted: log IDs, with the earliest time at which each was made.
    :param by_id: requests for single logs at most; what is left over comes first the next time. None is all.
    """
    knowledge.fade()
    since = knowledge.since(wanted)
    apart = apart_from_search(list(since.values()), knowledge.density, platform.env.now())
    hidden = dict(list(since.items())[apart:]) if knowledge.searchable else {}
    alone = [log_id for log_id in since if log_id not in hidden]
    if hidden:
        yield from _search_or_tell(platform, hidden, knowledge, told)
    left = knowledge.least_recent([*alone, *hidden])
    yield from _ask_each(platform, left if by_id is None else left[:by_id], knowledge, told)
    knowledge.lag = max(
        [knowledge.lag, *(made - knowledge.made[one] for one, made in wanted.items() if one in knowledge.made)]
    )


MINUTE = 61.0
"""Seconds of a minute, and a second by which a request may travel faster than one before it."""


class Pace:
    """So many requests in any minute as the server counts it, on a clock that never goes back."""

    def __init__(self, limit: int) -> None:
        self._granted: deque[float] = deque(maxlen=limit)

    def reserve(self, now: float) -> float:
        """Take the next place, and give the seconds until it comes."""
        full = len(self._granted) == self._granted.maxlen
        due = max(now, self._granted[0] + MINUTE) if full else now
        self._granted.append(due)
        return due - now


def slowed(flow: Flow[T], pace: Pace, env: Environment) -> Flow[T]:
    """Pass a flow on, each of its requests, retries too, at its place in the pace."""
    happened: Any = None
    try:
        while True:
            effect = flow.send(happened)
            if isinstance(effect, Turn):
                yield Wait(pace.reserve(env.monotonic()))
            happened = yield effect
    except StopIteration as end:
        answer: T = end.value
        return answer


def apart_from_search(since: list[float], density: float | None, now: float) -> int:
    """Say how many of the oldest logs are better asked for by ID than by a search that reaches back to them.

    :param since: when each log was made, the oldest first.
    """

    def cost(apart: int) -> float:
        if apart == len(since):
            return apart
        return apart + max((density or 0.0) * (now - since[apart] + SKEW) / PAGE, 1.0)

    return min(range(len(since), -1, -1), key=cost, default=0)


def find_in_window(platform: Platform, window: delivery.Window) -> Flow[dict[str, tuple[str, float]]]:
    """Give the logs to a destination that were made in a window, each with its status and when it was made.

    Raises `RedoxConfigError` when they are too many to be told apart.
    """
    filters = {
        **platform.filters,
        "destinationId": window.destination_id,
        "createdAfter": iso(window.since - SKEW),
        "createdBefore": iso(window.until + SKEW),
    }
    found: dict[str, tuple[str, float]] = {}
    cursor: str | None = None
    for _ in range(PAGES_AT_MOST):
        logs, cursor = yield from page_of_logs(platform.settings, platform.env, filters, cursor, platform.settings.headers)
        check_fitting(logs, filters)
        found.update({log.id: (delivery.plain(log.status), moment_of(log.created_at) or window.since) for log in logs})
        if cursor is None:
            return found
    raise RedoxConfigError(f"window: holds more than {PAGES_AT_MOST * PAGE} logs; narrow it, or wait by log IDs")


def _search_or_tell(platform: Platform, hidden: dict[str, float], knowledge: Knowledge, told: Told) -> Flow[None]:
    """Search; where that does not work, what is hidden stays so and is asked for by ID."""
    try:
        yield from _search(platform, hidden, knowledge, told)
    except (RedoxResponseError, RedoxProtocolError) as error:
        if isinstance(error, RedoxAuthError | RedoxRateLimitError | RedoxSecurityError):
            raise
        knowledge.searchable = isinstance(error, RedoxServerError | RedoxProtocolError)
        yield Tell(f"The search over the logs does not work, so they are asked for one by one: {error}")


def _search(platform: Platform, hidden: dict[str, float], knowledge: Knowledge, told: Told) -> Flow[None]:
    """Go over the pages until all are seen; takes what it sees out of `hidden`."""
    since, most = min(hidden.values()), len(hidden) + 1
    filters = {**platform.filters, "createdAfter": iso(since - SKEW)}
    headers = platform.settings.headers
    rows = 0
    cursor: str | None = None
    for _ in range(most):
        logs, cursor = yield from page_of_logs(platform.settings, platform.env, filters, cursor, headers)
        rows += len(logs)
        knowledge.saw(rows, platform.env.now() - since + SKEW)
        _take(logs, hidden, knowledge, told)
        if cursor is None or not hidden:
            return


def _take(logs: list[Found], hidden: dict[str, float], knowledge: Knowledge, told: Told) -> None:
    seen = {log.id: log for log in logs if log.id in hidden and log.status}
    for log in seen.values():
        made = moment_of(log.created_at)
        if made is not None:
            knowledge.made[log.id] = made
        del hidden[log.id]
    if seen:
        told({log.id: delivery.plain(log.status) for log in seen.values()})


def _ask_each(platform: Platform, log_ids: list[str], knowledge: Knowledge, told: Told) -> Flow[None]:
    """Ask for logs one by one. One that cannot be had is no reason to leave the others; three in a row are."""
    troubles = 0
    for log_id in log_ids:
        knowledge.asked(log_id)
        try:
            yield from _ask(platform, log_id, knowledge, told)
            troubles = 0
        except (RedoxServerError, RedoxProtocolError) as error:
            troubles += 1
            if troubles == _TROUBLES or isinstance(error, RedoxSecurityError):
                raise
            yield Tell(f"The log {log_id} could not be looked up: {error}")


def _ask(platform: Platform, log_id: str, knowledge: Knowledge, told: Told) -> Flow[None]:
    def not_shown(response: RedoxResponse) -> dict[str, Any] | int:
        return response.status if response.status in _OF_ONE_LOG else failures.raise_refusal(response)

    def shown(response: RedoxResponse) -> dict[str, Any] | int:
        log = read_log(response)
        if log.get("id") not in (None, log_id):
            raise RedoxProtocolError(f"HTTP {response.status}, but the answer is another log than was asked for")
        return log

    request = log_request(platform.settings, log_id, data_mode=platform.data_mode)
    log = yield from ask(request, shown, env=platform.env, refused=not_shown)
    if isinstance(log, int):
        told({log_id: f"{delivery.NOT_FOUND}{log}"})
        return
    made = moment_of(log.get("createdAt"))
    if made is not None:
        knowledge.made[log_id] = made
    told({log_id: delivery.status_of(log)})
