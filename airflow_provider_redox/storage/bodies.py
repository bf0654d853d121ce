"""The body of an answer, byte for byte, beside the other results: it may hold a patient, so XCom gets its place only."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_provider_redox.protocol.media_types import is_json, media_type
from airflow_provider_redox.storage.files import Files

if TYPE_CHECKING:
    from airflow_provider_redox.protocol.effects import RedoxResponse
    from airflow_provider_redox.storage.layout import Layout

_log = logging.getLogger(__name__)


class AnswerFile:
    """Where the body of one task's answer goes.

    :param kind: the `type=` of its path.
    """

    def __init__(self, layout: Layout, kind: str) -> None:
        self._files = Files(layout.root, name=layout.argument)
        self._stem = layout.result(kind, 0).removesuffix(".ndjson")

    def keep(self, response: RedoxResponse) -> str | None:
        """Write the body and return its URL, None if there is no body.

        It replaces that of an earlier try, even an incomplete one.
        """
        folder, _, name = self._stem.rpartition("/")
        self._files.remove_dead(folder, f"{name}.")
        for suffix in ("json", "bin"):
            self._files.remove(f"{self._stem}.{suffix}")
        if not response.body:
            return None
        kind = media_type(response.headers.get("content-type"))
        url = f"{self._stem}.{'json' if is_json(kind) else 'bin'}"
        self._files.write(url, response.body)
        return url

    def keep_if_possible(self, response: RedoxResponse) -> str | None:
        """Write the body of what was done and may not be done again: a store that fails now must not fail the task."""
        try:
            return self.keep(response)
        except Exception:  # noqa: BLE001  (each store has errors of its own)
            _log.exception("The request was done (HTTP %d), but its answer could not be stored.", response.status)
            return None
