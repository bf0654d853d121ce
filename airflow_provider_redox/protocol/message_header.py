"""The message Bundle of a FHIR writeback: its shape, and the MessageHeader that Redox routes it by.

A Bundle that has a MessageHeader is the author's own and is sent as it is. For one that has none the header is built, on a
copy, of what the connection and the operation say. Nothing in it comes from a clock or from chance: the same Bundle and the
same message ID give the same bytes, so that what is sent again can be known again (FHIR R4, messaging, reliable messaging).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.destinations import Destination
from airflow_provider_redox.protocol.jsonsource import Source

EVENTS = "https://fhir.redoxengine.com/EventDefinition/"
"""Where Redox names its events: `PatientUpdate` belongs to `$patient-update` (Redox, $patient-update)."""

SOURCE_NAME = "Apache Airflow"
NO_SOURCE = "https://airflow.apache.org"
"""FHIR wants a source endpoint; an environment with one source needs no ID in it, so this cannot be taken for one."""

_IDS = bytes.fromhex("6f0c2a1e7a534c0b9f5e2f4d6f3b8a10")


def completed(
    bundle: Any,
    *,
    resource_type: str,
    operation: str,
    message_id: str,
    source_id: str | None = None,
    destination: Destination | None = None,
) -> Mapping[str, Any]:
    """Give a Bundle that can be sent: the author's own, or a copy with a MessageHeader as its first entry.

    :param message_id: becomes MessageHeader.id; see `new_message_id`.
    :param source_id: the Redox source; `source.endpoint` is its `urn:uuid:`.
    :param destination: named in the header where the connection describes its UUID; the URL's slug is what routes.

    Raises `RedoxConfigError` for what is no message Bundle, and where no header can be built.
    """
    resources = _checked_resources(bundle)
    if resources[0]["resourceType"] == "MessageHeader":
        return {**bundle, "type": "message"}
    header = {
        "resourceType": "MessageHeader",
        "id": message_id,
        "eventUri": EVENTS + _event(resource_type, operation),
        **_destination(destination),
        "source": {"name": SOURCE_NAME, "endpoint": f"urn:uuid:{source_id}" if source_id else NO_SOURCE},
        "focus": _focus(bundle["entry"], resource_type),
    }
    entry = {"fullUrl": f"urn:uuid:{message_id}", "resource": {key: value for key, value in header.items() if value}}
    return {**bundle, "type": "message", "entry": [entry, *bundle["entry"]]}


def written(source: Source, whole: Mapping[str, Any]) -> bytes:
    """Return the text of a Bundle from a file as it is sent: the file's text, with the members that `completed` added."""
    if len(whole["entry"]) > len(source.value["entry"]):
        source = source.with_first("entry", json.dumps(whole["entry"][0], separators=(",", ":")))
    return source.with_members({} if "type" in source.value else {"type": json.dumps(whole["type"])}).encode()


def new_message_id(*names: str) -> str:
    """Give the UUID that belongs to these names (RFC 9562 section 5.5): always the same for the same ones."""
    digest = bytearray(hashlib.sha1(_IDS + "\0".join(names).encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _checked_resources(bundle: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(bundle, Mapping) or bundle.get("resourceType") != "Bundle":
        raise RedoxConfigError("bundle: must be a FHIR Bundle of type message")
    if bundle.get("type", "message") != "message":
        raise RedoxConfigError("bundle: its type must be message, or left out; Redox takes no other as a writeback")
    entries = bundle.get("entry")
    if not isinstance(entries, list | tuple) or not entries:
        raise RedoxConfigError("bundle: entry must be a list with at least one resource")
    resources: list[Any] = [entry.get("resource") if isinstance(entry, Mapping) else None for entry in entries]
    for number, resource in enumerate(resources):
        if not isinstance(resource, Mapping) or not isinstance(resource.get("resourceType"), str):
            raise RedoxConfigError(f"bundle: entry[{number}] has no resource with a resourceType; give it one")
        if number and resource["resourceType"] == "MessageHeader":
            raise RedoxConfigError(f"bundle: entry[{number}] is a MessageHeader; keep one, as the first entry")
    return resources


def _event(resource_type: str, operation: str) -> str:
    """Name the event of an operation: `$observation-create` on Observation is `ObservationCreate`."""
    kind, _, verb = operation.removeprefix("$").partition("-")
    if kind != resource_type.lower() or not verb.replace("-", "").isalpha():
        raise RedoxConfigError(
            "bundle: has no MessageHeader; put a MessageHeader with the event's own eventUri or eventCoding first. One is "
            "built only for operations such as $observation-create on Observation"
        )
    return resource_type + "".join(word.capitalize() for word in verb.split("-"))


def _destination(destination: Destination | None) -> dict[str, Any]:
    if destination is None or destination.id is None:
        return {}
    return {"destination": [{"name": destination.name, "endpoint": f"urn:uuid:{destination.id}"}]}


def _focus(entries: Sequence[Any], resource_type: str) -> list[dict[str, str]]:
    """Refer to the resources that are written, where the Bundle gives them a name."""
    written = [entry for entry in entries if entry["resource"]["resourceType"] == resource_type]
    if not written:
        raise RedoxConfigError(f"bundle: holds no {resource_type}, which the operation writes; add it, or correct operation")
    names = [_reference(entry) for entry in written]
    return [{"reference": name} for name in names if name]


def _reference(entry: Mapping[str, Any]) -> str | None:
    resource = entry["resource"]
    own = f"{resource['resourceType']}/{resource['id']}" if isinstance(resource.get("id"), str) else None
    return entry["fullUrl"] if isinstance(entry.get("fullUrl"), str) else own
