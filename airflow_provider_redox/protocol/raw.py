"""A request as its author wrote it: any method and path below the connection's host.

Checked before anything is sent: it goes to the connection's own origin and nowhere else, and whether it may be repeated is
read from what it is, not from what it is called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from airflow_provider_redox.checks import one_of
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxSecurityError
from airflow_provider_redox.protocol import data_model, fhir, values
from airflow_provider_redox.protocol.effects import Request
from airflow_provider_redox.protocol.jsonsource import parse_object
from airflow_provider_redox.protocol.settings import origin

_DOT_SEGMENT = re.compile(r"(^|/|%2f|%5c)(\.|%2e){1,2}(/|\?|;|%2f|%5c|$)", re.IGNORECASE)
_SLUG_OF = re.compile(r"^/fhir/R4/([A-Za-z0-9._-]+)/")
_EMPTY_VALUE = re.compile(r"[?&][^=&?]+=(%20|\+)*(&|$)")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def request(
    base_url: str,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    params: Mapping[str, Any] | None = None,
) -> Request:
    """Make the request. Raises `RedoxConfigError` and `RedoxSecurityError`."""
    if method.upper() not in _METHODS:
        raise RedoxConfigError(one_of("method", method, _METHODS))
    if _EMPTY_VALUE.search(path):
        raise RedoxConfigError("path: its query has an empty value, which FHIR ignores; give it one, or leave the name out")
    url = checked_url(base_url, path)
    if params:
        query = urlencode(list(values.parameters(params, where="query_params")))
        url = f"{url}{'&' if '?' in url else '?'}{query}"
    return Request(method.upper(), url, label_of(method, url), headers, body, destination=destination_of(base_url, url))


def _check_text(where: str, *values: Any) -> None:
    """Refuse half a character, which no encoding knows: Python's own error would hold the whole text."""
    if any(re.search(r"[\ud800-\udfff]", value) for value in values if isinstance(value, str)):
        raise RedoxConfigError(f"{where}: holds half of a character (a lone surrogate), which cannot be sent")


def checked_url(base_url: str, path: str) -> str:
    """Put a path, or an absolute URL of the same origin, onto the base. Raises `RedoxSecurityError` for any other."""
    if re.search(r"[^\x21-\x7e]|[\\#]", path) or _DOT_SEGMENT.search(path):
        raise RedoxSecurityError(
            "path: holds spaces, control characters, '#', a backslash, dot segments or what is not ASCII; "
            "encode or drop them"
        )
    url = path if "://" in path.split("?")[0] else f"{base_url}/{path.lstrip('/')}"
    home = urlsplit(base_url)
    try:
        parts = urlsplit(url)
        same = origin(parts) == origin(home) and parts.username is None
    except ValueError:
        same = False
    if not same or not (parts.path == home.path or parts.path.startswith(f"{home.path}/")):
        raise RedoxSecurityError("path: points outside the connection's host; the token is sent nowhere else")
    return url


def may_repeat(method: str, url: str, body: bytes | None) -> bool:
    """Say whether a request may be sent again: GET, HEAD, `_search` and Data Model queries; nothing else."""
    if method.upper() in ("GET", "HEAD"):
        return True
    path = urlsplit(url).path
    if method.upper() == "POST" and path.endswith("/_search"):
        return True
    return method.upper() == "POST" and path.endswith((data_model.PATH, "/query")) and data_model.is_query(_parsed(body))


def label_of(method: str, url: str) -> str:
    """Give what a log may say of a request: method and the first part of the path."""
    first = urlsplit(url).path.strip("/").split("/")[0]
    return f"{method.upper()} /{first if re.fullmatch(r'[A-Za-z0-9._-]{1,40}', first) else '…'}/…"


def destination_of(base_url: str, url: str) -> str | None:
    """Give the slug in a FHIR URL below a base; None for any other."""
    found = _SLUG_OF.search(urlsplit(url).path.removeprefix(urlsplit(base_url).path))
    return found.group(1) if found else None


def _parsed(body: bytes | None) -> Any:
    """Return the parsed body; nothing if it is ambiguous, because its meaning is then unknown."""
    try:
        return parse_object(body or b"").value
    except ValueError:
        return None


def body_of(*, form: Mapping[str, Any] | None, json: Any, data: bytes | str | None) -> tuple[bytes | None, dict[str, str]]:
    """Give the body and the header that names its kind. Raises `RedoxConfigError` where more than one is given."""
    if sum(given is not None for given in (form, json, data)) > 1:
        raise RedoxConfigError("request: give one of form, json and data")
    if form is not None:
        return fhir.search_form(form, where="form"), {"content-type": fhir.FORM}
    if json is not None:
        return data_model.encode(json, where="json"), {"content-type": "application/json"}
    _check_text("data", data)
    return (data.encode() if isinstance(data, str) else data), {}
