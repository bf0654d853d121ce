"""A search as a value: read from its parameters, refused if one is unknown, run against the store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import parameters, summaries
from .answers import refuse_fhir

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .parameters import Parameter
    from .store import Resource, Store

MAX_COUNT = 1000
SORTS = {"_id", "_lastUpdated"}


@dataclass(frozen=True, slots=True)
class Criterion:
    """One parameter with its alternatives: a resource fits if any of them matches."""

    name: str
    modifier: str
    parameter: Parameter
    alternatives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Include:
    """One ``_include`` or ``_revinclude``: ``source:param``, whose reference is followed."""

    source: str
    parameter: Parameter
    target: str


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for, how to show it, and the parameters as they were given."""

    resource_type: str
    criteria: tuple[Criterion, ...] = ()
    count: int | None = None
    count_only: bool = False
    elements: tuple[str, ...] = ()
    sort: str = ""
    includes: tuple[Include, ...] = ()
    revincludes: tuple[Include, ...] = ()
    honoured: tuple[tuple[str, str], ...] = ()


def read(resource_type: str, pairs: list[tuple[str, str]]) -> Search:
    """Read the parameters of a search; an unknown one is refused by name, never ignored."""
    controls = {name: value for name, value in pairs if name in CONTROLS}
    for name, value in pairs:
        _refuse_empty(name, value)
    if controls.get("_format", "json") not in {"json", "application/json", "application/fhir+json"}:
        refuse_fhir(406, "not-supported", "_format: only JSON")
    return Search(
        resource_type,
        tuple(_criterion(resource_type, name, value) for name, value in pairs if name not in CONTROLS | INCLUDES),
        _count(controls.get("_count")),
        controls.get("_summary") == "count" or controls.get("_count") == "0",
        summaries.elements_of(resource_type, controls.get("_summary"), controls.get("_elements", "")),
        _sort(controls.get("_sort", "")),
        tuple(_include(name, value) for name, value in pairs if name == "_include"),
        tuple(_include(name, value) for name, value in pairs if name == "_revinclude"),
        tuple(pairs),
    )


