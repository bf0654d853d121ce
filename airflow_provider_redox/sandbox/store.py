"""The resources in memory. A stored resource is never changed in place: a new version replaces it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Resource = dict[str, Any]


class Store:
    """Resources by type and ID, in the order they came; ``reset`` forgets what was written since the start."""

    def __init__(self, initial: Iterable[Resource] = ()) -> None:
        self._initial = list(initial)
        self._types: dict[str, dict[str, Resource]] = {}
        self._by_patient: dict[tuple[str, str], dict[str, None]] = {}
        self.reset()

    def reset(self) -> None:
        """Go back to the resources of the start."""
        self._types, self._by_patient = {}, {}
        for resource in self._initial:
            self.put(resource)

    def __len__(self) -> int:
        return sum(map(len, self._types.values()))

    def counts(self) -> dict[str, int]:
        """Return the number of resources of each type."""
        return {name: len(resources) for name, resources in self._types.items()}

    def put(self, resource: Resource) -> None:
        """Keep ``resource`` under its type and ID."""
        kind = str(resource["resourceType"])
        self._types.setdefault(kind, {})[str(resource["id"])] = resource
        patient = patient_id(resource)
        if patient:
            self._by_patient.setdefault((kind, patient), {})[str(resource["id"])] = None

    def get(self, kind: str, resource_id: str) -> Resource | None:
        """Return one resource or None."""
        return self._types.get(kind, {}).get(resource_id)

    def all(self, kind: str) -> Iterator[Resource]:
        """Iterate over the resources of a type."""
        return iter(self._types.get(kind, {}).values())

    def of_patient(self, kind: str, patient: str) -> Iterator[Resource]:
        """Iterate over the resources of a type that may belong to a patient: a shortcut, a superset."""
        found = self._types.get(kind, {})
        return (found[key] for key in self._by_patient.get((kind, patient), {}))


def patient_id(resource: Resource) -> str:
    """Return the ID of the patient that ``resource`` is about, or an empty string."""
    reference = resource.get("subject") or resource.get("patient")
    text = reference.get("reference", "") if isinstance(reference, dict) else ""
    return str(text).rpartition("/")[2]


def instant(seconds: float) -> str:
    """Write a time as a FHIR instant in UTC with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
