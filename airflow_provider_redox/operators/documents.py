"""Download the documents behind references: C-CDA, PDF, images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.links.results import ResultsLink
from airflow_provider_redox.operators.arguments import CONCURRENCY_AT_MOST, PLACE, PLACE_OR_MANIFEST, TEXTS, choice, whole
from airflow_provider_redox.operators.base import RedoxOperator

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_redox.operators.arguments import Rules
    from airflow_provider_redox.operators.signatures import RedoxArguments


class RedoxDocumentDownloadOperator(RedoxOperator):
    """Write documents to storage, each to a file of its own, in flat memory; the result is a manifest.

    What a `DocumentReference`, `DiagnosticReport`, `Media` or `Binary`, or a Data Model answer, holds as base64 or points to
    is taken: a Binary on the destination's own FHIR server, or a file at `extra.blob_url`. Any other URL is refused before
    anything is sent.

    The manifest lists one file of NDJSON of the type `Document`, with a line for each: `url`, `contentType`, `size`,
    `sha256`, the `source` by resource type and ID, and the `part` of it. `read_resources(manifest, "Document")` reads it,
    and `read_document(entry)` a document.

    Documents are downloaded concurrently, and one that fails does not affect the others: each has a line in the list that
    `extension.searches` names. The next try downloads only those that failed or were not reached.

    :param manifest: what a search or a query returned, or the URL or path of its `manifest.json`, or a list of such.
    :param urls: URLs of documents instead, or relative ones such as `Binary/<id>`. Templated when the task runs, and kept
        out of rendered fields and of the serialized DAG.
    :param output_path: where results go: a URL such as `s3://conn_id@bucket/prefix`. By default `[redox] output_root`.
    :param max_concurrency: documents under way at a time; the destination's own `max_concurrency` holds too.
    :param max_bytes: of one document; a larger one is an error. One that comes as base64 in JSON has 64 MB at most, and is
        in memory for a while.
    :param on_error: `fail`, or `record` to succeed with the documents that could be downloaded.
    :param on_mismatch: what to do with a document whose size or hash is not what its resource states, that does not begin as
        its media type does, or whose answer does not show where it ends: `fail` it, or `warn` and keep it, with the reason
        as `mismatch` in its line.
    """

    template_fields: Sequence[str] = (*RedoxOperator.template_fields, "output_path")
    rendered_privately = ("manifest", "urls")
    rules: ClassVar[Rules] = {
        "manifest": PLACE_OR_MANIFEST,
        "urls": TEXTS,
        "output_path": PLACE,
        "max_concurrency": whole(1, CONCURRENCY_AT_MOST),
        "max_bytes": whole(1, 2**40),
        "on_error": choice("fail", "record"),
        "on_mismatch": choice("fail", "warn"),
    }
    operator_extra_links = (ResultsLink(),)

    def __init__(
        self,
        *,
        manifest: Mapping[str, Any] | str | Sequence[Any] | XComArg | None = None,
        urls: Sequence[str] | XComArg | None = None,
        output_path: str | None = None,
        max_concurrency: int = 4,
        max_bytes: int = 100 * 1024 * 1024,
        on_error: Literal["fail", "record"] = "fail",
        on_mismatch: Literal["fail", "warn"] = "fail",
        **kwargs: Unpack[RedoxArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.manifest = manifest
        self.urls = urls
        self.output_path = output_path
        self.max_concurrency = max_concurrency
        self.max_bytes = max_bytes
        self.on_error = on_error
        self.on_mismatch = on_mismatch
        self.depend_on(manifest, urls)
        self.check_literals()
        if (manifest is None) == (urls is None):
            raise RedoxConfigError("manifest, urls: give one of them")

    def execute(self, context: Context) -> dict[str, Any]:
        """Write the documents and give the manifest."""
        from airflow_provider_redox.operators.assets import tell_assets
        from airflow_provider_redox.operators.pulls.fetching import Fetching

        with failing_for_good():
            self.check_arguments()
            fetching = Fetching.prepare(self, context)
            manifest = fetching.run()
        self.log.info("Documents: %(documents)d, failed: %(failed)d.", manifest["extension"])
        tell_assets(context, manifest, manifest_url=fetching.layout.manifest)
        return manifest
