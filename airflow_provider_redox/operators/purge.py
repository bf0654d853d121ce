"""Destroy what was pulled, when its time has come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.operators.arguments import ENVIRONMENT, FLAG, PLACE, TEXT, CheckedArguments, Rule, choice
from airflow_provider_redox.operators.templates import TextStaysText

if TYPE_CHECKING:
    from typing import Unpack

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_redox.operators.arguments import Rules
    from airflow_provider_redox.operators.signatures import TaskArguments

AGE = Rule("a timedelta, zero or more", lambda value: isinstance(value, timedelta) and value >= timedelta(0), optional=False)

_ARGUMENTS = {"dag_id": "of_dag_id", "run_id": "of_run_id", "task_id": "of_task_id"}


class RedoxPurgeOperator(CheckedArguments, TextStaysText, BaseOperator):
    """Destroy results, checkpoints and leftovers below an output path, and certify it.

    What says which messages were sent stays, reduced to hashes and outcomes, so that a task that is cleared later sends
    nothing twice. What was written less than `older_than` ago stays: a task may be at work on it. With `patients_path` only
    what is about these patients goes: their lines are taken out of results, which keep the rest.

    The result is `{"id": "...", "status": "destroyed", "counts": {"destroyed": 4, "reduced": 1, "rewritten": 0}, "bytes":
    51022, "url": "..."}`; under the URL lies the whole certificate, with every file. Where nothing was old enough the status
    is `nothing`, and there is no certificate. What a bucket's versioning keeps is the bucket's to destroy.

    :param output_path: the root of the results; `[redox] output_root` by default.
    :param destination: only results of this destination, as the paths name it; by default all.
    :param environment: only results of this environment; by default all.
    :param of_dag_id: the DAG whose results they are.
    :param of_run_id: the DAG run.
    :param of_task_id: the task.
    :param older_than: how long ago the newest file of a task's result was written; a day by default.
    :param patients_path: a text file, one patient a line: a logical ID (`Patient/123`) or an identifier such as an MRN. It
        needs `destination`.
    :param plan_only: say what would be destroyed, and destroy nothing.
    :param on_empty: what to do where nothing of what is asked for is there: `fail`, as a mistyped root or name is likely, or
        `succeed`. Results that are there and not old enough are no failure.
    """

    template_fields: Sequence[str] = (
        "output_path",
        "destination",
        "environment",
        "of_dag_id",
        "of_run_id",
        "of_task_id",
        "patients_path",
    )
    rules: ClassVar[Rules] = {
        "output_path": PLACE,
        "destination": TEXT,
        "environment": ENVIRONMENT,
        "of_dag_id": TEXT,
        "of_run_id": TEXT,
        "of_task_id": TEXT,
        "older_than": AGE,
        "patients_path": PLACE,
        "plan_only": FLAG,
        "on_empty": choice("fail", "succeed"),
    }
    ui_color = "#f7d9d0"

    def __init__(
        self,
        *,
        output_path: str | None = None,
        destination: str | None = None,
        environment: str | None = None,
        of_dag_id: str | None = None,
        of_run_id: str | None = None,
        of_task_id: str | None = None,
        older_than: timedelta = timedelta(days=1),
        patients_path: str | None = None,
        plan_only: bool = False,
        on_empty: str = "fail",
        **kwargs: Unpack[TaskArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.output_path = output_path
        self.destination = destination
        self.environment = environment
        self.of_dag_id = of_dag_id
        self.of_run_id = of_run_id
        self.of_task_id = of_task_id
        self.older_than = older_than
        self.patients_path = patients_path
        self.plan_only = plan_only
        self.on_empty = on_empty
        self.check_literals()
        if patients_path is not None and destination is None:
            raise RedoxConfigError("destination: missing; logical IDs and identifiers of patients are a hospital's own")

    def execute(self, context: Context) -> dict[str, Any]:
        """Destroy the selected files, and return the head of the certificate."""
        import time

        from airflow_provider_redox.storage.holdings import Selection
        from airflow_provider_redox.storage.layout import output_root
        from airflow_provider_redox.storage.purging import Purge, patients_in, summary

        with failing_for_good():
            self.check_arguments()
            ti = context["ti"]
            selection = Selection(
                self.destination,
                self.environment,
                self.of_dag_id,
                self.of_run_id,
                self.of_task_id,
                time.time() - self.older_than.total_seconds(),
            )
            patients = None if self.patients_path is None else patients_in(self.patients_path, where="patients_path")
            by = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id}
            purge = Purge(output_root(self.output_path), selection, patients, by, on_empty=self.on_empty, spelled=_ARGUMENTS)
            certificate = purge.planned() if self.plan_only else purge.run()
        log = self.log.warning if certificate["rows_that_name_nobody"] else self.log.info
        log("%s", summary(certificate))
        return {name: certificate[name] for name in ("id", "status", "counts", "bytes", "url")}
