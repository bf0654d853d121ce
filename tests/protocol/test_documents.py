"""Where a document lies: among files that were uploaded, or on a destination's FHIR server."""

from __future__ import annotations

import pytest

from airflow_provider_redox.protocol.attachments import Attachment
from airflow_provider_redox.protocol.documents import is_in_blobs

HOST = "https://gateway.example/redox"


def lies_in_blobs(url: str, blob_url: str) -> bool:
    return is_in_blobs(Attachment("DocumentReference/1", "content[0]", url=url), blob_url)


@pytest.mark.parametrize(
    "path",
    [
        "/fhir/R4/other-hospital/Production/Patient/1",
        "/%66hir/R4/other-hospital/Production/Patient/1",
        "/FHIR/R4/other-hospital/Production/Patient/1",
        "/platform/v1/organizations/1/logs/1",
        "/v2/auth/token",
        "/endpoint",
        "/fhir;x/R4/other-hospital/Production/Patient/1",
        "/v1/logs/1",
        "/blob/1/platform/v1",
        "/blob/",
        "/upload",
    ],
)
def test_the_api_holds_no_uploaded_files(path: str) -> None:
    """Where files lie on the API's own host, a URL that a server gives leads to no other part of it."""
    assert not lies_in_blobs(f"{HOST}{path}", HOST)


def test_files_are_found_where_they_were_uploaded() -> None:
    """On a host of their own, and beside the API."""
    assert lies_in_blobs("https://blob.redoxengine.com/abc", "https://blob.redoxengine.com")
    assert lies_in_blobs(f"{HOST}/files/1", f"{HOST}/files")
    assert lies_in_blobs(f"{HOST}/blob/0f4bd1d1-451d-4351-8cfd-b767d1b488d6", HOST)
    assert not lies_in_blobs("https://elsewhere.example/files/1", HOST)
