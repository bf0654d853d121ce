"""Deduplicate the resources of a search, count its matches, and notice when pages bring nothing new.

Resources are identified by type, ID, version and content: one version with two contents is two resources, and both are
returned. A match counts once for its type and ID: if it was changed while the pages were read, and comes again in a new
version or with other content, it is another resource, but not a second match.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

from airflow_provider_redox.protocol.pages import Page, Resource

_PRINT = (1 << 60) - 1

VERSIONS_AT_MOST = 16
"""Different versions up to which a resource is looked for under each of them."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a page brought.

    :param fresh: the resources that no earlier page had.
    :param matches: the number of matches that were not counted before.
    :param listed: the number of matches on this page, counted before or not.
    :param is_news: whether the page holds anything that this search had not received before.
    :param print_: a fingerprint: pages with the same resources have the same.
    """

    fresh: list[Resource]
    matches: int
    listed: int
    is_news: bool
    print_: int


@dataclass(slots=True)
class Gathered:
    """The resources of one search.

    :param resource_type: the searched type: a resource of this type without a search mode is a match.
    :param seen: the keys of the resources that were returned, with fingerprints of their content.
    """

    resource_type: str
    seen: set[int]
    _extras: set[int] = field(default_factory=set)
    _versions: dict[str, list[int]] = field(default_factory=dict)
    _nameless: set[int] = field(default_factory=set)

    @property
    def versions(self) -> tuple[str, ...]:
        """The different versions of resources, up to a few."""
        return tuple(self._versions)

    def go_on(self, versions: tuple[str, ...]) -> None:
        """Go on with what `seen` holds.

        What was a match and what was included is forgotten. So fewer matches may be counted than there are, never more.
        """
        for version in versions:
            self._meet(version)

    def take(self, page: Page) -> Taken:
        """Take in a page."""
        fresh, matches, listed, told, is_news = [], 0, 0, [], False
        seen = self.seen
        for resource in page.resources:
            base, version = identity_of(resource)
            key = base ^ version
            told.append(key)
            is_match = resource.mode == "match" or (resource.mode is None and resource.type == self.resource_type)
            listed += is_match
            if resource.id is None:
                fresh.append(resource)
                matches += is_match
                is_news = is_news or key not in self._nameless
                self._nameless.add(key)
                continue
            mark = print_of(key, resource)
            if key in seen:
                matches += is_match and self._was_extra(key)
                if mark not in seen:
                    seen.add(mark)
                    fresh.append(resource)
                    is_news = True
                continue
            seen.add(key)
            seen.add(mark)
            is_news = True
            if not is_match:
                self._extras.add(key)
            elif resource.version is None or not self._has_other_version(base, resource.version):
                matches += 1
            fresh.append(resource)
        return Taken(fresh, matches, listed, is_news, hash(tuple(told)))

    def _was_extra(self, key: int) -> bool:
        """Say whether it was given as an included resource, and is a match now."""
        known = key in self._extras
        self._extras.discard(key)
        return known

    def _has_other_version(self, base: int, version: str) -> bool:
        """Say whether this search has given another version of it.

        It is looked for under each version that was met, as long as these are few, as counted versions are.
        """
        if version not in self._versions:
            self._meet(version)
        for other in self._versions.get(version, ()):  # noqa: SIM110  (a third of the time of any(), for each resource)
            if base ^ other in self.seen:
                return True
        return False

    def _meet(self, version: str) -> None:
        """Keep, for each version, what the others add to a key; nothing any more when there are too many."""
        if len(self._versions) <= VERSIONS_AT_MOST:
            met = (*self._versions, version)
            few = met if len(met) <= VERSIONS_AT_MOST else ()
            self._versions = {one: [_digest_of_version(other) for other in few if other != one] for one in met}


def is_match(resource: Resource, resource_type: str) -> bool:
    """Return whether a resource is a match of a search for this type, and not an included resource."""
    return resource.mode == "match" or (resource.mode is None and resource.type == resource_type)


def identity_of(resource: Resource) -> tuple[int, int]:
    """Tell resources apart by two numbers of 120 bits, one of type and ID, one of the version; together, by exclusive or.

    Where a server names no version, the content decides: two hospitals behind one gateway may use the same ID. A number
    takes 48 bytes of memory, the bytes of such a digest 64.
    """
    named = f"{resource.type}/{resource.id or ''}".encode("utf-8", "surrogatepass")
    version = resource.version
    if version is None or resource.id is None:
        return _digest(named), _digest(resource.line)
    return _digest(named), _digest_of_version(version)


def key_of(resource: Resource) -> int | None:
    """Give what is kept of a resource in `seen`; None for one without an ID, which is never taken for a duplicate."""
    base, version = identity_of(resource)
    return None if resource.id is None else base ^ version


def print_of(key: int, resource: Resource) -> int:
    """Return a fingerprint of 60 bits of a key and its content; compare it only in this process, and only for equal keys.

    A resource that comes twice is nearly always the same. This must be checked, or a correction under the same version
    number would be lost.
    """
    return (key ^ hash(resource.line)) & _PRINT


@lru_cache(maxsize=1024)
def _digest_of_version(version: str) -> int:
    return _digest(version.encode("utf-8", "surrogatepass"))


def _digest(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=15).digest())
