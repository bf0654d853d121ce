"""Remove files that no result needs any more: what earlier tries of a task staged, published or left half written.

This is done once a result is visible, for its own try and earlier ones, never for a later one. So any of these tries can do
it, and it can be repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from airflow_provider_redox.storage.layout import attempt_of

if TYPE_CHECKING:
    from airflow_provider_redox.storage.files import Files
    from airflow_provider_redox.storage.layout import Layout
    from airflow_provider_redox.storage.tries import Tries

_log = logging.getLogger(__name__)


def sweep(files: Files, layout: Layout, tries: Tries, number: int, kept: Iterable[str]) -> None:
    """Remove what tries up to this one left, except the files to keep. A failure is only logged: the result is valid.

    The latest try's staged files are removed last, its checkpoint at the very end, so that a try that is killed here can be
    resumed.
    """
    needed = set(kept)
    for url in _own_results(files, layout, number):
        if url not in needed:
            _tidy(url, files.remove_file)
    for url in _lists(files, layout, number):
        if url not in needed:
            _tidy(url, files.remove_file)
    _tidy(layout.tries, lambda _: tries.forget(*(old for old in tries.up_to(number) if old < number)))
    for old in reversed(staged(files, layout, number)):
        remove_staged(files, layout, old)


def staged(files: Files, layout: Layout, number: int) -> list[int]:
    """Return the tries up to this one that have staged files, the latest first."""
    names = files.folders(layout.staging)
    return sorted((int(name) for name in names if name.isdecimal() and int(name) <= number), reverse=True)


def remove_staged(files: Files, layout: Layout, number: int) -> None:
    """Remove what a try staged, its checkpoint last."""
    folder = layout.staged_by(number)
    for name in files.names(folder):
        if f"{folder}/{name}" != layout.checkpoint(number):
            _tidy(f"{folder}/{name}", files.remove_file)
    alone = files.folders(layout.staging) in ([], [f"{number:04d}"])
    _tidy(layout.staging if alone else folder, files.remove)


def _own_results(files: Files, layout: Layout, number: int) -> Iterable[str]:
    """Return this task's complete result files; on a disk, also remove partial files of killed processes."""
    own = layout.own_result
    for name in files.folders(layout.base):
        if not name.startswith("type=") or name == "type=DataModelPost":  # what was sent is no result of a question
            continue
        folder = f"{layout.base}/{name}/{layout.owner.partition}"
        _tidy(folder, lambda url: files.remove_dead(url, f"{layout.owner.name}."))
        for url in (f"{folder}/{one}" for one in files.names(folder)):
            if own.fullmatch(url) and attempt_of(url) <= number:
                yield url


def _lists(files: Files, layout: Layout, number: int) -> Iterable[str]:
    _tidy(layout.workspace, lambda url: files.remove_dead(url, ""))
    return [layout.searches(old) for old in range(1, number + 1) if files.exists(layout.searches(old))]


def _tidy(url: str, remove: Callable[[str], None]) -> None:
    """Remove files that are no longer needed. A failure is only logged: the result is already valid, or has failed."""
    try:
        remove(url)
    except Exception as error:  # noqa: BLE001  (each store has errors of its own)
        _log.warning("A file of an earlier try could not be removed (%s): %s", type(error).__name__, url)
