"""Validate the arguments of operators and sensors by rules that each class declares once.

Each class declares a rule for each of its own arguments (`rules`). Literal values are checked when the DAG is parsed, so
that a typing error is an import error. Templates and results of other tasks are checked when the task runs, before anything
is sent. Only `None` means default: an argument that was given, and is empty after rendering, is refused by its name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from os import PathLike
from typing import Any, ClassVar

from airflow_provider_redox.checks import came_out_as_none, empty, is_empty, near
from airflow_provider_redox.exceptions import RedoxConfigError

CONCURRENCY_AT_MOST = 64

_INLINE_IF = "the inline if-expression"
"""How Jinja begins to say of a value that it is that of an `if` without an `else`."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What an argument may be.

    :param wants: completes `must be …`.
    :param fits: says whether a value that is neither None nor empty is right.
    :param optional: whether None is right, and means the default.
    :param may_be_empty: of content that chooses nothing.
    :param known: the words that it may be, to show the one that was meant.
    :param each: of a list, the rule of each entry.
    :param parts: whether a part of a text, from `{{ ... }}` within it, may be empty.
    :param further: raises `RedoxConfigError`, with the argument's name, for what only a closer look finds.
    """

    wants: str
    fits: Callable[[Any], bool]
    optional: bool = True
    may_be_empty: bool = False
    known: Callable[[], Iterable[str]] | None = None
    each: Rule | None = None
    parts: bool = False
    further: Callable[[str, Any], object] | None = None

    @property
    def required(self) -> Rule:
        """Return the same rule for an argument without a default."""
        return replace(self, optional=False)

    def problem(self, name: str, value: Any) -> str | None:
        """Return the error message for a value, beginning with the argument's name; None if the value is valid.

        Raises `RedoxConfigError` for what `further` finds.
        """
        if value is None:
            return None if self.optional else f"{name}: must be {self.wants}, and is None"
        if is_empty(value) and not self.may_be_empty:
            return empty(name)
        if self.each is not None and isinstance(value, list | tuple):
            told = (self.each.problem(f"{name}[{number}]", one) for number, one in enumerate(value))
            return next(filter(None, told), None)
        if self.fits(value):
            if self.further is not None:
                self.further(name, value)
            return None
        close = near(value, self.known()) if self.known and isinstance(value, str) else None
        return f"{name}: must be {self.wants}" + (f"; did you mean {close}?" if close else "")


def choice(*words: str, optional: bool = False) -> Rule:
    """Return the rule for an argument that must be one of these words."""
    return Rule(f"one of {', '.join(words)}", lambda value: value in words, optional, known=lambda: words)


def whole(least: int, most: int | None = None, *, optional: bool = False) -> Rule:
    """Return the rule for a whole number of at least `least` and at most `most`."""

    def fits(value: Any) -> bool:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return is_number and least <= value and (most is None or value <= most)

    return Rule(f"a whole number from {least}{'' if most is None else f' to {most}'}", fits, optional)


def seconds(least: float) -> Rule:
    """Return the rule for a duration of at least `least` seconds, as a number or a timedelta."""

    def fits(value: Any) -> bool:
        length = value.total_seconds() if isinstance(value, timedelta) else value
        is_number = isinstance(length, int | float) and not isinstance(length, bool)
        return is_number and math.isfinite(length) and length >= least

    return Rule(f"seconds or a timedelta, from {least:g} s on", fits, optional=False)


def number(least: float) -> Rule:
    """Return the rule for a number of at least `least`."""
    return Rule(
        f"a number, {least:g} or more",
        lambda value: not isinstance(value, timedelta) and seconds(least).fits(value),
        optional=False,
    )


def _is_place(value: Any) -> bool:
    if isinstance(value, str):
        return "://" in value or value.startswith("/")
    return isinstance(value, PathLike) or hasattr(value, "fs")


def _no_key(name: str, value: Any) -> None:
    """Refuse a key where a connection ID belongs: a path is shown in many places, the DAG's code among them."""
    if isinstance(value, str) and "@" in value:
        from airflow_provider_redox.storage.urls import check_place

        check_place(value, name=name)


def _is_window(name: str, value: Any) -> None:
    from airflow_provider_redox.protocol.windows import parse_windows

    parse_windows(value, where=name)


