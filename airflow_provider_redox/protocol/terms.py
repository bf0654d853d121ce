"""The options of a search: the most pages, and what to do about ignored filters and missing matches.

A server that ignores a filter answers with other people's records. `handling="strict"` asks the server to refuse unknown
parameters (`Prefer: handling=strict`, FHIR R4 search, 3.1.1.8), and checks its answers against the search: see `judging`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from airflow_provider_redox.checks import one_of
from airflow_provider_redox.exceptions import RedoxConfigError

PAGES_AT_MOST = 100_000
"""Pages of one search when the author sets no limit: far above any real search, far below forever."""

CHOICES = {"on_total_mismatch": ("fail", "warn"), "handling": ("strict", "lenient")}


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a search.

    :param max_pages: the number of pages above which it fails; it is never cut short.
    :param on_total_mismatch: `fail` or `warn` when the server's own total is more than came, or a page is not whole.
    :param handling: `strict` or `lenient`, when the server ignored a filter: an error, or a warning.
    """

    max_pages: int = PAGES_AT_MOST
    on_total_mismatch: str = "fail"
    handling: str = "strict"

    @property
    def preference(self) -> dict[str, str]:
        """The request header that tells the server."""
        return {"prefer": f"handling={self.handling}"}


def terms(*, max_pages: int | None = None, on_total_mismatch: str = "fail", handling: str = "strict") -> Terms:
    """Check the terms. Raises `RedoxConfigError` that names the argument."""
    if max_pages is not None and (not isinstance(max_pages, int) or isinstance(max_pages, bool) or max_pages < 1):
        raise RedoxConfigError("max_pages: must be a whole number from 1, or left out")
    for name, value in (("on_total_mismatch", on_total_mismatch), ("handling", handling)):
        if value not in CHOICES[name]:
            raise RedoxConfigError(one_of(name, value, CHOICES[name]))
    return Terms(max_pages or PAGES_AT_MOST, on_total_mismatch, handling)


def counts_only(form: bytes) -> bool:
    """Say whether a search asks for a number instead of resources, or for a number that is only estimated."""
    asked: Mapping[str, Any] = dict(parse_qsl(form.decode("ascii")))
    return asked.get("_summary") == "count" or asked.get("_count") == "0" or asked.get("_total") == "estimate"
