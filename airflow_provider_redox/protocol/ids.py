"""Logical IDs: accept what servers use, and refuse what is not safe in a URL.

FHIR R4 allows 1 to 64 letters, digits, '-' and '.'. Servers hold others: of 88 characters (Epic), with '_' or ':'.
So an ID is percent-encoded in a URL, and refused only if it could make the URL lead to anything but that resource.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

LONGEST = 512
"""Characters of an ID. Some servers and proxies take no URL of more than 2,000."""

_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_SEPARATOR = re.compile(r"[/\\?#%;]")
_PLAIN = re.compile(r"[A-Za-z0-9\-._:~|=+@]{1,255}")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")


def path_segment(identifier: Any) -> str | None:
    """Return an ID as one segment of a URL's path; None for one that could make it another URL.

    Refused are separators of URL parts, characters that become separators if a server decodes twice, IDs of dots alone, and
    words that FHIR uses in the place of an ID: `_history`, `_search`, and operations, which begin with `$`.
    """
    if not isinstance(identifier, str) or not 0 < len(identifier) <= LONGEST or not _PRINTABLE.fullmatch(identifier):
        return None
    if _SEPARATOR.search(identifier) or identifier.startswith("$") or not identifier.strip("."):
        return None
    if identifier.lower() in ("_history", "_search"):
        return None
    return quote(identifier, safe="-._~:@")


def shown(identifier: Any) -> str:
    """Return an ID for lists and reports: the ID itself, a digest if its form is unusual, `?` if there is none."""
    if not isinstance(identifier, str) or not identifier:
        return "?"
    return identifier if _PLAIN.fullmatch(identifier) else _digest(identifier.encode("utf-8", "replace"))


def named(resource: Mapping[str, Any]) -> str:
    """Return a unique name of a resource or a Data Model answer for lists.

    For a resource it is `DocumentReference/<id>`, for an answer `Media.QueryResponse/<log ID>`; a digest replaces a missing
    ID. By this name, a purge of a patient finds the documents that came from the patient's resources.
    """
    meta = resource.get("Meta")
    if isinstance(meta, Mapping):
        kind, identifier = ".".join(_word(meta.get(name)) for name in ("DataModel", "EventType")), _log_id(meta)
    else:
        kind, identifier = _word(resource.get("resourceType")), shown(resource.get("id"))
    return f"{kind}/{_digest(msgspec.json.encode(resource)) if identifier == '?' else identifier}"


def _word(name: Any) -> str:
    word = name.replace(" ", "") if isinstance(name, str) else ""
    return word if _WORD.fullmatch(word) else "?"


def _log_id(meta: Mapping[str, Any]) -> str:
    logs = meta.get("Logs")
    first = logs[0] if isinstance(logs, list) and logs else None
    return shown(first.get("ID") if isinstance(first, Mapping) else None)


def _digest(content: bytes) -> str:
    return f"sha256-{hashlib.sha256(content).hexdigest()[:32]}"
