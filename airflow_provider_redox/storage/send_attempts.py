"""The attempts of one send: a small file for each, made by who comes first, directly before the message may leave.

    _redox/sends/dag_id=…/run_id=…/task.00000.0001.json

Airflow can begin a try while an earlier one, which it took for dead, is only frozen. Both have looked, both want to send.
Whoever makes the next attempt's file sends; the other finds it taken. A file says when its message left at the earliest and
at the latest; what became of it is in the line of that attempt. They lie below no destination, as the connection's names may
be changed between two tries, and are never removed: they hold keyed hashes and times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_redox.exceptions import RedoxSupersededError

if TYPE_CHECKING:
    from airflow_provider_redox.storage.files import Files
    from airflow_provider_redox.storage.layout import Layout


class Attempts:
    """The attempts of one send of one task instance.

    :param number: tells apart what one task sends.
    """

    def __init__(self, files: Files, layout: Layout, number: int) -> None:
        self._files, self._layout, self._number = files, layout, number
        self.latest = 0

    def look(self, known: int) -> bytes | None:
        """Find the latest attempt, and return what its file holds; None when none is later than the one that is known."""
        content, self.latest = None, known
        while (text := self._read(self.latest + 1)) is not None:
            content, self.latest = text, self.latest + 1
        return content

    def begin(self, content: bytes) -> None:
        """Make the next attempt. Raises `RedoxSupersededError` when another try has made it."""
        if not self._files.write_new(self._layout.attempt(self._number, self.latest + 1), content):
            raise superseded()
        self.latest += 1

    @property
    def is_overtaken(self) -> bool:
        """Whether another try has made a later attempt."""
        return self._read(self.latest + 1) is not None

    def _read(self, attempt: int) -> bytes | None:
        return self._files.read(self._layout.attempt(self._number, attempt))


def superseded() -> RedoxSupersededError:
    """Make the error of a try that is not the one to send."""
    return RedoxSupersededError(
        "Another try of this task took over, and may have sent this; this try sent nothing more. See what became of it in "
        "the log of the latest try"
    )
