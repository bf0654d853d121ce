"""One request as a plain value, and the strict parsers of its body."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from email.message import Message
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from . import digits

if TYPE_CHECKING:
    from collections.abc import Mapping

FORM = "application/x-www-form-urlencoded"


class MalformedError(ValueError):
    """The body cannot be read; the message says why and quotes nothing of it."""


class WrongTypeError(MalformedError):
    """The body is of another media type than this path takes."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was read to its end."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    peer: str
    trace_id: str
    n: int = 0
    groups: Mapping[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str:
        """Return the first header of this name in any spelling, or an empty string."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), "")

    def prefers(self, wish: str) -> bool:
        """Say whether a Prefer header holds this wish (RFC 7240)."""
        values = [value for key, value in self.headers if key.lower() == "prefer"]
        return wish in {re.sub(r"[\s\"]", "", part).lower() for value in values for part in re.split("[,;]", value)}

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case."""
        return self.header("Content-Type").split(";")[0].strip().lower()

    def form(self) -> list[tuple[str, str]]:
        """Read a urlencoded body, repeated keys and all."""
        if self.media_type != FORM:
            raise WrongTypeError(f"Content-Type must be {FORM}")
        return read_pairs(_text(self.body))

    def query_pairs(self) -> list[tuple[str, str]]:
        """Read the query string."""
        return read_pairs(self.query)

    def json(self) -> Any:
        """Read a JSON body."""
        return read_json(self.body)


def read_pairs(text: str) -> list[tuple[str, str]]:
    """Split ``a=1&b=2``; every field needs its equals sign, bytes must be UTF-8."""
    if not text:
        return []
    try:
        return parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError as error:
        raise MalformedError("the form is not valid application/x-www-form-urlencoded UTF-8") from error


def read_json(body: bytes) -> Any:
    """Parse JSON as RFC 8259 has it: UTF-8, no NaN, no Infinity, no key twice; digits stay as they are."""
    try:
        return digits.loads(_text(body))
    except digits.NotStrictError as error:
        raise MalformedError(f"the body is not strict JSON: {error}") from None
    except json.JSONDecodeError as error:
        raise MalformedError(f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise MalformedError("the body is not JSON: nested too deeply") from None


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedError("the body is not UTF-8") from None


def multipart_field(content_type: str, body: bytes, name: str) -> bytes | None:
    """Return the bytes of one field of a multipart/form-data body, or None without it."""
    boundary = _boundary(content_type)
    if not boundary:
        return None
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:]:
        head, blank, content = part.partition(b"\r\n\r\n")
        if blank and _part_name(head) == name:
            return content
    return None


def _boundary(content_type: str) -> bytes:
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary() if message.get_content_type() == "multipart/form-data" else None
    return (boundary or "").encode()


def _part_name(head: bytes) -> str:
    message = Message()
    for line in head.decode("utf-8", "replace").split("\r\n"):
        key, colon, value = line.partition(":")
        if colon:
            message[key.strip()] = value.strip()
    return str(message.get_param("name", "", "content-disposition"))
