"""Checks of single values, for every door. It needs nothing else, so that a DAG that is read may import it.

Only `None` means default. What an empty template, an unset variable or an empty form leaves (a blank text, the text `None`,
an empty list) is refused by its name, never taken for "not given": it would choose a place, a person or a rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from airflow_provider_redox.exceptions import RedoxConfigError

T = TypeVar("T")

_LISTED = 12


def is_empty(value: Any) -> bool:
    """Return whether a value is what an empty template leaves. Jinja writes None as the text `None`."""
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
    """Return what an error says of an argument that is empty."""
    return f"{name}: is empty; give it a value, or leave it out. A template or a task may have come out as nothing"


def came_out_as_none(name: str) -> str:
    """Return what an error says of an argument that was given, by a template or another task, and came out as None."""
    return f"{name}: came out as None, which is not the default; look at the task that gives it, or leave it out"


def near(name: Any, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return which of the known names was most likely meant, whatever its case; None where none is like it.

    :param cutoff: how like it has to be, as difflib measures.
    """
    import difflib

    by_folded = {one.casefold(): one for one in sorted(known, reverse=True)}
    found = difflib.get_close_matches(str(name).casefold(), by_folded, n=1, cutoff=cutoff)
    return by_folded[found[0]] if found else None


def meant(name: Any, known: Iterable[str]) -> str:
    """Return the end of an error about a name that is not known: the one that was meant, and all that are, if not many."""
    names = list(known)
    close = near(name, names)
    listed = f"known are {', '.join(names)}" if names else "none is known"
    if close is None:
        return listed
    return f"did you mean {close}?" + (f" Known are {', '.join(names)}" if len(names) <= _LISTED else "")


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return what an error says of an argument that is none of some words."""
    words = list(choices)
    close = near(value, words) if isinstance(value, str) else None
    return f"{name}: must be one of {', '.join(words)}" + (f"; did you mean {close}?" if close else "")
