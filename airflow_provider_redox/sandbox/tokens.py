"""The token endpoint, and the bearer tokens it hands out: opaque, and dead after their lifetime."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from .answers import Refusal, json_answer, refuse_text
from .call import MalformedError
from .clients import BadAssertionError

if TYPE_CHECKING:
    from .answers import Answer
    from .call import Call
    from .state import Sandbox

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
PATH = "/v2/auth/token"


def issue(sandbox: Sandbox, call: Call) -> Answer:
    """Answer ``POST /v2/auth/token``: a signed assertion for a bearer token (RFC 6749 section 4.4, RFC 7523)."""
    fields = _fields(call)
    _expect(fields, "grant_type", "client_credentials", error="unsupported_grant_type")
    _expect(fields, "client_assertion_type", ASSERTION_TYPE, error="invalid_request")
    if not fields.get("client_assertion"):
        raise _refusal("invalid_request", "client_assertion: missing")
    now = sandbox.now()
    try:
        client_id = sandbox.clients.verify(fields["client_assertion"], audience=sandbox.base_url + PATH, now=now)
    except BadAssertionError as error:
        raise _refusal("invalid_client", str(error), status=401) from None
    return _grant(sandbox, client_id, now)


def check_bearer(sandbox: Sandbox, call: Call) -> str:
    """Return the client ID of the live token in ``Authorization``, or refuse with 401 and a sentence."""
    scheme, _, token = call.header("Authorization").partition(" ")
    client_id, expiry = sandbox.tokens.get(token, ("", 0.0))
    if scheme != "Bearer" or not token:
        refuse_text(401, "Missing access token.", WWW_Authenticate="Bearer")
    if expiry <= sandbox.now():
        sandbox.tokens.pop(token, None)
        refuse_text(401, "Invalid or expired access token.", WWW_Authenticate='Bearer error="invalid_token"')
    return client_id


def _fields(call: Call) -> dict[str, str]:
    try:
        pairs = call.form()
    except MalformedError as error:
        raise _refusal("invalid_request", str(error)) from None
    if len(dict(pairs)) != len(pairs):
        raise _refusal("invalid_request", "a parameter is there twice")
    return dict(pairs)


def _expect(fields: dict[str, str], name: str, value: str, *, error: str) -> None:
    if name not in fields:
        raise _refusal("invalid_request", f"{name}: missing")
    if fields[name] != value:
        raise _refusal(error, f"{name}: must be {value}")


def _grant(sandbox: Sandbox, client_id: str, now: float) -> Answer:
    lifetime = sandbox.settings.token_lifetime
    token = secrets.token_urlsafe(32)
    sandbox.tokens[token] = (client_id, now + lifetime)
    sandbox.issued += 1
    shown = int(lifetime) if lifetime >= 1 else lifetime
    body = {"access_token": token, "token_type": "Bearer", "expires_in": shown}
    body |= sandbox.settings.token_response or {}
    kept = {name: value for name, value in body.items() if value is not None}
    return json_answer(kept, headers={"Cache-Control": "no-store"})


def _refusal(error: str, description: str, *, status: int = 400) -> Refusal:
    body = {"error": error, "error_description": description, "error_uri": ""}
    return Refusal(json_answer(body, status=status, headers={"Cache-Control": "no-store"}))
