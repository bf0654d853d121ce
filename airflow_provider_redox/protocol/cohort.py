"""One search for each row of a list: `{field}` in a template is filled from the row.

In search parameters the row's text is data: the characters that FHIR gives a meaning (`,` is "or", `|` parts a system from a
value, `$` joins) are escaped (FHIR R4 search, 3.1.1.4.12), so that a name with a comma does not ask for two people. A field
that holds `system|value` is written `{field:token}`. A prefix such as `ge` belongs into the template: a row whose date has
its own prefix would ask for everybody since then, and is refused. Field names are matched ignoring case, unless two fields
differ in case alone. An error names the row and the field, never a value. Of the existing fields it names only those that
look like field names, because in a file without a header row the "names" are a patient's data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from airflow_provider_redox.checks import is_empty, near
from airflow_provider_redox.exceptions import RedoxConfigError

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.\- ]{0,99}?)(:token)?\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\- ]{0,99}")
_MEANING = re.compile(r"([\\,$|])")
_COMPARISON = re.compile(
    r"(eq|ne|gt|lt|ge|le|sa|eb|ap)(18|19|20|21)[0-9]{2}(-[0-9]{2}.*)?", re.DOTALL
)  # FHIR R4 search, 3.1.1.4.6
_MEANING_IN_A_TOKEN = re.compile(r"([\\,$])")

_HEADING = re.compile(r"[A-Za-z][A-Za-z0-9 _.#/()-]{0,40}", re.ASCII)
_USUAL = re.compile(
    r"mrn|medical|record|id(?![a-z])|id[A-Z_]|ident|name|first|last|middle|family|given|surname|birth|dob|date|gender|sex|patient|"
    r"subject|person|member|number|code|type|status|city|state|zip|postal|phone|mail|address|street|ssn|plan|payer|provider|visit",
    re.IGNORECASE,
)

Row = Mapping[str, Any]
Text = Callable[[str, bool], str]


def fields_in(template: Any) -> set[str]:
    """Name the fields that a template speaks of, at any depth."""
    if isinstance(template, str):
        return {found.group(1) for found in _FIELD.finditer(template)}
    inner = template.values() if isinstance(template, Mapping) else template if isinstance(template, list | tuple) else ()
    return {name for one in inner for name in fields_in(one)}


def unfilled(params: Any, *, alone: bool = False) -> str | None:
    """Return where a `{field}` stands although there is no cohort to fill it, such as `identifier holds {mrn}`; else None.

    Texts with a template in them are left aside, and units of measure, whose annotations have braces (UCUM, 2.2).

    :param alone: only texts that are one field and nothing else: others may say what they like.
    """
    for name, value in _texts(params):
        if any(mark in value for mark in ("{{", "{%", "unitsofmeasure.org|", "||")):
            continue
        found = _FIELD.fullmatch(value) if alone else _FIELD.search(value)
        if found:
            return f"{name} holds {found.group()}"
    return None


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text at any depth with the name of the member that holds it."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _texts(one, str(key))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one, name)


def search_of(template: Mapping[str, Any], row: Row, number: int) -> dict[str, Any]:
    """Fill search parameters. A value that is one field whose row holds a list repeats the parameter."""
    return {name: _parameter(value, row, number) for name, value in template.items()}


def payload_of(template: Any, row: Row, number: int) -> Any:
    """Fill a message, at any depth; a value that is one field alone takes the row's value as it is: a number, an object."""
    if isinstance(template, Mapping):
        return {name: payload_of(value, row, number) for name, value in template.items()}
    if isinstance(template, list | tuple):
        return [payload_of(value, row, number) for value in template]
    if not isinstance(template, str):
        return template
    alone = _FIELD.fullmatch(template)
    return _value(row, alone.group(1), number) if alone else _filled(template, row, number, _as_it_is)


def key_of_row(row: Row, field: str | None, number: int) -> str:
    """Give what names a row's search: the text of its key field, or its number."""
    return str(number) if field is None else _text(_value(row, field, number, where="cohort_key"), field, number)


def _parameter(value: Any, row: Row, number: int) -> Any:
    if isinstance(value, list | tuple):
        return [_parameter(one, row, number) for one in value]
    if not isinstance(value, str):
        return value
    alone = _FIELD.fullmatch(value)
    found = _value(row, alone.group(1), number) if alone else None
    if alone and isinstance(found, list) and found:
        filled = [_escaped(_text(one, alone.group(1), number), alone.group(2) is not None) for one in found]
    else:
        filled = [_filled(value, row, number, _escaped)]
    first = _FIELD.match(value)
    if first and not first.group(2) and any(_COMPARISON.fullmatch(one) for one in filled):
        raise RedoxConfigError(
            f"cohort: row {number} has a comparison such as ge2026-01-01; write its prefix into search_params, as "
            "ge{since}, or {field:token} where it is no date"
        )
    return filled if alone and isinstance(found, list) else filled[0]


def _filled(text: str, row: Row, number: int, written: Text) -> str:
    def replacement(found: re.Match[str]) -> str:
        value = _text(_value(row, found.group(1), number), found.group(1), number)
        return written(value, found.group(2) is not None)

    return _FIELD.sub(replacement, text)


def _escaped(text: str, is_token: bool) -> str:  # noqa: FBT001  (a writer's fixed shape)
    return (_MEANING_IN_A_TOKEN if is_token else _MEANING).sub(r"\\\1", text)


def _as_it_is(text: str, _is_token: bool) -> str:  # noqa: FBT001  (a writer's fixed shape)
    return text


def _value(row: Row, field: str, number: int, *, where: str = "the template") -> Any:
    """Find a field: by its name, else by a path such as `name.0.family`. Absent and empty are the same error."""
    value = row[field] if field in row else next(_along(row, field.split(".")), None)
    alike = [name for name in row if name.casefold() == field.casefold()] if value is None and field not in row else []
    if len(alike) == 1:
        value = row[alike[0]]
    if value is None or is_empty(value):
        is_there = field.split(".")[0] in row or len(alike) == 1
        close = None if is_there else near(field, (one for one in row if _NAME.fullmatch(str(one))), cutoff=0.8)
        meant = f"; did you mean {close}?" if close else ""
        known = "" if is_there or "." in field else f"; {_fields_of(row)}"
        raise RedoxConfigError(f"cohort: row {number} has no {field}, which {where} names{meant}{known}")
    return value


def _fields_of(row: Row) -> str:
    """Return the names of the fields that look like those of a roster or a resource, and the number of the others."""
    named = [name for name in row if _HEADING.fullmatch(name) and _USUAL.search(name)]
    if not named:
        return f"of its {len(row)} fields none has a usual name: does the file begin with the names?"
    others = f" and {len(row) - len(named)} others" if len(row) > len(named) else ""
    return f"it has {', '.join(named[:20])}{others}"


def _along(value: Any, path: Sequence[str]) -> Iterator[Any]:
    """Give what stands at the end of a path, or nothing."""
    for step in path:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isascii() and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return
    yield value


def _text(value: Any, field: str, number: int) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float | Decimal):
        return str(value).strip()
    raise RedoxConfigError(f"cohort: row {number} holds an object or a list as {field}; a text or a number is needed")
