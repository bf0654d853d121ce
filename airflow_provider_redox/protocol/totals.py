"""What the pages of a search say of how many matches there are, held against how many came.

On a live server a total moves a little while the pages are read. One that grows from 15 to 60 is of another search: the
filters were lost on the way. Some servers tell how many are on the page, or came so far: that says nothing of the whole.
"""

from __future__ import annotations

import msgspec


class Totals(msgspec.Struct, frozen=True):
    """The totals of the pages so far.

    :param first: the first that was told; None before.
    :param trivial: whether each was the number of what its own page held, or of all that had come.
    """

    first: int | None = None
    least: int = 0
    most: int = 0
    trivial: bool = True

    def after(self, total: int | None, *counted: int) -> Totals:
        """Return them with the total of one more page.

        :param counted: numbers of what came, which this total may only repeat.
        """
        if total is None:
            return self
        trivial = self.trivial and total in counted
        if self.first is None:
            return Totals(total, total, total, trivial)
        return Totals(self.first, min(self.least, total), max(self.most, total), trivial)

    @property
    def has_jumped(self) -> bool:
        """Whether the total grew by more than a live server's does between two pages."""
        return self.first is not None and not self.trivial and self.most - self.first > self._drift

    def missing(self, matches: int) -> int:
        """Return how many matches are missing: fewer came than every page told, or far fewer than one page told."""
        if self.first is None:
            return 0
        if self.least > matches or (not self.trivial and self.most - matches > self._drift):
            return self.counted(matches) - matches
        return 0

    def counted(self, matches: int) -> int:
        """Return the total that so many matches fall short of."""
        return self.least if self.least > matches else self.most

    def are_met(self, matches: int) -> bool:
        """Return whether so many matches are all that the pages told of."""
        return self.first is not None and not self.trivial and matches >= self.most

    @property
    def _drift(self) -> int:
        return max(3, (self.first or 0) // 20)
