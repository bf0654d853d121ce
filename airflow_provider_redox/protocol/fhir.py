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
from urllib.parse import SplitResult, parse_qsl, urlencode, urljoin, urlsplit

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxSecurityError
from airflow_provider_redox.protocol import values
from airflow_provider_redox.protocol.effects import Request
from airflow_provider_redox.protocol.settings import Settings, origin

FHIR_JSON = "application/fhir+json"
FORM = "application/x-www-form-urlencoded"

_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_OPERATION = re.compile(r"[a-z][a-z0-9-]{0,63}")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_.:\-]{0,99}")


_ALIAS_TYPE = re.compile(r"[A-Z][A-Za-z]+")
_ALIAS_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


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
        if not isinstance(resource_id, str) or not _ID.fullmatch(resource_id) or set(resource_id) == {"."}:
            raise RedoxConfigError("resource_id: must be 1 to 64 letters, digits, '-' and '.' (FHIR R4, id)")
        return self._request(
            "GET", f"/{kind}/{resource_id}", f"GET {self.label}/{kind}/{{id}}", {**headers, "accept": FHIR_JSON}
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

    def follow(self, link: str, *, what: str = "a next link") -> str:
        """Check a link that a server gave and make it absolute on our own base.

        Raises `RedoxSecurityError` for one that leads elsewhere, and nothing is sent.
        """
        if re.search(r"[\x00-\x20\x7f\\]", link) or not link.isascii():
            raise RedoxSecurityError(f"{what} holds characters that no URL may have; it is not followed")
        parts, home = _joined(f"{self.url}/", link), urlsplit(self.url)
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

    def _own_path(self, path: str) -> str:
        """Put an alias's path onto our base: what follows the last resource type or nothing of it."""
        home = urlsplit(self.url).path
        if path.startswith(home):
            return path
        *_, before, last = ["", "", *path.removesuffix("/").split("/")]
        if last == "_search" and _ALIAS_TYPE.fullmatch(before):
            return f"{home}/{before}/{last}"
        if _ALIAS_TYPE.fullmatch(last):
            return f"{home}/{last}"
        return f"{home}/{before}/{last}" if _ALIAS_TYPE.fullmatch(before) and _ALIAS_ID.fullmatch(last) else home


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
    if not isinstance(resource_type, str) or not _TYPE.fullmatch(resource_type):
        raise RedoxConfigError("resource_type: must be the name of a FHIR resource type, such as Patient")
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


def link_as_form(link: str, form: bytes = b"") -> bytes:
    """Give a link's query as a form body, for a server that continues a search by POST only.

    Parameters of the search's own `form` that the link does not name are added.
    """
    named = parse_qsl(urlsplit(link).query, keep_blank_values=True)
    names = {name for name, _ in named}
    own = [pair for pair in parse_qsl(form.decode("ascii")) if pair[0] not in names]
    return urlencode([*own, *named]).encode("ascii")
