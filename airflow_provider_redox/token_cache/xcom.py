"""The token and the claim, each in an XCom, shared by the tasks of one DAG run.

An XCom belongs to a task instance. So that all tasks of a run find the same one, it lies at the first unmapped task of the
DAG without an upstream, by name; failing that at the first unmapped task, or at the mapped task's own instance 0. That
instance's XComs are dropped when it (re)starts, which costs one token. Outside a task there is no run and so no
slot: only the process's memory is left.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow_provider_redox.token_cache.seal import EntrySeal

_log = logging.getLogger(__name__)


class XComSlot:
    """One XCom of the running DAG run, under the seal's name."""

    def __init__(self, seal: EntrySeal[Any]) -> None:
        self._seal = seal

    def load(self) -> Any:
        """Give what lies here, or None."""
        from airflow.providers.common.compat.sdk import XCom

        place = _place()
        if place is None:
            return None
        try:
            return self._seal.open(XCom.get_one(key=self._seal.name, **place))
        except Exception as error:  # noqa: BLE001  (best effort: a cache that fails costs one token, never a task)
            _log.debug("%s could not be read (%s).", self._seal.name, type(error).__name__)
            return None

    def save(self, entry: Any) -> bool:
        """Put this here, sealed, and say whether that could be done."""
        from airflow.providers.common.compat.sdk import XCom

        place = _place()
        if place is None:
            return False
        try:
            XCom.set(key=self._seal.name, value=self._seal.close(entry), **place)
        except Exception as error:  # noqa: BLE001  (two tasks that write at once may collide)
            _log.debug("%s could not be written (%s).", self._seal.name, type(error).__name__)
            return False
        return True


def _place() -> dict[str, Any] | None:
    """Give the task instance at which this run's slot lies; None outside a task."""
    from airflow.providers.common.compat.sdk import get_current_context

    try:
        context = get_current_context()
        ti, dag = context["ti"], context["dag"]
        unmapped = sorted((task for task in dag.tasks if not _is_mapped(task)), key=_roots_first)
    except Exception:  # noqa: BLE001  (each Airflow has its own error for "not in a task", and its own DAGs)
        return None
    slot = (unmapped[0].task_id, -1) if unmapped else (ti.task_id, 0)
    return {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": slot[0], "map_index": slot[1]}


def _roots_first(task: Any) -> tuple[bool, str]:
    return bool(task.upstream_task_ids), task.task_id


def _is_mapped(task: Any) -> bool:
    mapped = getattr(task, "is_mapped", hasattr(task, "expand_input"))  # 2.11 knows no is_mapped
    return mapped or next(iter(task.iter_mapped_task_groups()), None) is not None
