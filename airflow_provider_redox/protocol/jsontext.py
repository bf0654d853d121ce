"""JSON as it comes from another machine: parsed within limits, with errors that never quote it.

msgspec's Raw lets invalid UTF-8 through, and nesting of 100,000 levels ends in a RecursionError: both are
caught here and become a ValueError that says where, not what.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_decoder = msgspec.json.Decoder()


def parse(body: bytes) -> Any:
    """Parse JSON. Raises ValueError, without any of the text in it, when it is not JSON in UTF-8."""
    return decode(body, _decoder)


def decode(body: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    """Parse JSON with a typed decoder of msgspec. Raises ValueError without any of the text."""
    if not _is_utf8(body):
        raise ValueError("not UTF-8")
    with reading():
        return decoder.decode(body.removeprefix(b"\xef\xbb\xbf"))


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
