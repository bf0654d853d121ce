"""Check each page of a search against the search: the filters that the server used, the resources, and the totals.

A page that answers another search is an error with `handling="strict"`, and a warning with `lenient`; `on_total_mismatch`
does the same for totals that do not fit. Errors contain names of parameters and numbers of pages, never values.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_provider_redox.exceptions import RedoxProtocolError
from airflow_provider_redox.protocol.effects import Flow, Tell
from airflow_provider_redox.protocol.evidence import Evidence
from airflow_provider_redox.protocol.filters import Filters
from airflow_provider_redox.protocol.outcomes import http_date
from airflow_provider_redox.protocol.pages import Page
from airflow_provider_redox.protocol.terms import Terms, counts_only
from airflow_provider_redox.protocol.totals import Totals
from airflow_provider_redox.protocol.unsupported import partial, unsupported


@dataclass(slots=True)
class Judge:
    """Checks the pages of one search against its form.

    :param confirmed: whether the self link of the last page named every filter.
    """

    resource_type: str
    form: bytes = field(repr=False)
    terms: Terms
    filters: Filters
    evidence: Evidence
    confirmed: bool = False
    _has_included: bool = False
    _told: set[str] = field(default_factory=set)

    @property
    def is_in_doubt(self) -> bool:
        """Return whether the server has not confirmed the filters, and its resources could prove them."""
        return not self.confirmed and bool(self.evidence.checks)

    @classmethod
    def of(cls, resource_type: str, form: bytes, terms: Terms) -> Judge:
        """Build the judge of a search."""
        return cls(resource_type, form, terms, Filters.of(form), Evidence.of(form, resource_type))

    def page(self, page: Page, number: int, date: str | None) -> Flow[int]:
        """Check a page. Returns the number of its resources that were not asked for, if that is only a warning.

        :param date: the server's clock at the first page.
        """
        disowned = unsupported(page.outcomes, self.form) if page.outcomes else []
        if disowned:
            yield from self._complain(f"the server says that it does not support the parameter {', '.join(disowned)}")
        code = partial(page.outcomes) if page.outcomes else ""
        if code:
            yield from self._miss(f"the server says that page {number} is not whole (OperationOutcome, {code})")
        heard = self.filters.heard(page.self_link)
        self.confirmed = heard.confirmed
        if heard.ignored:
            names = ", ".join(heard.ignored)
            yield from self._complain(f"the server does not say that it used the parameter {names} (link[self])")
        strays = self.evidence.strays(page.resources, confirmed=heard.confirmed, began=_seconds(date))
        if strays.number:
            yield from self._refuse(
                strays.number, f"page {number} do not match the parameter {', '.join(strays.parameters)}"
            )
        if self.filters.including and not self._has_included:
            self._has_included = any(one.type != self.resource_type or one.mode == "include" for one in page.resources)
        return strays.number

    def included(self, matches: int) -> Flow[None]:
        """Warn, at the end of a search, if `_include` was asked for and nothing was included."""
        if matches and self.filters.including["_include"] and not self._has_included:
            yield from self._warn("_include was asked for, and no page held an included resource; the server may ignore it")

    def total(self, totals: Totals, matches: int, *, ended: bool) -> Flow[int]:
        """Compare the totals with the matches. Returns how many matches are missing, if that is only a warning."""
        if counts_only(self.form):
            return 0
        if totals.has_jumped:
            yield from self._mistrust(
                f"the server's total went from {totals.first} to {totals.most} between two pages, as if of another search"
            )
        missing = totals.missing(matches) if ended else 0
        if missing:
            counted = totals.counted(matches)
            yield from self._mistrust(f"the server counts {counted} matches, and its pages held {matches}", missing)
        return missing

    def _complain(self, words: str) -> Flow[None]:
        if self.terms.handling == "strict":
            raise RedoxProtocolError(
                f"{words}: without the filter, the answer holds resources that were not asked for. If the server did "
                "filter, set handling='lenient'"
            )
        yield from self._warn(f"{words}; the answer may hold resources that were not asked for")

    def _refuse(self, count: int, words: str) -> Flow[None]:
        if self.terms.handling == "strict":
            raise RedoxProtocolError(
                f"{count} resources of {words}: the server answered another search. If they are right all the same, "
                "set handling='lenient'"
            )
        yield from self._warn(f"resources of {words}: they may be of another search", key="strays")

    def _mistrust(self, words: str, missing: int = 0) -> Flow[None]:
        lost = f": {missing} are missing" if missing else ""
        if self.terms.on_total_mismatch == "fail":
            raise RedoxProtocolError(f"{words}{lost}. If this server only estimates its total, set on_total_mismatch='warn'")
        yield from self._warn(f"{words}; {missing} may be missing" if missing else words)

    def _miss(self, words: str) -> Flow[None]:
        if self.terms.on_total_mismatch == "fail":
            raise RedoxProtocolError(f"{words}: try again, or accept it with on_total_mismatch='warn'")
        yield from self._warn(f"{words}; resources may be missing")

    def _warn(self, words: str, key: str = "") -> Flow[None]:
        """Log each warning once."""
        if (key or words) not in self._told:
            self._told.add(key or words)
            yield Tell(f"Search for {self.resource_type}: {words}.")


def _seconds(date: str | None) -> float | None:
    try:
        return None if date is None else http_date(date)
    except (ValueError, TypeError, OverflowError):
        return None
