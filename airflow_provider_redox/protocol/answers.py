"""What an answer says that is neither a page nor a log: one resource, or what became of a writeback."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_redox.exceptions import RedoxAmbiguousOutcomeError, RedoxDestinationError, RedoxProtocolError
from airflow_provider_redox.protocol import jsontext
from airflow_provider_redox.protocol.acceptance import Question, read_accepted
from airflow_provider_redox.protocol.data_model import PATH, log_ids_of
from airflow_provider_redox.protocol.effects import RedoxResponse, Request
from airflow_provider_redox.protocol.failures import issues_of, meta_errors, traced
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


def read_written(response: RedoxResponse, request: Request) -> RedoxResponse:
    """Return the answer to a writeback, if it proves that the writeback was processed.

    That is a FHIR resource, or Redox's logs; or, without a body, that something was made or that Redox answered.
    Redox does not document it; its FHIR sandbox sends a Bundle with a `response` for each entry. Raises `RedoxProtocolError`
    for what shows nothing, as a login page or our own Bundle, `RedoxDestinationError` for a refusal, and
    `RedoxAmbiguousOutcomeError` where a part was written.
    """
    if not response.body.strip():
        return _without_a_body(response)
    answer = response.json()
    if not isinstance(answer, dict):
        raise RedoxProtocolError(f"HTTP {response.status}, but the answer is not a JSON object")
    inner = [entry for entry in _list(answer.get("entry")) if isinstance(entry, dict)]
    _check_entries(response, [entry["response"] for entry in inner if isinstance(entry.get("response"), dict)])
    if meta_errors(answer) or any(_says_failed(one) for one in (answer, *(entry.get("resource") for entry in inner))):
        raise destination_error(response)
    logged = isinstance(answer.get("Meta"), dict) and log_ids_of(answer)
    if not (isinstance(answer.get("resourceType"), str) or logged):
        raise RedoxProtocolError(f"HTTP {response.status}, but the answer is no FHIR resource and names no log")
    if _is_what_was_sent(answer, request):
        raise RedoxProtocolError(f"HTTP {response.status}, but the answer is the Bundle that was sent, and no answer to it")
    return response


def read_taken(response: RedoxResponse, request: Request) -> RedoxResponse:
    """Return the answer to any other unsafe request, unless it shows a failure.

    A request that is a message or a writeback, by its path and body, needs the proof that those need.
    """
    message = request_body(request)
    if is_data_model(request, message):
        read_accepted(response, Question.of(message))
        return response
    if is_operation(request.url) and message.get("resourceType") == "Bundle":
        return read_written(response, request)
    kind = response.headers.get("content-type", "").lower()
    if "html" in kind or response.body.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise RedoxProtocolError(f"HTTP {response.status}, but the answer is an HTML page")
    answer = _parsed(response)
    if meta_errors(answer) or _says_failed(answer):
        raise destination_error(response)
    return response


def _without_a_body(response: RedoxResponse) -> RedoxResponse:
    if response.status in (201, 202, 204) or response.trace_id or response.headers.get("location"):
        return response
    raise RedoxProtocolError(f"HTTP {response.status}, but the answer is empty, and nothing shows that Redox gave it")


def _check_entries(response: RedoxResponse, replies: list[dict[str, Any]]) -> None:
    """Raise for entries that were not written. If some were written and others were not, the outcome is ambiguous."""
    statuses = [_status_of(reply) for reply in replies]
    failed = [status for status in statuses if not status.startswith("2")]
    if not failed:
        return
    said = (
        f"HTTP {response.status}, but {len(failed)} of {len(statuses)} entries were answered {', '.join(sorted({*failed}))}"
    )
    if len(failed) == len(statuses) and all(status.startswith("4") for status in failed):
        raise RedoxDestinationError(
            f"{said}{traced(response)}", status=response.status, issues=issues_of(response), trace_id=response.trace_id
        )
    raise RedoxAmbiguousOutcomeError(
        f"{said}{traced(response)}: a part of the Bundle may have been written. It is not sent again",
        status=response.status,
        trace_id=response.trace_id,
    )


def _status_of(reply: dict[str, Any]) -> str:
    """Return the status of an entry: three digits, or a word for what is none; an outcome of failure is a refusal."""
    status = str(reply.get("status", ""))
    if not re.match("[1-5][0-9][0-9]( |$)", status):
        return "oddly"
    return "4xx" if status.startswith("2") and _says_failed(reply.get("outcome")) else status[:3]


def _is_what_was_sent(answer: dict[str, Any], request: Request) -> bool:
    """Return whether the answer is our own Bundle: equal to it, or with the ID of our MessageHeader and no `response`."""
    sent = request_body(request)
    ours, theirs = _header_of(sent), _header_of(answer)
    same_header = bool(theirs.get("id")) and theirs.get("id") == ours.get("id") and "response" not in theirs
    return bool(sent) and (answer == sent or same_header)


def _header_of(bundle: dict[str, Any]) -> dict[str, Any]:
    resources = (_dict(_dict(entry).get("resource")) for entry in _list(bundle.get("entry")))
    return next((one for one in resources if one.get("resourceType") == "MessageHeader"), {})


def _says_failed(resource: Any) -> bool:
    if not isinstance(resource, dict):
        return False
    issues, reply = resource.get("issue"), resource.get("response")
    failed = [issue for issue in issues if isinstance(issue, dict)] if isinstance(issues, list) else []
    refused = isinstance(reply, dict) and reply.get("code") in ("fatal-error", "transient-error")
    return refused or any(issue.get("severity") in _FAILED for issue in failed)


def request_body(request: Request) -> dict[str, Any]:
    """Return the JSON object that a request carries; an empty one where it carries something else."""
    return _dict(jsontext.stored(request.body or b"null", object))


def is_data_model(request: Request, message: Mapping[str, Any]) -> bool:
    """Return whether a request carries a Data Model message, by its path and its Meta."""
    return urlsplit(request.url).path.endswith((PATH, "/query")) and isinstance(message.get("Meta"), dict)


def is_operation(url: str) -> bool:
    """Return whether a URL names an operation of FHIR."""
    return urlsplit(url).path.rpartition("/")[2].startswith("$")


def _parsed(response: RedoxResponse) -> dict[str, Any]:
    return _dict(jsontext.stored(response.body or b"null", object))


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
