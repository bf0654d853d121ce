"""The names of messages in an inbox: they sort by arrival, and tell what a filter asks without the message being read.

    20261125T024322123456Z_Results_New_7ce6f387-c33c-417d-8682-81e83628cbd9_d9f5d293-7110-461e-a875-3beb089e79f3

A name has the moment of arrival (UTC, microseconds), data model, event type, source and log ID. Whatever a message says in
these places, a part holds letters, digits and `-` only, 64 at most: none can lead elsewhere, or look like two. A part that
had to be changed ends in eight digits of its hash, so that what differs stays different.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_provider_redox.checks import given

_LONGEST = 64
_STAMP = "%Y%m%dT%H%M%S%fZ"
_STAMPED = re.compile(r"\d{8}T\d{12}Z_")
_NAME = re.compile(
    r"(?P<stamp>\d{8}T\d{12}Z)_(?P<data_model>[A-Za-z0-9-]+)_(?P<event_type>[A-Za-z0-9-]+)_(?P<source>[A-Za-z0-9-]+)"
    r"_(?P<key>[A-Za-z0-9-]+)(?:_again(?P<tries>\d{1,4})-(?P<consumer>[0-9a-f]{16}))?"
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message in an inbox, as far as its name tells.

    `key` is its log ID as a part of names. `tries` and `consumer` belong to a message that a consumer wants once more: how
    often it was handed out before, and to whom alone it is to be handed out now.
    """

    stamp: str
    data_model: str
    event_type: str
    source: str
    key: str
    tries: int = 0
    consumer: str = ""

    @property
    def name(self) -> str:
        """The name of its object."""
        again = f"_again{self.tries}-{self.consumer}" if self.consumer else ""
        return f"{self.stamp}_{self.data_model}_{self.event_type}_{self.source}_{self.key}{again}"

    @property
    def folder(self) -> str:
        """The folder of its minute, so that a listing is never of more than can arrive in one."""
        return folder_of(self.stamp)


def parse(name: str) -> Arrival | None:
    """Read a name; None for anything that is not one."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    parts = found.groupdict(default="")
    return Arrival(**{**parts, "tries": int(parts["tries"] or 0)})  # type: ignore[arg-type]


def is_again(name: str) -> bool:
    """Say whether a name is that of a message that a consumer wants once more, which may lie in the future."""
    arrival = parse(name) if "_again" in name else None
    return arrival is not None and bool(arrival.consumer)


def is_stamped(name: str) -> bool:
    """Say whether a name begins with a stamp."""
    return _STAMPED.match(name) is not None


def stamp(moment: float) -> str:
    """Give a moment, in seconds since 1970, as the beginning of a name."""
    return datetime.fromtimestamp(moment, UTC).strftime(_STAMP)


def moment(text: str) -> float:
    """Give the seconds since 1970 of what begins with a stamp."""
    return datetime.strptime(text[:22], _STAMP).replace(tzinfo=UTC).timestamp()


def folder_of(text: str) -> str:
    """Give the folder of a stamp: `2026-11-25/0243`."""
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}/{text[9:13]}"


def part(text: object) -> str:
    """Give a text as a part of a name; `-` for none."""
    whole = str(text) if isinstance(text, str | int) else ""
    safe = re.sub(r"[^A-Za-z0-9-]+", "-", whole)
    if safe == whole and 0 < len(safe) <= _LONGEST:
        return safe
    return f"{safe[: _LONGEST - 9]}-{hashlib.sha256(whole.encode('utf-8', 'replace')).hexdigest()[:8]}" if whole else "-"


def word(text: object) -> str:
    """Return a data model or an event type as part of a file name, without spaces: `Clinical Summary` is `ClinicalSummary`.

    Redox's documentation and messages spell some with a space and some without.
    """
    return part(text.replace(" ", "") if isinstance(text, str) else text)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages a reader wants, by the parts of their names, ignoring case. An empty filter wants all."""

    data_models: Collection[str] = ()
    event_types: Collection[str] = ()
    sources: Collection[str] = ()

    @classmethod
    def of(cls, *, data_model: object, event_type: object, source: object) -> Filter:
        """Build a filter; each argument is a text, a list of texts, or None for all.

        An empty value is refused: see `checks.py`.
        """
        named = ((word, "data_model", data_model), (word, "event_type", event_type), (part, "source", source))
        return cls(
            *(frozenset(read(one).lower() for one in _listed(given(value, None, name=name))) for read, name, value in named)
        )

    def wants(self, arrival: Arrival) -> bool:
        """Return whether a message is wanted."""
        return all(
            not wanted or value.lower() in wanted
            for wanted, value in (
                (self.data_models, arrival.data_model),
                (self.event_types, arrival.event_type),
                (self.sources, arrival.source),
            )
        )


def _listed(wanted: object) -> list[object]:
    if wanted is None:
        return []
    return list(wanted) if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
