"""Upload files to Redox, by themselves or as parts of a message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError, RedoxConfigError
from airflow_provider_redox.hooks.edge import failing_for_good
from airflow_provider_redox.operators.arguments import FLAG, PLACE, PLACES
from airflow_provider_redox.operators.base import RedoxOperator
from airflow_provider_redox.operators.sends.once import OnceOperator, send_once

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_redox.operators.arguments import Rules
    from airflow_provider_redox.operators.sends.sending import Sent
    from airflow_provider_redox.operators.signatures import RedoxArguments
    from airflow_provider_redox.protocol.effects import Flow
    from airflow_provider_redox.protocol.uploads import File
    from airflow_provider_redox.storage.layout import Layout


class RedoxUploadOperator(OnceOperator):
    """Upload files of up to 30 MB each from storage, and give the URIs to put into messages.

    Every file is looked at before the first is sent, and read while it is sent. Its name stays here.

    An upload is sent at most once: a line in storage and a marker in Airflow's database are written before a file leaves,
    and a retry, a clear or another worker reads them. A file that was uploaded keeps its URI, and one that may have been
    raises `RedoxAmbiguousOutcomeError`. With `idempotent=True` nothing is written and every try uploads: a second copy that
    no message names does no harm.

    The result is `{"uploaded": 2, "uris": ["...", "..."]}`, in the order of the paths.

    :param path: one file: an absolute path, or a URL such as `s3://conn_id@bucket/key`.
    :param paths: several, instead of `path`.
    :param idempotent: True to have an upload repeated where it may have arrived.
    :param output_path: where the lines of the uploads go: a URL such as `s3://conn_id@bucket/prefix`. By default
        `[redox] output_root`.
    :param on_ambiguous: when nobody can tell: `fail`, or `resend`.
    :param resend: let the first try after a clear upload, whatever earlier tries did.
    """

    template_fields: Sequence[str] = (*RedoxOperator.template_fields, "path", "paths", "output_path")
    rules: ClassVar[Rules] = {"path": PLACE, "paths": PLACES, "idempotent": FLAG, "output_path": PLACE}

    def __init__(
        self,
        *,
        path: str | XComArg | None = None,
        paths: Sequence[str] | XComArg | None = None,
        idempotent: bool = False,
        output_path: str | None = None,
        on_ambiguous: Literal["fail", "resend"] = "fail",
        resend: bool = False,
        **kwargs: Unpack[RedoxArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.paths = paths
        self.idempotent = idempotent
        self.output_path = output_path
        self.on_ambiguous = on_ambiguous
        self.resend = resend
        self.check_literals()
        if (path is None) == (paths is None):
            raise RedoxConfigError("path, paths: give one of them")

    def execute(self, context: Context) -> dict[str, Any]:
        """Upload the files and give their URIs."""
        from airflow_provider_redox.storage.inputs import file_to_upload

        with failing_for_good():
            self.check_arguments()
            files = [file_to_upload(place, where=name) for name, place in self._places()]
            again = self.idempotent or self.on_ambiguous == "resend"
            flows = [self.hook.client.calls.upload(file, headers=self.headers, idempotent=again) for file in files]
            if self.idempotent:
                client = self.hook.client
                uris = [client.run(client.accounted.uploaded(flow)) for flow in flows]
            else:
                layout = self.layout(context, self.output_path)
                each, given = enumerate(zip(files, flows, strict=True)), dict[str, bytes]()
                uris = [self._upload_once(context, layout, number, file, flow, given) for number, (file, flow) in each]
        self.log.info("Uploaded %d files, %d bytes.", len(files), sum(file.size for file in files))
        return {"uploaded": len(uris), "uris": uris}

    def _upload_once(
        self, context: Context, layout: Layout, number: int, file: File, flow: Flow[str], given: dict[str, bytes]
    ) -> str:
        """Upload a file, unless an earlier try did.

        `given`: the URIs of the files before it, with hashes of their content.
        """
        from airflow_provider_redox.protocol.accounted import of_upload
        from airflow_provider_redox.storage.inputs import digest_of_file

        digest = digest_of_file(file)
        outcome = send_once(
            self,
            context,
            layout,
            what=f"an upload, file {number + 1}",
            content=digest,
            send=lambda: _uri(flow, number, digest, given),
            disclosure=of_upload(self.hook.client.settings.blob_url),
            number=number,
            noun="file",
        )
        uri = outcome.facts.get("uri")
        if not isinstance(uri, str):
            raise RedoxAmbiguousOutcomeError(
                f"file {number + 1} was uploaded by an earlier try, whose answer could not be stored: nobody knows its URI. "
                "Nothing was uploaded now. Clear the task with resend=True to upload it again"
            )
        given[uri] = digest
        return uri

    def _places(self) -> list[tuple[str, Any]]:
        """Give what errors call each file, and its place."""
        if not isinstance(self.paths, list | tuple):
            return [("path", self.path)]
        return [(f"paths[{number}]", place) for number, place in enumerate(self.paths)]


def _uri(flow: Flow[str], number: int, digest: bytes, given: dict[str, bytes]) -> Flow[Sent]:
    """Upload. Raises `RedoxAmbiguousOutcomeError` for the URI of another file: which of them lies there is unknown."""
    from airflow_provider_redox.operators.sends.sending import Sent

    uri = yield from flow
    if given.get(uri, digest) != digest:
        raise RedoxAmbiguousOutcomeError(
            f"file {number + 1}: the answer gives the URI of an earlier file of this task, so nothing shows that this one "
            "is there. Clear the task with resend=True to upload them again"
        )
    return Sent(facts={"uri": uri})
