"""Compare the totals that the pages of a search state with the number of matches that were received.

On a live server a total changes a little while the pages are read. A total that grows from 15 to 60 belongs to another
search: the filters were lost. Some servers state the number on the page, or the number so far: those say nothing about the
whole.
"""

from __future__ import annotations

import msgspec


class Totals(msgspec.Struct, frozen=True):
    """The totals of the pages so far.

    :param first: the first total that was stated; None before that.
    :param trivial: whether every total only repeated the number on its page, or the number so far.
    """

    first: int | None = None
    least: int = 0
    most: int = 0
    trivial: bool = True

    def after(self, total: int | None, *counted: int) -> Totals:
        """Return the totals including that of one more page.

        :param counted: the numbers received on this page and so far: a total that only repeats one of them is trivial.
        """
        if total is None:
            return self
        trivial = self.trivial and total in counted
        if self.first is None:
            return Totals(total, total, total, trivial)
        return Totals(self.first, min(self.least, total), max(self.most, total), trivial)

    @property
    def has_jumped(self) -> bool:
        """Return whether the total grew more than a live server's total can grow between two pages."""
        return self.first is not None and not self.trivial and self.most - self.first > self._drift

    def missing(self, matches: int) -> int:
        """Return how many matches are missing: fewer came than every page stated, or far fewer than one page stated."""
        if self.first is None:
            return 0
        if self.least > matches or (not self.trivial and self.most - matches > self._drift):
            return self.counted(matches) - matches
        return 0

    def counted(self, matches: int) -> int:
        """Return the total with which this number of matches is compared."""
        return self.least if self.least > matches else self.most

    def are_met(self, matches: int) -> bool:
        """Return whether this number of matches reaches the total that the pages stated."""
        return self.first is not None and not self.trivial and matches >= self.most

    @property
    def _drift(self) -> int:
        return max(3, (self.first or 0) // 20)
