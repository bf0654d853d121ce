"""Check the resources of a page against the search parameters.

A server may not say which parameters it used, or lose them between two pages. The returned resources show this: an
Observation of another patient, a code that was not asked for. Only what can be proved counts. Skipped are modifiers and
chains, elements that a resource lacks, references by identifier, masked identifiers, merged patients (`Patient.link`),
resources that were changed since the search began, and included resources.

The type, the ID and the subject are checked on every page; the rest if the server's self link does not confirm the filters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from airflow_provider_redox.protocol.comparing import (
    Test,
    codes,
    codings,
    identifiers,
    of_dates,
    of_ids,
    of_references,
    of_tokens,
)
from airflow_provider_redox.protocol.datespans import span_of
from airflow_provider_redox.protocol.filters import alternatives
from airflow_provider_redox.protocol.pages import Resource

TYPE = "resource_type"

_SUBJECTS = {"Coverage": "beneficiary", "Task": "for", "ResearchSubject": "individual"}
_EFFECTIVE = ("effectiveDateTime", "effectivePeriod", "effectiveInstant")
_DATE = {
    "Observation": _EFFECTIVE,
    "DiagnosticReport": _EFFECTIVE,
    "Procedure": ("performedDateTime", "performedPeriod"),
    "Immunization": ("occurrenceDateTime",),
    "AllergyIntolerance": ("recordedDate",),
    **dict.fromkeys(("Encounter", "CarePlan", "CareTeam", "EpisodeOfCare"), ("period",)),
    **dict.fromkeys(("DocumentReference", "Composition", "List", "FamilyMemberHistory"), ("date",)),
}
"""The element that the parameter `date` searches, by resource type (FHIR R4, search parameters)."""
_DATES = {
    "birthdate": ("birthDate",),
    "recorded-date": ("recordedDate",),
    "onset-date": ("onsetDateTime", "onsetPeriod"),
    "authoredon": ("authoredOn",),
    "issued": ("issued",),
    "_lastUpdated": ("lastUpdated",),
}


class Check(NamedTuple):
    """The check of one search parameter.

    :param members: the elements of a resource that the parameter searches.
    :param always: whether to check it even if the self link confirms the filters.
    """

    parameter: str
    members: tuple[str, ...]
    contradicts: Test
    always: bool = False


class Strays(NamedTuple):
    """Resources of a page that were not asked for: their number, and the parameters that they do not match."""

    number: int
    parameters: list[str]


@dataclass(frozen=True, slots=True)
class Evidence:
    """The parameters of a search that can be checked against its matches.

    :param includes: whether the answer may hold included resources that are not marked as included.
    """

    resource_type: str
    checks: tuple[Check, ...]
    includes: bool
    _built: dict[bool, Callable[[Resource], list[Check]] | None] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, form: bytes, resource_type: str) -> Evidence:
        """Build it from the search's form."""
        pairs = parse_qsl(form.decode("ascii"))
        found = tuple(check for name, value in pairs if (check := _check(resource_type, name, value)) is not None)
        others = {"_include", "_revinclude", "_contained", "_query"}
        return cls(resource_type, found, any(name.partition(":")[0] in others for name, _ in pairs))

    def strays(self, resources: Iterable[Resource], *, confirmed: bool, began: float | None = None) -> Strays:
        """Return the resources of a page that cannot be what was asked for.

        :param confirmed: whether the server says that it used the filters.
        :param began: when the search began, by the server's clock: a resource that was changed since may have matched
            before.
        """
        missed = self._missed(confirmed=confirmed)
        unmarked = not self.includes
        number, parameters = 0, set[str]()
        for resource in resources:
            mode = resource.mode
            if resource.type != self.resource_type:
                is_stray = unmarked and (mode == "match" or (mode is None and not confirmed))
                found = [_OF_TYPE] if is_stray else []
            elif missed is not None and (mode == "match" or (mode is None and unmarked)):
                found = missed(resource)
            else:
                continue
            if found and not _is_excused(resource, found, began):
                number += 1
                parameters.update(check.parameter for check in found)
        return Strays(number, sorted(parameters))

    def _missed(self, *, confirmed: bool) -> Callable[[Resource], list[Check]] | None:
        if confirmed not in self._built:
            self._built[confirmed] = _missed(tuple(check for check in self.checks if check.always or not confirmed))
        return self._built[confirmed]


_OF_TYPE = Check(TYPE, (), bool, always=True)
_HEAD: dict[str, Callable[[Resource], Any]] = {"id": lambda one: one.id, "lastUpdated": lambda one: one.last_updated}
"""The members that are parsed with the page."""


