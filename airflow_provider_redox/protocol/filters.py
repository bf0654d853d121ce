"""The filters of a search, and how to find them in a server's links: the self link of a page, and the link to the next page.

A self link repeats the parameters that the server used (FHIR R4 search, 3.1.1.8). Some servers leave it out, leave its
query empty (Vonk after a POST: https://github.com/FirelyTeam/firely-net-sdk/issues/479), or name only a cursor: such a
link neither confirms nor denies that a filter was used.

A next link contains the filters, or a cursor that stands for them, or neither: after a search by POST some servers write
only an offset (the same issue), others lose `_include` (https://github.com/medplum/medplum/issues/2481).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

_INCLUDES = frozenset({"_include", "_revinclude"})
SHAPING = frozenset(
    {"_count", "_sort", "_summary", "_elements", "_total", "_contained", "_containedType", "_format", "_pretty", "_score"}
    | {"_maxresults", "_graph", "_bundletype"}
)
"""Parameters that shape the answer and select nothing (FHIR R4 search, 3.1.1.5), and HAPI's `_bundletype`."""

_NUMBER = re.compile(r"[0-9]{1,9}")
_CURSOR = re.compile(r"token|cursor|session|snapshot|context|state|key|^_getpages$|^ct$|id$", re.IGNORECASE)
_SHORTEST_BARE_CURSOR = 16
_OPEN_PATH = re.compile(r"/?([A-Z][A-Za-z]{1,63}/?)?(_search)?/?")


class Heard(NamedTuple):
    """What a self link says about the filters.

    :param ignored: names of filters that are missing from it.
    :param confirmed: whether it names all filters.
    """

    ignored: list[str]
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Filters:
    """The parameters of a search that select: by name, up to a modifier or a chain, and how often each is given."""

    selecting: Counter[str]
    including: Counter[str]

    @classmethod
    def of(cls, form: bytes) -> Filters:
        """Build them from the search's form."""
        names = [base_name(name) for name, _ in parse_qsl(form.decode("ascii"))]
        selecting = Counter(name for name in names if name not in SHAPING | _INCLUDES)
        return cls(selecting, Counter(name for name in names if name in _INCLUDES))

    def heard(self, self_link: str) -> Heard:
        """Compare a self link with the filters.

        If `date` was given twice it must be there twice; values are not compared.
        """
        pairs = _query(self_link)
        said = Counter(base_name(name) for name, _ in pairs)
        missing = self.selecting - said
        if not missing:
            return Heard([], confirmed=bool(self.selecting))
        names_one = bool(said.keys() & self.selecting.keys())
        shapes_only = said.keys() <= SHAPING | _INCLUDES
        if not pairs or any(self._is_foreign(*pair) for pair in pairs) or not (names_one or shapes_only):
            return Heard([], confirmed=False)
        return Heard(sorted(missing.elements()), confirmed=False)

    def is_lost_in(self, link: str, base: str) -> bool:
        """Return whether a next link holds neither the parameters of the search nor a cursor: only an offset, or nothing.

        :param link: below the base; a path of its own, as Blaze's `/Observation/__page/…`, is a cursor.
        """
        pairs = _query(link)
        named = Counter(base_name(name) for name, value in pairs if value)
        if not (self.selecting + self.including) - named:
            return False
        path = urlsplit(link).path.removeprefix(urlsplit(base).path)
        return _OPEN_PATH.fullmatch(path) is not None and not any(self._is_foreign(*pair) for pair in pairs)

    def _is_foreign(self, name: str, value: str) -> bool:
        """Return whether a parameter may be a cursor: not of the search, not one that shapes the answer, not an offset."""
        base = base_name(name)
        if base in SHAPING or base in self.selecting or base in _INCLUDES:
            return False
        if not value:  # an empty cursor stands for nothing, but a whole query may be one, without a name
            return len(name) >= _SHORTEST_BARE_CURSOR
        return _CURSOR.search(name) is not None or _NUMBER.fullmatch(value) is None


def form_of_link(link: str, form: bytes = b"") -> bytes:
    """Build the form that continues a search by POST: the search's own parameters, and what the link adds to them.

    The search's own filters win over the link's. For parameters that shape the answer, such as `_count`, the link's win.
    """
    own = parse_qsl(form.decode("ascii"))
    held = {base_name(name) for name, _ in own} - SHAPING
    added = [pair for pair in _query(link) if base_name(pair[0]) not in held]
    names = {name for name, _ in added}
    return urlencode([*(pair for pair in own if pair[0] not in names), *added]).encode("ascii")


def alternatives(value: str) -> Iterator[str]:
    r"""Yield the alternatives of a value, split at commas; `\,` is a comma within one of them (FHIR R4 search, escaping)."""
    for part in re.split(r"(?<!\\),", value):
        yield re.sub(r"\\([,|$\\])", r"\1", part).strip()


def base_name(name: str) -> str:
    """Return a parameter's name without modifier and chain."""
    return name.partition(":")[0].partition(".")[0]


def _query(link: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(urlsplit(link).query, keep_blank_values=True)
    except ValueError:  # no URL, or more parameters than are read
        return []
