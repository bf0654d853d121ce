"""What a destination's name means: FHIR wants its slug, the Data Model API its UUID; authors write the name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_redox.checks import empty, given, is_empty, meant, near
from airflow_provider_redox.exceptions import RedoxConfigError

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_MISSPELT = 0.8
"""The similarity (difflib) from which a text counts as a misspelt name, and not as a slug."""
_KEYS = ("slug", "id", "ids", "facility_code", "tags", "max_concurrency")


@dataclass(frozen=True, slots=True)
class Destination:
    """One destination as `extra.destinations` describes it.

    :param name: what authors write.
    :param slug: its part of a FHIR URL.
    :param id: its UUID for every data model that `ids` does not name.
    :param ids: UUIDs by data model.
    :param others: for a destination that the connection does not describe: the names that it describes.
    """

    name: str
    slug: str | None = None
    id: str | None = None
    ids: Mapping[str, str] = field(default_factory=dict)
    facility_code: str | None = None
    tags: tuple[str, ...] = ()
    max_concurrency: int | None = None
    others: tuple[str, ...] | None = field(default=None, compare=False)

    def fhir_slug(self) -> str:
        """Give the slug. Raises `RedoxConfigError` when the destination has none."""
        if self.slug is None:
            raise RedoxConfigError(f"extra.destinations: {self.name} has no slug, which FHIR needs; add it")
        return self.slug

    def id_for(self, data_model: str) -> str:
        """Give the UUID for a data model. Raises `RedoxConfigError` when the destination has none."""
        found = self._ids_by_model().get(_plain(data_model), self.id)
        if found is None and self.others is not None:
            raise RedoxConfigError(
                "destination: no such name in extra.destinations, and Data Models need a UUID; "
                f"{meant(self.name, self.others)}"
            )
        if found is None:
            raise RedoxConfigError(
                f"extra.destinations: {self.name} has no id for {data_model}, which the Data Model API needs; add it"
            )
        return found

    def has_id_for(self, data_model: str) -> bool:
        """Say whether there is a UUID for a data model."""
        return self.id is not None or _plain(data_model) in self._ids_by_model()

    @property
    def all_ids(self) -> frozenset[str]:
        """Give every UUID that it has."""
        return frozenset((*self.ids.values(), *([self.id] if self.id else [])))

    def _ids_by_model(self) -> dict[str, str]:
        return {_plain(model): uuid for model, uuid in self.ids.items()}


def _plain(data_model: str) -> str:
    """Redox's own samples write both `ClinicalSummary` and `Clinical Summary`; another ID for one of them misroutes."""
    return data_model.replace(" ", "").lower()


def find_destination(
    destinations: Mapping[str, Destination], name: str | None, *, default: str | None = None, where: str = "destination"
) -> Destination:
    """Return a destination by its name; a text that is no known name counts as a slug or a UUID.

    Raises `RedoxConfigError` if nothing is named, and for a text that is neither a name nor a slug nor a UUID, or that is
    similar to a name: a misspelt name must not become a slug.

    :param where: the argument's name in an error message.
    """
    chosen = given(name, default, name=where)
    if chosen is None:
        raise RedoxConfigError(f"{where}: name one in the operator, or set extra.destination in the connection")
    if not isinstance(chosen, str):
        raise RedoxConfigError(f"{where}: must be text: a name from extra.destinations, a slug or a UUID")
    if chosen in destinations:
        return destinations[chosen]
    others = tuple(sorted(destinations))
    if _UUID.fullmatch(chosen):
        return Destination(chosen, id=chosen, others=others)
    if not _SLUG.fullmatch(chosen):
        raise RedoxConfigError(f"{where}: not a known name, a slug or a UUID; {meant(chosen, others)}")
    if chosen in (one.slug for one in destinations.values()):
        return Destination(chosen, slug=chosen, others=others)
    close = near(chosen, others, cutoff=_MISSPELT)
    if close is not None:
        raise RedoxConfigError(
            f"{where}: no such name in extra.destinations; did you mean {close}? Known are {', '.join(others)}. If it is "
            "the slug of another destination, describe that there, too"
        )
    return Destination(chosen, slug=chosen, others=others)


