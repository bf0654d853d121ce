"""From what happened to the error that says so: what was wrong, where, what to do; no secret, no body, no patient.

An OperationOutcome's `diagnostics` and a `Meta.Errors` text may echo a patient, so codes, modules and field paths are
told and free text is not. One exception is Redox's own validation of a message (module `DataModels`): its text
speaks of field names, and any quoted or numeric part is left out.

The token endpoint's `error_description` is told, shortened: it speaks of our assertion, as `iat: more than 300 seconds ago`,
and has seen no patient. What could be a token or an assertion is cut out of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from airflow_provider_redox.exceptions import (
    RedoxAmbiguousOutcomeError,
    RedoxAuthError,
    RedoxError,
    RedoxProtocolError,
    RedoxRateLimitError,
    RedoxResponseError,
    RedoxSecurityError,
    RedoxServerError,
    RedoxTransportError,
)
from airflow_provider_redox.protocol.effects import Failure, Happened, RedoxResponse, Stage, trace_in
from airflow_provider_redox.protocol.outcomes import Step, decide, http_date, may_have_arrived, retry_after

CLOCK_TOLERANCE = 10.0
"""Seconds of skew that Redox's token endpoint tolerates (its error page)."""

_HINTS = {
    400: "the request is malformed or lacks something",
    401: "the token was refused, and so was a new one",
    403: "not allowed: check the destination, the environment and what the key may do",
    404: "not found: check the destination's slug and the environment, then whether there is such a resource",
    405: "this interaction is not offered there",
    406: "not in the form that was asked for: for a document, set the task's headers to {'Accept': 'application/fhir+json'}",
    413: "the request is larger than Redox accepts",
}


_REDIRECT = "a redirect or an unexpected status; redirects are never followed"


def raise_refusal(response: RedoxResponse) -> NoReturn:
    """Raise the error that fits an error status."""
    raise refusal(response)


def refusal(response: RedoxResponse) -> RedoxResponseError | RedoxProtocolError:
    """Build the error for an error status; its `may_have_arrived` says whether the request may have been processed."""
    error = _refusal(response)
    error.may_have_arrived = may_have_arrived(response)
    return error


def _refusal(response: RedoxResponse) -> RedoxResponseError | RedoxProtocolError:
    issues = issues_of(response)
    said, trace = f"HTTP {response.status} from Redox", traced(response)
    details = f": {'; '.join(issues)}" if issues else ""
    if response.status < 200 or 300 <= response.status < 400:
        return RedoxSecurityError(f"{said}: {_REDIRECT}{trace}")
    if response.status == 429:
        after = retry_after(response.headers, now=0.0) if response.headers.get("retry-after", "").isdigit() else None
        stated = response.headers.get("x-ratelimit-limit", "")
        limit = stated if _LIMIT.fullmatch(stated) else "10,000 in five minutes per IP address"
        message = f"{said}: the rate limit ({limit}) is used up; lower extra.requests_per_5min or use an Airflow pool{trace}"
        return RedoxRateLimitError(message, issues=issues, trace_id=response.trace_id, retry_after=after)
    kind = _kind(response)
    hint = _HINTS.get(response.status, "Redox or the destination could not do it")
    return kind(f"{said}, {hint}{details}{trace}", status=response.status, issues=issues, trace_id=response.trace_id)


def _kind(response: RedoxResponse) -> type[RedoxResponseError]:
    if response.status == 401:
        return RedoxAuthError
    return RedoxServerError if decide(response, repeatable=True) is Step.RETRY else RedoxResponseError


def token_refusal(response: RedoxResponse, *, now: float) -> RedoxResponseError | RedoxProtocolError:
    """Make the error for a token endpoint that said no: what it said, and what usually causes it."""
    if response.status in (408, 429) or response.status >= 500 or 300 <= response.status < 400:
        return refusal(response)
    said = _oauth_words(response)
    parts = [f"the token endpoint answered HTTP {response.status}{f' ({said})' if said else ''}{traced(response)}"]
    skew = _clock_skew(response, now=now)
    if skew is not None and abs(skew) > CLOCK_TOLERANCE:
        parts.append(f"this machine's clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} Redox's: set it")
    parts.append(
        "check that extra.client_id is the key's own, that extra.kid and the private key belong to the public key that "
        "Redox holds, and that extra.audience is the token URL"
    )
    return RedoxAuthError(": ".join((parts[0], "; ".join(parts[1:]))), status=response.status, trace_id=response.trace_id)


