"""FHIR R4 as Redox offers it: read, search by POST, the pages of a search."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from . import pages, search
from .answers import Answer, fhir_answer, refuse_fhir
from .names import DESTINATIONS, ENVIRONMENTS, RESOURCE_TYPES

if TYPE_CHECKING:
    from .call import Call
    from .state import Sandbox


def base_path(sandbox: Sandbox, call: Call) -> str:
    """Return ``/fhir/R4/{slug}/{environment}``; an unknown part, or a source that is not named, is refused."""
    slug, environment = call.groups["slug"], call.groups["environment"]
    if slug not in {destination["slug"] for destination in DESTINATIONS.values()}:
        refuse_fhir(404, "not-found", "no destination has this slug")
    if environment not in ENVIRONMENTS:
        refuse_fhir(404, "not-found", f"the environment is one of {', '.join(ENVIRONMENTS)}, in this spelling")
    if call.groups.get("type", "Patient") not in RESOURCE_TYPES:
        refuse_fhir(404, "not-supported", "no FHIR R4 resource type has this name")
    source = sandbox.settings.source_id
    if source and "operation" not in call.groups and call.header("Redox-Source-Id").lower() != source.lower():
        refuse_fhir(400, "required", "Redox-Source-Id: this environment has several sources; name one")
    return f"/fhir/R4/{slug}/{environment}"


def read(sandbox: Sandbox, call: Call) -> Answer:
    """Answer ``GET {base}/{type}/{id}``; a Binary comes as its own bytes unless FHIR JSON is asked for."""
    base_path(sandbox, call)
    found = sandbox.store.get(call.groups["type"], call.groups["id"])
    if found is None:
        refuse_fhir(404, "not-found", f"no {call.groups['type']} has this ID")
    if call.groups["type"] == "Binary" and "json" not in call.header("Accept"):
        return Answer(200, base64.b64decode(found.get("data", "")), found["contentType"])
    return fhir_answer(found)


def search_by_post(sandbox: Sandbox, call: Call) -> Answer:
    """Answer ``POST {base}/{type}/_search``: a first search, or a page by its cursor."""
    base = base_path(sandbox, call)
    pairs = call.form() + call.query_pairs()
    if pages.PARAMETER in dict(pairs):
        return _page(sandbox, call, base, pairs)
    return _first(sandbox, call, base, pairs)


def search_by_get(sandbox: Sandbox, call: Call) -> Answer:
    """Answer ``GET {base}/{type}?...``: a page by its cursor; a first search only with ``get_search``."""
    base = base_path(sandbox, call)
    pairs = call.query_pairs()
    if pages.PARAMETER in dict(pairs):
        return _page(sandbox, call, base, pairs)
    if not sandbox.settings.get_search:
        refuse_fhir(405, "not-supported", "search with POST and _search: parameters do not belong in a URL")
    return _first(sandbox, call, base, pairs)


def _first(sandbox: Sandbox, call: Call, base: str, pairs: list[tuple[str, str]]) -> Answer:
    ignored = search.ignored(pairs, sandbox.settings.ignored_parameters)
    if ignored and sandbox.settings.strict_supported and call.prefers("handling=strict"):
        refuse_fhir(400, "not-supported", f"ignored search parameter: {ignored[0][0][:40]}")
    wanted = search.read(call.groups["type"], [pair for pair in pairs if pair not in ignored])
    if sandbox.settings.patient_search_rule:
        search.check_patient_rule(wanted)
    return fhir_answer(pages.first_page(sandbox, wanted, base))


VERB_OF_STYLE = {"post-only": "POST", "get-only": "GET"}


def _page(sandbox: Sandbox, call: Call, base: str, pairs: list[tuple[str, str]]) -> Answer:
    company = [pair for pair in pairs if pair[0] != pages.PARAMETER]
    if company and (call.method == "GET" or len(pairs) != len(company) + 1):
        refuse_fhir(400, "structure", "_page: stands alone, the cursor knows the rest")
    if call.method != VERB_OF_STYLE.get(sandbox.settings.link_style, call.method):
        refuse_fhir(405, "not-supported", f"{call.method}: this server does not page with it")
    position = sandbox.cursors.find(dict(pairs)[pages.PARAMETER], base, call.groups["type"])
    if not set(company) <= {*position.search.honoured, *search.ignored(company, sandbox.settings.ignored_parameters)}:
        refuse_fhir(400, "structure", "_page: the cursor is of another search")
    return fhir_answer(pages.build(sandbox, position))
