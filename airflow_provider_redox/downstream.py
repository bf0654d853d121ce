"""Read the results of a search in a later task: `for patient in read_resources(manifest, "Patient")`.

In flat memory, from any store that the files are on, with the credentials of the connection that the URLs name. Each file
is checked against the manifest while it is read; the error comes at its end, so let it fail the task. Importing this
module loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_redox.exceptions import RedoxProtocolError

if TYPE_CHECKING:
    from os import PathLike


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


def read_searches(manifest: Mapping[str, Any] | str | PathLike[str]) -> Iterator[dict[str, Any]]:
    """Give what became of each search of a cohort, or of a list of searches, in their order.

    Each is `{"index": 0, "key": "...", "status": "none" | "one" | "many" | "error", "count": 1, "ids": ["..."]}`, IDs up to
    a hundred, and of one that failed the `error`'s class and what it `said`. The rest as `read_resources`; nothing comes
    of a result that was a single search.
    """
    from airflow_provider_redox.storage.reading import searches

    return searches(manifest)


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
