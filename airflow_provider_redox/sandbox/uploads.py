"""The file store: ``POST /upload`` takes one file, the URI it answers gives the bytes back."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from .answers import Answer, json_answer, refuse_text
from .call import multipart_field

if TYPE_CHECKING:
    from .call import Call
    from .state import Sandbox

MAX_BYTES = 30 * 1024 * 1024


def upload(sandbox: Sandbox, call: Call) -> Answer:
    """Keep the multipart field ``file`` and answer 201 with its URI; above 30 MB answer 413."""
    content = multipart_field(call.header("Content-Type"), call.body, "file")
    if content is None:
        refuse_text(400, "The body must be multipart/form-data with a field named file.")
    if len(content) > MAX_BYTES:
        refuse_text(413, "A file may have 30 MB.")
    key = str(uuid.uuid4())
    sandbox.blobs[key] = ("application/octet-stream", content)
    return json_answer({"URI": f"{sandbox.base_url}/blob/{key}"}, status=201)


def download(sandbox: Sandbox, call: Call) -> Answer:
    """Answer ``GET /blob/{id}`` with the bytes that were uploaded."""
    if call.groups["id"] not in sandbox.blobs:
        refuse_text(404, "No file has this ID.")
    content_type, content = sandbox.blobs[call.groups["id"]]
    return Answer(200, content, content_type)