def chosen(found: Sequence[Destination], names: Sequence[str] | None, *, known: Sequence[str]) -> list[str]:
    """Give the names of destinations, only `names` of them where given.

    Raises `RedoxConfigError` for a name that is not `known`, for one that stands there twice, and when none is left.
    """
    if names is not None and is_empty(names):
        raise RedoxConfigError(empty("names"))
    if isinstance(names, str) or (names is not None and not all(isinstance(name, str) for name in names)):
        raise RedoxConfigError("names: must be a list of names")
    for number, name in enumerate(names or ()):
        if name not in known:
            raise RedoxConfigError(f"names[{number}]: extra.destinations has no such name; {meant(name, known)}")
        if name in (names or ())[:number]:
            raise RedoxConfigError(f"names[{number}]: {name} stands there a second time; remove it")
    left = [one.name for one in found if names is None or one.name in names]
    if not left:
        raise RedoxConfigError(
            "tag, data_model: no destination in extra.destinations fits; correct them, or describe one that does"
        )
    return left


def limits_by_place(destinations: Mapping[str, Destination]) -> dict[str, tuple[str, int | None]]:
    """Give, for each slug and UUID in lower case, the destination's name and how many requests it takes at a time."""
    return {
        place.lower(): (one.name, one.max_concurrency)
        for one in destinations.values()
        for place in (one.slug, one.id, *one.ids.values())
        if place is not None
    }


def parse_destinations(described: Mapping[str, Any]) -> dict[str, Destination]:
    """Check `extra.destinations`. Raises `RedoxConfigError` that names the entry."""
    parsed = {name: _parse(name, entry) for name, entry in described.items()}
    slugs: dict[str, str] = {}
    for name, one in parsed.items():
        if one.slug is not None and slugs.setdefault(one.slug.lower(), name) != name:
            raise RedoxConfigError(
                f"extra.destinations: {name} has the same slug as {slugs[one.slug.lower()]}; a slug is one destination's own"
            )
    return parsed


def _parse(name: str, entry: Any) -> Destination:
    where = f"extra.destinations: {name}"
    if not isinstance(entry, dict):
        raise RedoxConfigError(f'{where} must be an object such as {{"slug": "...", "id": "..."}}')
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        raise RedoxConfigError(f"{where} has a key that is not known; {meant(unknown[0], _KEYS)}")
    slug, ids, tags, limit = (
        entry.get("slug"),
        entry.get("ids", {}),
        entry.get("tags", []),
        entry.get("max_concurrency"),
    )
    if slug is not None and not (isinstance(slug, str) and _SLUG.fullmatch(slug)):
        raise RedoxConfigError(f"{where}: the slug may hold letters, digits, '.', '_' and '-' only")
    given = [] if entry.get("id") is None else [entry["id"]]
    if not isinstance(ids, dict) or not all(_is_uuid(value) for value in (*ids.values(), *given)):
        raise RedoxConfigError(f"{where}: id, and each value in ids, must be a UUID")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise RedoxConfigError(f"{where}: tags must be a list of texts")
    if limit is not None and not (isinstance(limit, int) and not isinstance(limit, bool) and limit > 0):
        raise RedoxConfigError(f"{where}: max_concurrency must be a whole number above 0")
    code = entry.get("facility_code")
    if code is not None and not (isinstance(code, str) and code):
        raise RedoxConfigError(f"{where}: facility_code must be a text")
    return Destination(name, slug, entry.get("id"), ids, code, tuple(tags), limit)


def _is_uuid(value: Any) -> bool:
    return isinstance(value, str) and _UUID.fullmatch(value) is not None
