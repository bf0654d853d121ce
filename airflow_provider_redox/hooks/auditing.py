"""Putting disclosures on record: where `[redox] audit_path` says, on behalf of the task that runs.

Where the promise "accountable" keeps its state: in files below `[redox] audit_path`, written once and never again. What
asks is recorded before its result is visible; what sends, before it leaves, and again when its outcome is known.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_redox.checks import one_of
from airflow_provider_redox.client.driver import Recorder
from airflow_provider_redox.exceptions import RedoxAuditError, RedoxConfigError, RedoxError
from airflow_provider_redox.protocol.disclosure import Disclosure, Moment, Requester, events, summary
from airflow_provider_redox.protocol.instants import utc
from airflow_provider_redox.seal import keyed_hash
from airflow_provider_redox.storage.audit_log import AuditLog
from airflow_provider_redox.storage.configured import option
from airflow_provider_redox.storage.encryption import check_encrypted
from airflow_provider_redox.storage.layout import checked_root

if TYPE_CHECKING:
    from airflow_provider_redox.protocol.settings import Settings

LEVELS = ("off", "best_effort", "required")
"""From the laxest to the strictest."""

_NAME = "[redox] audit_path"

_log = logging.getLogger(__name__)
_events = logging.getLogger("airflow_provider_redox.audit")


@dataclass(frozen=True, slots=True)
class Auditor(Recorder):
    """Puts the disclosures of one hook on record.

    :param level: `required`, `best_effort` or `off`.
    :param log: the record; None where none is kept, and then the logger is told alone.
    :param environment: of what does not say its own.
    """

    requester: Requester
    hashed: Callable[[bytes], str]
    level: str
    log: AuditLog | None
    environment: str = ""

    @property
    def collects(self) -> bool:  # type: ignore[override]
        """Whether it is worth while to find out who the patients are."""
        return self.log is not None and self.level != "off"

    def __call__(
        self,
        disclosure: Disclosure,
        *,
        done: bool = True,
        error: BaseException | None = None,
        once: bytes | None = None,
    ) -> None:
        """Write a disclosure down.

        Raises `RedoxAuditError` when that has to be done and cannot: before a sending, or before a result is visible. Of
        what was sent already, and of what has failed, a record that is missing is only told.
        """
        if self.level == "off" or not (done or disclosure.interaction.is_sending):
            return
        moment = Moment(
            utc(time.time()),
            self.hashed,
            lambda: str(uuid.uuid4()),
            disclosure.outcome_of(error) if done else None,
            type(error).__name__ if error is not None else disclosure.said,
        )
        if not disclosure.announced and not done:
            disclosure.announced = str(uuid.uuid4())
        if self.log is None:
            self._tell(logging.DEBUG, disclosure, moment)
            return
        try:
            check_encrypted(self.log.root, disclosure.environment or self.environment, name=_NAME)
            content = events(disclosure, self.requester, moment)
            name = None if once is None or not self.requester.dag_id else f"wait{self.hashed(once)[:12]}"
            if self.log.write(self.requester, moment.recorded, content, name=name) is not None:
                self._tell(logging.INFO, disclosure, moment)
        except Exception as failure:  # noqa: BLE001  (each store has errors of its own)
            if self.level == "required" and error is None and not (done and disclosure.interaction.is_sending):
                raise _missing(disclosure, failure) from None
            _log.exception("A disclosure could not be put on record.")
            self._tell(logging.INFO, disclosure, moment)

    def _tell(self, level: int, disclosure: Disclosure, moment: Moment) -> None:
        if _events.isEnabledFor(level):
            _events.log(level, "%s", json.dumps(summary(disclosure, self.requester, moment), separators=(",", ":")))


def auditor_of(settings: Settings, audit: str | None) -> Auditor:
    """Make the auditor of a connection for the task that runs. Raises `RedoxConfigError`.

    :param audit: what an author wants; it may be stricter than `[redox] audit`, not laxer.
    """
    path = option("audit_path")
    level = _level(option("audit") or "required", audit, kept=bool(path))
    log = _log_at(path, settings.environment) if path and level != "off" else None
    environment = settings.environment or ""

    def hashed(content: bytes) -> str:
        return keyed_hash(settings.key, purpose="audit", content=content) if settings.key.seals else ""

    return Auditor(_requester(settings), hashed, level, log, environment)


def _level(configured: str, wanted: str | None, *, kept: bool) -> str:
    for name, level in (("[redox] audit", configured), ("audit", wanted)):
        if level is not None and level not in LEVELS:
            raise RedoxConfigError(one_of(name, level, reversed(LEVELS)))
    if wanted is None:
        return configured
    if wanted == "required" and not kept:
        raise RedoxConfigError("audit: is 'required', so set [redox] audit_path, which says where the record is kept")
    if kept and LEVELS.index(wanted) < LEVELS.index(configured):
        raise RedoxConfigError(
            f"audit: {wanted!r} is less than [redox] audit asks for, which is {configured!r}; leave it out"
        )
    return wanted


def _log_at(path: str, environment: str | None) -> AuditLog:
    root = checked_root(path, name=_NAME)
    check_encrypted(root, environment, name=_NAME)
    return AuditLog(root)


def _requester(settings: Settings) -> Requester:
    """Say on whose behalf this process asks: the running task instance, or nobody where there is none."""
    host = socket.gethostname()
    context = _context()
    ti = context.get("ti")
    if ti is None:
        return Requester(settings.client_id, settings.kids, host=host, purpose=settings.purpose_of_use)
    task, run = context.get("task"), context.get("dag_run")
    return Requester(
        settings.client_id,
        settings.kids,
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        try_number=ti.try_number or 0,
        owner=str(getattr(task, "owner", "") or ""),
        user=str(getattr(run, "triggering_user_name", "") or ""),
        host=host,
        purpose=settings.purpose_of_use,
    )


def _context() -> Any:
    with contextlib.suppress(Exception):  # outside of a task there is none, which each version says in its own way
        from airflow.providers.common.compat.sdk import get_current_context

        return get_current_context()
    return {}


def _missing(disclosure: Disclosure, failure: Exception) -> RedoxAuditError:
    what = "Nothing was sent" if disclosure.interaction.is_sending else "No result is visible"
    said = str(failure) if isinstance(failure, RedoxError) else type(failure).__name__
    return RedoxAuditError(
        f"The record of this disclosure could not be written ({said}), and it has to be. {what}. See that the worker can "
        "write below [redox] audit_path; a next try goes on from here"
    )
