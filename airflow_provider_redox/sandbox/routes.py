"""Which function answers which path, who may call it, and how much it takes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from . import data_model, fhir, platform_logs, tokens, uploads, writeback
from .answers import FHIR_JSON, Answer, Refusal, encode, outcome, text_answer
from .call import MalformedError, WrongTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .call import Call
    from .state import Sandbox

MEGABYTE = 1024 * 1024
MAX_BODY = 40 * MEGABYTE
BASE = r"/fhir/R4/(?P<slug>[^/]+)/(?P<environment>[^/]+)"
PLATFORM = "/platform/v1"


@dataclass(frozen=True, slots=True)
class Route:
    """One verb on one form of path; ``limit`` is the largest body in bytes."""

    method: str
    pattern: re.Pattern[str]
    handler: Callable[[Sandbox, Call], Answer]
    limit: int = MAX_BODY
    public: bool = False


def _route(method: str, pattern: str, handler: Callable[[Sandbox, Call], Answer], **options: int) -> Route:
    limit = options.get("limit", MAX_BODY)
    return Route(method, re.compile(pattern), handler, limit, bool(options.get("public", 0)))


ROUTES = (
    _route("POST", tokens.PATH, tokens.issue, limit=MEGABYTE, public=1),
    _route("POST", "/endpoint|/query", data_model.post),
    _route("POST", "/upload", uploads.upload, limit=31 * MEGABYTE),
    _route("GET", "/blob/(?P<id>[^/]+)", uploads.download),
    _route("POST", rf"{BASE}/(?P<type>[^/]+)/_search", fhir.search_by_post),
    _route("POST", rf"{BASE}/(?P<type>[^/]+)/\$(?P<operation>[^/]+)", writeback.write),
    _route("GET", rf"{BASE}/(?P<type>[^/]+)/(?P<id>[A-Za-z0-9\-.]{{1,64}})", fhir.read),
    _route("GET", rf"{BASE}/(?P<type>[^/]+)", fhir.search_by_get),
    _route("GET", rf"{PLATFORM}/organizations/(?P<organization>[^/]+)/logs/(?P<log>[^/]+)", platform_logs.get_log),
    _route("POST", rf"{PLATFORM}/environments/(?P<environment>[^/]+)/logs/search/metadata", platform_logs.search_logs),
    _route("POST", rf"{PLATFORM}/environments/(?P<environment>[^/]+)/logs/search/payloads", platform_logs.search_payloads),
)


def process(sandbox: Sandbox, call: Call) -> Answer:
    """Answer a request as a healthy Redox would: quota, path, size, token, then the work."""
    try:
        _check_quota(sandbox, call)
        route, call = _find(call)
        if len(call.body) > route.limit:
            return too_large(call)
        if not route.public:
            tokens.check_bearer(sandbox, call)
        return route.handler(sandbox, call)
    except Refusal as refusal:
        return refusal.answer
    except WrongTypeError as error:
        return _plain(call, 415, "structure", str(error))
    except MalformedError as error:
        return _plain(call, 400, "structure", str(error))


def too_large(call: Call) -> Answer:
    """Answer 413."""
    return _plain(call, 413, "too-long", "The body is too large.")


def _check_quota(sandbox: Sandbox, call: Call) -> None:
    settings = sandbox.settings
    allowed = sandbox.quota.allows(
        call.peer,
        sandbox.now(),
        limit=settings.quota,
        window=settings.quota_window,
        counts_refused=settings.quota_counts_refused,
    )
    if allowed:
        return
    headers = {"X-RateLimit-Limit": str(settings.quota)}
    if settings.retry_after is not None:
        headers["Retry-After"] = str(settings.retry_after)
    raise Refusal(text_answer(429, "Too many requests.", headers=headers))


def _find(call: Call) -> tuple[Route, Call]:
    path = _decoded(call.path)
    fitting = [(route, match) for route in ROUTES if (match := route.pattern.fullmatch(path))]
    for route, match in fitting:
        if route.method == call.method:
            return route, replace(call, groups=match.groupdict())
    if not fitting:
        raise Refusal(_plain(call, 404, "not-found", "Nothing is found at this path."))
    allowed = ", ".join(sorted({route.method for route, _ in fitting}))
    answer = _plain(call, 405, "not-supported", f"This path takes {allowed}.")
    raise Refusal(replace(answer, headers={"Allow": allowed}))


def _decoded(path: str) -> str:
    """Decode each segment of a path; one that would make a new segment finds nothing."""
    segments = [unquote(segment) for segment in path.split("/")]
    return "" if any("/" in segment or segment in {".", ".."} for segment in segments) else "/".join(segments)


def _plain(call: Call, status: int, code: str, text: str) -> Answer:
    if call.path.startswith("/fhir/"):
        return Answer(status, encode(outcome(code, text)), FHIR_JSON)
    return text_answer(status, text)
