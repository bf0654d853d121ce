"""What the Test button does: one token exchange, no clinical call, no cache, and words that a data engineer acts on."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_redox.client.driver import real_environment
from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.exceptions import RedoxError, words_of
from airflow_provider_redox.hooks.connection import settings_from
from airflow_provider_redox.protocol.effects import Effect, Happened, Send, Sign
from airflow_provider_redox.protocol.exchange import TOKEN_LABEL, mint
from airflow_provider_redox.protocol.outcomes import RetryPolicy, http_date

if TYPE_CHECKING:
    from airflow_provider_redox.hooks.redox import RedoxHook
    from airflow_provider_redox.protocol.keys import SigningKey
    from airflow_provider_redox.protocol.settings import Settings

ONCE = RetryPolicy(attempts=1)

REFUSED = "The connection does not work: "
"""How each failure begins: Airflow 2's page shows it in the colour of success."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found. Nothing in it is secret.

    :param message: what to tell the user, a sentence.
    :param algorithm: the signing algorithm of the key that was accepted; if none was, of the key that was tried last.
    :param clock_offset: seconds by which the server's clock is ahead of ours; None when it told no date.
    :param retryable: whether the same check may succeed later.
    :param token_until: when the token that Redox gave ends, in UTC; None when it gave none.
    """

    ok: bool
    message: str
    token_url: str = ""
    client_id: str = ""
    key_ids: tuple[str, ...] = ()
    algorithm: str = ""
    clock_offset: float | None = None
    token_until: str | None = None
    retryable: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Give the report as plain values."""
        return {**asdict(self), "key_ids": list(self.key_ids)}


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer, or why there was none, and this machine's clock when the request was halfway."""

    happened: Happened = field(repr=False)
    at: float

    @property
    def clock_offset(self) -> float | None:
        """Seconds by which the server's clock is ahead of ours; None without a Date header.

        A Date is in whole seconds, cut off, so half a second is added: the error is half a second and half the way.
        """
        try:
            return http_date(self.happened.headers["date"]) + 0.5 - self.at
        except (KeyError, ValueError, TypeError, OverflowError):
            return None


class WatchedClient(SyncClient):
    """Sends each request once and remembers what came of it, and which key signed last. Shares its token with nobody."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, env=real_environment(ONCE))
        self.seen: list[Seen] = []
        self.key: SigningKey = settings.key

    def perform(self, effect: Effect) -> Any:
        """Do one thing that a flow asks for."""
        if isinstance(effect, Sign):
            self.key = next(key for key in self.settings.keys if effect.kid in (None, key.kid))
        started = time.time()
        result = super().perform(effect)
        if isinstance(effect, Send):
            self.seen.append(Seen(result, (started + time.time()) / 2))
        return result


def check(settings: Settings) -> Report:
    """Exchange one assertion for a token. Never raises a RedoxError: what went wrong is in the report."""
    client = WatchedClient(settings)
    until: str | None = None
    retryable = False
    try:
        token = client.run(mint(settings, env=client.env))
        until = datetime.fromtimestamp(token.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        message = (
            f"Redox accepts the key {client.key.kid} of client {settings.client_id} ({client.key.algorithm}); "
            f"the token it gave holds until {until[11:19]} UTC"
        )
    except RedoxError as error:
        message = REFUSED + words_of(error).replace(TOKEN_LABEL, settings.auth_url)
        retryable = error.retryable
    finally:
        client.close()
    return Report(
        ok=until is not None,
        message=message,
        token_url=settings.auth_url,
        client_id=settings.client_id,
        key_ids=tuple(key.kid or "" for key in settings.keys),
        algorithm=client.key.algorithm,
        clock_offset=client.seen[-1].clock_offset if client.seen else None,
        token_until=until,
        retryable=retryable,
    )


def connection(hook: RedoxHook) -> Report:
    """Check a hook's connection, its fields first."""
    try:
        settings = settings_from(hook.get_connection(hook.redox_conn_id))
    except RedoxError as error:
        return Report(ok=False, message=f"{REFUSED}{error}", retryable=error.retryable)
    return check(settings)