def ignored(pairs: list[tuple[str, str]], names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the parameters of these names, with any modifier or chain: those that a server takes no notice of."""
    return [pair for pair in pairs if re.split("[:.]", pair[0])[0] in names]


CONTROLS = frozenset({"_count", "_summary", "_elements", "_sort", "_format", "_total"})
INCLUDES = frozenset({"_include", "_revinclude"})


def check_patient_rule(search: Search) -> None:
    """Refuse a Patient search that does not identify a person, as Redox documents it."""
    names = {criterion.name for criterion in search.criteria if not criterion.modifier or criterion.modifier == "exact"}
    if search.resource_type != "Patient" or names & {"_id", "identifier"}:
        return
    if not names >= {"given", "family", "birthdate"}:
        wanted = "_id, identifier, or given and family and birthdate"
        refuse_fhir(400, "required", f"a Patient search needs one of these: {wanted}")


def run(search: Search, store: Store) -> list[Resource]:
    """Return the matches in a stable order."""
    found = [resource for resource in _candidates(search, store) if _fits(resource, search.criteria)]
    if not search.sort:
        return found
    key = search.sort.removeprefix("-")
    return sorted(found, key=lambda resource: _sort_key(resource, key), reverse=search.sort.startswith("-"))


def included(search: Search, matches: Iterable[Resource], store: Store) -> list[Resource]:
    """Return what the matches of one page point at, or what points at them; nothing twice."""
    matches = list(matches)
    found: dict[tuple[str, str], Resource] = {}
    for resource in _forward(search, matches, store):
        found.setdefault((resource["resourceType"], resource["id"]), resource)
    for resource in _backward(search, matches, store):
        found.setdefault((resource["resourceType"], resource["id"]), resource)
    for match in matches:
        found.pop((match["resourceType"], match["id"]), None)
    return list(found.values())


def _forward(search: Search, matches: list[Resource], store: Store) -> Iterator[Resource]:
    for include in search.includes:
        for match in matches:
            if match["resourceType"] == include.source:
                yield from filter(None, (store.get(*key) for key in _targets(match, include)))


def _backward(search: Search, matches: list[Resource], store: Store) -> Iterator[Resource]:
    wanted = {(match["resourceType"], match["id"]) for match in matches}
    for include in search.revincludes:
        for resource in store.all(include.source):
            if wanted & set(_targets(resource, include)):
                yield resource


def _targets(resource: Resource, include: Include) -> Iterator[tuple[str, str]]:
    for value in parameters.values(resource, include.parameter):
        reference = str(value.get("reference", "")) if isinstance(value, dict) else ""
        kind, _, key = reference.rpartition("/")
        kind = kind.rpartition("/")[2]
        if kind and include.target in {"", kind}:
            yield kind, key


def _candidates(search: Search, store: Store) -> Iterator[Resource]:
    for criterion in search.criteria:
        if criterion.modifier:
            continue
        if criterion.name == "_id":
            return (
                found for key in dict.fromkeys(criterion.alternatives) if (found := store.get(search.resource_type, key))
            )
        if criterion.name in {"patient", "subject"}:
            keys = {text.rpartition("/")[2]: None for text in criterion.alternatives}
            return (found for key in keys for found in store.of_patient(search.resource_type, key))
    return store.all(search.resource_type)


def _fits(resource: Resource, criteria: tuple[Criterion, ...]) -> bool:
    return all(_criterion_fits(resource, criterion) for criterion in criteria)


def _criterion_fits(resource: Resource, criterion: Criterion) -> bool:
    found = list(parameters.values(resource, criterion.parameter))
    if criterion.modifier == "missing":
        return (not found) == (criterion.alternatives[0] == "true")
    if criterion.modifier == "not":
        return not any(parameters.match_token(value, "", text) for value in found for text in criterion.alternatives)
    match = parameters.MATCHERS[criterion.parameter.kind]
    return any(match(value, criterion.modifier, text) for value in found for text in criterion.alternatives)


def _sort_key(resource: Resource, key: str) -> str:
    return str(resource["id"] if key == "_id" else resource["meta"]["lastUpdated"])


def _refuse_empty(name: str, value: str) -> None:
    if not value.strip():
        refuse_fhir(400, "value", f"{name[:40]}: has no value")


def _criterion(resource_type: str, given: str, value: str) -> Criterion:
    name, _, modifier = given.partition(":")
    parameter = parameters.known(resource_type).get(name)
    if parameter is None:
        refuse_fhir(400, "not-supported", f"unknown search parameter for {resource_type}: {name[:40]}")
    if not parameters.accepts(parameter, modifier):
        refuse_fhir(400, "not-supported", f"{name}: unknown modifier")
    alternatives = tuple(_split(value))
    try:
        for text in alternatives:
            parameters.check_value(parameter, modifier, text)
    except ValueError as error:
        refuse_fhir(400, "value", f"{name}: {error}")
    return Criterion(name, modifier, parameter, alternatives)


def _split(value: str) -> Iterator[str]:
    r"""Split at commas; ``\,`` is a comma within a value (FHIR R4, search.html#escaping)."""
    for part in re.split(r"(?<!\\),", value):
        yield re.sub(r"\\([,|$\\])", r"\1", part)


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        refuse_fhir(400, "value", "_count: must be a whole number")
    return min(int(text), MAX_COUNT) or None


def _sort(text: str) -> str:
    if text and text.removeprefix("-") not in SORTS:
        refuse_fhir(400, "not-supported", "_sort: only by _id or _lastUpdated")
    return text


def _include(control: str, text: str) -> Include:
    source, _, rest = text.partition(":")
    name, _, target = rest.partition(":")
    parameter = parameters.known(source).get(name)
    if parameter is None or parameter.kind != "reference":
        refuse_fhir(400, "not-supported", f"{control}: cannot follow this")
    return Include(source, parameter, target or parameter.target)
