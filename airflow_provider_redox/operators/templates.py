"""Render templates so that text stays text, and so that data is never rendered.

Airflow renders every text of a template field. With `render_template_as_native_obj=True` it then reads the result as a
Python literal, also of a text without a template in it: "7.50" becomes 7.5, and "0012345" from an XCom 12345. Here a text
without a template stays as it is, in every mode; a text with one stays text; and only a template that is the whole text
yields, in native mode, what its expression gives, whatever its type.

A template that renders to None does not mean the default: `destination="{{ params.where }}"` without such a param would send
a message to the connection's own hospital, and an empty `window` would ask for everything. It is refused by its name.

Values that a mapped task was expanded with from an XCom are data: a template in them would read the connections and
variables of the worker. Airflow renders none of them in a template field that `expand` names, but all that `expand_kwargs`
brings; here neither are rendered, in template fields or in the arguments that we render ourselves.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import XComArg

from airflow_provider_redox.checks import came_out_as_none
from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.operators.arguments import rules_of

_RETURN = "\U000f000d\U000f0000\U000f000d"  # private-use characters, which no real text contains

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context


class TextStaysText:
    """Renders the templates of an operator or a sensor. Must come before Airflow's own class in the list of bases."""

    if TYPE_CHECKING:
        get_template_env: Any

    _expanded: tuple[Any, ...] | None = None

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render a value and the texts in it. The signature is Airflow's, 2.11 and 3."""
        if any(content is one for one in self.expanded_data(context)):
            return content
        env: jinja2.Environment = jinja_env or self.get_template_env()
        if isinstance(content, str) and not (seen_oids and id(content) in seen_oids):
            return rendered_text(content, context, env)
        return super().render_template(content, context, env, seen_oids)  # type: ignore[misc]

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, *args: Any, **kwargs: Any
    ) -> None:
        """Render the template fields, and refuse those that rendered to None. Airflow calls this for mapped tasks too."""
        given = {name: getattr(parent, name, None) for name in template_fields}
        render: Any = super()._do_render_template_fields  # type: ignore[misc]
        render(parent, template_fields, context, *args, **kwargs)
        if parent is self:
            with failing_for_good():
                for name in _came_out_as_none(self, given, context):
                    raise RedoxConfigError(came_out_as_none(name))

    def rendered(self, value: Any, context: Context) -> Any:
        """Render an argument that may hold a patient. It is not a template field, because Airflow stores those in clear."""
        return self.render_template(value, context)

    def expanded_data(self, context: Context) -> tuple[Any, ...]:
        """Return the arguments that this mapped task was expanded with and that nobody wrote into the DAG.

        They are known by identity, and kept, so that no other value can be taken for one of them.
        """
        if self._expanded is None:
            self._expanded = tuple(_expanded(self, context))
        return self._expanded


def rendered_text(text: str, context: Context, env: jinja2.Environment) -> Any:
    """Render one text."""
    if not _holds_template(text, env):
        return text
    from jinja2.nativetypes import NativeEnvironment

    if isinstance(env, NativeEnvironment):
        return _native(text, context, env)
    return "".join(_chunks(text, context, env.overlay(keep_trailing_newline=True)))


def _holds_template(text: str, env: jinja2.Environment) -> bool:
    if env.line_statement_prefix or env.line_comment_prefix:
        return True
    return any(mark in text for mark in (env.variable_start_string, env.block_start_string, env.comment_start_string))


def _native(text: str, context: Context, env: jinja2.Environment) -> Any:
    """Return the value of the expression if it is the whole text, apart from space around it; else the rendered text."""
    from jinja2 import pass_context

    whole = pass_context(lambda _context, value: value)  # asks for the context, so that jinja makes no text of constants
    chunks = list(_chunks(text, context, env.overlay(finalize=env.finalize or whole, keep_trailing_newline=True)))
    given = [chunk for chunk in chunks if not (isinstance(chunk, str) and not chunk.strip())]
    if len(given) == 1 and not isinstance(given[0], str) and not _is_undefined(given[0]):
        return given[0]
    return "".join(map(str, chunks))  # an undefined name raises here, where the DAG wants that


