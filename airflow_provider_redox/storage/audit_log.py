"""The record of disclosures: files of FHIR AuditEvents as NDJSON, below `[redox] audit_path`.

One file for each disclosure, which is never written again, by day, DAG and run. The names of its folders and file tell
which task wrote it; whom it is about is inside alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import msgspec

from airflow_provider_redox.protocol.disclosure import Requester
from airflow_provider_redox.storage.files import Files
from airflow_provider_redox.storage.layout import Owner, safe_name


class AuditLog:
    """The record below a root URL.

    :param root: such as `s3://conn_id@bucket/audit`.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        self._files = Files(root, name="[redox] audit_path")

    def write(
        self, requester: Requester, recorded: str, events: Iterable[dict[str, Any]], *, name: str | None = None
    ) -> str | None:
        """Write the events of one disclosure, and return the URL of their file; None where it is there already.

        :param recorded: when, as an instant in UTC.
        :param name: identifies the file among those of the same try; random by default, so that it is always new.
        """
        encoder = msgspec.json.Encoder()
        url = f"{self.root}/date={recorded[:10]}/{_folder(requester)}.{name or uuid.uuid4().hex[:12]}.ndjson"
        if name is not None:
            content = b"".join(encoder.encode(event) + b"\n" for event in events)
            return url if self._files.write_new(url, content) else None
        with self._files.writing(url) as file:
            for event in events:
                file.write(encoder.encode(event) + b"\n")
        return url


def _folder(requester: Requester) -> str:
    if not requester.dag_id:
        return safe_name(requester.host or "elsewhere")
    owner = Owner(requester.dag_id, requester.run_id, requester.task_id, requester.map_index)
    return f"{owner.partition}/{owner.name}.try{requester.try_number}"