def no_answer(failure: Failure, label: str, attempts: int) -> RedoxTransportError | RedoxProtocolError:
    """Make the error for a request that got no whole answer and did no harm."""
    said = f"{label}: {failure.stage.value}: {failure.reason}"
    if failure.stage is Stage.OVERSIZE:
        oversize = RedoxProtocolError(said)
        oversize.retryable = False
        return oversize
    error = RedoxTransportError(f"{said} (after {attempts} tries)" if attempts > 1 else said)
    error.retryable = failure.stage is not Stage.UNTRUSTED
    error.sent = failure.stage not in (Stage.UNSENT, Stage.UNTRUSTED)
    return error


def ambiguous(happened: Happened, label: str, unreadable: RedoxError | None) -> RedoxAmbiguousOutcomeError:
    """Build the error for an unsafe request whose outcome is unknown, unless the reader of the answer already has."""
    if isinstance(unreadable, RedoxAmbiguousOutcomeError):
        return unreadable
    if unreadable is not None:
        what = f"Redox answered with a success status but an unreadable body ({unreadable})"
    elif isinstance(happened, Failure):
        what = f"{happened.stage.value}: {happened.reason}"
    else:
        what = f"HTTP {happened.status} from Redox{traced(happened)}"
        what += f", {_REDIRECT}" if happened.status < 400 else ""
    trace_id = trace_in(happened.headers)
    return RedoxAmbiguousOutcomeError(
        f"{label}: {what}. The request may or may not have been processed; it is not sent again. "
        "Look for it in the Redox dashboard's logs, by time and destination, before you send it again",
        status=happened.status,
        trace_id=trace_id,
    )


def issues_of(response: RedoxResponse) -> tuple[str, ...]:
    """Read what an error answer says in codes: an OperationOutcome's issues or a message's Meta.Errors."""
    try:
        answer = response.json()
    except RedoxProtocolError:
        return ()
    if not isinstance(answer, dict):
        return ()
    if isinstance(answer.get("issue"), list):
        return tuple(_fhir_issue(issue) for issue in answer["issue"][:10] if isinstance(issue, dict))
    return meta_errors(answer)


def is_transient(response: RedoxResponse) -> bool:
    """Say whether a failure inside a success may pass: the code of each error is `transient` or below it (R4, issue-type).

    For a Data Model answer, the destination's own status says it: 429 or 503.
    """
    try:
        answer = response.json()
    except RedoxProtocolError:
        return False
    if not isinstance(answer, dict):
        return False
    meta = answer.get("Meta")
    if "issue" not in answer and isinstance(meta, dict):
        errors = [error for error in _list(meta.get("Errors")) if isinstance(error, dict)]
        return bool(errors) and all(str(error.get("DestinationStatusCode")) in ("429", "503") for error in errors)
    issues = [issue for issue in _list(answer.get("issue")) if isinstance(issue, dict)]
    codes = [issue.get("code") for issue in issues if issue.get("severity") in ("error", "fatal", None)]
    return bool(codes) and all(code in _TRANSIENT for code in codes)


def is_unsure(response: RedoxResponse) -> bool:
    """Return whether an error inside a 200 leaves the outcome unknown: the destination timed out, or stopped halfway."""
    try:
        answer = response.json()
    except RedoxProtocolError:
        return False
    if not isinstance(answer, dict):
        return False
    meta, issues = answer.get("Meta"), [one for one in _list(answer.get("issue")) if isinstance(one, dict)]
    errors = _list(meta.get("Errors")) if isinstance(meta, dict) else []
    stated = (str(one.get("DestinationStatusCode", "")) for one in errors if isinstance(one, dict))
    codes = [int(code) for code in stated if re.fullmatch(r"[1-5]\d\d", code)]
    unsure = any(may_have_arrived(RedoxResponse(code)) for code in codes)
    return unsure or any(one.get("severity") != "warning" and one.get("code") in _UNSURE for one in issues)


def mentioned_names(response: RedoxResponse, names: Iterable[str]) -> list[str]:
    """Give those of the author's own parameter names that the texts of an OperationOutcome mention; nothing else of them."""
    try:
        answer = response.json()
    except RedoxProtocolError:
        return []
    issues = answer.get("issue") if isinstance(answer, dict) else None
    words = set(re.findall(r"[A-Za-z_][\w.:-]*\w", " ".join(_texts(issues))))
    return [name for name in dict.fromkeys(names) if name in words]


def _texts(issues: Any) -> Iterator[str]:
    for issue in issues if isinstance(issues, list) else []:
        details = issue.get("details") if isinstance(issue, dict) else None
        yield str(issue.get("diagnostics", "")) if isinstance(issue, dict) else ""
        yield str(details.get("text", "")) if isinstance(details, dict) else ""


