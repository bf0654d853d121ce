"""What a connection may be used for: `extra.allow`, the minimum that is necessary, held before anything is sent.

A guard rail, not a wall: who may edit the connection may edit this too, and the key itself can do whatever Redox lets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_redox.checks import meant, near
from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.destinations import Destination
from airflow_provider_redox.protocol.resource_types import RESOURCE_TYPES

INTERACTIONS = ("search", "read", "query", "post", "writeback", "upload", "download", "log", "request")
"""What can be allowed. `request` is any method and path, so with `allow` it has to be allowed by name."""

_LISTS = ("interactions", "resource_types", "data_models", "destinations")


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is allowed; of what is None, everything.

    :param data_models: names of Data Models, each alone or with an event: `PatientSearch` or `PatientAdmin.NewPatient`.
    :param destinations: names from `extra.destinations`, slugs or UUIDs.
    """

    interactions: frozenset[str] | None = None
    resource_types: frozenset[str] | None = None
    data_models: frozenset[str] | None = None
    destinations: frozenset[str] | None = None

    def check(self, interaction: str) -> None:
        """Refuse an interaction that is not allowed. Raises `RedoxConfigError`."""
        unnamed = self.interactions is None and (interaction != "request" or self == EVERYTHING)
        if not unnamed and interaction not in (self.interactions or ()):
            raise _refused("interactions", f"the interaction {interaction!r}")

    def check_type(self, resource_type: str) -> None:
        """Refuse a resource type."""
        if self.resource_types is not None and resource_type not in self.resource_types:
            raise _refused("resource_types", f"the resource type {resource_type!r}")

    def check_model(self, data_model: str, event_type: str) -> None:
        """Refuse a Data Model, or an event of it."""
        if self.data_models is not None and self.data_models.isdisjoint((data_model, f"{data_model}.{event_type}")):
            raise _refused("data_models", f"the Data Model {data_model}.{event_type}")

    def check_places(self, places: Iterable[str], described: Mapping[str, Destination]) -> None:
        """Refuse places that are not allowed.

        :param places: slugs or UUIDs.
        :param described: the connection's destinations, by name.
        """
        if self.destinations is None:
            return
        known = {*self.destinations, *(one.lower() for one in self.destinations)}
        for name, one in described.items():
            if name in self.destinations:
                known |= {place.lower() for place in (*one.all_ids, one.slug or "")}
        if any(place.lower() not in known for place in places):
            raise _refused("destinations", "this destination")


EVERYTHING = Allowance()


def parse_allowance(stated: Mapping[str, Any]) -> Allowance:
    """Read `extra.allow`. Raises `RedoxConfigError`."""
    for name in stated:
        if name not in _LISTS:
            raise RedoxConfigError(f"extra.allow: has a key that is not known; {meant(name, _LISTS)}")
    lists = {name: _names(name, stated[name]) for name in stated}
    for name, known in (("interactions", INTERACTIONS), ("resource_types", RESOURCE_TYPES)):
        for one in sorted(lists.get(name, frozenset()).difference(known)):
            told = meant(one, known) if name == "interactions" else f"did you mean {near(one, known)}?"
            raise RedoxConfigError(f"extra.allow.{name}: has one that is not known; {told}")
    return Allowance(**lists)


def _names(name: str, value: Any) -> frozenset[str]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(one, str) and one.strip() for one in value):
        raise RedoxConfigError(f"extra.allow.{name}: must be a list of names; leave it out to allow all")
    return frozenset(one.strip() for one in value)


def _refused(field: str, what: str) -> RedoxConfigError:
    return RedoxConfigError(
        f"extra.allow.{field}: does not allow {what}; use another connection, or have it allowed. Nothing was sent"
    )
