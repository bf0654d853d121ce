"""Faults that were ordered: which requests they hit, how often, and what they do.

``before`` a request is processed means that nothing was stored; ``after`` means it was, and the client is told
something else. The kinds that spoil the real answer always come after.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .answers import encode

if TYPE_CHECKING:
    from .call import Call

OF_ANSWER = frozenset({"reset_in_body", "truncate", "wrong_length", "drip", "headers", "body"})
KINDS = OF_ANSWER | {
    *("status", "drop", "reset", "html", "outcome", "delay", "gzip_bomb", "redirect", "garbage", "raw"),
}
OPTIONS = {
    "status": "status",
    "body": "body of the answer: text, or any JSON value",
    "body_base64": "the same as bytes",
    "headers": "headers to add; null removes one",
    "content_type": "its content type",
    "bytes_per_second": "speed of drip",
    "seconds": "length of delay",
    "size": "bytes that gzip_bomb unpacks to",
    "location": "target of redirect",
    "length": "Content-Length of wrong_length",
    "text": "sentence of outcome",
}
MATCHERS = ("method", "path", "query", "body")


class BadFaultError(ValueError):
    """A fault cannot be ordered; the message says why."""


@dataclass(slots=True)
class Fault:
    """One order. ``skip`` matching requests pass first, then ``times`` are hit; ``times`` of None is for ever."""

    kind: str
    when: str
    match: dict[str, re.Pattern[str]]
    skip: int
    times: int | None
    options: dict[str, Any]
    hits: int = field(default=0)

    def fits(self, call: Call) -> bool:
        """Say whether the order is about this request; patterns are searched for, not anchored."""
        facts = {"method": call.method, "path": call.path, "query": call.query}
        return all(
            pattern.search(facts[name] if name in facts else call.body.decode("utf-8", "replace"))
            for name, pattern in self.match.items()
        )

    def content(self, default: bytes = b"") -> bytes:
        """Return the body that was ordered."""
        if "body_base64" in self.options:
            return base64.b64decode(self.options["body_base64"])
        body = self.options.get("body")
        if body is None:
            return default
        return body.encode() if isinstance(body, str) else encode(body)

    def as_json(self) -> dict[str, Any]:
        """Return the order and how often it was carried out."""
        match = {name: pattern.pattern for name, pattern in self.match.items()}
        state = {"skip": self.skip, "times": self.times, "hits": self.hits}
        return {"kind": self.kind, "when": self.when, "match": match} | state | self.options


class Faults:
    """The orders, in the sequence they were given."""

    def __init__(self) -> None:
        self._orders: list[Fault] = []

    def add(self, wanted: object) -> None:
        """Take one order or a list of them; all or none."""
        orders = wanted if isinstance(wanted, list) else [wanted]
        self._orders += [_read(order) for order in orders]

    def take(self, call: Call) -> Fault | None:
        """Return the first order that is due for this request, and count it."""
        for fault in self._orders:
            if fault.times == 0 or not fault.fits(call):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            fault.hits += 1
            fault.times = None if fault.times is None else fault.times - 1
            return fault
        return None

    def as_json(self) -> list[dict[str, Any]]:
        """Return all orders."""
        return [fault.as_json() for fault in self._orders]

    def clear(self) -> None:
        """Forget all orders."""
        self._orders.clear()


def _read(order: object) -> Fault:
    if not isinstance(order, dict) or order.get("kind") not in KINDS:
        raise BadFaultError(f"kind must be one of {', '.join(sorted(KINDS))}")
    options = {name: value for name, value in order.items() if name not in {"kind", "when", "match", "skip", "times"}}
    unknown = set(options) - set(OPTIONS)
    if unknown:
        raise BadFaultError(f"unknown option {min(unknown)!r}; there are {', '.join(OPTIONS)}")
    _check_options(options)
    kind = order["kind"]
    skip, times = _count(order, "skip", 0), _count(order, "times", 1)
    return Fault(kind, _when(kind, order.get("when")), _match(order.get("match", {})), skip or 0, times, options)


def _when(kind: str, when: object) -> str:
    if when not in (None, "before", "after"):
        raise BadFaultError("when must be before or after")
    if kind in OF_ANSWER:
        if when == "before":
            raise BadFaultError(f"{kind} spoils the real answer, so it always comes after; use status, drop or reset")
        return "after"
    return str(when or "before")


def _match(match: object) -> dict[str, re.Pattern[str]]:
    if not isinstance(match, dict) or set(match) - set(MATCHERS):
        raise BadFaultError(f"match must be an object of {', '.join(MATCHERS)}")
    try:
        return {name: re.compile(_anchored(name, pattern)) for name, pattern in match.items()}
    except (re.error, TypeError):
        raise BadFaultError("match holds a pattern that is no regular expression") from None


def _anchored(name: str, pattern: str) -> str:
    return rf"^(?:{pattern})$" if name == "method" else pattern


def _count(order: dict[str, Any], name: str, default: int) -> int | None:
    value = order.get(name, default)
    if value is None and name == "times":
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadFaultError(f"{name} must be a whole number")
    return value


NUMBERS = ("status", "bytes_per_second", "seconds", "size", "length")


def _check_options(options: dict[str, Any]) -> None:
    for name in set(NUMBERS) & set(options):
        if not isinstance(options[name], int | float) or isinstance(options[name], bool) or options[name] < 0:
            raise BadFaultError(f"{name} must be a number")
    if not isinstance(options.get("headers", {}), dict):
        raise BadFaultError("headers must be an object")
    if "content-length" in map(str.lower, options.get("headers", {})):
        raise BadFaultError("headers cannot change Content-Length; use wrong_length")
    if not 200 <= options.get("status", 200) <= 599:
        raise BadFaultError("status must be 200 to 599")
    try:
        base64.b64decode(options.get("body_base64", ""), validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise BadFaultError("body_base64 is not base64") from None
