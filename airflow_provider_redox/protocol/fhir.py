"""FHIR R4 as Redox speaks it: URLs, search forms, and the links of a search.

Search parameters travel in the body of a POST to `_search`, never in the URL we make. A page's `next` link is
followed only onto the connection's own origin and below the destination's own base; a link that names a host
listed as an alias is rewritten onto our base, and every other link is refused before anything is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urljoin, urlsplit

from airflow_provider_redox.checks import near
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxSecurityError
from airflow_provider_redox.protocol import ids, values
from airflow_provider_redox.protocol.effects import Request
from airflow_provider_redox.protocol.resource_types import RESOURCE_TYPES
from airflow_provider_redox.protocol.settings import Settings, origin

FHIR_JSON = "application/fhir+json"
FORM = "application/x-www-form-urlencoded"

_OPERATION = re.compile(r"[a-z][a-z0-9-]{0,63}")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.:\-]{0,99}")
_ALIAS_TYPE = re.compile(r"[A-Z]+[a-z][A-Za-z]*")
"""A resource type in another server's path. A name in capitals only is part of that server's base: `/FHIR/api`."""

_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_IN_QUERY = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"<>\\^`{}')
_ROOTED = re.compile(r"/(?!/)(?:[^/]+/)*([A-Z][A-Za-z]{1,63}(?:/_search)?)")
_GATEWAY = re.compile(r"/fhir/R4/[^/]+/(Development|Staging|Production)(/|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One destination's FHIR base: `{base_url}/fhir/R4/{slug}/{environment}`."""

    base_url: str
    slug: str
    environment: str
    aliases: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{self.base_url}/fhir/R4/{self.slug}/{self.environment}"

    @property
    def label(self) -> str:
        """The base's path, as a log may show it."""
        return f"/fhir/R4/{self.slug}/{self.environment}"

    def search(self, resource_type: str, form: bytes, headers: Mapping[str, str]) -> Request:
        """Make the search request. The parameters stand in the body."""
        kind = checked_type(resource_type)
        all_headers = {**headers, "content-type": FORM, "accept": FHIR_JSON}
        return self._request("POST", f"/{kind}/_search", f"POST {self.label}/{kind}/_search", all_headers, form)

    def read(self, resource_type: str, resource_id: str, headers: Mapping[str, str]) -> Request:
        """Make the request that reads one resource by its logical ID."""
        kind = checked_type(resource_type)
        segment = ids.path_segment(resource_id)
        if segment is None:
            raise RedoxConfigError(
                "resource_id: must be the ID alone, without the type: printable ASCII, no '/', '?', '#', '%', ';', '\\' or "
                f"space in it, no '$' at its start, 1 to {ids.LONGEST} characters"
            )
        return self._request(
            "GET", f"/{kind}/{segment}", f"GET {self.label}/{kind}/{{id}}", {**headers, "accept": FHIR_JSON}
        )

    def writeback(self, resource_type: str, operation: str, bundle: bytes, headers: Mapping[str, str]) -> Request:
        """Make the request of a writeback operation such as `$observation-create`."""
        kind, name = checked_type(resource_type), operation.removeprefix("$")
        if not _OPERATION.fullmatch(name):
            raise RedoxConfigError("operation: must be a name such as $observation-create")
        all_headers = {**headers, "content-type": FHIR_JSON, "accept": FHIR_JSON}
        return self._request("POST", f"/{kind}/${name}", f"POST {self.label}/{kind}/${name}", all_headers, bundle)

    def _request(self, method: str, path: str, label: str, headers: Mapping[str, str], body: bytes | None = None) -> Request:
        return Request(method, f"{self.url}{path}", label, headers, body, destination=self.slug)

    def follow(self, link: str, *, what: str = "a next link", resource_type: str = "") -> str:
        """Check a link that a server gave and make it absolute on our own base.

        Spaces and non-ASCII characters in its query are percent-encoded. A link that is a query alone belongs to the
        searched type. A path from the root that ends in a type or its `_search` is the server's own path, and is moved below
        our base. Raises `RedoxSecurityError` for a link that leads elsewhere; nothing is sent then.
        """
        link = encoded_query(link)
        if re.search(r"[\x00-\x20\x7f\\]", link) or not link.isascii():
            raise RedoxSecurityError(f"{what} holds characters that no URL may have; it is not followed")
        parts, home = _joined(f"{self.url}/", self._from_root(_of_type(link, resource_type))), urlsplit(self.url)
        if parts is None:
            raise RedoxSecurityError(f"{what} is not a URL; it is not followed")
        if parts.username is not None or parts.fragment:
            raise RedoxSecurityError(f"{what} holds a user name or a fragment; it is not followed")
        if (parts.hostname or "").lower() in self.aliases:
            parts = parts._replace(scheme=home.scheme, netloc=home.netloc, path=self._own_path(parts.path))
        if _safe_origin(parts) != origin(home):
            raise RedoxSecurityError(
                f"{what} points to another origin than the connection's; it is not followed and the token stays. "
                "If that host is the destination's own name for this server, list it in extra.link_host_aliases"
            )
        if not (parts.path == home.path or parts.path.startswith(f"{home.path}/")) or climbs(parts.path):
            raise RedoxSecurityError(f"{what} leaves the destination's base {self.label}; it is not followed")
        return parts.geturl()

    def _from_root(self, link: str) -> str:
        """Move a path from a server's root below our base, unless it is the gateway's own path to a destination.

        A hospital's server behind Redox knows only its own paths, such as `/app/FHIR/r4/Condition/_search?...`
        (https://github.com/POLAR-fhiR/fhircrackr/issues/116).
        """
        path, mark, query = link.partition("?")
        found = _ROOTED.fullmatch(path)
        if found is None or climbs(path) or _GATEWAY.search(path):
            return link
        return f"{urlsplit(self.url).path}/{found[1]}{mark}{query}"

    def _own_path(self, path: str) -> str:
        """Move an alias's path below our base, from its resource type on; return the base itself if it names no type.

        An ID of any form may follow the type; `climbs` rejects those that lead out of the base.
        """
        home = urlsplit(self.url).path
        if path.startswith(home):
            return path
        steps = path.removesuffix("/").split("/")[-4:]
        steps = steps[:-2] if steps[-2:-1] == ["_history"] else steps  # a reference may name a version (R4, references)
        *_, before, last = ["", "", *steps]
        if before == "Binary" or last == "_search" or not _ALIAS_TYPE.fullmatch(last):
            return f"{home}/{before}/{last}" if last and _ALIAS_TYPE.fullmatch(before) else home
        return f"{home}/{last}"


