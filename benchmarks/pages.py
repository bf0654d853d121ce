"""The pages that the server gives: searchsets of 100 invented patients of about 1.7 KB each, encoded beforehand."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

SIZE = 100
"""Resources on a page."""

_PAGE = b"@PAGE@"
_BASE = b"@BASE@"
_NEXT = b"@NEXT@"
_TOTAL = b'"@TOTAL@"'

_GIVEN = ("Marisol", "Zoë", "Theodore", "Ngozi", "Ingrid", "Mateo", "Aiko")
_FAMILY = ("Abernathy", "Castañeda", "Lindqvist", "Okafor", "Tran", "Whitfield")
_CORE = "http://hl7.org/fhir/us/core/StructureDefinition"
_V2 = "http://terminology.hl7.org/CodeSystem/v2-0203"


def _race(text: str, code: str, name: str) -> dict[str, Any]:
    coding = {"system": "urn:oid:2.16.840.1.113883.6.238", "code": code, "display": text}
    return {
        "url": f"{_CORE}/{name}",
        "extension": [{"url": "ombCategory", "valueCoding": coding}, {"url": "text", "valueString": text}],
    }


def _identifier(code: str, system: str, value: str) -> dict[str, Any]:
    kind = {"coding": [{"system": _V2, "code": code}], "text": code}
    return {"use": "usual", "type": kind, "system": system, "value": value}


def patient(number: int) -> dict[str, Any]:
    """Give the patient of this number on a page; its ID holds a mark for the page's number."""
    given, family = _GIVEN[number % len(_GIVEN)], _FAMILY[number % len(_FAMILY)]
    name = f"{given} {family}"
    return {
        "resourceType": "Patient",
        "id": f"5d0c9f36-7a1e-4b62-{number:04d}-@PAGE@{number:06d}",
        "meta": {
            "versionId": str(1 + number % 4),
            "lastUpdated": f"2026-10-{1 + number % 28:02d}T08:{number % 60:02d}:11.042Z",
            "profile": [f"{_CORE}/us-core-patient"],
        },
        "text": {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><p><b>{name}</b>, born 19{50 + number % 50}-04-12</p></div>',
        },
        "extension": [
            _race("White", "2106-3", "us-core-race"),
            _race("Not Hispanic or Latino", "2186-5", "us-core-ethnicity"),
        ],
        "identifier": [_identifier("MR", "urn:oid:1.3.6.1.4.1.21367.2005.3.7", f"MRN@PAGE@{number:04d}")],
        "active": True,
        "name": [{"use": "official", "text": name, "family": family, "given": [given, "Q."]}],
        "telecom": [
            {"system": "phone", "value": f"+1 555 010 {number:04d}", "use": "home"},
            {"system": "email", "value": f"patient.{number}@example.org"},
        ],
        "gender": ("female", "male", "other", "unknown")[number % 4],
        "birthDate": f"19{50 + number % 50}-04-12",
        "address": [
            {
                "use": "home",
                "line": [f"{100 + number} Harbor View Road"],
                "city": "Madison",
                "state": "WI",
                "postalCode": "53703",
                "country": "US",
            }
        ],
        "maritalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "code": "M"}]},
        "managingOrganization": {"reference": "Organization/8c1f", "display": "Harbor View Clinic"},
    }


def _entry(number: int) -> dict[str, Any]:
    resource = patient(number)
    return {"fullUrl": f"@BASE@/Patient/{resource['id']}", "resource": resource, "search": {"mode": "match"}}


def _template(*, last: bool) -> bytes:
    links = [{"relation": "self", "url": f"@BASE@/Patient?_count={SIZE}"}, {"relation": "next", "url": "@NEXT@"}]
    bundle = {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": "@TOTAL@",
        "link": links[:1] if last else links,
        "entry": [_entry(number) for number in range(SIZE)],
    }
    return json.dumps(bundle, ensure_ascii=False, separators=(",", ":")).encode()


_templates = {last: _template(last=last) for last in (False, True)}


@lru_cache(maxsize=256)
def page(number: int, of: int, base: str) -> bytes:
    """Give page `number` (from 1) of a search with `of` pages, with links below `base`."""
    following = f"{base}/Patient?_count={SIZE}&_page={number + 1}".encode()
    body = _templates[number >= of].replace(_PAGE, b"%06d" % number).replace(_BASE, base.encode())
    return body.replace(_NEXT, following).replace(_TOTAL, b"%d" % (of * SIZE))


OUTCOME = json.dumps(
    {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "exception", "diagnostics": "upstream failed"}],
    }
).encode()
CAPABILITIES = json.dumps(
    {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-10-01",
        "kind": "instance",
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [{"mode": "server"}],
    }
).encode()
HTML = b"<!DOCTYPE html><html><body><h1>Scheduled maintenance</h1></body></html>"
