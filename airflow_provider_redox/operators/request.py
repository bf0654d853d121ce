"""Any request to Redox that no other operator makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.operators.base import RedoxOperator
from airflow_provider_redox.operators.once import refuse_second_try, summary

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class RedoxRequestOperator(RedoxOperator):
    """Send one request of any method to any path below the connection's host, and write the answer's body to storage.

    A request that only asks (`GET`, `HEAD`, a FHIR `_search`, or any with `idempotent=True`) is repeated after faults that
    pass, and Airflow's retries are free. Any other is sent at most once: `retries` is 0, whatever the task or the DAG's
    default_args say, and an unknown outcome is a `RedoxAmbiguousOutcomeError`. Every status but 2xx is an error.

    The result is `{"status": 200, "trace_id": "...", "results_url": "..."}`; `results_url` is None when there is no body.

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

    Path, query_params, form, json and data are templated when the task runs, and kept out of rendered fields and of the
    serialized DAG; a mapped task's arguments (`partial`, `expand`) are in it.
    """

    template_fields: Sequence[str] = (*RedoxOperator.template_fields, "output_path")

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
        **kwargs: Any,
    ) -> None:
        if not _only_asks(method, path, idempotent):
            kwargs["retries"] = 0
        super().__init__(**kwargs)
        self.method = method
        self.path = path
        self.query_params = query_params
        self.form = form
        self.json = json
        self.data = data
        self.idempotent = idempotent
        self.output_path = output_path
        self.depend_on(path, query_params, form, json, data)

    def execute(self, context: Context) -> dict[str, Any]:
        """Send the request and give its status, its trace ID and where its body is."""
        from airflow_provider_redox.storage.bodies import AnswerFile

        with failing_for_good():
            path = self._path(context)
            flow = self.hook.client.calls.request(
                self.method,
                path,
                params=self.rendered(self.query_params, context),
                form=self.rendered(self.form, context),
                json=self.rendered(self.json, context),
                data=self.rendered(self.data, context),
                headers=self.headers,
                idempotent=self.idempotent,
            )
            file = AnswerFile(self.layout(context, self.output_path), "Response")
            repeatable = _only_asks(self.method, path, self.idempotent)
            if not repeatable:
                refuse_second_try(context["ti"])
                file.prove()
            response = self.hook.client.run(flow)
        return summary(response, file.keep(response) if repeatable else file.keep_if_possible(response))

    def _path(self, context: Context) -> str:
        path = self.rendered(self.path, context)
        if not isinstance(path, str) or not path.strip("/"):
            raise RedoxConfigError("path: must be text that names something below the connection's host")
        return path


def _only_asks(method: Any, path: Any, idempotent: bool | None) -> bool:  # noqa: FBT001
    """Say what method and path alone tell. Some Data Model messages only ask too; the query operator knows them."""
    if idempotent is not None:
        return idempotent
    verb = method.upper() if isinstance(method, str) else ""
    searches = isinstance(path, str) and path.partition("?")[0].endswith("/_search")
    return verb in ("GET", "HEAD") or (verb == "POST" and searches)
