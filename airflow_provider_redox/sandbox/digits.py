"""JSON in and out, digit for digit: 1.10 comes out as 1.10, and 1e400, which no float holds, as 1e400."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import msgspec

_HALF = re.compile(r"\\u[dD][89a-fA-F]")


class NotStrictError(ValueError):
    """The text is JSON to some readers, and to others not, or not the same."""


class Number(float):
    """A number with the text that it came as. It compares as a float; 1e400 is infinity."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Number:
        """Return the number that a text writes."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __deepcopy__(self, memo: dict[int, Any]) -> Number:
        return self


def loads(text: str) -> Any:
    """Parse JSON as RFC 8259 has it.

    Raises `json.JSONDecodeError`, or `NotStrictError` for NaN, a key that stands twice, half of a character.
    """
    value = json.loads(text, parse_float=Number, parse_int=_whole, parse_constant=_refuse_constant, object_pairs_hook=_once)
    if _HALF.search(text):
        try:
            dumps(value)
        except UnicodeEncodeError:
            half = True
        else:
            half = False
        if half:
            raise NotStrictError("half of a character, a lone surrogate")
    return value


def dumps(value: object) -> bytes:
    """Write compact UTF-8 JSON."""
    return _encoder.encode(value)


def _whole(text: str) -> int | Number:
    """Return a whole number that is written again as it came; -0 and what is longer than 18 digits keep their text."""
    return int(text) if len(text) <= 18 and text != "-0" else Number(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotStrictError("a key stands twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise NotStrictError(name)


def _text_of(value: Any) -> msgspec.Raw:
    if isinstance(value, Number):
        return msgspec.Raw(value.text.encode())
    raise TypeError(type(value).__name__)


_encoder = msgspec.json.Encoder(enc_hook=_text_of)
