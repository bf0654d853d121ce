"""Answers as plain values: a status, bytes and headers. Handlers return them, or raise a :class:`Refusal` of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from . import digits

if TYPE_CHECKING:
    from collections.abc import Mapping

FHIR_JSON = "application/fhir+json; charset=utf-8"
JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the client, before any fault is applied to it."""

    status: int
    body: bytes = b""
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):  # noqa: N818  # an answer, not an error
    """The request is refused with this answer; nothing was stored."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def encode(value: object) -> bytes:
    """Encode compact UTF-8 JSON, with numbers as they were parsed."""
    return digits.dumps(value)


def json_answer(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with ``value`` as plain JSON."""
    return Answer(status, encode(value), JSON, headers or {})


def fhir_answer(resource: Mapping[str, Any], *, status: int = 200) -> Answer:
    """Answer with a FHIR resource."""
    return Answer(status, encode(resource), FHIR_JSON)


def text_answer(status: int, text: str, *, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with a plain sentence."""
    return Answer(status, text.encode(), TEXT, headers or {})


def outcome(code: str, text: str, *, severity: str = "error") -> dict[str, Any]:
    """Build an OperationOutcome of one issue; ``code`` is from the FHIR issue-type value set."""
    issue = {"severity": severity, "code": code, "details": {"text": text}, "diagnostics": text}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def refuse_fhir(status: int, code: str, text: str) -> NoReturn:
    """Refuse with an OperationOutcome."""
    raise Refusal(fhir_answer(outcome(code, text), status=status))


def refuse_json(status: int, text: str) -> NoReturn:
    """Refuse with ``{"error": text}``: the sandbox's own control plane."""
    raise Refusal(json_answer({"error": text}, status=status))


def refuse_text(status: int, text: str, **headers: str) -> NoReturn:
    """Refuse with a plain sentence; keyword arguments become headers, underscores become dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    raise Refusal(text_answer(status, text, headers=named))
