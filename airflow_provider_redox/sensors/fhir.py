"""A sensor that waits until a FHIR search finds enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import XComArg

from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.operators.arguments import (
    AUDIT,
    ENVIRONMENT,
    FILTERS,
    HEADERS,
    RESOURCE_TYPE,
    TEXT,
    check_filled,
    choice,
    whole,
)
from airflow_provider_redox.sensors.base import RedoxSensor

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from airflow.providers.common.compat.sdk import Context, PokeReturnValue
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_redox.operators.arguments import Rules
    from airflow_provider_redox.operators.signatures import RedoxSensorArguments
    from airflow_provider_redox.protocol.counting import Search
    from airflow_provider_redox.triggers.events import Event


class RedoxFhirSearchSensor(RedoxSensor):
    """Wait until a search has at least `min_count` matches; the result is how many were counted.

    A server that supports `_summary=count` is sent one small request each time; of any other, as many pages are read as are
    needed. Deferred, the search lies in the trigger's row sealed with the connection's private key: no search
    parameter enters the metadata database, a log or a URL in clear.

    :param resource_type: a FHIR R4 resource type such as `Observation`.
    :param search_params: one mapping of search parameters. Templated when the task runs, and kept out of rendered fields and
        of the serialized DAG.
    :param min_count: matches that are enough, from 1.
    :param destination: a name from the connection's `extra.destinations`, or a slug; the connection's by default.
    :param environment: `Development`, `Staging` or `Production`; the connection's by default.
    :param headers: request headers, added to the connection's.
    :param audit: whether what cannot be put on record may be done; see the operators.
    :param handling: `strict` fails when a page shows that a filter was not used, `lenient` warns.
    """

    template_fields: Sequence[str] = (*RedoxSensor.template_fields, "resource_type", "destination", "environment")
    rendered_privately = ("search_params",)
    rules: ClassVar[Rules] = {
        "resource_type": RESOURCE_TYPE,
        "search_params": FILTERS.required,
        "min_count": whole(1),
        "destination": TEXT,
        "environment": ENVIRONMENT,
        "headers": HEADERS,
        "audit": AUDIT,
        "handling": choice("strict", "lenient"),
    }

    def __init__(
        self,
        *,
        resource_type: str,
        search_params: Mapping[str, Any] | XComArg,
        min_count: int = 1,
        destination: str | None = None,
        environment: str | None = None,
        headers: Mapping[str, str] | None = None,
        audit: Literal["required", "best_effort", "off"] | None = None,
        handling: Literal["strict", "lenient"] = "strict",
        **kwargs: Unpack[RedoxSensorArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.resource_type = resource_type
        self.search_params = search_params
        self.min_count = min_count
        self.destination = destination
        self.environment = environment
        self.headers = headers
        self.audit = audit
        self.handling = handling
        self._on_record: object = None
        self.check_literals()
        check_filled("search_params", search_params)
        XComArg.apply_upstream_relationship(self, search_params)

    def poke(self, context: Context) -> PokeReturnValue:
        """Ask once."""
        from airflow.providers.common.compat.sdk import PokeReturnValue

        from airflow_provider_redox.protocol.counting import count_matches

        with failing_for_good():
            client, search = self.hook.client, self._search(context)
            self._record(search, begins=True)
            count = client.run(count_matches(client.calls, search, self.min_count))
            if count >= self.min_count:
                self._record(search)
        self.log.info("%s: %d of %d matches.", self.resource_type, count, self.min_count)
        return PokeReturnValue(is_done=count >= self.min_count, xcom_value=count)

    def trigger(self, context: Context, deadline: float) -> BaseTrigger:
        """Make the trigger, the search sealed."""
        from airflow_provider_redox.triggers.events import ticket_of
        from airflow_provider_redox.triggers.fhir import RedoxFhirSearchTrigger
        from airflow_provider_redox.triggers.sealed import close_search

        ticket, search = ticket_of(context["ti"]), self._search(context)
        self._record(search, begins=True)
        return RedoxFhirSearchTrigger(
            redox_conn_id=self.redox_conn_id,
            sealed=close_search(search, self.hook.client.settings, ticket),
            min_count=self.min_count,
            deadline=deadline,
            interval=self.poke_interval,
            ticket=ticket,
        )

    def ended_well(self, context: Context, event: Event) -> int:
        """Give the number of matches."""
        self._record(self._search(context))
        return event.counts.get("matches", 0)

    def _record(self, search: Search, *, begins: bool = False) -> None:
        """Record that this search is waited for, in the triggerer too, which knows no DAG run.

        In mode `reschedule` each poke is a process of its own. The record of the beginning is written once: its file name
        is derived from the wait, and the file is created exclusively.
        """
        from airflow_provider_redox.protocol.accounted import of_search

        walk = search.walk(self.hook.client.calls)
        asked = (walk.endpoint.url, walk.resource_type, walk.form)
        if not begins:
            self.hook.client.recorder(of_search(walk, [walk.form]))
        elif asked != self._on_record:
            self.hook.client.recorder(of_search(walk, [walk.form]), once=repr(asked).encode())
            self._on_record = asked

    def _search(self, context: Context) -> Search:
        """Render and check the search before anything is asked or stored."""
        from airflow_provider_redox.protocol.counting import Search
        from airflow_provider_redox.protocol.values import parameters

        params = self.checked("search_params", self.rendered(self.search_params, context))
        texts: dict[str, list[str]] = {}  # a trigger's row holds no datetimes and no Decimals
        for name, value in parameters(params, where="search_params"):
            texts.setdefault(name, []).append(value)
        search = Search(self.resource_type, texts, self.destination, self.environment, self.headers, self.handling)
        search.walk(self.hook.client.calls)  # checks names and values, sends nothing
        return search
