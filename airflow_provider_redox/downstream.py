"""Read the results of a search in a later task: `for patient in read_resources(manifest, "Patient")`; and an inbox.

In flat memory, from any store that the files are on, with the credentials of the connection that the URLs name. Each file
is checked against the manifest while it is read; the error comes at its end, so let it fail the task. Importing this
module loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_redox.checks import given
from airflow_provider_redox.exceptions import RedoxConfigError, RedoxProtocolError

if TYPE_CHECKING:
    from os import PathLike

    from airflow_provider_redox.storage.inbox.consuming import Consumer, InboxMessage
    from airflow_provider_redox.types import Manifest, SearchLine


def read_resources(
    manifest: Mapping[str, Any] | str | PathLike[str], resource_type: str | None = None
) -> Iterator[dict[str, Any]]:
    """Give each resource as a dict, in the manifest's order.

    Decimals become floats, and `1.10` becomes `1.1`; where digits count, take `read_lines`.

    :param manifest: what a search returned, or the URL or path of its `manifest.json`.
    :param resource_type: only the files of this type are opened; all under `output` by default. Outcomes, listed under
        `error`, are given when their type is asked for.
    :raises RedoxConfigError: this is no manifest, or a driver of its store is missing.
    :raises RedoxProtocolError: a file is missing, cut short, or not the one that the search wrote.
    """
    return _resources(_lines(manifest, resource_type))


def read_lines(manifest: Mapping[str, Any] | str | PathLike[str], resource_type: str | None = None) -> Iterator[bytes]:
    """Give each resource as the line of JSON that the server sent, every digit kept. The rest as `read_resources`."""
    return (line for _, line in _lines(manifest, resource_type))


def read_searches(manifest: Mapping[str, Any] | str | PathLike[str]) -> Iterator[SearchLine]:
    """Give what became of each search of a cohort, or of a list of searches, in their order.

    Each is `{"index": 0, "key": "...", "status": "none" | "one" | "many" | "error", "count": 1, "ids": ["..."]}`, IDs up to
    a hundred, and of one that failed the `error`'s class and what it `said`. The rest as `read_resources`; nothing comes
    of a result that was a single search.
    """
    from airflow_provider_redox.storage.reading import searches

    return cast("Iterator[SearchLine]", searches(manifest))


def read_document(entry: Mapping[str, Any]) -> bytes:
    """Give the bytes of a document, checked.

    :param entry: a line of the list of documents, as `read_resources(manifest, "Document")` gives it.
    :raises RedoxConfigError: this is no such line, or a driver of its store is missing.
    :raises RedoxProtocolError: the file is missing, or is not the one that was written.
    """
    from airflow_provider_redox.storage.reading import document

    return document(entry)


def merge_manifests(manifests: Iterable[Any]) -> Manifest:
    """Make one manifest of several, such as those of mapped tasks, one for each destination; `read_resources` reads it.

    Its `extension.merged` says of each what it was: `request`, `transactionTime`, `watermark`, and `resources`, so that
    watermarks stay apart. Its own `transactionTime` and `watermark` are the earliest of all, `null` where one is. What is
    None, as of a mapped task that was skipped, is left out.

    :param manifests: what searches returned, or the URLs or paths of their `manifest.json`.
    :raises RedoxConfigError: one of them is no manifest, by its number; or their lines are of different shapes.
    """
    from airflow_provider_redox.storage.merging import merged

    return cast("Manifest", merged(manifests))


def _lines(manifest: Any, resource_type: str | None) -> Iterator[tuple[str, bytes]]:
    from airflow_provider_redox.storage.reading import parse_manifest

    return parse_manifest(manifest).resources(resource_type)


def _resources(lines: Iterator[tuple[str, bytes]]) -> Iterator[dict[str, Any]]:
    import msgspec

    decoder = msgspec.json.Decoder(dict[str, Any])
    for name, line in lines:
        try:
            yield decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise RedoxProtocolError(
                f"{name}: holds a line that is not a resource; it was changed after it was written"
            ) from None


def read_messages(
    event: Any,
    *,
    inbox_path: str | None = None,
    state_path: str | None = None,
    consumer: str | None = None,
    max_tries: int | None = None,
    include_done: bool = False,
) -> Iterator[InboxMessage]:
    """Give each message that an inbox told of, in the order of arrival, once for each consumer.

    A message is acknowledged when the loop goes on to the next one; `message.retry()` and `message.dead_letter()` say
    otherwise. One whose handling fails stays open, and is the first that the next try of the task is given. A message that
    another run of the same task holds is passed over, so that an event that is told twice is handled once.

    :param event: an asset event or its `extra`, all of `triggering_asset_events`, or what `RedoxInboxSensor` returned.
    :param inbox_path: the trigger's: refuse events of another inbox. Who may create asset events could else name any place.
    :param state_path: the trigger's, where it has one.
    :param consumer: whose marks are kept, by default those of this task: `dag_id.task_id`.
    :param max_tries: give a message up, as `dead_letter` does, when it was handed out so often.
    :param include_done: give what was acknowledged by this same run, too: to do its work again after a clear.
    :raises RedoxConfigError: this is no such event, or no task is running and no consumer is named.
    :raises RedoxProtocolError: messages are gone from the inbox; told after all others were given.
    """
    from airflow_provider_redox.storage.inbox.consuming import Desk, events_of
    from airflow_provider_redox.storage.inbox.listing import base_of
    from airflow_provider_redox.storage.inbox.place import inbox_root

    whose = _consumer(consumer)
    inbox = None if inbox_path is None else base_of(inbox_root(inbox_path))
    state = None if state_path is None else inbox_root(state_path, name="state_path")
    for one in list(events_of(event, inbox=inbox, state=state)):
        for message in Desk(one, whose).messages(max_tries=max_tries, done_too=include_done):
            yield message
            if message.is_open:
                message.acknowledge()


def _consumer(name: str | None) -> Consumer:
    from airflow.providers.common.compat.sdk import get_current_context

    from airflow_provider_redox.storage.inbox.consuming import Consumer

    name = given(name, None, name="consumer")
    try:
        ti = get_current_context()["ti"]
    except Exception:  # noqa: BLE001  (each Airflow has its own error for "not in a task")
        if name is None:
            raise RedoxConfigError("consumer: must be named where no task is running") from None
        return Consumer(name, name)
    owner = "/".join((ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index)))
    return Consumer(name or f"{ti.dag_id}.{ti.task_id}", owner)
