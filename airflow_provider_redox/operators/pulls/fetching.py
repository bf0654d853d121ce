"""The documents of one task: found in what an earlier task wrote, then had one by one, each into its file.

What a resource holds itself is written while it is found, as it is at hand then and would have to be kept in memory later.
What lies elsewhere is asked for side by side. The rest is as with searches; see `drain.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_redox.checks import given
from airflow_provider_redox.client.bodies import NotTakenError
from airflow_provider_redox.client.sync import SyncClient
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxError
from airflow_provider_redox.operators.pulls.asks import Anew, Piece
from airflow_provider_redox.operators.pulls.drain import Drain, resumable_results
from airflow_provider_redox.protocol.attachments import Attachment, at, attachments_of
from airflow_provider_redox.protocol.contents import beyond_help, content_of
from airflow_provider_redox.protocol.disclosure import READ, Disclosure
from airflow_provider_redox.protocol.documents import is_in_blobs, judged
from airflow_provider_redox.protocol.media_types import kind_of
from airflow_provider_redox.protocol.pages import Resource
from airflow_provider_redox.protocol.paging import Position
from airflow_provider_redox.protocol.patients import patients_of_body
from airflow_provider_redox.storage.documents import DOCUMENTS, Entry, Incoming
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.layout import Layout
from airflow_provider_redox.storage.reading import parse_manifest
from airflow_provider_redox.storage.shapes import RAW, Shape
from airflow_provider_redox.storage.tries import Tries

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_redox.operators.documents import RedoxDocumentDownloadOperator

DOCUMENTS_AT_MOST = 250_000
"""Documents of one task. What is known of them is held in memory, a few hundred bytes for each."""


@dataclass(slots=True)
class Found:
    """A document that is to be had, and what became of one that its resource held itself."""

    attachment: Attachment
    had: Entry | RedoxError | None = None


@dataclass(slots=True)
class DocumentAsk:
    """One document, as a question."""

    operator: RedoxDocumentDownloadOperator
    client: SyncClient
    found: Found
    incoming: Incoming
    astray: bool = False
    request: str = ""

    def pieces(self, position: Position, seen: set[int]) -> Iterator[Piece | Anew]:  # noqa: ARG002  (it is whole or not there)
        """Have the document, and give its line."""
        if isinstance(self.found.had, RedoxError):
            raise self.found.had
        entry = self.found.had or self._asked_for()
        over = Position(pages=1, requests=int(self.found.had is None), matches=1)
        yield Piece([Resource(DOCUMENTS, None, None, None, entry.line)], [], over, [])

    def _asked_for(self) -> Entry:
        flow = self.client.calls.document(
            self.found.attachment,
            self.incoming,
            destination=self.operator.destination,
            environment=self.operator.environment,
            headers=self.operator.headers,
            on_mismatch=self.operator.on_mismatch,
        )
        try:
            kind, content, mismatch = self.client.run(flow)
            return self.incoming.keep(mismatch) if content is None else self.incoming.whole(kind, content, mismatch)
        except NotTakenError as error:
            raise error.__cause__ or error from None
        finally:
            self.incoming.drop()


@dataclass(slots=True)
class Fetching:
    """The documents of one task, ready to be had."""

    drain: Drain
    layout: Layout
    request: str
    client: SyncClient

    @classmethod
    def prepare(cls, operator: RedoxDocumentDownloadOperator, context: Context) -> Fetching:
        """Find the documents, and check all that can be checked before the first request. Raises `RedoxConfigError`."""
        layout, client = operator.layout(context, operator.output_path), operator.hook.client
        files = Files(layout.root, name=layout.argument)
        tries = Tries(files, layout)
        attachments = _attachments(operator, context, collects=client.recorder.collects)
        found: list[Found] = []
        for number, one in enumerate(attachments):
            if number == DOCUMENTS_AT_MOST:
                raise RedoxConfigError(f"manifest: more than {DOCUMENTS_AT_MOST} documents; divide them over several tasks")
            attempt = tries.number or tries.begin()
            incoming = Incoming(files, layout, number, one, limit=operator.max_bytes, attempt=attempt)
            found.append(_at_hand(operator, one, incoming))
        if any(one.had is None and not is_in_blobs(one.attachment, client.settings.blob_url) for one in found):
            client.calls.endpoint(operator.destination, operator.environment)
        results = resumable_results(
            layout,
            client.settings,
            [(each.source, each.part, each.url) for each in (one.attachment for one in found)],
            many=True,
            compression=None,
            tries=tries,
        )

        def ask(index: int) -> DocumentAsk:
            one = found[index]
            incoming = Incoming(files, layout, index, one.attachment, limit=operator.max_bytes, attempt=tries.number)
            return DocumentAsk(operator, client, one, incoming)

        drain = Drain(
            len(found),
            ask,
            lambda index: f"{found[index].attachment.source} {found[index].attachment.part}".strip(),
            results,
            Shape(RAW, layout.destination, layout.environment, layout.owner.run_id),
            many=True,
            threads=operator.max_concurrency,
            on_error=operator.on_error,
            tell=operator.log.info,
            things="documents",
            of_resources=False,
            disclosure=_disclosure(operator, found),
        )
        return cls(drain, layout, client.settings.base_url, client)

    def run(self) -> dict[str, Any]:
        """Have the documents and give the manifest."""
        drain = self.drain
        with drain.results as results:
            with self.client.on_record(drain.disclosure):
                progress = drain.run()
            return results.commit(
                transaction_time=drain.transaction_time,
                request=self.request,
                extension={
                    "documents": progress.resources,
                    "requests": progress.requests,
                    "failed": len(progress.failed),
                },
            )


def _attachments(operator: RedoxDocumentDownloadOperator, context: Context, *, collects: bool) -> Iterable[Attachment]:
    if operator.urls is not None:
        return _named(operator.checked("urls", operator.rendered(operator.urls, context)))
    rendered = operator.checked("manifest", operator.rendered(operator.manifest, context))
    return _listed(rendered, collects=collects)


def _named(urls: Sequence[str]) -> list[Attachment]:
    return [at(f"urls[{number}]", "", url) for number, url in enumerate(urls)]


def _listed(manifest: Any, *, collects: bool) -> Iterator[Attachment]:
    one = isinstance(manifest, str | Mapping | PathLike) or hasattr(manifest, "fs")
    manifests = [manifest] if one else list(manifest)
    for part in manifests:
        for _, line in parse_manifest(part).resources(None):
            people = tuple(patients_of_body(line)) if collects else ()
            for attachment in attachments_of(_resource(line)):
                yield replace(attachment, patients=people) if collects else attachment


def _disclosure(operator: RedoxDocumentDownloadOperator, found: Sequence[Found]) -> Disclosure:
    """Begin the record: all documents that are asked for, and whom they are about."""
    calls = operator.hook.client.calls
    named = given(operator.destination, calls.settings.destination, name="destination")
    server = calls.endpoint(named, operator.environment).url if named else calls.settings.base_url
    environment = calls.settings.environment_for(operator.environment) or ""
    asked = b"\n".join((one.attachment.url or one.attachment.source).encode() for one in found)
    disclosure = Disclosure(READ, "documents", server, named or "", environment, {"hash": asked})
    for one in found:
        disclosure.saw(one.attachment.patients)
    return disclosure


def _resource(line: bytes) -> Mapping[str, Any]:
    try:
        resource = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        resource = None
    if not isinstance(resource, dict):
        raise RedoxConfigError("manifest: a file of it holds a line that is no resource and no answer")
    return resource


def _at_hand(operator: RedoxDocumentDownloadOperator, attachment: Attachment, incoming: Incoming) -> Found:
    """Write what the resource holds itself, and let go of it."""
    if attachment.fault:
        return Found(attachment, beyond_help(attachment.fault))
    if attachment.data is None:
        return Found(attachment)
    known = replace(attachment, data=None)
    try:
        content = content_of(attachment.data, attachment.coding, attachment.declared)
        kind, _, mismatch = judged(kind_of("", attachment.declared), content, attachment, on_mismatch=operator.on_mismatch)
        return Found(known, incoming.whole(kind, content, mismatch))
    except RedoxError as error:
        error.retryable = False  # the resource lies in storage: it will say the same the next time
        return Found(known, error)