def encoded_query(link: str) -> str:
    """Return a link with invalid characters of its query percent-encoded; unchanged if it holds control characters."""
    path, mark, query = link.partition("?")
    if not mark or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", query):
        return link
    return f"{path}?{quote(re.sub(_LONE_PERCENT, '%25', query), safe=_IN_QUERY)}"


def _of_type(link: str, resource_type: str) -> str:
    """Put the resource type before a link that is a query alone; HAPI's `_getpages` belongs to the base.

    Some servers begin it with `&` (https://github.com/HealthIntersections/fhirserver/issues/194).
    """
    if not link.startswith(("?", "&")) or "_getpages=" in link:
        return link
    return f"{resource_type}?{link[1:]}"


def _joined(base: str, link: str) -> SplitResult | None:
    try:
        return urlsplit(urljoin(base, link))
    except ValueError:  # it quotes the link, so the complaint is made outside
        return None


def _safe_origin(parts: SplitResult) -> tuple[str, str, int] | None:
    try:
        return origin(parts)
    except ValueError:
        return None


def climbs(path: str) -> bool:
    """Find dot segments, `..;` too, which servlet containers read as `..`, and what a second decoding makes one."""
    return bool(re.search(r"(^|/)(\.|%2e){1,2}([/;]|$)|%2f|%5c|%25", path, re.IGNORECASE))


def endpoint(settings: Settings, slug: str, environment: str | None) -> Endpoint:
    """Make the endpoint of a destination's slug. Raises `RedoxConfigError` for an unknown environment."""
    chosen = settings.environment_for(environment)
    if chosen is None:
        raise RedoxConfigError("environment: set it in the operator, or as extra.environment in the connection")
    return Endpoint(settings.base_url, slug, chosen, settings.link_host_aliases)


def checked_type(resource_type: str) -> str:
    """Check the name of a resource type. Raises `RedoxConfigError`."""
    if not isinstance(resource_type, str) or resource_type not in RESOURCE_TYPES:
        close = near(resource_type, RESOURCE_TYPES)
        meant = f"; did you mean {close}?" if close else ""
        raise RedoxConfigError(f"resource_type: must be the name of a FHIR resource type, such as Patient{meant}")
    return resource_type


def search_form(params: Mapping[str, Any], *, where: str = "search_params") -> bytes:
    """Encode search parameters as a form body; a list is a repeated key.

    Raises `RedoxConfigError` for an empty value: a filter that was meant and is empty would ask for everybody.
    """
    return urlencode(list(_checked(values.parameters(params, where=where), where))).encode("ascii")


def _checked(pairs: Iterable[tuple[str, str]], where: str) -> Iterator[tuple[str, str]]:
    for name, value in pairs:
        if not _PARAMETER.fullmatch(name):
            raise RedoxConfigError(f"{where}: a parameter's name may hold letters, digits and _ - . : only")
        yield name, value
