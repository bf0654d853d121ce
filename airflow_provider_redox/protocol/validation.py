"""Check resources against the models of FHIR, and report the findings. Lines are neither changed nor left out.

The models are those of `fhir.resources` (the extra `[fhir]`), release R4B: the nearest to R4 that it has, the same for what
clinical exchange uses. Its Extension lacks the companions of primitive values (`_valueString`), which FHIR allows everywhere
(R4, json.html#primitive; https://github.com/nazrulworld/fhir.resources/issues/204): those are set apart and checked by the
model of an element. Both model libraries for Python rewrite what they parse, so their output is never written.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from airflow_provider_redox.checks import one_of
from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol import ids

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

VALIDATION_OUTCOMES = "ValidationOutcome"
"""The kind of the files that hold a report: OperationOutcomes, apart from those that the server sent."""

CHOICES = ("off", "report")

_ISSUES_AT_MOST = 50
_CODES = {"missing": "required", "extra_forbidden": "structure", "unreadable": "structure", "unknown_type": "not-supported"}
_PRIMITIVES = (
    "Base64Binary|Boolean|Canonical|Code|Date|DateTime|Decimal|Id|Instant|Integer|Markdown|Oid|PositiveInt|String|Time|"
    "UnsignedInt|Uri|Url|Uuid"
)
_COMPANION = re.compile(f"_value(?:{_PRIMITIVES})")
_EXTENSIONS = ("extension", "modifierExtension")
_NAME = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}", re.ASCII)


class Finding(NamedTuple):
    """What is wrong at one place of one resource.

    :param path: the place as a FHIRPath, such as `Patient.name[0].given`.
    :param code: what kind of fault it is, in pydantic's words: `missing`, `extra_forbidden`, `value_error`.
    """

    type: str
    id: str
    path: str
    code: str


class Validator:
    """Checks lines by the models of their types. Each model is loaded when its first resource comes.

    Raises `RedoxConfigError` when the extra is missing, or has no model for the type that is searched.
    """

    def __init__(self, resource_type: str) -> None:
        self._models: dict[str, type[BaseModel]] = {}
        if self._model(resource_type) is None:
            raise RedoxConfigError("resource_type: fhir.resources has no model of this type; set validate='off' for it")

    def check(self, line: bytes) -> list[Finding]:
        """Give what is wrong with a resource, nothing when it fits its model."""
        try:
            head = msgspec.json.decode(line, type=_Head)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return [Finding("?", "?", "?", "unreadable")]
        kind, name = _shown(_NAME, head.resourceType), ids.shown(head.id)
        model = self._model(head.resourceType)
        if model is None:
            return [Finding(kind, name, kind, "unknown_type")]
        found = self._faults(model, line, kind) if _MARK in line else _faults(model, line, kind)
        return [Finding(kind, name, path, code) for path, code in found]

    def _faults(self, model: type[BaseModel], line: bytes, kind: str) -> Iterator[tuple[str, str]]:
        """Check a resource that may have companions of primitive values in its extensions."""
        try:
            content = _exact.decode(line)
            apart = list(_set_apart(content, kind))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            yield kind, "unreadable"
            return
        yield from _faults(model, _encoder.encode(content), kind)
        for path, element in apart:
            yield from _faults(self._element, _encoder.encode(element), path)

    @cached_property
    def _element(self) -> type[BaseModel]:
        from fhir.resources.R4B.element import Element

        element: type[BaseModel] = Element
        return element

    def _model(self, kind: str) -> type[BaseModel] | None:
        if kind not in self._models:
            try:
                self._models[kind] = self._find(kind)
            except (KeyError, ValueError):
                return None
        return self._models[kind]

    @cached_property
    def _find(self) -> Any:
        try:
            from fhir.resources.R4B import get_fhir_model_class
        except ImportError:
            raise RedoxConfigError(
                "validate: needs the models of FHIR on the worker: pip install 'airflow-provider-redox[fhir]'"
            ) from None
        return get_fhir_model_class


class Report:
    """Turns findings into OperationOutcomes, one line for each resource with any. Holds counts, no lines.

    :ivar checked: resources that were checked.
    :ivar faulty: those with findings.
    :ivar codes: how often each code was found.
    """

    def __init__(self, validator: Validator) -> None:
        self._validator = validator
        self.checked = self.faulty = 0
        self.codes: Counter[str] = Counter()

    def lines(self, resources: Iterable[bytes]) -> list[bytes]:
        """Check resources, such as those of a page, and give the lines of the report."""
        return [msgspec.json.encode(outcome(findings)) for findings in self._findings(resources)]

    def _findings(self, resources: Iterable[bytes]) -> Iterator[list[Finding]]:
        for line in resources:
            self.checked += 1
            if findings := self._validator.check(line):
                self.faulty += 1
                self.codes.update(finding.code for finding in findings)
                yield findings

    @property
    def summary(self) -> str:
        """What to log at the end: numbers and codes."""
        most = ", ".join(f"{count} {code}" for code, count in self.codes.most_common(5))
        return f"Validated: {self.checked}, with findings: {self.faulty}" + (f" ({most})" if most else "")


def report_of(validate: str, resource_type: str) -> Report | None:
    """Make the report that an operator's `validate` asks for, None for `off`. Raises `RedoxConfigError`."""
    if validate not in CHOICES:
        raise RedoxConfigError(one_of("validate", validate, CHOICES))
    return Report(Validator(resource_type)) if validate == "report" else None


