"""Parse JSON from other machines within limits, with errors that never quote it.

msgspec's Raw accepts invalid UTF-8, nesting of 100,000 levels ends in a RecursionError, and of a duplicate member it keeps
the last value, where other readers keep the first (RFC 8259, section 4): all three become a ValueError that names the place
and not the content. The number of values is limited too, not only the bytes: 64 MB of `{},{},{}` would take 1.9 GB as Python
objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

VALUES_AT_MOST = 2_000_000
"""The most commas of a text that is parsed as a whole. A message of 40 MB, the most that Redox accepts, has fewer."""

MEMBERS_AT_MOST = 100_000
"""Members of one object."""


class AmbiguousError(ValueError):
    """The text is ambiguous JSON: readers would parse it differently."""


_decoder = msgspec.json.Decoder()
_exact = msgspec.json.Decoder(float_hook=Decimal)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder(decimal_format="number")

_TOKEN = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"(\s*:)?|[\[{]|[\]}]', re.DOTALL)
_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$.-]{0,63}", re.ASCII)


def parse(body: bytes) -> Any:
    """Parse JSON. Raises ValueError, without any of the text in it, when it is not JSON in UTF-8."""
    return decode(body, _decoder)


def parse_unique(body: bytes) -> Any:
    """Parse JSON as `parse` does. Also raises `AmbiguousError` for a duplicate member, at any depth."""
    parsed = parse(body)
    check_unique(body)
    return parsed


def decode(body: bytes, decoder: msgspec.json.Decoder[Any], *, values: int = VALUES_AT_MOST) -> Any:
    """Parse JSON with a typed decoder of msgspec. Raises ValueError without any of the text.

    :param values: the most commas that it may have.
    """
    if not _is_utf8(body):
        raise ValueError("not UTF-8")
    check_values(body, values)
    with reading():
        return decoder.decode(body.removeprefix(b"\xef\xbb\xbf"))


def check_values(body: bytes, at_most: int = VALUES_AT_MOST) -> None:
    """Raise ValueError for a text with too many values to hold as Python objects.

    Every value beside another needs a comma, and the depth of nesting is limited already, so counting commas is enough.
    """
    if len(body) > at_most and body.count(b",") > at_most:
        raise ValueError(f"more than {at_most} values")


def members(text: bytes, *, room: int | None = None) -> dict[str, msgspec.Raw]:
    """Return the members of one JSON object, unparsed. Raises `AmbiguousError` for a duplicate member.

    An object that is encoded again from its members has the same length, unless a duplicate was lost, or it was written with
    spaces or escapes: only then is it scanned token by token. Raises msgspec's errors for anything else: see `reading`.

    :param room: the most bytes that members of this object can take, if known.
    """
    if (len(text) if room is None else room) > MEMBERS_AT_MOST and text.count(b",") > MEMBERS_AT_MOST:
        _refuse_doubled(text, levels=1)  # it counts them, too, before they become objects
    found = _members.decode(text)
    if not _is_whole(found, text):
        compact = msgspec.json.format(text, indent=-1)
        if not _is_whole(_members.decode(compact), compact):
            _refuse_doubled(compact, levels=1)
    return found


def _is_whole(found: dict[str, msgspec.Raw], text: bytes) -> bool:
    return len(_encoder.encode(found)) == len(text)


def check_unique(text: bytes) -> None:
    """Raise `AmbiguousError` for a duplicate member, at any depth. The text is known to be JSON.

    A text that is parsed and encoded again stays the same, unless a duplicate was lost or the text was formatted
    differently.
    """
    compact = msgspec.json.format(text.removeprefix(b"\xef\xbb\xbf"), indent=-1)
    try:
        is_same = _encoder.encode(_exact.decode(compact)) == compact
    except (msgspec.MsgspecError, OverflowError, ValueError):  # a number that only text can hold
        is_same = False
    if not is_same:
        _refuse_doubled(compact, levels=None)


def _refuse_doubled(text: bytes, *, levels: int | None) -> None:
    """Raise `AmbiguousError` for a duplicate member, with its place. Scans in constant memory, some 30 ns per byte."""
    objects: list[set[str] | None] = []
    places: list[str | int] = []
    for token in _TOKEN.finditer(text):
        written, colon = token.groups()
        if colon:
            known = objects[-1]
            if known is None or (levels is not None and len(objects) > levels):
                continue
            name = _name(written)
            places[-1] = name
            if name in known:
                raise AmbiguousError(f"the member {_path(places)} stands twice, and readers differ in which of them counts")
            known.add(name)
            if len(known) > MEMBERS_AT_MOST:
                raise ValueError(f"an object has more than {MEMBERS_AT_MOST} members")
        elif written is None and token[0] in b"[{":
            if places and isinstance(places[-1], int):
                places[-1] += 1
            objects.append(set() if token[0] == b"{" else None)
            places.append("" if token[0] == b"{" else -1)
        elif written is None:
            objects.pop()
            places.pop()


def _name(written: bytes) -> str:
    return str(_decoder.decode(b'"' + written + b'"')) if b"\\" in written else written.decode()


def _path(places: list[str | int]) -> str:
    """Return a place as a path. A name that does not look like a field could be a patient's, and is not shown."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step if _NAME.fullmatch(step) else '?'}" for step in places)
    return "".join(steps).lstrip(".")


def stored(content: bytes | str | None, kind: type[T]) -> T | None:
    """Give what lies in storage as a type; None for nothing, and for whatever else somebody or another version put there."""
    try:
        return None if content is None else msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


@contextmanager
def reading() -> Iterator[None]:
    """Turn what msgspec raises into a ValueError without any of the text."""
    try:
        yield
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except msgspec.ValidationError as error:
        raise ValueError(f"of another shape: {_path_only(str(error))}") from None
    except msgspec.DecodeError as error:
        raise ValueError(_path_only(str(error))) from None


def _is_utf8(body: bytes) -> bool:
    """Say so without an exception: a UnicodeDecodeError in an error's chain would hold the whole body."""
    try:
        return body.isascii() or body.decode("utf-8") is not None
    except UnicodeDecodeError:
        return False


def _path_only(message: str) -> str:
    """Keep msgspec's words of what was expected where; drop the quoted value it may end with."""
    return message.split("`, got `")[0].replace("`", "")[:200] if "value" in message else message[:200]
