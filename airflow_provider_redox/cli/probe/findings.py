"""What the probe found, and the gate through which every finding goes before anybody sees it.

The gate lets codes, numbers, booleans and names pass. What looks like an identifier, and whatever the connection, the
tokens or the test patient are known by, is replaced, whoever put it there: a server may echo anything anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

LEFT_OUT = "(left out)"

_PLAIN = re.compile(r"[A-Za-z0-9_.:;,/ =+*'()$\[\]-]{0,120}")
_IDENTIFYING = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-|[A-Za-z0-9]{25}|\d{5}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to find out: its name, what is asked in words, and what this package assumes of it."""

    name: str
    asked: str
    assumption: str

    def answered(self, *, holds: bool | None, **observed: Any) -> Finding:
        """Give the finding. `holds` is None where nothing depends on the answer, or where it decides nothing."""
        return Finding(self, observed, holds)

    def not_asked(self, why: str) -> Finding:
        """Give the finding of a question that could not be asked."""
        return Finding(self, {"not_asked": why}, None)


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to a question."""

    question: Question
    observed: dict[str, Any]
    holds: bool | None

    def as_json(self, gate: Gate) -> dict[str, Any]:
        """Give it as the report shows it."""
        return {
            "question": self.question.name,
            "asked": self.question.asked,
            "observed": gate.clean(self.observed),
            "assumption": self.question.assumption,
            "holds": self.holds,
        }


@dataclass(slots=True)
class Gate:
    """Lets through what tells nothing of anybody. `private` grows with what the probe learns on its way."""

    private: set[str] = field(default_factory=set, repr=False)

    def keep(self, *values: str | None) -> None:
        """Let none of these values pass."""
        self.private.update(value.lower() for value in values if value)

    def clean(self, value: Any) -> Any:
        """Give a value, or what stands in its place."""
        if isinstance(value, dict):
            return {self.clean(str(name)): self.clean(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.clean(inner) for inner in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return value if self._passes(str(value)) else LEFT_OUT

    def _passes(self, text: str) -> bool:
        if not _PLAIN.fullmatch(text) or _IDENTIFYING.search(text):
            return False
        return not any(_within(private, text.lower()) for private in self.private)


def _within(private: str, text: str) -> bool:
    """Find a value as a word of its own; short ones would otherwise be found in any text."""
    return re.search(rf"(?<![a-z0-9]){re.escape(private)}(?![a-z0-9])", text) is not None


def names(found: Iterable[Any]) -> list[str]:
    """Give names, each once and in order."""
    return sorted({str(name) for name in found})
