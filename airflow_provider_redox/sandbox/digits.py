"""Parse and write JSON without changing digits: 1.10 stays 1.10, and 1e400, which no float holds, stays 1e400."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import msgspec

_HALF = re.compile(r"\\u[dD][89a-fA-F]")


class NotStrictError(ValueError):
    """The text is not strict JSON: readers reject it, or differ on what it means."""


class Number(float):
    """A number with its original text. It compares as a float; 1e400 is infinity."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Number:
        """Parse the text of a number."""
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
    """Parse a whole number so that it is written unchanged: -0, and numbers of more than 18 digits, keep their text."""
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
