"""Check single values: arguments, settings and options. Imports nothing heavy, so DAG files may import it.

Only `None` means default. An empty value (a blank text, the text `None`, an empty list) is what an empty template, an unset
variable or an empty form leaves. It is refused by the argument's name and never means "not given": the default would then
choose a destination, a folder, a patient or a rule that the author did not mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from airflow_provider_redox.exceptions import RedoxConfigError

T = TypeVar("T")

_LISTED = 12


def is_empty(value: Any) -> bool:
    """Return whether a value is empty, as an empty template leaves it. Jinja renders None as the text `None`."""
    if isinstance(value, str):
        return value.strip() in ("", "None")
    return isinstance(value, bytes | list | tuple | dict | set | frozenset) and not value


def given(value: T | None, default: T, *, name: str) -> T:
    """Return the value, or the default where it is None. Raise `RedoxConfigError` for a value that is empty."""
    if value is None:
        return default
    if is_empty(value):
        raise RedoxConfigError(empty(name))
    return value


def empty(name: str) -> str:
    """Return the error message for an argument that is empty."""
    return f"{name}: is empty; give it a value, or leave it out. A template or a task may have returned nothing"


def came_out_as_none(name: str) -> str:
    """Return the error message for an argument whose template, or whose upstream task, returned None."""
    return (
        f"{name}: is None, which does not mean the default; leave it out, or correct the template or task that returned None"
    )


def near(name: Any, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name that is most similar to this one, ignoring case; None if none is similar enough.

    :param cutoff: the least similarity, from 0 to 1, as difflib measures it.
    """
    import difflib

    by_folded = {one.casefold(): one for one in sorted(known, reverse=True)}
    found = difflib.get_close_matches(str(name).casefold(), by_folded, n=1, cutoff=cutoff)
    return by_folded[found[0]] if found else None


def meant(name: Any, known: Iterable[str]) -> str:
    """Return the end of an error message about an unknown name: the most similar known name, and all names if few."""
    names = list(known)
    close = near(name, names)
    listed = f"known are {', '.join(names)}" if names else "none is known"
    if close is None:
        return listed
    return f"did you mean {close}?" + (f" Known are {', '.join(names)}" if len(names) <= _LISTED else "")


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return the error message for an argument that is not one of the allowed words."""
    words = list(choices)
    close = near(value, words) if isinstance(value, str) else None
    return f"{name}: must be one of {', '.join(words)}" + (f"; did you mean {close}?" if close else "")
