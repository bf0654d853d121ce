"""What a Redox connection says, checked once, before any request.

`Settings.from_fields` takes the fields of an Airflow connection as plain values, so that the ground floor needs no
Airflow. Every complaint is a `RedoxConfigError` that names the field as the connection form shows it and the cure,
and never the value: a value pasted into the wrong field may be a key.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from airflow_provider_redox.checks import empty, given, is_empty, meant, one_of
from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.allowance import EVERYTHING, Allowance, parse_allowance
from airflow_provider_redox.protocol.destinations import Destination, parse_destinations
from airflow_provider_redox.protocol.keys import SigningKey, choose_keys

DEFAULT_HOST = "https://api.redoxengine.com"
DEFAULT_BLOB_URL = "https://blob.redoxengine.com"
ENVIRONMENTS = ("Development", "Staging", "Production")
CACHE_BACKENDS = ("variable", "xcom", "memory")

EXTRA_FIELDS = (
    "client_id",
    "kid",
    "key_file",
    "signer",
    "signer_key",
    "algorithm",
    "auth_url",
    "audience",
    "scope",
    "destination",
    "destinations",
    "environment",
    "source_id",
    "headers",
    "meta",
    "purpose_of_use",
    "allow",
    "organization_id",
    "environment_id",
    "platform_conn_id",
    "link_host_aliases",
    "blob_url",
    "ca_file",
    "cache_backend",
    "timeout",
    "requests_per_5min",
    "allow_http",
)
"""Every key that a connection's extra may have."""

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HOST_NAME = re.compile(r"[a-z0-9._-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
_OWN_HEADERS = (
    "authorization",
    "proxy-authorization",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "cookie",
    "accept-encoding",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """A checked connection. See the connection page of the documentation for what each field means."""

    base_url: str
    client_id: str
    keys: tuple[SigningKey, ...]
    auth_url: str
    audience: str
    scope: str | None = None
    destination: str | None = None
    destinations: Mapping[str, Destination] = field(default_factory=dict)
    environment: str | None = None
    source_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    meta: Mapping[str, Any] = field(default_factory=dict, repr=False)
    organization_id: str | None = None
    environment_id: str | None = None
    platform_conn_id: str | None = None
    link_host_aliases: tuple[str, ...] = ()
    blob_url: str | None = None
    ca_file: str | None = None
    cache_backend: str = "variable"
    purpose_of_use: str | None = None
    allow: Allowance = EVERYTHING
    timeout: float = 130.0
    requests_per_5min: int = 5000
    plain_http_allowed: bool = False

    def environment_for(self, named: str | None) -> str | None:
        """Return the environment that an author named, or the connection's. Raises `RedoxConfigError` for an unknown one."""
        chosen = given(named, self.environment, name="environment")
        if chosen is not None and chosen not in ENVIRONMENTS:
            raise RedoxConfigError(one_of("environment", chosen, ENVIRONMENTS))
        return chosen

    @property
    def key(self) -> SigningKey:
        """The key that signs: the first, unless Redox refuses it and another follows."""
        return self.keys[0]

    @property
    def kid(self) -> str:
        """The key ID that goes into the assertion."""
        return self.key.kid or ""

    @property
    def kids(self) -> str:
        """Return the IDs of all keys that may sign, for the record: which of them signed for a shared token is not known."""
        return ", ".join(key.kid or "" for key in self.keys)

    @property
    def algorithm(self) -> str:
        """Return the algorithm of the first key, RS384 or ES384; a later key may use the other one."""
        return self.key.algorithm

    @property
    def fingerprint(self) -> str:
        """What tells apart the connections whose tokens must not mix: the keys, client, URL, audience, scope."""
        public = json.dumps([key.public_jwk() for key in self.keys], sort_keys=True)
        parts = (public, self.client_id, self.auth_url, self.audience, self.scope or "", self.kid)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    @classmethod
    def from_fields(
        cls,
        *,
        keys: tuple[SigningKey, ...],
        host: str | None = None,
        port: int | None = None,
        login: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Settings:
        """Check the fields of a connection. Raises `RedoxConfigError`."""
        extra = {name: value for name, value in (extra or {}).items() if value not in (None, "")}
        _refuse_unknown(extra)
        if login:
            raise RedoxConfigError("login: must be empty; the client ID belongs into extra.client_id")
        allow_http = _flag(extra, "allow_http")
        base_url = _base_url(host, port, allow_http=allow_http)
        auth_url = _auth_url(extra, base_url)
        client_id = _text(extra, "client_id")
        if client_id is None:
            raise RedoxConfigError("extra.client_id: missing; copy the client ID from the API key's page in Redox")
        return cls(
            base_url=base_url,
            client_id=client_id,
            keys=choose_keys(keys, kid=_text(extra, "kid"), algorithm=_text(extra, "algorithm")),
            auth_url=auth_url,
            audience=_text(extra, "audience") or auth_url,
            scope=_text(extra, "scope"),
            destination=_text(extra, "destination"),
            destinations=parse_destinations(_mapping(extra, "destinations")),
            environment=_choice(extra, "environment", ENVIRONMENTS),
            source_id=_header_text(extra, "source_id"),
            headers=checked_headers(_mapping(extra, "headers"), where="extra.headers"),
            meta=_mapping(extra, "meta"),
            organization_id=_text(extra, "organization_id"),
            environment_id=_text(extra, "environment_id"),
            platform_conn_id=_text(extra, "platform_conn_id"),
            link_host_aliases=_names(extra, "link_host_aliases"),
            blob_url=_blob_url(extra, base_url, allow_http=allow_http),
            ca_file=_text(extra, "ca_file"),
            cache_backend=_choice(extra, "cache_backend", CACHE_BACKENDS) or "variable",
            purpose_of_use=_purpose(extra),
            allow=parse_allowance(_mapping(extra, "allow")),
            timeout=_number(extra, "timeout", 130.0, low=1, high=3600),
            requests_per_5min=int(_number(extra, "requests_per_5min", 5000, low=2, high=10_000)),
            plain_http_allowed=allow_http,
        )


def checked_headers(headers: Mapping[str, Any], *, where: str) -> dict[str, str]:
    """Check extra request headers; names come back in lower case. Raises `RedoxConfigError`."""
    if not isinstance(headers, Mapping):
        raise RedoxConfigError(f"{where}: must be a mapping of header names to texts")
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise RedoxConfigError(f"{where}: a header name holds a character that no header name may have")
        if name.lower() in _OWN_HEADERS:
            raise RedoxConfigError(f"{where}: {name} is set by the provider itself; remove it")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise RedoxConfigError(f"{where}: the value of {name} must be one line of printable ASCII")
        if is_empty(value):
            raise RedoxConfigError(empty(f"{where}: {name}"))
    return {name.lower(): value for name, value in headers.items()}


def is_loopback(host: str) -> bool:
    """Say whether a host name or address can only mean this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _refuse_unknown(extra: Mapping[str, Any]) -> None:
    for name in extra:
        if name not in EXTRA_FIELDS:
            raise RedoxConfigError(f"extra.{_printable(name)}: no such field; {meant(name, EXTRA_FIELDS)}")


def _printable(name: object) -> str:
    text = str(name)
    return text if re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", text) else "(unprintable)"


def _base_url(host: str | None, port: int | None, *, allow_http: bool) -> str:
    text = (host or DEFAULT_HOST).strip()
    parts = _split(text if "://" in text else f"https://{text}", "host")
    if parts.scheme == "http" and not (allow_http or is_loopback(parts.hostname or "")):
        raise RedoxConfigError("host: must begin with https://; plain http is for this machine only")
    if port and not 0 < port < 65536:
        raise RedoxConfigError("port: must be a number from 1 to 65535, or empty")
    if port and parts.port and parts.port != port:
        raise RedoxConfigError("port: differs from the port in host; leave one of them empty")
    chosen = parts.port or port
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    shown = f":{chosen}" if chosen and chosen != {"https": 443, "http": 80}[parts.scheme] else ""
    return f"{parts.scheme}://{name}{shown}{parts.path.rstrip('/')}"


def _auth_url(extra: Mapping[str, Any], base_url: str) -> str:
    text = _text(extra, "auth_url") or f"{base_url}/v2/auth/token"
    if origin(_split(text, "extra.auth_url")) != origin(urlsplit(base_url)):
        raise RedoxConfigError(
            "extra.auth_url: must be on the same scheme, host and port as host; an assertion is sent nowhere else"
        )
    return text


def _blob_url(extra: Mapping[str, Any], base_url: str, *, allow_http: bool) -> str | None:
    """Give where files go. It has a host of its own at Redox; at a host that is not Redox's own it has to be said."""
    text = _text(extra, "blob_url")
    if text is None:
        local = is_loopback(urlsplit(base_url).hostname or "")
        return base_url if local else DEFAULT_BLOB_URL if base_url == DEFAULT_HOST else None
    parts = _split(text, "extra.blob_url")
    if parts.scheme == "http" and not (allow_http or is_loopback(parts.hostname or "")):
        raise RedoxConfigError("extra.blob_url: must begin with https://; plain http is for this machine only")
    return text.rstrip("/")


def _split(url: str, name: str) -> SplitResult:
    parts: SplitResult | None
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (reading it is what checks it)
    except ValueError:
        parts = None  # the complaint is made outside: this error quotes the value
    if parts is None:
        raise RedoxConfigError(f"{name}: not a URL; it should look like {DEFAULT_HOST}")
    odd = parts.username is not None or parts.query or parts.fragment or re.search(r"[\s\\@]", url)
    if parts.scheme not in ("http", "https") or not parts.hostname or odd:
        raise RedoxConfigError(f"{name}: not a plain URL; it should look like {DEFAULT_HOST}")
    return parts


def origin(parts: SplitResult) -> tuple[str, str, int]:
    """Give scheme, host in lower case and port of a split URL, the port always as a number."""
    default = {"https": 443, "http": 80}.get(parts.scheme, 0)
    return parts.scheme, (parts.hostname or "").lower(), default if parts.port is None else parts.port


def _text(extra: Mapping[str, Any], name: str) -> str | None:
    value = extra.get(name)
    if value is None:
        return None
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise RedoxConfigError(f"extra.{name}: must be text")
    return str(value).strip() or None


def _header_text(extra: Mapping[str, Any], name: str) -> str | None:
    value = _text(extra, name)
    if value is not None and not _HEADER_VALUE.fullmatch(value):
        raise RedoxConfigError(f"extra.{name}: must be one line of printable ASCII; it is sent as a header")
    return value


def _purpose(extra: Mapping[str, Any]) -> str | None:
    value = _text(extra, "purpose_of_use")
    if value is not None and not re.fullmatch(r"[A-Z]{3,20}", value):
        raise RedoxConfigError(
            "extra.purpose_of_use: must be a code of HL7's PurposeOfUse, such as TREAT, HPAYMT or HOPERAT"
        )
    return value


def _choice(extra: Mapping[str, Any], name: str, choices: Iterable[str]) -> str | None:
    value = _text(extra, name)
    if value is not None and value not in choices:
        raise RedoxConfigError(one_of(f"extra.{name}", value, choices))
    return value


def _flag(extra: Mapping[str, Any], name: str) -> bool:
    value = extra.get(name, False)
    known = {True: True, False: False, "true": True, "false": False}
    answer = known.get(value.lower() if isinstance(value, str) else value) if isinstance(value, str | bool) else None
    if answer is None:
        raise RedoxConfigError(f"extra.{name}: must be true or false")
    return answer


def _number(extra: Mapping[str, Any], name: str, default: float, *, low: float, high: float) -> float:
    value = extra.get(name, default)
    try:
        number = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not low <= number <= high:
        raise RedoxConfigError(f"extra.{name}: must be a number from {low:g} to {high:g}")
    return number


def _mapping(extra: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = extra.get(name, {})
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None  # the complaint is made outside: a JSONDecodeError holds the whole text
        if value is None:
            raise RedoxConfigError(f"extra.{name}: not valid JSON")
    if not isinstance(value, dict):
        raise RedoxConfigError(f"extra.{name}: must be a JSON object")
    return value


def _names(extra: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = extra.get(name, ())
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, str) for entry in entries):
        raise RedoxConfigError(f"extra.{name}: must be a list of host names")
    names = tuple(entry.strip().lower() for entry in entries if entry.strip())
    if not all(_HOST_NAME.fullmatch(entry) for entry in names):
        raise RedoxConfigError(f"extra.{name}: must be host names only, without scheme, port or path")
    return names
