"""FHIR files of your own: every ``*.json`` (a Bundle of any type, or one resource) and ``*.ndjson`` of a folder.

Resources without an ID, a version or an update time get them. References by ``fullUrl`` within a Bundle, as in a
transaction, become references by type and ID. Duplicates: the last one stands.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import TYPE_CHECKING, Any

from . import digits
from .store import instant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .store import Resource

SPREAD = 30 * 86_400


class BadDataError(ValueError):
    """A file or folder cannot be loaded; the message names the file and the line."""


def load(folder: Path, *, today: float) -> list[Resource]:
    """Load all files of ``folder`` in the order of their names."""
    if not folder.is_dir():
        raise BadDataError(f"--data {folder} is not a folder.")
    files = sorted([*folder.glob("*.json"), *folder.glob("*.ndjson")])
    if not files:
        raise BadDataError(f"--data {folder} holds no .json or .ndjson file.")
    found = [_complete(resource, today) for file in files for resource in _file(file)]
    return list({(resource["resourceType"], resource["id"]): resource for resource in found}.values())


def given(value: Any, *, now: float) -> list[Resource]:
    """Complete resources that were given as they are: one, a Bundle, or a list of either. Raises `BadDataError`."""
    values = value if isinstance(value, list) else [value]
    return [_complete(resource, now) for n, one in enumerate(values) for resource in _unpack(one, f"resource {n}")]


def _file(file: Path) -> Iterator[Resource]:
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadDataError(f"{file} cannot be read as UTF-8: {error.__class__.__name__}.") from None
    if file.suffix == ".json":
        yield from _unpack(_parse(text, file, 1), f"{file}, line 1")
        return
    # An export log that bulk clients leave beside their files; its lines are events, not resources.
    lines = text.split("\n") if file.name != "log.ndjson" else []
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield from _unpack(_parse(line, file, number), f"{file}, line {number}")


def _parse(text: str, file: Path, line: int) -> Any:
    try:
        return digits.loads(text)
    except digits.NotStrictError as error:
        raise BadDataError(f"{file}, line {line}: not strict JSON ({error}).") from None
    except json.JSONDecodeError as error:
        raise BadDataError(f"{file}, line {line + error.lineno - 1}: not JSON ({error.msg}).") from None
    except RecursionError:
        raise BadDataError(f"{file}, line {line}: nested too deeply.") from None


def _unpack(value: Any, where: str) -> list[Resource]:
    if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
        raise BadDataError(f"{where}: not a FHIR resource.")
    if value["resourceType"] != "Bundle":
        return [value]
    entries = [entry for entry in value.get("entry", []) if isinstance(entry, dict) and "resource" in entry]
    for entry in entries:
        if not isinstance(entry["resource"], dict) or "resourceType" not in entry["resource"]:
            raise BadDataError(f"{where}: an entry of the Bundle is not a FHIR resource.")
        entry["resource"].setdefault("id", _new_id(entry))
    names = {entry["fullUrl"]: _name(entry["resource"]) for entry in entries if "fullUrl" in entry}
    return [_point_at(entry["resource"], names) for entry in entries]


def _name(resource: Resource) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def _new_id(entry: dict[str, Any]) -> str:
    tail = str(entry.get("fullUrl", "")).rpartition("urn:uuid:")[2]
    return tail if tail and "/" not in tail else _stable_id(entry["resource"])


def _stable_id(resource: Resource) -> str:
    digest = hashlib.sha256(json.dumps(resource, sort_keys=True).encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def _point_at(node: Any, names: dict[str, str]) -> Any:
    if isinstance(node, list):
        return [_point_at(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    copy = {key: _point_at(value, names) for key, value in node.items()}
    if isinstance(copy.get("reference"), str):
        copy["reference"] = names.get(copy["reference"], copy["reference"])
    return copy


def _complete(resource: Resource, today: float) -> Resource:
    key = str(resource.get("id") or _stable_id(resource))
    offset = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) % SPREAD
    meta = {"versionId": "1", "lastUpdated": instant(today - 1 - offset)} | resource.get("meta", {})
    rest = {name: value for name, value in resource.items() if name not in {"resourceType", "id", "meta"}}
    return {"resourceType": resource["resourceType"], "id": key, "meta": meta} | rest
