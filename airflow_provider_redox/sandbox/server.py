"""The HTTP server: reads a request, writes it down, applies the fault that is due, answers."""

from __future__ import annotations

import asyncio
import logging
import uuid
from email.utils import formatdate
from typing import TYPE_CHECKING

from aiohttp import web

from . import control, routes, wire
from .answers import Answer, Refusal, text_answer
from .call import Call
from .ledger import Entry
from .store import instant

if TYPE_CHECKING:
    from .faults import Fault
    from .state import Sandbox

log = logging.getLogger(__name__)
CONTROL = "/_sandbox/"
TOO_LARGE = routes.MAX_BODY + routes.MEGABYTE


def application(sandbox: Sandbox) -> web.Application:
    """Make the aiohttp application: one handler for every path and verb, so that none escapes the ledger."""

    async def every_request(request: web.Request) -> web.StreamResponse:
        if request.raw_path.startswith(CONTROL):
            return await _control(sandbox, request)
        return await _redox(sandbox, request)

    app = web.Application(client_max_size=TOO_LARGE)
    app.router.add_route("*", "/{path:.*}", every_request)
    return app


async def _control(sandbox: Sandbox, request: web.Request) -> web.StreamResponse:
    call = _call(request, await request.read())
    try:
        answer = control.handle(sandbox, call)
    except Refusal as refusal:
        answer = refusal.answer
    return _response(answer)


async def _redox(sandbox: Sandbox, request: web.Request) -> web.StreamResponse:
    entry = _open(sandbox, request)
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        call = _call(request, b"", entry)
        return _finish(entry, request, _stamped(sandbox, call, routes.too_large(call)))
    entry.body = body
    return await _answer(sandbox, request, _call(request, body, entry), entry)


async def _answer(sandbox: Sandbox, request: web.Request, call: Call, entry: Entry) -> web.StreamResponse:
    fault = sandbox.faults.take(call)
    if fault is None:
        return _finish(entry, request, _process(sandbox, call, entry))
    entry.fault = fault.kind
    if fault.kind == "delay":
        return await _delayed(sandbox, request, call, entry, fault)
    real = _process(sandbox, call, entry) if fault.when == "after" else _stamped(sandbox, call, text_answer(200, ""))
    if fault.kind in wire.LIES:
        lie = await asyncio.to_thread(wire.lie, fault, real)
        return _finish(entry, request, lie)
    return await _cut(request, entry, fault, real)


async def _delayed(sandbox: Sandbox, request: web.Request, call: Call, entry: Entry, fault: Fault) -> web.StreamResponse:
    """Wait before or after the work; a client that left before the work began gets none done."""
    seconds = float(fault.options.get("seconds", 1))
    real = _process(sandbox, call, entry) if fault.when == "after" else None
    await asyncio.sleep(seconds)
    if real is None and _gone(request):
        return web.Response()
    return _finish(entry, request, real or _process(sandbox, call, entry))


async def _cut(request: web.Request, entry: Entry, fault: Fault, real: Answer) -> web.StreamResponse:
    transport = request.transport
    if isinstance(transport, asyncio.Transport):
        entry.status = real.status if fault.kind in wire.STATUS_SENT else None
        await wire.CUTS[fault.kind](fault, wire.Line(transport), real)
    return web.Response()


def _process(sandbox: Sandbox, call: Call, entry: Entry) -> Answer:
    try:
        answer = routes.process(sandbox, call)
    except Exception:  # the client gets an answer and the ledger a status, whatever is wrong in here
        log.exception("the sandbox failed on its own account")
        answer = text_answer(500, "The sandbox failed; its stderr says how.")
    entry.committed = answer.status < 300  # the 2xx of HTTP
    return _stamped(sandbox, call, answer)


def _stamped(sandbox: Sandbox, call: Call, answer: Answer) -> Answer:
    own = {"Redox-Trace-Id": call.trace_id, "Date": formatdate(sandbox.now(), usegmt=True)}
    return Answer(answer.status, answer.body, answer.content_type, {**own, **answer.headers})


def _finish(entry: Entry, request: web.Request, answer: Answer) -> web.StreamResponse:
    entry.status = None if _gone(request) else answer.status
    return _response(answer)


def _gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _response(answer: Answer) -> web.Response:
    response = web.Response(status=answer.status, body=answer.body, headers=answer.headers)
    response.headers["Content-Type"] = answer.content_type
    return response


def _open(sandbox: Sandbox, request: web.Request) -> Entry:
    call = _call(request, b"")
    time = instant(sandbox.now())
    trace = str(uuid.uuid4())
    entry = Entry(sandbox.ledger.number(), time, call.method, call.path, call.query, call.headers, trace)
    sandbox.ledger.entries.append(entry)
    return entry


def _call(request: web.Request, body: bytes, entry: Entry | None = None) -> Call:
    path, _, query = request.raw_path.partition("?")
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers)
    number, trace = (entry.n, entry.trace_id) if entry else (0, "")
    return Call(request.method, path, query, headers, body, request.remote or "", trace, number)