def _is_undefined(value: Any) -> bool:
    from jinja2 import Undefined

    return isinstance(value, Undefined)


def _chunks(text: str, context: Context, env: jinja2.Environment) -> Iterator[Any]:
    """Yield the pieces of a rendered template.

    The context is not copied: on Airflow 2.11 reading a key may log a warning.
    """
    template = env.from_string(_with_returns_kept(text, env))
    names: Any = ChainMap(context, template.globals)  # type: ignore[arg-type]
    for chunk in template.root_render_func(env.context_class(env, names, template.name, template.blocks)):
        yield chunk.replace(_RETURN, "\r") if isinstance(chunk, str) else chunk


def _with_returns_kept(text: str, env: jinja2.Environment) -> str:
    """Return a text with its carriage returns protected: Jinja turns every line end into a line feed (apache/airflow#28280).

    Segments of an HL7 version 2 message are separated by carriage returns alone.
    """
    if "\r" not in text:
        return text
    marks = (
        (env.variable_start_string, env.variable_end_string),
        (env.block_start_string, env.block_end_string),
        (env.comment_start_string, env.comment_end_string),
    )
    tags = "|".join(f"{re.escape(start)}.*?{re.escape(end)}" for start, end in marks)
    return re.sub(f"({tags})|\r", lambda found: found.group(1) or _RETURN, text, flags=re.DOTALL)


def _came_out_as_none(operator: Any, given: Mapping[str, Any], context: Context) -> Iterator[str]:
    """Return the fields that rendered to None, or to a list with None in it, and those that `expand` filled with None."""
    for name, before in given.items():
        now = getattr(operator, name, None)
        pairs: Iterable[tuple[Any, Any]] = [(before, now)]
        if isinstance(before, list | tuple) and isinstance(now, list | tuple):
            pairs = zip(before, now, strict=False)
        if any(one is not None and other is None for one, other in pairs):
            yield name
    yield from (name for name in _expanded_with(operator, context) if getattr(operator, name, "") is None)


def _expanded_with(operator: Any, context: Context) -> list[str]:
    """Name the arguments that `expand` or `expand_kwargs` took from an XCom, None or not."""
    given = _expand_input(operator)
    if given is None or _is_written(given, context):
        return []
    if isinstance(given, Mapping):
        return _by_expand(given)
    partial = operator.get_dag().task_dict[operator.task_id].partial_kwargs
    own = rules_of(type(operator)).keys() - partial
    return [name for name in getattr(operator, "_BaseOperator__init_kwargs", ()) if name in own]


def _expand_input(operator: Any) -> Any:
    """Return the input of a task's `expand` or `expand_kwargs`; None for a task that is not mapped."""
    dag = operator.get_dag()
    mapped = dag.task_dict.get(operator.task_id) if dag else None
    return getattr(getattr(mapped, "expand_input", None), "value", None)


def _by_expand(given: Mapping[str, Any]) -> list[str]:
    """Return the names of the arguments of an `expand` that came from an XCom."""
    return [name for name, value in given.items() if not isinstance(value, Mapping | Sequence)]


def _expanded(operator: Any, context: Context) -> Iterator[Any]:
    """Yield the arguments of a mapped task that came from an XCom.

    `expand` names each; of `expand_kwargs` all are that do not stand in `partial`.
    """
    given = _expand_input(operator)
    if given is None or _is_written(given, context):
        return
    if isinstance(given, Mapping):
        names = _by_expand(given)
    else:
        partial = operator.get_dag().task_dict[operator.task_id].partial_kwargs
        names = [name for name in vars(operator) if name not in partial and not name.startswith("_")]
    yield from (value for name in names if _may_hold_text(value := getattr(operator, name, None)))


def _is_written(given: Any, context: Context) -> bool:
    """Return whether the arguments that `expand_kwargs` passes to this task instance are written in the DAG."""
    if not isinstance(given, list | tuple):
        return False
    index: Any = context["ti"].map_index
    return isinstance(given[index], Mapping)


def _may_hold_text(value: Any) -> bool:
    return isinstance(value, str | Mapping | list | tuple) and not isinstance(value, XComArg)
