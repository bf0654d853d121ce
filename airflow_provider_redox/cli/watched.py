"""A client that keeps what came back of each request, for the commands that look at answers themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_redox.cli.words import say
from airflow_provider_redox.hooks import check

if TYPE_CHECKING:
    import urllib3

    from airflow_provider_redox.protocol.effects import Happened, Request
    from airflow_provider_redox.protocol.settings import Settings

Seen = check.Seen


class WatchedClient(check.WatchedClient):
    """Sends each request once and remembers what came of it, and by which version of HTTP; warns on stderr."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.versions: set[int] = set()

    def warn(self, words: str) -> None:
        """Warn whoever sits at the shell."""
        say(words)

    def _read(self, request: Request, response: urllib3.BaseHTTPResponse) -> Happened:
        self.versions.add(response.version)
        return super()._read(request, response)
