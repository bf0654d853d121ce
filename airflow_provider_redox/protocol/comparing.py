"""Compare the values of a search parameter with the values of a resource: references, IDs, tokens, dates.

Each test is built from the requested values, and returns True if no value of the resource can match any of them. A value
that cannot be compared proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from airflow_provider_redox.protocol.datespans import bound_of, span_of_value

Test = Callable[[list[Any]], bool]
"""Takes the values of a resource, at least one, and returns whether none of them can match the parameter."""

_REFERENCE = re.compile(r"(?:https?://[^?#]*/)?(?:([A-Z][A-Za-z]{1,63})/)?([^/?#|]+)(?:/_history/[^/?#]*)?")
_MASKED = re.compile(r"[*•]|[xX#-]{3}")


def of_references(wanted: list[str]) -> Test | None:
    """Compare references by type and ID: absolute, relative, with a version, or bare."""
    asked = [_referred(one) for one in wanted]
    if None in asked:
        return None
    met: set[str] = set()

    def contradicts(found: list[Any]) -> bool:
        for value in found:
            reference = value.get("reference") if isinstance(value, dict) else None
            if isinstance(reference, str) and reference in met:
                return False
            one = _referred(reference)
            if one is None:
                return False
            if any(_is_same(one, other) for other in asked):
                met.add(str(reference))
                return False
        return True

    return contradicts


def _referred(reference: Any) -> tuple[str | None, str] | None:
    """Return the type and ID of a reference; None for anything else, for `#contained` ones, and for URLs outside of FHIR."""
    found = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
    return None if found is None or found[2].startswith("urn:") else (found[1], found[2].casefold())


def _is_same(one: tuple[str | None, str], other: tuple[str | None, str] | None) -> bool:
    return other is not None and one[1] == other[1] and (one[0] == other[0] or None in (one[0], other[0]))


def of_ids(wanted: list[str]) -> Test:
    """Compare logical IDs."""
    asked = {one.rpartition("/")[2].casefold() for one in wanted}
    return lambda found: found[0].casefold() not in asked


def of_dates(wanted: list[str], *, upper: bool) -> Test | None:
    """Compare dates and periods; see `datespans`."""
    bounds = [bound for one in wanted if (bound := bound_of(one)) is not None]
    if len(bounds) != len(wanted):
        return None

    def contradicts(found: list[Any]) -> bool:
        spans = [span_of_value(value) for value in found]
        return all(span is not None and all(one.excludes(span, upper=upper) for one in bounds) for span in spans)

    return contradicts


Token = tuple[str, str]
"""System and code in lower case, the code without leading zeros; an empty system stands for any."""


def of_tokens(wanted: list[str], read: Callable[[Any], Iterator[Token | None]]) -> Test | None:
    """Compare tokens. A value is compared only with values of the same system: those of another system may be equivalent."""
    asked = [_token(*one.rpartition("|")[::2]) for one in wanted]
    if not all(code for _, code in asked):
        return None

    def contradicts(found: list[Any]) -> bool:
        held = [token for value in found for token in read(value)]
        if not held or None in held:
            return False
        tokens = [token for token in held if token is not None]
        codes, systems = {code for _, code in tokens}, {system for system, _ in tokens}
        return all(code not in codes and (not system or system in systems) for system, code in asked)

    return contradicts


def _token(system: str, code: str) -> Token:
    return system.casefold(), code.casefold().lstrip("0") or code


def identifiers(value: Any) -> Iterator[Token | None]:
    """Yield an identifier; None for one that is masked or has no value."""
    number = value.get("value") if isinstance(value, dict) else None
    if isinstance(value, dict) and isinstance(number, str) and _MASKED.search(number) is None:
        yield _token(str(value.get("system") or ""), number)
    else:
        yield None


def codings(value: Any) -> Iterator[Token | None]:
    """Yield the codings of a CodeableConcept; None for one without."""
    listed = value.get("coding") if isinstance(value, dict) else None
    for coding in listed if isinstance(listed, list) and listed else [None]:
        if isinstance(coding, dict) and isinstance(coding.get("code"), str):
            yield _token(str(coding.get("system") or ""), coding["code"])
        else:
            yield None


def codes(value: Any) -> Iterator[Token | None]:
    """Yield a plain code, whose system its element implies."""
    yield _token("", value) if isinstance(value, str) else None
