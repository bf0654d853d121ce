"""Explain why a purge found nothing: what it looked for, where, and what is there instead."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import NoReturn

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.holdings import Holding, Selection
from airflow_provider_redox.storage.layout import safe_name

_AT_MOST = 10


def refuse_root(files: Files, root: str, *, where: str, cure: str) -> NoReturn:
    """Raise for a root that holds no files of this package."""
    base = root.rstrip("/")
    outer, _, inner = base.partition("/destination=")
    if inner:
        raise RedoxConfigError(f"{where}: is a folder within results; name {outer}, which is above destination=. {cure}")
    found = files.find(base)
    if found:
        raise RedoxConfigError(f"{where}: holds {len(found)} files, and none of this package's; it is {root}. {cure}")
    parent, _, name = base.rpartition("/")
    has_parent = bool(parent.partition("://")[2]) if "://" in base else bool(parent)
    beside = files.folders(parent) if has_parent else []
    raise RedoxConfigError(f"{where}: there is nothing at {root}{_meant(name, beside, 'beside it there is')}. {cure}")


def refuse_selection(others: list[Holding], selection: Selection, *, spelled: Callable[[str], str], cure: str) -> NoReturn:
    """Raise for a selection that no result fits: name the first field of it that no result has."""
    left = others
    for name, value in selection.told.items():
        fitting = [one for one in left if one.named[name] == safe_name(value)]
        if not fitting:
            known = _meant(safe_name(value), dict.fromkeys(one.named[name] for one in left), "there is")
            raise RedoxConfigError(f"{spelled(name)}: no result is of {value!r}{known}. {cure}")
        left = fitting
    raise AssertionError(selection)


def _meant(name: str, known: Iterable[str], words: str) -> str:
    """Return the end of an error message about a missing name: the most similar existing one, and the first of all names."""
    listed = sorted(known)
    close = difflib.get_close_matches(name, listed, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    more = f" and {len(listed) - _AT_MOST} more" if len(listed) > _AT_MOST else ""
    return f"{hint}{'' if hint else ';'} {words} {', '.join(listed[:_AT_MOST])}{more}" if listed else hint
