"""A small, fast FHIR server to drain: it holds one search, counts connections, and fails on one page when told to.

`PUT /_bench` with `{"pages": 200, "fault": "503", "at": 7}` puts it to its start, `GET /_bench` tells what it counted. The
pages are at `/fhir/R4/{slug}/{environment}/Patient`, by GET or by POST to `_search`; tokens at `/v2/auth/token`, for any
assertion; messages for `/endpoint` are counted and answered. It must not be what a client waits for, so it parses no more of
HTTP than these clients send.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass
from urllib.parse import parse_qs

from benchmarks.pages import CAPABILITIES, HTML, OUTCOME, page

FHIR = "application/fhir+json"
_BEARER = re.compile(r"(?i)\r\nauthorization: *bearer bench-")
_BASE = re.compile(r"(/fhir/R4/[^/]+/[^/]+)/Patient(?:/_search)?/?")


@dataclass
class State:
    """What the server was told, and what it counted since.

    :param pages: the pages of the search.
    :param posts: messages that came.
    :param fault: a name of `FAULTS`, or nothing.
    :param at: the page whose first request meets the fault.
    :param delay: seconds that each page or message takes.
    :param hangs: a destination whose pages never come.
    """

    pages: int = 200
    posts: int = 0
    fault: str = ""
    at: int = 7
    delay: float = 0.0
    hangs: str = ""
    connections: int = 0
    requests: int = 0
    tokens: int = 0


class Connection(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = b""
        self._counted: State | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Answer each request that is there as a whole."""
        self._buffer += data
        while (found := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:found].decode("latin-1")
            length = re.search(r"(?i)\r\ncontent-length: *(\d+)", head)
            end = found + 4 + (int(length.group(1)) if length else 0)
            if len(self._buffer) < end:
                return
            body, self._buffer = self._buffer[found + 4 : end], self._buffer[end:]
            method, target, _ = head.split("\r\n", 1)[0].split(" ")
            self._server.answer(self, method, target, head, body)

    def count(self, state: State) -> None:
        """Count a request, and this connection once."""
        state.requests += 1
        if self._counted is not state:
            self._counted = state
            state.connections += 1

    def send(self, status: int, kind: str, body: bytes, *extra: str) -> None:
        """Send an answer that is whole."""
        lines = (f"HTTP/1.1 {status} -", f"content-type: {kind}", f"content-length: {len(body)}", *extra)
        self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        self.transport.write(body)

    def reset(self, sent: bytes = b"") -> None:
        """Send what is given, then reset the connection."""
        if sent:
            self.transport.write(sent)
        raw: socket.socket = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        asyncio.get_running_loop().call_later(0.05, self.transport.abort)

    def end(self, sent: bytes) -> None:
        """Send what is given, then close the connection in order."""
        self.transport.write(sent)
        self.transport.close()


def _half(body: bytes, framing: str, start: bytes = b"") -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {FHIR}\r\n{framing}\r\n\r\n".encode()
    return head + start + body[: len(body) // 2]


def _reset_in_body(connection: Connection, body: bytes) -> None:
    connection.reset(_half(body, f"content-length: {len(body)}"))


def _cut_length(connection: Connection, body: bytes) -> None:
    connection.end(_half(body, f"content-length: {len(body)}"))


def _cut_chunks(connection: Connection, body: bytes) -> None:
    connection.end(_half(body, "transfer-encoding: chunked", b"%x\r\n" % (len(body) // 2)) + b"\r\n")


FAULTS: dict[str, Callable[[Connection, bytes], None]] = {
    "429": lambda connection, _: connection.send(429, FHIR, OUTCOME, "retry-after: 1"),
    "500": lambda connection, _: connection.send(500, FHIR, OUTCOME),
    "503": lambda connection, _: connection.send(503, FHIR, OUTCOME),
    "401": lambda connection, _: connection.send(401, FHIR, OUTCOME),
    "reset": lambda connection, _: connection.reset(),
    "reset in body": _reset_in_body,
    "cut, length": _cut_length,
    "cut, chunks": _cut_chunks,
    "HTML, 200": lambda connection, _: connection.send(200, "text/html", HTML),
    "outcome, 200": lambda connection, _: connection.send(200, FHIR, OUTCOME),
}
"""What can happen once, on one page: statuses, a connection reset or closed half-way, a 200 that is no page."""


class Server:
    """What answers the requests of all connections."""

    def __init__(self) -> None:
        self.state = State()

    def answer(self, connection: Connection, method: str, target: str, head: str, body: bytes) -> None:
        """Answer one request."""
        path, _, query = target.partition("?")
        if path == "/_bench":
            self._control(connection, method, body)
            return
        connection.count(self.state)
        if path == "/v2/auth/token":
            self._token(connection)
        elif path == "/endpoint" and _BEARER.search(head):
            self._accept(connection)
        elif path.endswith("/metadata"):
            connection.send(200, FHIR, CAPABILITIES)
        elif path.endswith("/.well-known/smart-configuration"):
            connection.send(200, "application/json", b'{"token_endpoint": "", "capabilities": []}')
        elif not (found := _BASE.fullmatch(path)):
            connection.send(404, FHIR, OUTCOME)
        elif not _BEARER.search(head):
            connection.send(401, FHIR, OUTCOME)
        else:
            host = re.search(r"(?i)\r\nhost: *(\S+)", head)
            self._page(connection, f"http://{host.group(1) if host else ''}{found.group(1)}", query)

    def _control(self, connection: Connection, method: str, body: bytes) -> None:
        told = json.dumps(asdict(self.state)).encode()
        if method == "PUT":
            self.state = State(**json.loads(body))
        connection.send(200, "application/json", told)

    def _token(self, connection: Connection) -> None:
        self.state.tokens += 1
        token = {"access_token": f"bench-{self.state.tokens}", "token_type": "Bearer", "expires_in": 300}
        connection.send(200, "application/json", json.dumps(token).encode())

    def _accept(self, connection: Connection) -> None:
        self.state.posts += 1
        meta = {"Meta": {"Logs": [{"ID": f"00000000-0000-4000-8000-{self.state.posts:012d}"}]}}
        answer = json.dumps(meta).encode()
        if self.state.delay:
            loop = asyncio.get_running_loop()
            loop.call_later(self.state.delay, connection.send, 200, "application/json", answer)
        else:
            connection.send(200, "application/json", answer)

    def _page(self, connection: Connection, base: str, query: str) -> None:
        state = self.state
        number = int(parse_qs(query).get("_page", ["1"])[0])
        body = page(number, state.pages, base)
        if state.fault and number == state.at:
            fault, state.fault = FAULTS[state.fault], ""
            fault(connection, body)
        elif state.hangs and f"/{state.hangs}/" in base:
            return
        elif state.delay:
            asyncio.get_running_loop().call_later(state.delay, connection.send, 200, FHIR, body)
        else:
            connection.send(200, FHIR, body)


async def serve() -> None:
    """Serve on a free port of the loopback; the first line printed is the address."""
    server = Server()
    listening = await asyncio.get_running_loop().create_server(lambda: Connection(server), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
