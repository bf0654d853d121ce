"""What an answer says that is neither a page nor a log: one resource, or what became of a writeback."""

from __future__ import annotations

from typing import Any

from airflow_provider_redox.exceptions import RedoxProtocolError
from airflow_provider_redox.protocol.effects import RedoxResponse
from airflow_provider_redox.protocol.failures import meta_errors
from airflow_provider_redox.protocol.pages import destination_error

_FAILED = ("error", "fatal")


def read_resource(response: RedoxResponse, resource_type: str, resource_id: str) -> RedoxResponse:
    """Take the answer to a read: that resource, and no other. Raises `RedoxProtocolError` and `RedoxDestinationError`."""
    resource = _resource(response)
    if (resource["resourceType"], resource.get("id", resource_id)) != (resource_type, resource_id):
        raise RedoxProtocolError(f"HTTP {response.status}, but the answer is another resource than was asked for")
    return response


def _resource(response: RedoxResponse) -> dict[str, Any]:
    resource = response.json()
    if not isinstance(resource, dict) or "resourceType" not in resource:
        raise RedoxProtocolError(f"HTTP {response.status}, but the answer is not a FHIR resource")
    if resource["resourceType"] == "OperationOutcome":
        raise destination_error(response)
    return resource


def read_written(response: RedoxResponse) -> RedoxResponse:
    """Take a writeback's answer: empty, or any JSON object that does not say that the destination failed.

    Redox does not document it. A login page with status 200 is no answer of Redox's.
    """
    if not response.body.strip():
        return response
    answer = response.json()
    if not isinstance(answer, dict):
        raise RedoxProtocolError(f"HTTP {response.status}, but the answer is not a JSON object")
    entries = answer.get("entry")
    entries = entries if isinstance(entries, list) else []
    inner = [entry.get("resource") for entry in entries if isinstance(entry, dict)]
    if meta_errors(answer) or any(_says_failed(resource) for resource in (answer, *inner)):
        raise destination_error(response)
    return response


def _says_failed(resource: Any) -> bool:
    if not isinstance(resource, dict):
        return False
    issues, reply = resource.get("issue"), resource.get("response")
    failed = [issue for issue in issues if isinstance(issue, dict)] if isinstance(issues, list) else []
    refused = isinstance(reply, dict) and reply.get("code") in ("fatal-error", "transient-error")
    return refused or any(issue.get("severity") in _FAILED for issue in failed)
