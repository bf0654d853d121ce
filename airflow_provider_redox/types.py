"""The shapes of what tasks return, for annotations in a DAG file. Importing this loads nothing.

@task
def count(manifest: Manifest) -> int:
return sum(file["count"] for file in manifest["output"])
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict


class ManifestFile(TypedDict):
    """A file of a result: NDJSON with the resources of one type; `count` is the number of lines."""

    type: str
    url: str
    count: int
    sha256: str


class Manifest(TypedDict):
    """What a search, a read, a Data Model query or a download of documents returns: a FHIR Bulk Data manifest.

    The keys of `extension` depend on what was asked for: `pages` and `requests`; `watermark`, the instant up to which
    changes are known; `searches`, the URL of the list of several searches; `merged`, an entry for each of those merged.
    """

    transactionTime: str | None
    request: str
    requiresAccessToken: bool
    output: list[ManifestFile]
    error: list[ManifestFile]
    extension: dict[str, Any]


class SearchLine(TypedDict):
    """What became of one search of several, as `read_searches` gives it."""

    index: int
    key: str
    status: Literal["none", "one", "many", "error"]
    count: NotRequired[int]
    ids: NotRequired[list[str]]
    error: NotRequired[str]
    said: NotRequired[str]


class PostResult(TypedDict):
    """What a post of Data Model messages returns: how many, up to 50 log IDs, and where the line of each message is."""

    accepted: int
    refused: int
    ambiguous: int
    log_ids: list[str]
    results_url: str | None
    already_sent: NotRequired[int]
    delivered: NotRequired[int]


class AnswerResult(TypedDict):
    """What a writeback, or any other request, returns; `results_url` is where the answer's body is, if there is one."""

    status: int | None
    trace_id: str | None
    results_url: str | None
    already_sent: NotRequired[int]


class UploadResult(TypedDict):
    """What an upload returns: how many files, and the URI of each."""

    uploaded: int
    uris: list[str]
