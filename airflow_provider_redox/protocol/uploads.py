"""Upload files that are too large for a message, and refer to each by the URI that the upload returns.

A file travels as `multipart/form-data`, field `file`, to the connection's `extra.blob_url`, and is read while it is sent.
Its name stays here: a file's name may be a patient's. `{"$upload": "path"}` in the payload that a DAG's author wrote stands
for such a URI. In data (from a template, an XCom or a file) the same mark is refused: the sender of a message must not
choose which file of the worker is sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

from airflow_provider_redox.exceptions import RedoxConfigError, RedoxProtocolError
from airflow_provider_redox.protocol.effects import FileBody, RedoxResponse, Request
from airflow_provider_redox.protocol.values import step

MAX_BYTES = 30 * 1024 * 1024
"""Bytes of one file (Redox, quotas and constraints, August 2025)."""

PATH = "/upload"
LABEL = f"POST (blob) {PATH}"
MARK = "$upload"
PLACEHOLDER = "https://blob.redoxengine.com/not-uploaded-yet"
"""Stands for the URI while a payload is checked and nothing has been uploaded."""

_KINDS = {
    "pdf": "application/pdf",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "rtf": "application/rtf",
    "txt": "text/plain",
    "xml": "application/xml",
    "html": "text/html",
}
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,30}:[\x21-\x7e]{1,2000}")


@dataclass(frozen=True, slots=True)
class File:
    """A file to upload.

    :param size: its bytes.
    :param open: opens it at its start; called once for each try.
    :param suffix: what its name ends with, such as `pdf`, without the dot.
    """

    size: int
    open: Callable[[], BinaryIO] = field(repr=False)
    suffix: str = ""


def request(blob_url: str, file: File, headers: Mapping[str, str], *, boundary: str) -> Request:
    """Make the request that uploads a file. Raises `RedoxConfigError` for one that Redox does not take."""
    check_size(file.size, where="file")
    suffix = file.suffix.lower()
    name = f"file.{suffix}" if suffix in _KINDS else "file"
    kind = _KINDS.get(suffix, "application/octet-stream")
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: {kind}\r\n\r\n'
    ).encode("ascii")
    tail = f"\r\n--{boundary}--\r\n".encode("ascii")
    body = FileBody(file.open, file.size, head, tail)
    form = {
        "content-type": f"multipart/form-data; boundary={boundary}",
        "content-length": str(body.length),
        "accept": "application/json",
    }
    return Request("POST", f"{blob_url}{PATH}", LABEL, {**headers, **form}, file=body)


def check_size(size: int, *, where: str) -> None:
    """Raise `RedoxConfigError` for a file that is empty or larger than Redox takes."""
    if size == 0:
        raise RedoxConfigError(f"{where}: the file is empty")
    if size > MAX_BYTES:
        raise RedoxConfigError(f"{where}: the file has {size} bytes, and Redox takes {MAX_BYTES}")


def read_uri(response: RedoxResponse, url: str) -> str:
    """Return the URI of the uploaded file. Redox answers 201 and `{"URI": "..."}`; variants and `Location` are accepted.

    Raises `RedoxProtocolError` if there is no URI, or only the request's own `url`, which an echo would return.
    """
    answer = response.json() if response.body.strip() else {}
    told = {str(name).lower(): value for name, value in answer.items()} if isinstance(answer, dict) else {}
    made = response.headers.get("location") if response.status == 201 else None
    candidates = [told.get("uri"), told.get("url"), made]
    found = next((one for one in candidates if isinstance(one, str) and _URI.fullmatch(one) and one != url), None)
    if found is None:
        raise RedoxProtocolError(f"HTTP {response.status}, but the answer does not say where the uploaded file is")
    return found


class Upload(NamedTuple):
    """A file that the author of a message named to be uploaded. Airflow renders a named tuple's members."""

    path: Any


def marked(payload: Any) -> Any:
    """Return a copy of what an author wrote, with an `Upload` for each `{"$upload": "path"}`.

    Data that is rendered later cannot become an `Upload`. Raises `RedoxConfigError` for a mark with other members.
    """
    return _marked(payload, "")


def uploads_in(payload: Any) -> dict[str, str]:
    """Return the files that a payload wants uploaded: each path once, with the first place that names it.

    Raises `RedoxConfigError` for an `Upload` without a path, and for a `$upload` that is data.
    """
    found: dict[str, str] = {}
    for path, where in _uploads(payload, ""):
        found.setdefault(path, where)
    return found


def with_uris(payload: Any, uris: Mapping[str, str]) -> Any:
    """Return a copy of a payload in which each `Upload` is the URI of its path."""
    if isinstance(payload, Upload):
        return uris[payload.path]
    if isinstance(payload, Mapping):
        return {name: with_uris(value, uris) for name, value in payload.items()}
    if isinstance(payload, list | tuple):
        return [with_uris(value, uris) for value in payload]
    return payload


def replace_uploads(payload: Any, upload: Callable[[str], str]) -> Any:
    """Upload what a payload names by `Upload(path)`, each file once, and return a copy of it with URIs instead.

    A payload that names nothing is returned as it is. Raises what `uploads_in` and `upload` raise.
    """
    found = uploads_in(payload)
    return with_uris(payload, {path: upload(path) for path in found}) if found else payload


def without_uploads(payload: Any) -> Any:
    """Return a payload with a placeholder for each URI, so that it can be validated before anything is uploaded."""
    found = uploads_in(payload)
    return with_uris(payload, dict.fromkeys(found, PLACEHOLDER)) if found else payload


def _marked(value: Any, place: str) -> Any:
    if isinstance(value, Mapping):
        if MARK in value:
            if len(value) != 1:
                raise _no_path(place)
            return Upload(value[MARK])
        return {name: _marked(inner, step(place, name)) for name, inner in value.items()}
    if type(value) in (list, tuple):
        return [_marked(inner, step(place, number)) for number, inner in enumerate(value)]
    return value


def _uploads(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Upload):
        if not isinstance(value.path, str) or not value.path.strip():
            raise _no_path(place)
        yield value.path, place
    elif isinstance(value, Mapping):
        if MARK in value:
            raise RedoxConfigError(
                f"payload: {place or '/'}: $upload is data here, and data must not choose a file of the worker. It counts "
                "only where the DAG itself has it, in a RedoxDataModelPostOperator's payload (its path may be templated); "
                "else upload the file before, and put its URI there"
            )
        for name, inner in value.items():
            yield from _uploads(inner, step(place, name))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _uploads(inner, step(place, number))


def _no_path(place: str) -> RedoxConfigError:
    return RedoxConfigError(f'payload: {place or "/"}: must be {{"{MARK}": "path of a file"}} and nothing else')
