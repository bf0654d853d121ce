"""Read one FHIR resource. Import it from `operators.fhir`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.operators.arguments import PLACE, RESOURCE_TYPE, TEXT
from airflow_provider_redox.operators.base import RedoxOperator

if TYPE_CHECKING:
    from typing import Unpack

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_redox.operators.arguments import Rules
    from airflow_provider_redox.operators.signatures import RedoxArguments


class RedoxFhirReadOperator(RedoxOperator):
    """Read one resource by its logical ID, and write it to storage as a line of NDJSON; the result is a manifest.

    The resource is kept digit for digit. Reading may be repeated, so faults that pass are healed within the task, and
    Airflow's retries are free. A resource that is not there is an error that no retry heals.

    :param resource_type: a FHIR R4 resource type such as `Patient`.
    :param resource_id: its logical ID. Templated when the task runs, and kept out of rendered fields, of the serialized DAG
        and of the manifest; a mapped task's arguments (`partial`, `expand`) are in it. It is part of the request's URL.
    :param output_path: where the result goes: a URL such as `s3://conn_id@bucket/prefix`. By default `[redox] output_root`.
    """

    template_fields: Sequence[str] = (*RedoxOperator.template_fields, "resource_type", "output_path")
    rendered_privately = ("resource_id",)
    rules: ClassVar[Rules] = {"resource_type": RESOURCE_TYPE, "resource_id": TEXT.required, "output_path": PLACE}

    def __init__(
        self, *, resource_type: str, resource_id: str, output_path: str | None = None, **kwargs: Unpack[RedoxArguments]
    ) -> None:
        super().__init__(**kwargs)
        self.resource_type = resource_type
        self.resource_id = resource_id
        self.output_path = output_path
        self.depend_on(resource_id)
        self.check_literals()

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the resource and give the manifest."""
        import msgspec

        from airflow_provider_redox.protocol.instants import utc
        from airflow_provider_redox.storage.results import Results

        with failing_for_good():
            self.check_arguments()
            resource_id = self.checked("resource_id", self.rendered(self.resource_id, context))
            client = self.hook.client
            where = {"destination": self.destination, "environment": self.environment}
            flow = client.accounted.read(self.resource_type, resource_id, headers=self.headers, **where)
            with Results(self.layout(context, self.output_path)) as results:
                response = client.run(flow)
                line = msgspec.json.format(response.body.removeprefix(b"\xef\xbb\xbf").strip(), indent=-1)
                results.write(self.resource_type, [line])
                return results.commit(
                    transaction_time=utc(datetime.now(UTC)),
                    request=f"{client.calls.endpoint(**where).url}/{self.resource_type}",
                    extension={"pages": 1, "requests": 1},
                )
