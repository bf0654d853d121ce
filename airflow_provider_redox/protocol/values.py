"""Convert Python values to JSON and to text: one rule for messages, Bundles, searches and query parameters.

Text is sent as it is. A datetime needs a time zone and is written as ISO 8601, a date likewise; a Decimal keeps its digits;
an Enum is its value, a UUID its text. Anything else is refused, by its place in the argument and never by what it holds:
bytes would need an encoding, a set has no order, and NaN and infinity do not exist in JSON.
"""

from __future__ import annotations

import math
import re
from collections import UserString
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from airflow_provider_redox.checks import is_empty
from airflow_provider_redox.exceptions import RedoxConfigError

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_FIELD = re.compile(r"[A-Za-z_$][A-Za-z0-9_:.-]{0,39}")  # as FHIR and Redox name fields; anything else could be a value
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_SPACED = re.compile(r"(?=.* )([a-z]{2})?\d{4}-\d\d-\d\d(T| +)\d\d:\d\d(:\d\d(\.\d+)?)?( *(Z|[+-]?\d\d:?\d\d))?")
_NO_TEXT = (bytes, bytearray, memoryview)


def as_json(value: Any, *, where: str) -> Any:
    """Return a copy of JSON types only: dict, list, str, int, float, Decimal, bool and None.

    Raises `RedoxConfigError` for any other value, with its place, such as `payload: /Meta/EventDateTime`.
    """
    with suppress(RecursionError):
        with suppress(RedoxConfigError):
            return _quickly(value)
        return _as_json(value, where, "")  # once more, to name the place
    raise RedoxConfigError(f"{where}: is nested too deeply, or holds itself")


def as_text(value: Any, *, where: str, name: str) -> str:
    """Return the text of a parameter's value. Raises `RedoxConfigError` for a value without a text, or with an empty one."""
    found = _scalar(value, where, f" {name}")
    if found is None or is_empty(found):
        raise RedoxConfigError(f"{where}: {name} has an empty or unusable value; give it text or a number")
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, str):
        _check_instants(found, where, name)
    return str(found)


def parameters(params: Any, *, where: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of a form or a query; a list repeats its name. Raises `RedoxConfigError` for an empty value."""
    if not isinstance(params, Mapping):
        raise RedoxConfigError(f"{where}: must be a mapping of parameter names to values")
    for name, value in params.items():
        if not isinstance(name, str) or not name.strip() or holds_half_a_character(name):
            raise RedoxConfigError(f"{where}: a parameter's name must be text")
        values, shown = list(value) if _is_list(value) else [value], name if _FIELD.fullmatch(name) else "?"
        if not values:
            raise RedoxConfigError(f"{where}: {shown} is an empty list; leave it out, or give it a value")
        for one in values:
            yield name, as_text(one, where=where, name=shown)


def step(place: str, name: Any) -> str:
    """Return the place of a member below another, as a JSON Pointer. A name that could be a value is shown as `?`."""
    shown = str(name) if isinstance(name, int) or (isinstance(name, str) and _FIELD.fullmatch(name)) else "?"
    return f"{place}/{shown}"


def holds_half_a_character(text: str) -> bool:
    """Return whether a text holds a lone surrogate, which cannot be encoded as UTF-8."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def _quickly(value: Any) -> Any:
    """Return the same as `_as_json`, four times as fast for a message without unusual values."""
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _as_json(value, "", "")
    if kind is dict:
        return {
            name if type(name) is str and name.isascii() else _key(name, "", ""): _quickly(inner)
            for name, inner in value.items()
        }
    if kind is list:
        return [_quickly(inner) for inner in value]
    return value if value is None or kind is int or kind is bool else _as_json(value, "", "")


def _as_json(value: Any, where: str, place: str) -> Any:
    if isinstance(value, float | Decimal):  # before the slower questions
        return _scalar(value, where, f" {place}" if place else "")
    if isinstance(value, Mapping):
        return {_key(name, where, place): _as_json(inner, where, step(place, name)) for name, inner in value.items()}
    if _is_list(value):
        return [_as_json(inner, where, f"{place}/{number}") for number, inner in enumerate(value)]
    return _scalar(value, where, f" {place}" if place else "")


def _key(name: Any, where: str, place: str) -> str:
    plain = name.value if isinstance(name, Enum) else name
    if not isinstance(plain, str) or holds_half_a_character(plain):
        shown = f" {place}" if place else ""
        raise RedoxConfigError(f"{where}:{shown}: the name of a member must be text; here one is of the type {_kind(plain)}")
    return str.__str__(plain)


def _is_list(value: Any) -> bool:
    """Return whether a value becomes a JSON list, as the results of a mapped task do.

    A named tuple does not: it would lose its names.
    """
    return isinstance(value, Sequence) and not (isinstance(value, (str, UserString, *_NO_TEXT)) or hasattr(value, "_fields"))


def _scalar(value: Any, where: str, place: str) -> Any:
    """Convert a single value to a JSON type. Raises `RedoxConfigError`."""
    if value is None or isinstance(value, bool):
        return value
    plain = value.value if isinstance(value, Enum) else value
    fault = ""
    if isinstance(plain, str):
        fault = (
            "text with half of a character (a lone surrogate), which cannot be sent" if holds_half_a_character(plain) else ""
        )
        plain = str.__str__(plain)
    elif isinstance(plain, int | float | Decimal):
        if not isinstance(plain, int) and not (plain.is_finite() if isinstance(plain, Decimal) else math.isfinite(plain)):
            fault = "NaN or infinity, which cannot be sent; leave it out, or write None"
    elif isinstance(plain, date):
        plain, fault = _instant(plain)
    elif isinstance(urn := getattr(plain, "urn", None), str) and urn.startswith("urn:uuid:"):
        plain = urn.removeprefix("urn:uuid:")  # a UUID; the pure layer does not import `uuid`, which uses randomness
    else:
        fault = _refusal(plain)
    if fault:
        raise RedoxConfigError(f"{where}:{place}{':' if place else ''} {fault}")
    return plain


def _instant(moment: date) -> tuple[str, str]:
    """Return a date or an instant as text, and what is wrong with it. Pandas' NaT is a datetime too, without a zone."""
    if not isinstance(moment, datetime):
        return moment.isoformat(), ""
    if moment.tzinfo is None or moment.utcoffset() is None:
        return "", "a datetime without a time zone; give it one, such as .replace(tzinfo=timezone.utc)"
    text = moment.isoformat().replace("+00:00", "Z")
    return text, "" if _ISO.fullmatch(text) else "a datetime whose time zone is not of whole minutes; convert it to UTC"


def _refusal(value: Any) -> str:
    if isinstance(value, _NO_TEXT):
        return "bytes, which cannot be sent; decode them, or write them as base64 text"
    if isinstance(value, set | frozenset):
        return "a set, which has no order and cannot be sent; use a list"
    return f"an object of the type {_kind(value)}, which cannot be sent; use a dict, a list, text or a number"


def _kind(value: Any) -> str:
    return type(value).__name__[:40]


def _check_instants(text: str, where: str, name: str) -> None:
    """Refuse an instant with a space in place of the T, as `{{ logical_date }}` renders, or in place of a plus sign.

    Servers answer it with an error, with nothing, or with everything (HeliosSoftware/hfs#1296, hapifhir/hapi-fhir#6114).
    """
    if any(_SPACED.fullmatch(one.strip()) for one in text.split(",")):
        raise RedoxConfigError(
            f"{where}: {name} holds an instant with a space in it, which FHIR does not allow; write "
            "2026-01-31T00:00:00+00:00, in a template {{ logical_date | ts }}"
        )
