"""The line that says what became of a message.

It is written before the message leaves, so that storage that cannot be written is found in time and a task that is
killed leaves a trace; and again when the message's fate is known. It holds codes and IDs, no content.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError, RedoxError, RedoxTransportError
from airflow_provider_redox.storage.files import Files

if TYPE_CHECKING:
    from airflow_provider_redox.protocol.data_model import Accepted
    from airflow_provider_redox.storage.layout import Layout

_log = logging.getLogger(__name__)


class SendRecord:
    """One message's line: `sending`, then `accepted`, `refused`, `unsent` or `ambiguous`."""

    def __init__(self, layout: Layout, meta: Mapping[str, Any]) -> None:
        self._files = Files(layout.root)
        self.url = layout.result("DataModelPost", 0)
        self._known = {"index": 0, "data_model": meta["DataModel"], "event_type": meta["EventType"]}

    def may_have_been_sent(self) -> bool:
        """Say whether an earlier try left a line that does not rule it out."""
        text = self._files.read(self.url)
        if text is None:
            return False
        try:
            line = msgspec.json.decode(text)
        except msgspec.MsgspecError:
            return True
        return not isinstance(line, dict) or line.get("outcome") not in ("unsent", "refused")

    def note(self, outcome: str, **facts: Any) -> None:
        """Write the line."""
        line = {**self._known, "outcome": outcome, "at": _now(), **facts}
        self._files.write(self.url, msgspec.json.encode(line) + b"\n")

    def note_accepted(self, accepted: Accepted) -> str | None:
        """Write that the message was accepted. Give the URL, or None when storage failed: accepted it is all the same."""
        try:
            self.note("accepted", log_ids=list(accepted.log_ids), trace_id=accepted.trace_id)
        except Exception:  # noqa: BLE001  (each store has errors of its own)
            _log.exception("The message was accepted, log IDs %s, but the result could not be stored.", accepted.log_ids)
            return None
        return self.url

    def note_failure(self, error: RedoxError) -> None:
        """Write that Redox refused the message, that it was not sent, or that nobody can tell. Never hides the error."""
        unsent = isinstance(error, RedoxTransportError) and not error.sent
        outcome = "ambiguous" if isinstance(error, RedoxAmbiguousOutcomeError) else "unsent" if unsent else "refused"
        facts = {
            "error": type(error).__name__,
            "issues": getattr(error, "issues", ()),
            "log_ids": getattr(error, "log_ids", ()),
            "trace_id": getattr(error, "trace_id", None),
        }
        try:
            self.note(outcome, **facts)
        except Exception:  # noqa: BLE001  (each store has errors of its own)
            _log.exception("The result could not be stored.")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
