"""Any request to Redox that no other operator makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.operators.arguments import (
    CONTENT,
    FILTERS,
    OPTIONAL_FLAG,
    PLACE,
    TEXT,
    Rule,
)
from airflow_provider_redox.operators.base import RedoxOperator
from airflow_provider_redox.operators.sends.once import OnceOperator, answered, send_once, summary, told

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_redox.operators.arguments import Rules
    from airflow_provider_redox.operators.signatures import RedoxArguments
    from airflow_provider_redox.protocol.effects import Request

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
METHOD = Rule(
    f"one of {', '.join(METHODS)}",
    lambda value: isinstance(value, str) and value.upper() in METHODS,
    optional=False,
    known=lambda: METHODS,
)


class RedoxRequestOperator(OnceOperator):
    """Send one request of any method to any path below the connection's host, and write the answer's body to storage.

    A request that only asks (`GET`, `HEAD`, a FHIR `_search`, or any with `idempotent=True`) is repeated after faults that
    pass, by Airflow's retries too. Any other is sent at most once: a line in storage and a marker in Airflow's database are
    written before it leaves, and a retry, a clear or another worker reads them. What was done is not sent again, and what
    may have been sent raises `RedoxAmbiguousOutcomeError`. Every status but 2xx is an error.

    The result is `{"status": 200, "trace_id": "...", "results_url": "..."}`; `results_url` is None when there is no body.
    `"already_sent": 1` says that an earlier try sent it.

    :param method: GET, HEAD, POST, PUT, PATCH or DELETE.
    :param path: below the connection's host, such as `fhir/R4/general-hospital/Development/Observation/_search`; or an
        absolute URL on it.
    :param query_params: the URL's query, a list as a value repeats the parameter: put nothing about a patient there.
        (`params` is Airflow's own argument, for other things.)
    :param form: sent as a form.
    :param json: sent as JSON.
    :param data: text or bytes, sent as they are; name their Content-Type in `headers`.
    :param idempotent: whether the same request twice is the same as once. By default, method and path decide that.
    :param output_path: where the body goes: a URL such as `s3://conn_id@bucket/prefix`. By default `[redox] output_root`.
    :param on_ambiguous: when nobody can tell: `fail`, or `resend`, which may do it twice.
    :param resend: let the first try after a clear send, whatever earlier tries did.

    Path, query_params, form, json and data are templated when the task runs, and kept out of rendered fields and of the
    serialized DAG; a mapped task's arguments (`partial`, `expand`) are in it.
    """

    template_fields: Sequence[str] = (*RedoxOperator.template_fields, "output_path")
    rendered_privately = ("path", "query_params", "form", "json", "data")
    rules: ClassVar[Rules] = {
        "method": METHOD,
        "path": TEXT.required,
        "query_params": FILTERS,
        "form": FILTERS,
        "json": CONTENT,
        "data": CONTENT,
        "idempotent": OPTIONAL_FLAG,
        "output_path": PLACE,
    }

    def __init__(
        self,
        *,
        method: str,
        path: str,
        query_params: Mapping[str, Any] | None = None,
        form: Mapping[str, Any] | None = None,
        json: Any = None,
        data: bytes | str | None = None,
        idempotent: bool | None = None,
        output_path: str | None = None,
        on_ambiguous: Literal["fail", "resend"] = "fail",
        resend: bool = False,
        **kwargs: Unpack[RedoxArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.method = method
        self.path = path
        self.query_params = query_params
        self.form = form
        self.json = json
        self.data = data
        self.idempotent = idempotent
        self.output_path = output_path
        self.on_ambiguous = on_ambiguous
        self.resend = resend
        self.depend_on(path, query_params, form, json, data)
        self.check_literals()

    def execute(self, context: Context) -> dict[str, Any]:
        """Send the request and give its status, its trace ID and where its body is."""
        from airflow_provider_redox.protocol.accounted import of_request
        from airflow_provider_redox.storage.bodies import AnswerFile

        with failing_for_good():
            self.check_arguments()
            request, calls = self._request(context), self.hook.client.calls
            layout = self.layout(context, self.output_path)
            file = AnswerFile(layout, "Response")
            if _only_asks(self.method, urlsplit(request.url).path, self.idempotent):
                client = self.hook.client
                response = client.run(client.accounted.send(request, calls.send(request, idempotent=True)))
                return summary(response, file.keep(response))
            again = True if self.on_ambiguous == "resend" else self.idempotent
            outcome = send_once(
                self,
                context,
                layout,
                what=request.label,
                content=b"\0".join((request.method.encode(), request.url.encode(), request.body or b"")),
                send=lambda: answered(calls.send(request, idempotent=again), file),
                disclosure=of_request(request, calls.settings.base_url),
            )
        return told(outcome)

    def _request(self, context: Context) -> Request:
        return self.hook.client.calls.prepared(
            self.method,
            self._path(context),
            params=self.checked("query_params", self.rendered(self.query_params, context)),
            form=self.checked("form", self.rendered(self.form, context)),
            json=self.checked("json", self.rendered(self.json, context)),
            data=self.checked("data", self.rendered(self.data, context)),
            headers=self.headers,
        )

    def _path(self, context: Context) -> str:
        path = self.checked("path", self.rendered(self.path, context))
        if not isinstance(path, str) or not path.strip("/"):
            raise RedoxConfigError("path: must be text that names something below the connection's host")
        return path


def _only_asks(method: str, path: str, idempotent: bool | None) -> bool:  # noqa: FBT001
    """Say what method and path alone tell. Some Data Model messages only ask too; the query operator knows them."""
    if idempotent is not None:
        return idempotent
    return method.upper() in ("GET", "HEAD") or (method.upper() == "POST" and path.endswith("/_search"))
