"""Number the tries of one task's result: each number can be taken by one try only, and the latest try wins.

    _redox/…/task/tries/0002.json     made when the try begins; holds its manifest when it has committed
    _redox/…/task/staged/0002/        its checkpoint and its parts

Airflow can begin a try while an earlier one, which it considers dead, is only frozen. The number is a fencing token: each
try writes under names that contain its number, so that no two tries write the same file, and a try that finds a later number
stops.

`manifest.json` has the same name for all tries. So a try writes its manifest under its own number first, then
`manifest.json`, and then checks again: if a later try has committed meanwhile, the later manifest is restored. The last
writer checks last.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from airflow_provider_redox.exceptions import RedoxSupersededError
from airflow_provider_redox.protocol import jsontext

if TYPE_CHECKING:
    from airflow_provider_redox.storage.files import Files
    from airflow_provider_redox.storage.layout import Layout

_FILE = re.compile(r"(\d{4,})\.json")


class Committed(NamedTuple):
    """A try that has committed, and its manifest."""

    number: int
    manifest: dict[str, Any]


class Tries:
    """The tries of one task instance's result, and this one among them.

    :param number: of this try; 0 before it has begun.
    """

    def __init__(self, files: Files, layout: Layout) -> None:
        self._files, self._layout = files, layout
        self.number = 0

    def begin(self) -> int:
        """Take the next number, and return it. A place that cannot be written is found here."""
        number = max([*self._numbers(), self._last_of_manifest()]) + 1
        while not self._files.write_new(self._layout.attempted(number), b"{}"):
            number += 1
        self.number = number
        return number

    def check(self) -> None:
        """Raise `RedoxSupersededError` when a later try has begun, or what this one had written was purged."""
        numbers = self._numbers()
        if max(numbers) > self.number:
            raise RedoxSupersededError(
                f"Another try of this task took over (try {self.number} of its result found a later one). This one stopped, "
                "and no result of it is visible; see the log of the latest try"
            )
        self._check_here(numbers)

    @property
    def is_gone(self) -> bool:
        """Whether a purge has removed what says that this try began."""
        return self.number not in self._numbers()

    def _check_here(self, numbers: list[int]) -> None:
        """Refuse to go on where a purge has removed the number: with it went parts, or the number of a later try."""
        if self.number not in numbers:
            raise RedoxSupersededError(
                f"The files of this task were removed while it ran (try {self.number} of its result is gone), as by a "
                "purge. This one stopped, and its result is not whole; clear the task to pull anew"
            )

    def commit(self, manifest: dict[str, Any]) -> None:
        """Publish a manifest as the result of this task. Raises `RedoxSupersededError` if a later try has committed."""
        self.check()
        self._files.write(self._layout.attempted(self.number), msgspec.json.encode({"manifest": manifest}))
        self.check()
        latest = Committed(self.number, manifest)
        while True:
            self._files.write(self._layout.manifest, msgspec.json.format(msgspec.json.encode(latest.manifest), indent=2))
            later = self.committed()
            if later is None or later.number <= latest.number:
                break
            latest = later
        if latest.number != self.number:
            self.check()
        self._check_here(self._numbers())

    def committed(self) -> Committed | None:
        """Return the latest try that has committed."""
        for number in sorted(self._numbers(), reverse=True):
            kept = jsontext.stored(self._files.read(self._layout.attempted(number)) if number else None, _Kept)
            if kept is not None and kept.manifest is not None:
                return Committed(number, kept.manifest)
        return None

    def forget(self, *numbers: int) -> None:
        """Remove the files that mark the start of these tries."""
        for number in numbers:
            self._files.remove_file(self._layout.attempted(number))

    def up_to(self, number: int) -> list[int]:
        """Return the numbers of this try and those before it, the latest first."""
        return sorted((one for one in self._numbers() if 0 < one <= number), reverse=True)

    def _numbers(self) -> list[int]:
        """List the numbers that were taken; 0 is always among them."""
        names = self._files.names(self._layout.tries)
        return [0, *(int(named[1]) for name in names if (named := _FILE.fullmatch(name)))]

    def _last_of_manifest(self) -> int:
        """Return the number of the try whose result is visible; read from its manifest, as a purge may remove `tries/`."""
        manifest = jsontext.stored(self._files.read(self._layout.manifest), _Manifest)
        return 0 if manifest is None else manifest.extension.attempt


class _Kept(msgspec.Struct):
    manifest: dict[str, Any] | None = None


class _Extension(msgspec.Struct):
    attempt: int = 1


class _Manifest(msgspec.Struct):
    extension: _Extension = msgspec.field(default_factory=_Extension)
