"""Read from an OperationOutcome beside the results which parameters the server did not use, and what it did not return.

FHIR's code for it is `not-supported`; some servers put it into the text of a warning with another code. Of the text only
the search's own parameter names are used. Parameters that only shape the answer may be ignored: order and size lose nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl

from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.filters import SHAPING, base_name
from airflow_provider_redox.protocol.pages import Resource

SOMETHING = "(which it does not name)"

_SAYS_SO = re.compile(
    r"\bignor|\bunsupported\b|\bunrecogni|\bunknown\b|\b(not|isn't|n't|un)[ -]?(been |be )?"
    r"(supported|recogni|understood|implemented|known|used|applied|processed|allowed)",
    re.IGNORECASE,
)
_OF_A_PARAMETER = re.compile(r"param|criteri|filter|quer|argument|modifier", re.IGNORECASE)
_HARMLESS = re.compile(r"\b(prefer|handling|sort|total|count|summary|elements|page size)\b", re.IGNORECASE)
_PARTIAL = ("incomplete", "timeout", "throttled")
_WORD = re.compile(r"[A-Za-z_](?:[\w-]*\w)?")


def unsupported(outcomes: Iterable[Resource], form: bytes) -> list[str]:
    """Return the search parameters that outcomes name as not used."""
    own = {base_name(name): name for name, _ in parse_qsl(form.decode("ascii"))}
    found: list[str] = []
    for outcome in outcomes:
        for issue in _issues(outcome):
            found += _unused(issue, own)
    return sorted(set(found) - {SOMETHING}) or found[:1]


def partial(outcomes: Iterable[Resource]) -> str:
    """Return the issue code by which outcomes mark a page as incomplete; an empty text if there is none.

    LinuxForHealth reports pages that have shifted this way (https://github.com/LinuxForHealth/FHIR/issues/3590).
    """
    for outcome in outcomes:
        for issue in _issues(outcome):
            code = issue.get("code")
            if code in _PARTIAL or (code == "conflict" and "shift" in " ".join(_texts(issue))):
                return str(code)
    return ""


def _unused(issue: dict[str, Any], own: dict[str, str]) -> list[str]:
    """Return the search's parameters that an issue names as not used."""
    text = " ".join(_texts(issue))
    words = set(_WORD.findall(text))
    named = [name for base, name in own.items() if base in words and base not in SHAPING]
    if issue.get("code") != "not-supported":
        return named if named and _SAYS_SO.search(text) and _OF_A_PARAMETER.search(text) else []
    if named or not (own.keys() - SHAPING):
        return named
    return [] if SHAPING & words or _HARMLESS.search(text) else [SOMETHING]


def _issues(outcome: Resource) -> Iterator[dict[str, Any]]:
    try:
        parsed = jsontext.parse(outcome.line)
    except ValueError:
        return
    issues = parsed.get("issue") if isinstance(parsed, dict) else None
    yield from (issue for issue in issues if isinstance(issue, dict)) if isinstance(issues, list) else ()


def _texts(issue: dict[str, Any]) -> Iterator[str]:
    """Yield the texts of an issue: diagnostics, text, displays, and the places that it points to."""
    details = issue.get("details")
    parts = [issue.get("diagnostics"), issue.get("location"), issue.get("expression")]
    if isinstance(details, dict):
        codings = details.get("coding")
        shown = [one.get("display") for one in codings if isinstance(one, dict)] if isinstance(codings, list) else []
        parts += [details.get("text"), shown]
    for part in parts:
        yield from (str(one) for one in part if one) if isinstance(part, list) else [str(part or "")]
