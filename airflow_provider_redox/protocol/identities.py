"""Find all IDs and identifiers of given patients of one hospital: each may lead to others, until none is new.

A patient to be erased is given by a logical ID or an identifier, but files may name the patient by either, by the ID of a
merged record, or by the urn of a Bundle entry. Identifiers that are learned count with their system, because two systems may
give one number to two people. An identifier that several people share in practice (a family's social security number,
`999999999`, `unknown`) is never used to learn others; it counts only if the author gave it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from airflow_provider_redox.protocol.patients import Identifier, Mention, Patient

_PATIENT = re.compile(r"(?:.*/)?Patient/([^/?#\s]+)(?:/_history/[^/]*)?", re.IGNORECASE)
_SHARED = frozenset({"SS", "SSN", "DL", "PPN", "NI", "TAX"})
_SHARED_SYSTEMS = ("http://hl7.org/fhir/sid/us-ssn", "urn:oid:2.16.840.1.113883.4.1")
_ONE_DIGIT = re.compile(r"(\w)\1{5,}|0*")
_PLACEHOLDERS = frozenset({"unknown", "none", "null", "n/a", "na", "test", "tbd", "123456789", "1234567890"})


@dataclass(slots=True)
class Identities:
    """All known IDs and identifiers ("names") of the given patients.

    :param given: the author's lines, one patient each: `Patient/123`, its URL, `system|value`, or a bare identifier.
    """

    given: Iterable[str]
    _ids: dict[str, str] = field(default_factory=dict)
    _values: set[str] = field(default_factory=set)
    _identifiers: dict[str, set[Identifier]] = field(default_factory=dict)
    _met: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.given = list(self.given)
        for text in self.given:
            self._begin(text)

    def _begin(self, text: str) -> None:
        if found := _PATIENT.fullmatch(text):
            self._ids[found[1]] = text
        elif "|" in text:
            system, _, value = text.rpartition("|")
            self._add(Identifier(value, system))
        else:
            self._values.add(text)

    @property
    def unmet(self) -> set[str]:
        """Return the given patients that no file has named so far."""
        return set(self.given) - self._met

    @property
    def size(self) -> int:
        """Return the number of known names."""
        return len(self._ids) + sum(map(len, self._identifiers.values()))

    def knows(self, mention: Mention) -> bool:
        """Return whether a mention names one of the patients."""
        return bool([name for name in mention.names if self._knows(name)])  # each is looked at, so that all are met

    def learn(self, mention: Mention) -> None:
        """Add the other names of a mention that names one of the patients, unless it may not be about a patient."""
        every = (*mention.names, *mention.linked)
        if mention.is_sure and [name for name in every if self._knows(name)]:
            for name in every:
                if isinstance(name, str):
                    self._ids.setdefault(name, "")
                elif not _is_shared(name):
                    self._add(name)

    def names_any(self, texts: Iterable[str]) -> bool:
        """Return whether one of these texts (keys and IDs in a list of searches) is a name of one of the patients."""
        return any(
            self._knows(text.removeprefix("Patient/")) or self._knows(Identifier(text.rpartition("|")[2], ""))
            for text in texts
        )

    def _add(self, identifier: Identifier) -> None:
        self._identifiers.setdefault(identifier.value, set()).add(identifier)

    def _knows(self, name: Patient) -> bool:
        if isinstance(name, str):
            known = name in self._ids
            self._met |= {self._ids.get(name, "")}
            return known
        met = [one for one in self._identifiers.get(name.value, ()) if _is_same(one, name)]
        self._met |= {f"{one.type}|{one.value}" for one in met}
        if name.value in self._values:
            self._met.add(name.value)
            return True
        return bool(met) or (name.is_urn and self._knows(name.value.rpartition(":")[2]))


def _is_shared(identifier: Identifier) -> bool:
    """Return whether an identifier is shared by several people in practice, or is a placeholder."""
    kinds = {identifier.code.upper(), identifier.type.upper()}
    value = identifier.value.strip().casefold()
    is_none = value in _PLACEHOLDERS or _ONE_DIGIT.fullmatch(re.sub(r"\W", "", value)) is not None
    return is_none or not kinds.isdisjoint(_SHARED) or identifier.type in _SHARED_SYSTEMS


def _is_same(one: Identifier, other: Identifier) -> bool:
    """Return whether two identifiers of one value are the same: of one system, or one of FHIR and one of a Data Model.

    FHIR systems are URIs. The `IDType` of a Data Model is a code such as MR, which a FHIR identifier may have as its type.
    """
    if one.type == other.type or not one.type or not other.type:
        return True
    if (":" in one.type) == (":" in other.type):
        return False
    return len({code for code in (_code_of(one), _code_of(other)) if code}) <= 1


def _code_of(identifier: Identifier) -> str:
    return (identifier.code or ("" if ":" in identifier.type else identifier.type)).upper()
