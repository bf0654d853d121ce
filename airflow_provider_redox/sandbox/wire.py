"""Faults on the wire: answers with a lie in them, and connections cut at a chosen byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from http.client import responses
from typing import TYPE_CHECKING

from .answers import FHIR_JSON, JSON, TEXT, Answer, encode, outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .faults import Fault

HTML = b"<!DOCTYPE html><html><head><title>Please wait</title></head><body><h1>Maintenance</h1></body></html>"
TICK = 0.05
SETTLE = 0.05
CHUNK = 1 << 20


@dataclass(slots=True)
class Line:
    """The raw connection of one request, and whether the client saw a status line on it."""

    transport: asyncio.Transport

    @property
    def gone(self) -> bool:
        """Say whether the connection is closed, from either end."""
        return self.transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        if not self.gone:
            self.transport.write(data)

    def close(self) -> None:
        """Send what is written, then FIN."""
        self.transport.close()

    async def reset(self) -> None:
        """Let what is written arrive, then send RST: closing with a linger time of zero."""
        await asyncio.sleep(SETTLE)
        raw = self.transport.get_extra_info("socket")
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


def raw_head(answer: Answer, *, length: int | None = None) -> bytes:
    """Write the status line and headers of ``answer``; ``length`` overrides the true Content-Length."""
    size = len(answer.body) if length is None else length
    own = {"Content-Type": answer.content_type, "Content-Length": str(size), "Connection": "close"}
    reason = responses.get(answer.status, "Unknown")
    lines = [f"HTTP/1.1 {answer.status} {reason}"]
    lines += [f"{name}: {value}" for name, value in ({**answer.headers} | own).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


async def _drop(_fault: Fault, line: Line, _answer: Answer) -> None:
    line.close()


async def _reset(_fault: Fault, line: Line, _answer: Answer) -> None:
    await line.reset()


async def _reset_in_body(_fault: Fault, line: Line, answer: Answer) -> None:
    line.write(raw_head(answer) + answer.body[: len(answer.body) // 2])
    await line.reset()


async def _truncate(_fault: Fault, line: Line, answer: Answer) -> None:
    line.write(raw_head(answer) + answer.body[: len(answer.body) // 2])
    line.close()


async def _wrong_length(fault: Fault, line: Line, answer: Answer) -> None:
    length = int(fault.options.get("length", len(answer.body) + 64))
    line.write(raw_head(answer, length=length) + answer.body)
    line.close()


async def _drip(fault: Fault, line: Line, answer: Answer) -> None:
    step = max(1, int(float(fault.options.get("bytes_per_second", 100)) * TICK))
    pause = TICK * step / max(float(fault.options.get("bytes_per_second", 100)) * TICK, 1e-9)
    line.write(raw_head(answer))
    for start in range(0, len(answer.body), step):
        if line.gone:
            return
        line.write(answer.body[start : start + step])
        await asyncio.sleep(pause)
    line.close()


async def _garbage(fault: Fault, line: Line, _answer: Answer) -> None:
    line.write(fault.content(b"\x16\x03\x01\x00\x02\x02\x28 this is not HTTP\r\n\r\n"))
    line.close()


CUTS: dict[str, Callable[[Fault, Line, Answer], Awaitable[None]]] = {
    "drop": _drop,
    "reset": _reset,
    "reset_in_body": _reset_in_body,
    "truncate": _truncate,
    "wrong_length": _wrong_length,
    "drip": _drip,
    "garbage": _garbage,
    "raw": _garbage,
}
STATUS_SENT = frozenset({"reset_in_body", "truncate", "wrong_length", "drip"})


def _status(fault: Fault, real: Answer) -> Answer:
    body = fault.options.get("body")
    guessed = TEXT if body is None or isinstance(body, str) else JSON
    content_type = str(fault.options.get("content_type", guessed))
    return Answer(int(fault.options.get("status", 500)), fault.content(), content_type, real.headers)


def _html(fault: Fault, real: Answer) -> Answer:
    return Answer(200, fault.content(HTML), "text/html; charset=utf-8", real.headers)


def _outcome(fault: Fault, real: Answer) -> Answer:
    text = str(fault.options.get("text", "the destination did not answer"))
    body = fault.content(encode(outcome("exception", text)))
    return Answer(int(fault.options.get("status", 200)), body, FHIR_JSON, real.headers)


def _redirect(fault: Fault, real: Answer) -> Answer:
    location = str(fault.options.get("location", "/elsewhere"))
    return Answer(int(fault.options.get("status", 307)), b"", TEXT, {**real.headers, "Location": location})


def _headers(_fault: Fault, real: Answer) -> Answer:
    return real


def _body(fault: Fault, real: Answer) -> Answer:
    content_type = str(fault.options.get("content_type", real.content_type))
    return replace(real, body=fault.content(), content_type=content_type)


def _gzip_bomb(fault: Fault, real: Answer) -> Answer:
    body = squeeze(int(fault.options.get("size", 1 << 28)))
    return Answer(200, body, FHIR_JSON, {**real.headers, "Content-Encoding": "gzip"})


LIES: dict[str, Callable[[Fault, Answer], Answer]] = {
    "status": _status,
    "html": _html,
    "outcome": _outcome,
    "redirect": _redirect,
    "headers": _headers,
    "body": _body,
    "gzip_bomb": _gzip_bomb,
}


def lie(fault: Fault, real: Answer) -> Answer:
    """Return the answer that the fault puts in place of the real one."""
    answer = LIES[fault.kind](fault, real)
    wanted = {str(name): value for name, value in fault.options.get("headers", {}).items()}
    removed = {name.lower() for name in wanted}
    kept = {name: value for name, value in answer.headers.items() if name.lower() not in removed}
    added = {name: str(value) for name, value in wanted.items() if value is not None}
    types = [added.pop(name) for name in list(added) if name.lower() == "content-type"]
    return replace(answer, headers=kept | added, content_type=types[0] if types else answer.content_type)


@lru_cache(maxsize=4)
def squeeze(size: int) -> bytes:
    """Pack ``size`` bytes of valid JSON, nearly all of them spaces, into a small gzip stream."""
    head, tail = b'{"resourceType":"Bundle","type":"searchset",', b'"entry":[]}'
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(head)]
    left = max(0, size - len(head) - len(tail))
    blank = b" " * CHUNK
    while left:
        parts.append(packer.compress(blank[: min(CHUNK, left)]))
        left -= min(CHUNK, left)
    return b"".join([*parts, packer.compress(tail), packer.flush()])
