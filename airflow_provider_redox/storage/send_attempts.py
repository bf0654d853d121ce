"""The attempts of one send: a small file for each, created exclusively, directly before the message may leave.

    _redox/sends/dag_id=…/run_id=…/task.00000.0001.json

Airflow can begin a try while an earlier one, which it considers dead, is only frozen. Both have read the earlier outcome,
and both want to send. The one that creates the next attempt's file sends; the other fails to create it. The file states the
earliest and the latest time at which its message left; the line of that attempt has the outcome. Attempts are not stored by
destination, because the connection's names may be changed between two tries. They are never removed: they hold keyed hashes
and times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_redox.exceptions import RedoxSupersededError

if TYPE_CHECKING:
    from airflow_provider_redox.storage.files import Files
    from airflow_provider_redox.storage.layout import Layout


class Attempts:
    """The attempts of one send of one task instance.

    :param number: identifies one of several sends of a task.
    """

    def __init__(self, files: Files, layout: Layout, number: int) -> None:
        self._files, self._layout, self._number = files, layout, number
        self.latest = 0

    def look(self, known: int) -> bytes | None:
        """Find the latest attempt, and return the content of its file; None if there is none after the known one."""
        content, self.latest = None, known
        while (text := self._read(self.latest + 1)) is not None:
            content, self.latest = text, self.latest + 1
        return content

    def begin(self, content: bytes) -> None:
        """Create the next attempt. Raises `RedoxSupersededError` if another try has created it."""
        if not self._files.write_new(self._layout.attempt(self._number, self.latest + 1), content):
            raise superseded()
        self.latest += 1

    @property
    def is_overtaken(self) -> bool:
        """Return whether another try has created a later attempt."""
        return self._read(self.latest + 1) is not None

    def _read(self, attempt: int) -> bytes | None:
        return self._files.read(self._layout.attempt(self._number, attempt))


def superseded() -> RedoxSupersededError:
    """Build the error for a try that was overtaken and must not send."""
    return RedoxSupersededError(
        "Another try of this task took over, and may have sent this; this try sent nothing more. See what became of it in "
        "the log of the latest try"
    )
