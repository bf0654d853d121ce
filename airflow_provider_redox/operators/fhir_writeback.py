"""Write FHIR resources back. Import it from `operators.fhir`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.operators.arguments import PLACE, RESOURCE_TYPE, TEXT, Rule
from airflow_provider_redox.operators.base import RedoxOperator
from airflow_provider_redox.operators.sends.once import OnceOperator, answered, send_once, told

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_redox.operators.arguments import Rules
    from airflow_provider_redox.operators.signatures import RedoxArguments

BUNDLE = Rule("one message Bundle, a mapping", lambda value: isinstance(value, Mapping), parts=True)


class RedoxFhirWritebackOperator(OnceOperator):
    """Send a FHIR message Bundle to a writeback operation such as `$observation-create`, at most once.

    A writeback that is sent twice is written twice. So a line in storage and a marker in Airflow's database are written
    before it leaves, and a retry, a clear or another worker reads them: what was taken is not sent again, and what may have
    been sent raises `RedoxAmbiguousOutcomeError`. Airflow's `retries` may be used. Done means that Redox has taken it, not
    that the destination has written it.

    A Bundle without a MessageHeader gets one on a copy: eventUri of the operation, the connection's source, and an ID that
    is the same whenever this task of this run sends the same Bundle. A Bundle that has one is sent as it is.

    The result is `{"status": 200, "trace_id": "...", "results_url": "..."}`; the answer's body is in `results_url`, which is
    None when there is none. `"already_sent": 1` says that an earlier try sent it.

    :param resource_type: the FHIR resource type that is written, such as `Observation`.
    :param operation: its operation, such as `$observation-create`.
    :param bundle: the Bundle. Templated when the task runs, and kept out of rendered fields and of the serialized DAG; a
        mapped task's arguments (`partial`, `expand`) are in it.
    :param bundle_path: a JSON file in storage that holds the Bundle, instead of `bundle`. Its text is sent as it is, a
        MessageHeader put in where it has none; no template.
    :param output_path: where the answer goes: a URL such as `s3://conn_id@bucket/prefix`. By default `[redox] output_root`.
    :param on_ambiguous: when nobody can tell: `fail`, or `resend`, which may write it twice; with the same bytes, by which a
        receiver can know it.
    :param resend: let the first try after a clear send, whatever earlier tries did.
    """

    template_fields: Sequence[str] = (
        *RedoxOperator.template_fields,
        "resource_type",
        "operation",
        "bundle_path",
        "output_path",
    )
    rendered_privately = ("bundle",)
    rules: ClassVar[Rules] = {
        "resource_type": RESOURCE_TYPE,
        "operation": TEXT.required,
        "bundle": BUNDLE,
        "bundle_path": PLACE,
        "output_path": PLACE,
    }

    def __init__(
        self,
        *,
        resource_type: str,
        operation: str,
        bundle: Mapping[str, Any] | XComArg | None = None,
        bundle_path: str | XComArg | None = None,
        output_path: str | None = None,
        on_ambiguous: Literal["fail", "resend"] = "fail",
        resend: bool = False,
        **kwargs: Unpack[RedoxArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.resource_type = resource_type
        self.operation = operation
        self.bundle = bundle
        self.bundle_path = bundle_path
        self.output_path = output_path
        self.on_ambiguous = on_ambiguous
        self.resend = resend
        self.depend_on(bundle)
        self.check_literals()
        if (bundle is None) == (bundle_path is None):
            raise RedoxConfigError("bundle, bundle_path: give one of them")

    def execute(self, context: Context) -> dict[str, Any]:
        """Send the Bundle and give the answer's status, its trace ID and where its body is."""
        from airflow_provider_redox.protocol.accounted import of_writeback
        from airflow_provider_redox.protocol.jsonsource import Source
        from airflow_provider_redox.storage.bodies import AnswerFile

        with failing_for_good():
            self.check_arguments()
            source, calls = self._bundle(context), self.hook.client.calls
            bundle = source.value if isinstance(source, Source) else source
            request = calls.prepared_writeback(
                self.resource_type,
                self.operation,
                source,
                destination=self.destination,
                environment=self.environment,
                headers=self.headers,
                message_id=_message_id(context["ti"], source),
            )
            layout, endpoint = self.layout(context, self.output_path), calls.endpoint(self.destination, self.environment)
            file, again = AnswerFile(layout, "FhirWriteback"), self.on_ambiguous == "resend"
            outcome = send_once(
                self,
                context,
                layout,
                what=request.label,
                content=b"\0".join((request.url.encode(), request.body or b"")),
                send=lambda: answered(calls.write(request, repeatable=again), file),
                disclosure=of_writeback(f"{self.resource_type}/{self.operation}", bundle, endpoint),
                noun="writeback",
            )
        self.log.info("Redox has taken the writeback.")
        return told(outcome)

    def _bundle(self, context: Context) -> Any:
        from airflow_provider_redox.protocol.data_model import MAX_BYTES
        from airflow_provider_redox.storage.inputs import read_json

        if self.bundle_path is not None:
            return read_json(self.bundle_path, where="bundle_path", limit=MAX_BYTES)
        return self.checked("bundle", self.rendered(self.bundle, context))


def _message_id(ti: Any, source: Any) -> str:
    """Return the ID of the message that this task instance makes of this Bundle, the same at each try."""
    from airflow_provider_redox.protocol.data_model import encode
    from airflow_provider_redox.protocol.jsonsource import Source
    from airflow_provider_redox.protocol.message_header import new_message_id

    content = source.text.encode() if isinstance(source, Source) else encode(source, where="bundle")
    digest = hashlib.sha256(content).hexdigest()
    return new_message_id(ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index), digest)
