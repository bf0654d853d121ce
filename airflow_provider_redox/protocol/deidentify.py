"""Samples without persons, for development: FHIR resources from which all goes that is not known to be harmless.

What stays is what a list names: codes of public terminologies, numbers with their units, flags, statuses, years, and
references among the resources of the sample, by new IDs. All other text goes, whatever element it stands in: names,
addresses, identifiers, narratives, notes, displays, extensions, attachments. Dates are cut to their year, and a year of
birth of more than 89 years ago to 89, as the Safe Harbor rule of HIPAA (45 CFR 164.514(b)(2)) has it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PUBLIC = (
    "http://loinc.org",
    "http://snomed.info/sct",
    "http://hl7.org/fhir/",
    "http://terminology.hl7.org/",
    "http://unitsofmeasure.org",
    "http://www.nlm.nih.gov/research/umls/rxnorm",
    "http://www.ama-assn.org/go/cpt",
    "urn:oid:2.16.840.1.113883.6.",
    "urn:ietf:bcp:47",
)
"""Systems whose codes say nothing of a person."""

_CODE = re.compile(r"[A-Za-z0-9._/{}\[\]%*^:-]{1,40}")
_WORDS = re.compile(r"[A-Za-z][A-Za-z-]{0,40}")
_YEAR = re.compile(r"(\d{4})(?:-|$)")
_CODES = frozenset(
    {
        "resourceType",
        "status",
        "docStatus",
        "gender",
        "intent",
        "priority",
        "use",
        "mode",
        "criticality",
        "severity",
        "comparator",
        "unit",
        "language",
        "doNotPerform",
    }
)
"""Elements whose values are words of FHIR's own, or units. Such a word is letters and hyphens only."""

_DATES = re.compile(r".*(?:Date|DateTime|Instant)|date|issued|start|end|recorded|created|authoredOn|sent|received")
_DROPPED = frozenset({"text", "meta", "identifier", "contained", "extension", "modifierExtension", "implicitRules"})
_OLDEST = 89


@dataclass(frozen=True, slots=True)
class Deidentifier:
    """Takes persons out of resources.

    :param key: what new IDs are made with. Throw it away, and nobody finds the way back.
    :param year: the year that ages are counted to.
    """

    key: bytes
    year: int

    def resource(self, resource: Mapping[str, Any]) -> dict[str, Any]:
        """Give what is left of a resource."""
        kind, identity = str(resource.get("resourceType")), str(resource.get("id"))
        left = self._mapping(resource)
        return {"resourceType": kind, "id": self.new_id(kind, identity), **left}

    def new_id(self, kind: str, identity: str) -> str:
        """Give the ID that stands for another one: the same for the same."""
        return hmac.new(self.key, f"{kind}/{identity}".encode(), hashlib.sha256).hexdigest()[:32]

    def _mapping(self, value: Mapping[str, Any]) -> dict[str, Any]:
        if "reference" in value:
            return self._reference(value)
        if isinstance(value.get("system"), str) or isinstance(value.get("code"), str):
            return self._coded(value)
        left = {name: self._element(name, part) for name, part in value.items() if name not in (*_DROPPED, "id")}
        return {name: part for name, part in left.items() if part is not None}

    def _element(self, name: str, part: Any) -> Any:
        """Give what is left of an element; None for nothing."""
        if name.startswith("_"):  # extensions of a primitive
            return None
        if isinstance(part, Mapping):
            return self._mapping(part) or None
        if isinstance(part, list):
            return [left for one in part if (left := self._element(name, one)) is not None] or None
        if isinstance(part, bool):
            return part
        if isinstance(part, int | float):
            return part if name in ("value", "valueInteger", "valueDecimal", "low", "high", "quantity", "count") else None
        return self._text(name, part) if isinstance(part, str) else None

    def _text(self, name: str, text: str) -> str | None:
        if name in _CODES:
            return text if (_CODE if name == "unit" else _WORDS).fullmatch(text) else None
        if _DATES.fullmatch(name) and (found := _YEAR.match(text)):
            return self._year(found[1]) if name == "birthDate" else found[1]
        return None

    def _year(self, born: str) -> str:
        return str(max(int(born), self.year - _OLDEST))

    def _coded(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a code of a public terminology, and the number of a quantity; of any other code nothing."""
        system = value.get("system")
        public = isinstance(system, str) and system.startswith(PUBLIC)
        kept = ("code", "unit") if public else ("unit",)
        left = {name: value[name] for name in kept if isinstance(value.get(name), str) and _CODE.fullmatch(value[name])}
        number = value.get("value")
        if isinstance(number, int | float) and not isinstance(number, bool):
            left["value"] = number
        return {"system": system, **left} if public and "code" in left else left

    def _reference(self, value: Mapping[str, Any]) -> dict[str, Any]:
        found = re.search(r"([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})(?:/_history/.*)?$", str(value["reference"]))
        return {"reference": f"{found[1]}/{self.new_id(found[1], found[2])}"} if found else {}
