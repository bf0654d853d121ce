"""What the two drivers have in common: the connection's settings, its tokens, its signer, its pace, its log lines."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import airflow_provider_redox
from airflow_provider_redox.client import network
from airflow_provider_redox.client.bodies import LIMIT, FileChangedError
from airflow_provider_redox.client.pacing import Address, Wanted, address_of, budget_for
from airflow_provider_redox.client.slots import ALONE, MemorySlot, Shared, Slot
from airflow_provider_redox.protocol.accounted import Accounted
from airflow_provider_redox.protocol.calls import Calls
from airflow_provider_redox.protocol.destinations import limits_by_place
from airflow_provider_redox.protocol.disclosure import Disclosure
from airflow_provider_redox.protocol.effects import (
    Count,
    Failure,
    Happened,
    Metric,
    Place,
    RedoxResponse,
    Request,
    Tell,
    Turn,
    trace_in,
)
from airflow_provider_redox.protocol.exchange import TOKEN_LABEL, Environment
from airflow_provider_redox.protocol.outcomes import RetryPolicy
from airflow_provider_redox.protocol.settings import Settings
from airflow_provider_redox.protocol.token import Token

_log = logging.getLogger("airflow_provider_redox.client")

_locks: dict[str, threading.Lock] = {}
_locks_lock = threading.Lock()


def forget() -> None:
    """Begin as a new process does: a lock may be held by a thread of the parent's, which is not here."""
    global _locks_lock
    _locks_lock = threading.Lock()
    _locks.clear()


os.register_at_fork(after_in_child=forget)


def real_environment(retry: RetryPolicy | None = None, *, origin: str = "") -> Environment:
    """Give the machine's own clocks and randomness, and the retry budget that this process has for a server."""
    return Environment(
        now=time.time,
        monotonic=time.monotonic,
        jitter=random.random,
        new_jti=lambda: secrets.token_urlsafe(24),
        retry=retry or RetryPolicy(),
        budget=budget_for(origin),
        place=random.random(),  # noqa: S311  (nothing hangs on it)
    )


Meter = Callable[[Metric, float], None]
"""Counts; `WAITED` in seconds."""


class Recorder:
    """Who keeps the record of disclosures; this one keeps none."""

    collects = False
    """Whether it wants to know who the patients are."""

    def __call__(
        self,
        disclosure: Disclosure,
        *,
        done: bool = True,
        error: BaseException | None = None,
        once: bytes | None = None,
    ) -> None:
        """Record a disclosure: whether the request succeeded, and why it failed.

        :param once: what is asked again and again, where it is on record once for all looks of a task's try in a day.
        """


def nobody(metric: Metric, amount: float) -> None:
    """Count nothing."""


