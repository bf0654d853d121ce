"""The control plane under ``/_sandbox/``: look at the ledger, order faults, change settings. No token needed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from . import loading
from .answers import json_answer, refuse_json
from .call import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .answers import Answer
    from .call import Call
    from .state import Sandbox


def handle(sandbox: Sandbox, call: Call) -> Answer:
    """Answer a request to the control plane."""
    verbs = HANDLERS.get(call.path.removeprefix("/_sandbox/"))
    if verbs is None:
        refuse_json(404, f"there are {', '.join(sorted(HANDLERS))}")
    if call.method not in verbs:
        refuse_json(405, f"use {' or '.join(verbs)}")
    try:
        return json_answer(verbs[call.method](sandbox, call))
    except ValueError as error:
        refuse_json(400, str(error))


def _ledger(sandbox: Sandbox, call: Call) -> Any:
    wanted = dict(call.query_pairs())
    try:
        path = re.compile(wanted.get("path", ""))
    except re.error:
        raise MalformedError("path is no regular expression") from None
    after = int(wanted.get("after", "0")) if wanted.get("after", "0").isdigit() else 0
    return [entry.as_json() for entry in sandbox.ledger.entries if entry.n > after and path.search(entry.path)]


def _clear_ledger(sandbox: Sandbox, _call: Call) -> Any:
    sandbox.ledger.clear()
    return {"cleared": True}


def _faults(sandbox: Sandbox, _call: Call) -> Any:
    return sandbox.faults.as_json()


def _add_faults(sandbox: Sandbox, call: Call) -> Any:
    sandbox.faults.add(call.json())
    return sandbox.faults.as_json()


def _clear_faults(sandbox: Sandbox, _call: Call) -> Any:
    sandbox.faults.clear()
    return []


def _settings(sandbox: Sandbox, _call: Call) -> Any:
    return sandbox.settings.as_json()


def _patch_settings(sandbox: Sandbox, call: Call) -> Any:
    changes = call.json()
    sandbox.settings = sandbox.settings.patched(changes)
    if "final_status" in changes:
        sandbox.logs.restart_sequence()
    return sandbox.settings.as_json()


def _register(sandbox: Sandbox, call: Call) -> Any:
    wanted = call.json()
    if not isinstance(wanted, dict) or not isinstance(wanted.get("client_id"), str):
        raise MalformedError("client_id and jwks are required")
    sandbox.clients.register(wanted["client_id"], wanted.get("jwks"))
    return {"client_id": wanted["client_id"], "kids": list(sandbox.clients.keys[wanted["client_id"]])}


def _clients(sandbox: Sandbox, _call: Call) -> Any:
    return {client: list(keys) for client, keys in sandbox.clients.keys.items()}


def _revoke(sandbox: Sandbox, _call: Call) -> Any:
    revoked = len(sandbox.tokens)
    sandbox.tokens.clear()
    return {"revoked": revoked}


def _stats(sandbox: Sandbox, _call: Call) -> Any:
    return sandbox.stats()


def _resources(sandbox: Sandbox, call: Call) -> Any:
    kind = dict(call.query_pairs()).get("type", "")
    return list(sandbox.store.all(kind))


def _add_resources(sandbox: Sandbox, call: Call) -> Any:
    added = loading.given(call.json(), now=sandbox.now())
    for resource in added:
        sandbox.store.put(resource)
    return added


def _messages(sandbox: Sandbox, _call: Call) -> Any:
    return sandbox.messages


def _logs(sandbox: Sandbox, _call: Call) -> Any:
    return [log.as_json(sandbox.now()) for log in sandbox.logs]


def _add_logs(sandbox: Sandbox, call: Call) -> Any:
    return {"ids": [log.id for log in sandbox.logs.add(call.json(), sandbox.now())]}


def _end_logs(sandbox: Sandbox, call: Call) -> Any:
    return {"ids": [log.id for log in sandbox.logs.end(call.json(), sandbox.now())]}


def _feeds(sandbox: Sandbox, call: Call) -> Any:
    delivered = dict(call.query_pairs()).get("delivered")
    return sandbox.feeds.as_json() if delivered is None else sandbox.feeds.delivered(delivered)


def _add_feed(sandbox: Sandbox, call: Call) -> Any:
    return sandbox.feeds.add(call.json()).as_json()


def _push(sandbox: Sandbox, call: Call) -> Any:
    return sandbox.feeds.push(call.json()).as_json()


def _redeliver(sandbox: Sandbox, call: Call) -> Any:
    return sandbox.feeds.redeliver(call.json()).as_json()


def _reset(sandbox: Sandbox, _call: Call) -> Any:
    sandbox.reset()
    return {"reset": True}


HANDLERS: dict[str, dict[str, Callable[[Sandbox, Call], Any]]] = {
    "ledger": {"GET": _ledger, "DELETE": _clear_ledger},
    "faults": {"GET": _faults, "POST": _add_faults, "DELETE": _clear_faults},
    "settings": {"GET": _settings, "PATCH": _patch_settings},
    "clients": {"GET": _clients, "POST": _register},
    "revoke": {"POST": _revoke},
    "stats": {"GET": _stats},
    "resources": {"GET": _resources, "POST": _add_resources},
    "messages": {"GET": _messages},
    "logs": {"GET": _logs, "POST": _add_logs, "PATCH": _end_logs},
    "feeds": {"GET": _feeds, "POST": _add_feed},
    "push": {"POST": _push},
    "redeliver": {"POST": _redeliver},
    "reset": {"POST": _reset},
}