class _OfBody(NamedTuple):
    """A check of elements in a resource's body, with a cache of its results, because the same patients and codes recur."""

    check: Check
    places: tuple[int, ...]
    known: dict[tuple[bytes, ...], bool]

    def fails(self, members: tuple[msgspec.Raw, ...]) -> bool:
        """Return whether the elements contradict the parameter."""
        raw = tuple([bytes(members[place]) for place in self.places])
        if raw not in self.known:
            if len(self.known) >= _KNOWN_AT_MOST:
                self.known.clear()
            values = _flat(raw)
            self.known[raw] = bool(values) and self.check.contradicts(values)
        return self.known[raw]


_KNOWN_AT_MOST = 1024


def _missed(checks: tuple[Check, ...]) -> Callable[[Resource], list[Check]] | None:
    """Build a function that returns the checks that a resource fails; None if there is nothing to check."""
    if not checks:
        return None
    in_body = [check for check in checks if check.members[0] not in _HEAD]
    members = tuple(dict.fromkeys(member for check in in_body for member in check.members))
    read = _reader(members)
    of_head = [(check, _HEAD[check.members[0]]) for check in checks if check.members[0] in _HEAD]
    of_body = [_OfBody(check, tuple(map(members.index, check.members)), {}) for check in in_body]

    def missed(resource: Resource) -> list[Check]:
        failed = [check for check, value in of_head if (held := value(resource)) is not None and check.contradicts([held])]
        if of_body and (values := read(resource.line)):
            failed += [one.check for one in of_body if one.fails(values)]
        return failed

    return missed


def _flat(raw: Iterable[bytes]) -> list[Any]:
    """Return the values of the elements, lists flattened; an empty result if one of them cannot be read."""
    found = []
    for one in filter(None, raw):
        try:
            value = msgspec.json.decode(one)
        except (msgspec.MsgspecError, RecursionError):
            return []
        found += value if isinstance(value, list) else [] if value is None else [value]
    return found


Read = Callable[[bytes], tuple[msgspec.Raw, ...]]


@lru_cache(maxsize=256)
def _reader(members: tuple[str, ...]) -> Read:
    """Build a function that reads these elements of a resource and skips all others. What cannot be read proves nothing."""
    names = {f"f{number}": member for number, member in enumerate(members)}
    fields = [(name, msgspec.Raw, msgspec.Raw()) for name in names]
    decode = msgspec.json.Decoder(msgspec.defstruct("Members", fields, rename=names, gc=False)).decode
    values = msgspec.structs.astuple

    def read(line: bytes) -> tuple[msgspec.Raw, ...]:
        try:
            return values(decode(line))
        except (msgspec.MsgspecError, RecursionError):
            return ()

    return read


def _is_excused(resource: Resource, failed: list[Check], began: float | None) -> bool:
    """Return whether a mismatch is excused: the patient was merged, or the resource was changed after the search began."""
    if _OF_TYPE in failed:
        return False
    if resource.type == "Patient" and _flat(map(bytes, _reader(("link",))(resource.line))):
        return True
    changed = span_of(resource.last_updated or "")
    changes = not any(check.always for check in failed)
    return changes and began is not None and changed is not None and changed.end > began


# ── the parameters ──


def _check(resource_type: str, name: str, value: str) -> Check | None:
    """Build the check of one parameter; None if nothing could be proved."""
    wanted = list(alternatives(value))
    base, _, modifier = name.partition(":")
    if base.casefold() in ("patient", "subject") and (not modifier or modifier == "Patient"):
        members = ("subject", "patient", *filter(None, [_SUBJECTS.get(resource_type)]))
        return _if_any(name, members, of_references(wanted), always=True)
    if modifier:
        return None
    if name == "_id":
        return _if_any(name, ("id",), of_ids(wanted), always=True)
    if name == "identifier":
        return _if_any(name, ("identifier",), of_tokens(wanted, identifiers))
    if name in ("code", "category") and (resource_type, name) != ("AllergyIntolerance", "code"):
        return _if_any(name, (name,), of_tokens(wanted, codings))
    if name in ("status", "gender"):
        return _if_any(name, (name,), of_tokens(wanted, codes))
    dated = _DATE.get(resource_type, ()) if name == "date" else _DATES.get(name, ())
    return _if_any(name, dated, of_dates(wanted, upper=name != "_lastUpdated")) if dated else None


def _if_any(name: str, members: tuple[str, ...], test: Test | None, *, always: bool = False) -> Check | None:
    return None if test is None else Check(name, members, test, always)
