"""What all Redox operators share: the connection, the destination, private templates, and the edge to Airflow's retries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator, XComArg

from airflow_provider_redox.checks import given
from airflow_provider_redox.operators.arguments import AUDIT, ENVIRONMENT, HEADERS, TEXT, CheckedArguments, Rule
from airflow_provider_redox.operators.templates import TextStaysText

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_redox.hooks.redox import RedoxHook
    from airflow_provider_redox.operators.arguments import Rules
    from airflow_provider_redox.operators.signatures import TaskArguments
    from airflow_provider_redox.storage.layout import Layout

MESSAGE = Rule("one message, a mapping with a Meta object", lambda value: isinstance(value, Mapping), parts=True)


class RedoxOperator(CheckedArguments, TextStaysText, BaseOperator):
    """The base of the Redox operators.

    :param redox_conn_id: the connection.
    :param destination: a name from the connection's `extra.destinations`, or a slug (FHIR) or UUID (Data Models); the
        connection's `extra.destination` by default.
    :param environment: `Development`, `Staging` or `Production`; the connection's by default.
    :param headers: request headers, added to the connection's.
    :param audit: whether what cannot be put on record may be done: `required`, `best_effort` or `off`. `[redox] audit` by
        default, and no laxer than that.
    """

    template_fields: Sequence[str] = ("redox_conn_id", "destination", "environment")
    rules: ClassVar[Rules] = {
        "redox_conn_id": TEXT.required,
        "destination": TEXT,
        "environment": ENVIRONMENT,
        "headers": HEADERS,
        "audit": AUDIT,
    }
    ui_color = "#f7d9d0"

    if TYPE_CHECKING:

        @property
        def output(self) -> Any:
            """What this task returns, for a later task. Airflow calls it an XComArg, which no typed `@task` would take."""

    def __init__(
        self,
        *,
        redox_conn_id: str = "redox_default",
        destination: str | None = None,
        environment: str | None = None,
        headers: Mapping[str, str] | None = None,
        audit: Literal["required", "best_effort", "off"] | None = None,
        **kwargs: Unpack[TaskArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.redox_conn_id = redox_conn_id
        self.destination = destination
        self.environment = environment
        self.headers = headers
        self.audit = audit
        self.check_literals()

    @cached_property
    def hook(self) -> RedoxHook:
        """The hook of this operator's connection."""
        from airflow_provider_redox.hooks.redox import RedoxHook

        return RedoxHook(self.redox_conn_id, audit=self.audit)

    def depend_on(self, *values: Any) -> None:
        """Make the tasks whose results a private template uses upstream of this one."""
        for value in values:
            XComArg.apply_upstream_relationship(self, value)

    def layout(
        self, context: Context, path: str | None, destination: str | None = None, *, argument: str = "output_path"
    ) -> Layout:
        """Give the places of this task instance's results, by default those of the operator's destination.

        :param argument: what errors call the path.
        """
        from airflow_provider_redox.storage.encryption import check_encrypted
        from airflow_provider_redox.storage.layout import Layout, Owner, output_root

        ti = context["ti"]
        settings = self.hook.client.settings
        chosen = destination or given(self.destination, settings.destination, name="destination") or "none"
        environment = settings.environment_for(self.environment) or "none"
        root = output_root(path, name=argument)
        check_encrypted(root, environment, name=argument)
        owner = Owner(ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index)
        return Layout(root, chosen, environment, owner, argument)