class Driver:
    """The state of a driver.

    :param settings: the checked connection.
    :param shared: where workers share the token; nowhere by default.
    :param env: clocks, chance and patience.
    :param body_limit: the largest decoded body that is read, in bytes.
    :param meter: who counts.
    :param recorder: who keeps the record of disclosures.
    :param address: the way to the server, by default the one that this process shares.
    """

    at_most: int | None = None
    """Requests under way to a destination that names no limit."""

    def __init__(
        self,
        settings: Settings,
        *,
        shared: Shared = ALONE,
        env: Environment | None = None,
        body_limit: int = LIMIT,
        meter: Meter = nobody,
        recorder: Recorder | None = None,
        address: Address | None = None,
    ) -> None:
        self.settings = settings
        self.env = env or real_environment(origin=settings.base_url)
        self.calls = Calls(settings, self.env)
        self.accounted = Accounted(self.calls)
        self.body_limit = body_limit
        self.meter = meter
        self.recorder = recorder or Recorder()
        self.fingerprint = settings.fingerprint  # once: making it writes the public keys out
        self.memory = MemorySlot(self.fingerprint)
        self.slots: Mapping[Place, Slot[Any]] = {
            Place.MEMORY: self.memory,
            Place.SHARED: shared.token,
            Place.CLAIM: shared.claim,
        }
        self.address = address or address_of(settings.base_url)
        self._limits = limits_by_place(settings.destinations)
        self._proxies: dict[str, str | None] = {}
        self.own_headers = {"user-agent": f"airflow-provider-redox/{airflow_provider_redox.__version__}"}

    @property
    def lock(self) -> threading.Lock:
        """One lock for each connection and process: threads that miss the token together ask for it once."""
        with _locks_lock:
            return _locks.setdefault(self.fingerprint, threading.Lock())

    def proxy_for(self, url: str) -> str | None:
        """Give the proxy for a URL, looked up once for each origin."""
        origin = "/".join(url.split("/", 3)[:3])
        if origin not in self._proxies:
            self._proxies[origin] = network.proxy_for(url)
        return self._proxies[origin]

    def wanted(self, turn: Turn) -> Wanted:
        """Say what a request needs before it may go."""
        place = turn.destination or ""
        lane, at_most = self._limits.get(place.lower(), (place, None))
        return Wanted(
            self.settings.requests_per_5min,
            lane,
            at_most or self.at_most,
            for_token=turn.for_token,
            pause=self.env.retry.rate_limit_floor,
        )

    def sign(self, message: bytes, kid: str | None) -> bytes:
        """Sign with the connection's key of this key ID, by default with its first."""
        keys = [key for key in self.settings.keys if kid in (None, key.kid)]
        return keys[0].sign(message)

    def token_at_hand(self, refused: str | None, *, busy: bool) -> Token | None:
        """Give this process's token if it serves, and either need not be renewed yet or another thread is about it."""
        held, now = self.memory.load(), self.env.now()
        serves = held is not None and held.token.serves(now, refused) and (busy or not held.is_due(now))
        return held.token if held is not None and serves else None

    def tell(self, effect: Tell | Count) -> None:
        """Warn the reader of the log, or count."""
        match effect:
            case Tell(words):
                self.warn(words)
            case Count(metric, amount):
                self.meter(metric, amount)

    def warn(self, words: str) -> None:
        """Warn the reader of the log."""
        _log.warning("%s", words)

    @contextlib.contextmanager
    def on_record(self, disclosure: Disclosure | None) -> Iterator[None]:
        """Put on record what the block does: when it has ended, or why it failed."""
        try:
            yield
        except BaseException as error:  # a task that is ended from outside has seen what it saw
            if disclosure is not None:
                self.recorder(disclosure, error=error)
            raise
        if disclosure is not None:
            self.recorder(disclosure)

    def waiting(self, seconds: float) -> float:
        """Count a wait, and give its seconds."""
        if seconds > 0:
            self.meter(Metric.WAITED, seconds)
        return seconds

    def noted(self, request: Request, attempt: int, happened: Happened) -> Happened:
        """Count and log what happened: method and path template, status, attempt, trace ID; nothing else."""
        self.meter(Metric.EXCHANGES if request.label == TOKEN_LABEL else Metric.REQUESTS, 1)
        if isinstance(happened, RedoxResponse):
            self.meter(Metric.BYTES, len(happened.body))
        if happened.status == 429:
            self.meter(Metric.RATE_LIMITED, 1)
        what = happened.stage.value if isinstance(happened, Failure) else happened.status
        _log.debug("%s -> %s (attempt %d, trace %s)", request.label, what, attempt, trace_in(happened.headers) or "-")
        return happened


def explain(error: BaseException) -> str:
    """Say in a few words why there was no answer. Library messages hold addresses and queries, so none is quoted."""
    text = f"{type(error).__name__} {error}"
    for sign, words in _SIGNS:
        if sign in text:
            return words
    chain = [error, error.__cause__, error.__context__]
    for kind, words in _KINDS:
        if any(isinstance(link, kind) for link in chain):
            return words
    return type(error).__name__


_SIGNS = (
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not signed by a CA that this machine trusts; see extra.ca_file"),
    ("ertificate", "its certificate does not fit"),
    ("NameResolution", "the host name cannot be resolved"),
    ("Name or service not known", "the host name cannot be resolved"),
    ("DNS", "the host name cannot be resolved"),
    ("Proxy", "the proxy could not be reached or refused"),
    ("Connection refused", "the connection was refused"),
    ("Connect call failed", "the connection was refused"),
    ("ConnectTimeout", "no connection in time"),
    ("ConnectionTimeout", "no connection in time"),
    ("ReadTimeout", "no answer in time"),
    ("SocketTimeout", "no answer in time"),
    ("IncompleteRead", "the body ended early"),
    ("PayloadError", "the body ended early"),
    ("reset by peer", "the connection was reset"),
    ("without response", "the connection was closed without an answer"),
    ("Server disconnected", "the connection was closed without an answer"),
)
_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (FileChangedError, "the file changed while it was sent, so it cannot have arrived whole"),
    (asyncio.TimeoutError, "no answer in time"),
    (socket.gaierror, "the host name cannot be resolved"),
    (ssl.SSLError, "the TLS handshake failed"),
    (ConnectionError, "the connection was lost"),
)
