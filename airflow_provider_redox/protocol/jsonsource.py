"""Parse JSON strictly, and send it as its author wrote it: with its own digits, escapes and order.

A text is parsed once, to check it. The text itself is sent, with members inserted where something has to be filled in.
Ambiguous JSON is refused, with its place: a duplicate name in an object (RFC 8259, section 4), NaN and infinity, a lone
surrogate. No error quotes the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from airflow_provider_redox.protocol.values import holds_half_a_character, step

_SPACE = re.compile(r"[ \t\n\r]*")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_INT_DIGITS = 4000
"""The most digits of a whole number that Python parses by default (`sys.set_int_max_str_digits`)."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Source:
    """A JSON object, and the text that it was read from.

    :param value: the parsed object; numbers with a fraction or an exponent as Decimal.
    :param spans: where the value of each member begins and ends in the text.
    """

    text: str = field(repr=False)
    value: dict[str, Any] = field(repr=False)
    spans: Mapping[str, Span] = field(repr=False)

    def with_members(self, changed: Mapping[str, str], *, of: str | None = None) -> str:
        """Return the text with members inserted into the object, or into the object that is its member `of`.

        An existing member is replaced in its place; a new one becomes the last.

        :param changed: JSON text by the member's name.
        """
        start = self._start if of is None else self.spans[of][0]
        return _spliced(self.text, _edits(self.text, start, changed))

    def with_first(self, member: str, item: str) -> Source:
        """Return a source with an item inserted at the start of the array that is a member. The array must not be empty."""
        at = self.spans[member][0] + 1
        return parse_object(_spliced(self.text, [(at, at, f"{item},")]).encode())

    @property
    def _start(self) -> int:
        return _skip(self.text, 0)


class _DoubledError(ValueError):
    """An object has a duplicate name."""


def parse_object(body: bytes) -> Source:
    """Parse a JSON object. Raises ValueError, with the place and without any of the text, for anything else."""
    text, fault = _text_of(body), "not UTF-8"
    if text is not None:
        try:
            found = list(_members(text, _skip(text, 0), whole=True))
            value = _object((name, inner) for name, inner, _ in found)
            _check_characters(text, value)
            return Source(text, value, {name: span for name, _, span in found})
        except _DoubledError:
            fault = f"{_doubled(text)}: duplicate name, so readers differ on which value counts; keep one"
        except json.JSONDecodeError as error:
            fault = f"not JSON: {error.msg} (character {error.pos})"
        except RecursionError:
            fault = "nested too deeply"
        except ValueError as error:
            fault = str(error)
    raise ValueError(fault)


def _members(text: str, start: int, *, whole: bool = False) -> Iterator[tuple[str, Any, Span]]:
    """Yield the name, value and span of each member of the object that begins at a place.

    :param whole: whether the object is the whole text, so that nothing may follow it.
    """
    if text[start : start + 1] != "{":
        raise ValueError("must be a JSON object")
    at = _skip(text, start + 1)
    first = True
    while text[at : at + 1] != "}":
        if not first:
            at = _skip(text, _past(text, at, ","))
        if text[at : at + 1] != '"':
            raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
        name, at = _strict.raw_decode(text, at)
        begins = _skip(text, _past(text, _skip(text, at), ":"))
        value, ends = _strict.raw_decode(text, begins)
        yield name, value, (begins, ends)
        at, first = _skip(text, ends), False
    if whole and _skip(text, at + 1) != len(text):
        raise json.JSONDecodeError("Extra data", text, at + 1)


def _past(text: str, at: int, mark: str) -> int:
    if text[at : at + 1] != mark:
        raise json.JSONDecodeError(f"Expecting '{mark}' delimiter", text, at)
    return at + 1


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _edits(text: str, start: int, changed: Mapping[str, str]) -> list[tuple[int, int, str]]:
    spans = {name: span for name, _, span in _members(text, start)}
    edits = [(*spans[name], new) for name, new in changed.items() if name in spans]
    added = ",".join(f"{json.dumps(name)}:{new}" for name, new in changed.items() if name not in spans)
    if added:
        end = max((ends for _, ends in spans.values()), default=start + 1)
        edits.append((end, end, f",{added}" if spans else added))
    return edits


def _spliced(text: str, edits: Iterable[tuple[int, int, str]]) -> str:
    parts, at = [], 0
    for start, end, new in sorted(edits):
        parts += [text[at:start], new]
        at = end
    return "".join((*parts, text[at:]))


def _text_of(body: bytes) -> str | None:
    try:
        return body.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError:  # it holds the text, so the complaint is made outside
        return None


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    listed = list(pairs)
    found = dict(listed)
    if len(found) != len(listed):
        raise _DoubledError
    return found


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        pass
    raise ValueError("holds a number with an exponent that is too large to read")


def _whole_number(text: str) -> int | Decimal:
    return Decimal(text) if text == "-0" or len(text) > _INT_DIGITS else int(text)


def _constant(_: str) -> Any:
    raise ValueError("not JSON: NaN and infinity do not exist there")


def _pairs(pairs: list[tuple[str, Any]]) -> Any:
    return _Pairs(pairs)


class _Pairs(list[tuple[str, Any]]):
    """The members of an object, in order, including duplicate names."""


_strict = json.JSONDecoder(object_pairs_hook=_object, parse_float=_number, parse_int=_whole_number, parse_constant=_constant)
_tolerant = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=str, parse_int=str)


def _doubled(text: str) -> str:
    """Return the place of a duplicate name."""
    try:
        return next(_doubles(_tolerant.raw_decode(text, _skip(text, 0))[0], ""), "/?")
    except (ValueError, RecursionError):  # something else is wrong further on
        return "/?"


def _doubles(value: Any, place: str) -> Iterator[str]:
    names: set[str] = set()
    if isinstance(value, _Pairs):
        for name, inner in value:
            if name in names:
                yield step(place, name)
            names.add(name)
            yield from _doubles(inner, step(place, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _doubles(inner, step(place, number))


def _check_characters(text: str, value: Any) -> None:
    """Refuse an escape that is a lone surrogate: readers differ on what it means (RFC 8259, section 8.2)."""
    if _SURROGATE_ESCAPE.search(text):
        for place in _halves(value, ""):
            raise ValueError(f"{place or '/'}: a lone surrogate (half of a character), which readers treat differently")


def _halves(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, str):
        if holds_half_a_character(value):
            yield place
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _halves(name, step(place, name))
            yield from _halves(inner, step(place, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _halves(inner, step(place, number))