def _is_headers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(one, str) and not is_empty(one) for one in value.values())


def _types() -> Iterable[str]:
    from airflow_provider_redox.protocol.resource_types import RESOURCE_TYPES

    return RESOURCE_TYPES


FLAG = Rule("True or False", lambda value: isinstance(value, bool), optional=False)
OPTIONAL_FLAG = replace(FLAG, optional=True)
TEXT = Rule("text", lambda value: isinstance(value, str))
TEXTS = Rule("a list of texts", lambda _: False, each=TEXT.required)
NAME_OR_NAMES = Rule("text, or a list of texts", lambda value: isinstance(value, str), each=TEXT.required)
PLACE = Rule("an absolute path or a URL such as s3://conn_id@bucket/prefix", _is_place, further=_no_key)
PLACES = Rule("a list of at least one path", lambda _: False, each=PLACE.required)
POINTER = Rule("a JSON Pointer such as /Order/Results/0/ID", lambda value: isinstance(value, str) and value.startswith("/"))
ENVIRONMENT = choice("Development", "Staging", "Production", optional=True)
AUDIT = choice("required", "best_effort", "off", optional=True)
RESOURCE_TYPE = Rule(
    "the name of a FHIR resource type, such as Patient", lambda value: value in _types(), optional=False, known=_types
)
HEADERS = Rule("a mapping of header names to texts that are not empty", _is_headers, may_be_empty=True)
MAPPING = Rule("a mapping", lambda value: isinstance(value, Mapping), may_be_empty=True)
FILTERS = Rule("a mapping of names to values", lambda value: isinstance(value, Mapping))
CONTENT = Rule("anything", lambda _: True, may_be_empty=True)
"""An argument that is sent as it is, and chooses no destination, patient or rule."""
ITS_OWN = Rule("what its own check says", lambda _: True)
"""An argument that must not be empty, and is validated by the code that reads it."""
PLACE_OR_MANIFEST = Rule(
    "an absolute path or a URL such as s3://conn_id@bucket/key, or a manifest",
    lambda value: not isinstance(value, str) or _is_place(value),
    further=_no_key,
)
PERIOD = replace(ITS_OWN, parts=True)
"""Its own check names the cure for a run that has no data interval."""
WINDOW = replace(PERIOD, further=_is_window)

Rules = Mapping[str, Rule]


class CheckedArguments:
    """A task whose arguments are declared: `rules` names each that a class adds to those of its bases.

    The constructor of a class that adds some ends with `self.check_literals()`, and `execute` begins with
    `self.check_arguments()`.
    """

    rules: ClassVar[Rules] = {}
    rendered_privately: ClassVar[Sequence[str]] = ()
    """Arguments that are rendered but are not template fields, because they may hold a patient."""
    template_fields: Sequence[str]

    def check_literals(self) -> None:
        """Check what is known when the DAG is read. Raises `RedoxConfigError`."""
        here = [name for name in rules_of(type(self)) if name in vars(self)]
        self._given = frozenset(name for name in here if getattr(self, name) is not None)
        templated = {*self.template_fields, *self.rendered_privately}
        for name in here:
            if name not in templated or not _waits(getattr(self, name)):
                self._check(name, getattr(self, name))

    def check_arguments(self) -> None:
        """Check what the task runs with, rendered, before anything is sent. Raises `RedoxConfigError`."""
        self._empty_parts.clear()
        for name in rules_of(type(self)):
            if name in self.rendered_privately:
                continue
            if name in vars(self).get("_partly_empty", ()):
                raise RedoxConfigError(_partly_empty(name))
            self.checked(name, getattr(self, name))

    def checked(self, name: str, value: Any) -> Any:
        """Return a rendered argument. Raises `RedoxConfigError` if its value is not valid."""
        parts, rule = list(self._empty_parts), rules_of(type(self))[name]
        self._empty_parts.clear()
        if value is None and name in self._given:
            raise RedoxConfigError(came_out_as_none(name))
        self._check(name, value)
        if parts and not (rule.parts or rule.may_be_empty):
            raise RedoxConfigError(_partly_empty(": ".join((name, *_empty_members(value)[:1]))))
        return value

    @property
    def _empty_parts(self) -> list[str]:
        """Return the parts of texts that rendered to nothing since the last call."""
        noted: list[str] = vars(self).setdefault("_noted_parts", [])
        return noted

    def get_template_env(self, *where: Any, **options: Any) -> Any:
        """Return Airflow's Jinja environment, changed to note each part of a text that renders to nothing.

        `s3://bucket/{{ tenant }}` without a tenant would be the root of all tenants, and `http://mrn|{{ mrn }}` everybody
        who has one.
        """
        environment = super().get_template_env(*where, **options)  # type: ignore[misc]
        return _noting(environment, "", self._empty_parts.append)

    def _check(self, name: str, value: Any) -> None:
        problem = rules_of(type(self))[name].problem(name, value)
        if problem is not None:
            raise RedoxConfigError(problem)

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Any, jinja_env: Any, *rest: Any, **options: Any
    ) -> None:
        """Render field by field, and note the fields in which a part of the text rendered to nothing."""
        render = super()._do_render_template_fields  # type: ignore[misc]
        rules, noted = rules_of(type(self)), vars(self).setdefault("_partly_empty", set())
        for name in template_fields:
            rule = rules.get(name) if parent is self else None
            watched = jinja_env if rule is None or rule.parts else _noting(jinja_env, name, noted.add)
            render(parent, (name,), context, watched, *rest, **options)