def meta_errors(answer: dict[str, Any]) -> tuple[str, ...]:
    """Read the `Meta.Errors` of a Data Model answer: ID, type, module, the destination's status."""
    meta = answer.get("Meta")
    errors = meta.get("Errors") if isinstance(meta, dict) else None
    if not isinstance(errors, list):
        return ()
    return tuple(_meta_error(error) for error in errors[:10] if isinstance(error, dict))


def _fhir_issue(issue: dict[str, Any]) -> str:
    words = [_formed(_SEVERITY, issue.get("severity")), _formed(_ISSUE_TYPE, issue.get("code"))]
    details = issue.get("details")
    codings = _list(details.get("coding")) if isinstance(details, dict) else []
    words += [_formed(_CODE, coding.get("code")) for coding in codings if isinstance(coding, dict)]
    words += [_formed(_PATH, expression) for expression in _list(issue.get("expression"))]
    return " ".join(word for word in words if word)


def _meta_error(error: dict[str, Any]) -> str:
    found = [(name, _formed(form, error.get(key))) for name, key, form in _META_ERROR_KEYS]
    words = [f"{name}={word}" for name, word in found if word]
    if error.get("Module") == "DataModels":
        words.append(_field_names_only(str(error.get("Text", ""))))
    return " ".join(word for word in words if word)


_META_ERROR_KEYS = (
    ("id", "ID", re.compile(r"\d{1,12}")),
    ("type", "Type", re.compile(r"[A-Za-z]{1,40}")),
    ("module", "Module", re.compile(r"[A-Za-z]{1,40}")),
    ("destination_status", "DestinationStatusCode", re.compile(r"[1-5]\d\d")),
)
_SEVERITY = re.compile("fatal|error|warning|information|success")
_ISSUE_TYPE = re.compile(
    "invalid|structure|required|value|invariant|security|login|unknown|expired|forbidden|suppressed|processing|"
    "not-supported|duplicate|multiple-matches|not-found|deleted|too-long|code-invalid|extension|too-costly|"
    "business-rule|conflict|transient|lock-error|no-store|exception|timeout|incomplete|throttled|informational|"
    "limited-filter|success"
)
"""FHIR's own words (value set issue-type of R4 and R5). A word of a server's own making could be a name."""

_TRANSIENT = frozenset({"transient", "lock-error", "no-store", "exception", "timeout", "incomplete", "throttled"})
_UNSURE = frozenset({"transient", "exception", "timeout", "incomplete"})
_LIMIT = re.compile(r"[0-9][0-9,;= w]{0,59}")  # also as draft-ietf-httpapi-ratelimit-headers has it: `10000;w=300`
_CODE = re.compile(r"[A-Z]+(_[A-Z]+)+|[a-z]+(-[a-z]+)+|\d{1,5}")
_PATH = re.compile(r"[A-Z][A-Za-z]{1,60}(\.[a-z][A-Za-z]{0,60}(\[\d{1,3}\])?){1,20}|http\.[a-z_-]{1,60}")


def _formed(form: re.Pattern[str], value: Any) -> str:
    """Let through what is a code or a path by its form; anything that could be a sentence, a name or an ID is dropped."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if form.fullmatch(text) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _field_names_only(text: str) -> str:
    """Keep the known sentences of Redox's validation with the field paths in them; drop any other text."""
    match = re.match(r"(Required field missing|Invalid type|Unknown field)( - [A-Z][A-Za-z]+(\.[A-Z][A-Za-z]*)+)?", text)
    return match.group(0)[:120] if match else ""


def _oauth_words(response: RedoxResponse) -> str:
    """Give `error` and `error_description` of RFC 6749 section 5.2, without anything that looks like a JWT."""
    try:
        answer = response.json()
    except RedoxProtocolError:
        return "the body is not JSON"
    if not isinstance(answer, dict):
        return ""
    words = (answer.get("error"), answer.get("error_description"))
    text = ": ".join(word for word in words if isinstance(word, str) and word)
    text = re.sub(r"[A-Za-z0-9_\-.+/=]{40,}", "…", text)
    return "".join(character for character in text if character.isprintable())[:300]


def _clock_skew(response: RedoxResponse, *, now: float) -> float | None:
    """Seconds by which the server's clock is ahead of ours, from its Date header."""
    try:
        return http_date(response.headers["date"]) - now
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def traced(response: RedoxResponse) -> str:
    """Give the trace ID in brackets, if it has the form of one."""
    return f" (trace {response.trace_id})" if response.trace_id else ""
