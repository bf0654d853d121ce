"""Writebacks: ``$<type>-create`` and ``$<type>-update`` with a message Bundle.

Redox does not document the answer; this one is a message Bundle whose MessageHeader says ``ok``, as FHIR messaging has
it. Where a log ID would stand is not documented either: here it is the Bundle's ``identifier``.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from .answers import fhir_answer, refuse_fhir
from .fhir import base_path
from .names import DESTINATIONS
from .parameters import PEOPLE
from .store import instant

if TYPE_CHECKING:
    from .answers import Answer
    from .call import Call
    from .delivery import Log
    from .state import Sandbox
    from .store import Resource

MEDIA_TYPE = "application/fhir+json"
LOG_SYSTEM = "urn:redox:log-id"


def write(sandbox: Sandbox, call: Call) -> Answer:
    """Answer ``POST {base}/{type}/$<type>-create`` or ``-update``; the resources of that type are stored."""
    base_path(sandbox, call)
    kind, verb = call.groups["type"], _verb(call)
    bundle = _bundle(call)
    header, resources = _parts(bundle, kind)
    _check_header(sandbox, call, header)
    renamed = _identities(sandbox, bundle, kind, verb)
    for resource in resources:
        sandbox.store.put(_stored(sandbox, resource, renamed))
    log = _log(sandbox, call, header)
    sandbox.messages.append(_message(sandbox, call, bundle, log))
    return fhir_answer(_response(header, log))


def _verb(call: Call) -> str:
    kind, dash, verb = call.groups["operation"].rpartition("-")
    if not dash or kind != call.groups["type"].lower() or verb not in {"create", "update"}:
        refuse_fhir(404, "not-supported", "no such operation on this resource type")
    return verb


def _bundle(call: Call) -> dict[str, Any]:
    if call.media_type != MEDIA_TYPE:
        refuse_fhir(415, "structure", f"Content-Type must be {MEDIA_TYPE}")
    bundle = call.json()
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle" or bundle.get("type") != "message":
        refuse_fhir(400, "structure", "the body must be a Bundle of type message")
    return bundle


def _parts(bundle: dict[str, Any], kind: str) -> tuple[Resource, list[Resource]]:
    """Return the MessageHeader and the resources of the type that is written."""
    resources = _resources(bundle)
    if not resources or resources[0].get("resourceType") != "MessageHeader":
        refuse_fhir(400, "structure", "the first entry must be a MessageHeader")
    of_kind = [resource for resource in resources if resource.get("resourceType") == kind]
    if not of_kind:
        refuse_fhir(400, "required", f"the Bundle holds no {kind}")
    return resources[0], of_kind


def _resources(bundle: dict[str, Any]) -> list[Resource]:
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        refuse_fhir(400, "structure", "Bundle.entry must be a list")
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("resource"), dict):
            refuse_fhir(400, "structure", "an entry of the Bundle has no resource")
    resources = [entry["resource"] for entry in entries]
    for resource in resources:
        _check_shape(resource)
    return resources


def _check_shape(resource: Resource) -> None:
    """Refuse what no FHIR resource has: a type that is no text, meta, identifier or name in a wrong shape."""
    if not isinstance(resource.get("resourceType"), str) or not isinstance(resource.get("id", ""), str):
        refuse_fhir(400, "structure", "resourceType and id must be text")
    if not isinstance(resource.get("meta", {}), dict):
        refuse_fhir(400, "structure", "meta must be an object")
    for name in ("identifier", "name") if resource["resourceType"] in PEOPLE else ():
        rows = resource.get(name, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            refuse_fhir(400, "structure", f"{name} must be a list of objects")


def _check_header(sandbox: Sandbox, call: Call, header: Resource) -> None:
    coding = header.get("eventCoding")
    if not header.get("eventUri") and not (isinstance(coding, dict) and coding.get("code")):
        refuse_fhir(400, "required", "MessageHeader.event[x]: missing")
    source = header.get("source")
    endpoint = source.get("endpoint") if isinstance(source, dict) else None
    if not isinstance(endpoint, str) or not endpoint:
        refuse_fhir(400, "required", "MessageHeader.source.endpoint: missing")
    wanted = (sandbox.settings.source_id or "").lower()
    if wanted and wanted not in {endpoint.lower().removeprefix("urn:uuid:"), call.header("Redox-Source-Id").lower()}:
        refuse_fhir(400, "required", "MessageHeader.source.endpoint: this environment has several sources; name one")


def _identities(sandbox: Sandbox, bundle: dict[str, Any], kind: str, verb: str) -> dict[str, tuple[str, str]]:
    """Map every name of a resource within the Bundle to the type and ID it has in the store."""
    names: dict[str, tuple[str, str]] = {}
    for entry in bundle["entry"]:
        resource = entry["resource"]
        known = _find(sandbox, resource)
        if resource.get("resourceType") == kind:
            if verb == "update" and known is None:
                refuse_fhir(404, "not-found", f"no {kind} has this ID or identifier")
            identity = known if verb == "update" and known else str(uuid.uuid4())
        else:
            identity = known or ""
        if identity:
            names |= dict.fromkeys(_names(entry), (str(resource["resourceType"]), identity))
    return names


def _names(entry: dict[str, Any]) -> list[str]:
    resource = entry["resource"]
    names = [f"#{id(resource)}", str(entry.get("fullUrl", ""))]
    if resource.get("id"):
        names.append(f"{resource['resourceType']}/{resource['id']}")
    return list(filter(None, names))


def _find(sandbox: Sandbox, resource: Resource) -> str | None:
    """Return the ID of the stored resource that has the same ID or shares an identifier."""
    kind = str(resource.get("resourceType"))
    if sandbox.store.get(kind, str(resource.get("id"))):
        return str(resource["id"])
    wanted = _identifiers(resource)
    return next((str(found["id"]) for found in sandbox.store.all(kind) if wanted & _identifiers(found)), None)


def _identifiers(resource: Resource) -> set[tuple[str, str]]:
    listed = resource.get("identifier")
    rows = listed if isinstance(listed, list) else [listed]
    pairs = ((row.get("system"), row.get("value")) for row in rows if isinstance(row, dict))
    return {(str(system), str(value)) for system, value in pairs if value}


def _stored(sandbox: Sandbox, resource: Resource, renamed: dict[str, tuple[str, str]]) -> Resource:
    kind, key = renamed[f"#{id(resource)}"]
    previous = sandbox.store.get(kind, key)
    version = int(previous["meta"].get("versionId", "1")) + 1 if previous else 1
    meta = {**resource.get("meta", {}), "versionId": str(version), "lastUpdated": instant(sandbox.now())}
    copy: Resource = _point_at(resource, renamed)
    return {"resourceType": kind, "id": key, "meta": meta} | {
        name: value for name, value in copy.items() if name not in {"resourceType", "id", "meta"}
    }


def _point_at(node: Any, renamed: dict[str, tuple[str, str]]) -> Any:
    """Copy ``node`` with references to other entries replaced by references into the store."""
    if isinstance(node, list):
        return [_point_at(item, renamed) for item in node]
    if not isinstance(node, dict):
        return node
    copy = {name: _point_at(value, renamed) for name, value in node.items()}
    reference = copy.get("reference")
    if isinstance(reference, str) and reference in renamed:
        copy["reference"] = "/".join(renamed[reference])
    return copy


def _destination_id(call: Call) -> str:
    return next(entry["id"] for entry in DESTINATIONS.values() if entry["slug"] == call.groups["slug"])


def _log(sandbox: Sandbox, call: Call, header: Resource) -> Log:
    event = str(header.get("eventUri") or header["eventCoding"]["code"]).rpartition("/")[2]
    names = (f"FHIR.{call.groups['type']}", event)
    return sandbox.logs.create("send", names, _destination_id(call), sandbox.settings, sandbox.now())


def _message(sandbox: Sandbox, call: Call, bundle: dict[str, Any], log: Log) -> dict[str, Any]:
    return {
        "kind": "writeback",
        "n": call.n,
        "time": instant(sandbox.now()),
        "trace_id": call.trace_id,
        "operation": f"{call.groups['type']}/${call.groups['operation']}",
        "destinations": [log.destination_id],
        "logs": [log.id],
        "body": bundle,
    }


def _response(header: Resource, log: Log) -> dict[str, Any]:
    answer = {
        "resourceType": "MessageHeader",
        "id": str(uuid.uuid4()),
        "source": {"name": "Redox sandbox", "endpoint": f"urn:uuid:{log.destination_id}"},
        "response": {"identifier": str(header.get("id") or uuid.uuid4()), "code": "ok"},
    }
    answer |= {name: header[name] for name in ("eventUri", "eventCoding") if name in header}
    identifier = {"system": LOG_SYSTEM, "value": log.id}
    entry = {"fullUrl": f"urn:uuid:{answer['id']}", "resource": answer}
    return {"resourceType": "Bundle", "type": "message", "identifier": identifier, "entry": [entry]}