def check_filled(name: str, value: Any, *, alone: bool = False) -> None:
    """Refuse `{field}`, which only a cohort fills: sent as it stands it finds nothing, and the task succeeds.

    :param alone: only texts that are one field and nothing else.
    """
    from airflow_provider_redox.protocol.cohort import unfilled

    found = unfilled(value, alone=alone)
    if found is not None:
        raise RedoxConfigError(f"{name}: {found}, which only a cohort fills; name a cohort, or correct the template")


def rules_of(kind: type) -> dict[str, Rule]:
    """Return the rules of all arguments of a class, those of its bases first."""
    return {name: rule for cls in reversed(kind.__mro__) for name, rule in vars(cls).get("rules", {}).items()}


def _empty_members(value: Any) -> list[str]:
    """Return the names of the members whose text came out as nothing, of one mapping or of several in a list."""
    mappings = value if isinstance(value, list | tuple) else [value]
    members = (pair for one in mappings if isinstance(one, Mapping) for pair in one.items())
    return [str(name) for name, text in members if is_empty(text)]


def _partly_empty(name: str) -> str:
    return f"{name}: a {{{{ }}}} in it rendered to nothing; give it a value, or put it into {{% if %}}"


def _noting(environment: Any, name: str, note: Callable[[str], None]) -> Any:
    """Return a Jinja environment that notes each part of a text that renders to nothing.

    The `finalize` function takes the context, because Jinja otherwise calls it at compile time for constants and turns them
    into text. The DAG's own `finalize`, if any, runs after it.
    """
    from jinja2 import pass_context

    own = environment.finalize

    @pass_context
    def finalize(context: Any, value: Any) -> Any:
        if _is_nothing(value):
            note(name)
        return value if own is None else own(*_asked_by(own, context), value)

    return environment.overlay(finalize=finalize)


def _is_nothing(value: Any) -> bool:
    """Return whether a part came out as nothing.

    So does a name that is not there, where the DAG's `template_undefined` lets it pass. An `{{ a if b }}` without an `else`
    is like an `{% if %}`: its author meant the nothing.
    """
    from jinja2 import Undefined

    if isinstance(value, Undefined):
        return not str(value._undefined_hint or "").startswith(_INLINE_IF)  # noqa: SLF001  (Jinja documents it)
    return value is None or is_empty(value)


def _asked_by(function: Any, context: Any) -> tuple[Any, ...]:
    """Return the argument that a Jinja function takes before the value, according to its decorator."""
    wanted = getattr(getattr(function, "jinja_pass_arg", None), "name", None)
    given = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
    return (given[wanted],) if wanted in given else ()


def _waits(value: Any) -> bool:
    """Return whether a value is known only when the task runs, as a template or another task's result is."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return any(map(_waits, _inside(value)))
    return callable(value) or (hasattr(value, "resolve") and not isinstance(value, PathLike))


def _inside(value: Any) -> Iterator[Any]:
    yield from value.values() if isinstance(value, Mapping) else value