def outcome(findings: Sequence[Finding]) -> dict[str, Any]:
    """Give the findings of one resource as an OperationOutcome (FHIR R4), the first 50 of them."""
    issues = [_issue(finding) for finding in findings[:_ISSUES_AT_MOST]]
    left = len(findings) - len(issues)
    if left:
        issues.append({"severity": "information", "code": "incomplete", "diagnostics": f"{left} more"})
    return {"resourceType": "OperationOutcome", "issue": issues}


def _issue(finding: Finding) -> dict[str, Any]:
    return {
        "severity": "error",
        "code": _CODES.get(finding.code.rpartition(".")[2], "value"),
        "details": {"text": f"{finding.type}/{finding.id}"},
        "diagnostics": finding.code,
        "expression": [finding.path],
    }


_MARK = b'"_value'
_exact = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")


def _set_apart(content: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Remove the companions of primitive values from all extensions, and yield each with its place.

    A companion beside a value of another type stays where it is: an extension has only one value.
    """
    if isinstance(content, list):
        for number, one in enumerate(content):
            yield from _set_apart(one, f"{path}[{number}]")
    elif isinstance(content, dict):
        if path.rpartition(".")[2].partition("[")[0] in _EXTENSIONS:
            values = {name.lstrip("_") for name in content if name.lstrip("_").startswith("value")}
            for name in [name for name in content if _COMPANION.fullmatch(name) and values == {name[1:]}]:
                element = content.pop(name)
                yield from _set_apart(element, f"{path}.{name}")
                yield f"{path}.{name}", element
        for name, value in content.items():
            yield from _set_apart(value, f"{path}.{_shown(_NAME, name)}")


def _faults(model: type[BaseModel], line: bytes, kind: str) -> Iterator[tuple[str, str]]:
    from pydantic import ValidationError

    try:
        model.model_validate_json(line)
    except ValidationError as error:
        yield from _told(error, kind)
    except Exception:  # noqa: BLE001  (a contained resource of unknown type is a KeyError, and its text would quote the line)
        yield kind, "unreadable"


def _told(error: ValidationError, kind: str) -> Iterator[tuple[str, str]]:
    """Give place and code of each fault. Its message and its input quote values, so they are not even made."""
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        steps = [f"[{step}]" if isinstance(step, int) else f".{_shown(_NAME, step)}" for step in fault["loc"]]
        yield kind + "".join(steps), fault["type"]


def _shown(pattern: re.Pattern[str], text: str) -> str:
    """Give a name that came with the data, or `?` when it is none that FHIR could have."""
    return text if pattern.fullmatch(text) else "?"


class _Head(msgspec.Struct):
    resourceType: str = ""  # noqa: N815  (FHIR's name)
    id: str = ""
