"""Asking the Platform API whether a message arrived, and when its answer is believed.

    its logs show                                  what follows
    one that fits, for each destination            it arrived
    several, or one for some destinations only     unclear
    one that stands for several destinations, or   unclear
    for another message of the file
    none, and others to that destination lately    it did not arrive
    none, and none to that destination at all      unclear: this may be another environment

By default the logs' metadata are asked: event, destination, time. Where others send the same event at the same time an
author names a text that stands in the message and in no other: then Redox looks into payloads, and only a log that holds it
is taken for the message's. That none holds it is believed only where no other log fits either, since nobody knows which
fields Redox's search sees; or where it is seen to find a message of the same batch that is known to be there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.operators.sends.sending import UndecidedError
from airflow_provider_redox.protocol.platform import Found, Sought, find_logs, is_witnessed, settle

Known = Callable[[str], tuple[Sought, str] | None]
"""Gives, for a destination, what to search for to find a log that is known to be there, and its ID."""


@dataclass(frozen=True, slots=True)
class Reconciler:
    """The search for one message.

    :param client: that of the Platform connection.
    :param term: a text that only this message holds; None to ask for metadata only.
    :param known: see `Known`.
    """

    client: SyncClient
    data_model: str
    event_type: str
    destinations: tuple[str, ...]
    term: str | None = field(default=None, repr=False)
    category: str | None = None
    known: Known | None = None

    def __call__(self, since: float, until: float) -> list[list[Found]]:
        """Give the logs that fit, for each destination. Raises `UndecidedError`, and `RedoxError` when nobody answers."""
        sought = [
            Sought(self.data_model, self.event_type, place, since, until, self.term, self.category)
            for place in self.destinations
        ]
        client = self.client
        found = [client.run(settle(client.settings, client.env, one, client.settings.headers)) for one in sought]
        self._check_apart(found)
        if not any(found):
            for one in sought:
                self._believe(one)
        return found

    def _check_apart(self, found: list[list[Found]]) -> None:
        """Check that each destination has a log of its own: one log for two destinations proves nothing about either."""
        counted = Counter(log_id for logs in found for log_id in {log.id for log in logs})
        twice = [log_id for log_id, count in counted.items() if count > 1]
        if twice:
            raise UndecidedError(f"the search shows one log for several destinations ({', '.join(twice[:10])})")

    def _believe(self, sought: Sought) -> None:
        """Make sure that a log would have been found."""
        client, settings = self.client, self.client.settings
        seen = is_witnessed(settings, client.env, sought.destination_id, sought.until, settings.headers)
        if not client.run(seen):
            raise UndecidedError(
                f"the environment {settings.environment_id} shows no log to {sought.destination_id} in the last 30 days, so "
                "that extra.environment_id of the Platform connection may name another one"
            )
        if self.term is not None and not self._finds_what_is_known(sought):
            others = client.run(find_logs(settings, client.env, replace(sought, term=None), settings.headers))
            if others:
                raise UndecidedError(
                    f"no log holds its correlation key, but {len(others)} fit otherwise, and the search may not see that key"
                )

    def _finds_what_is_known(self, sought: Sought) -> bool:
        known = self.known(sought.destination_id) if self.known else None
        if known is None:
            return False
        client = self.client
        found = client.run(find_logs(client.settings, client.env, known[0], client.settings.headers))
        return known[1] in [log.id for log in found]
