"""A server that lies and breaks off on purpose: raw sockets in threads, a scene for each request, every byte recorded.

A scene is a function of the `Line`, one connection. It reads as much as it wants, sends what it wants, and returns
True to keep the connection for the next scene; anything else closes it. The last scene is played for ever.
"""

from __future__ import annotations

import base64
import contextlib
import json
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

Scene = Callable[["Line"], bool | None]
TOKEN = "t0k3n-of-the-wire"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Line:
    """One connection, seen from the server."""

    def __init__(self, sock: socket.socket, wire: Wire) -> None:
        self.sock, self.wire = sock, wire
        self.record = bytearray()
        self._ahead = b""
        wire.connections.append(self.record)

    def read(self, most: int = 65536) -> bytes:
        """Read what comes next; empty at the end."""
        data = self.sock.recv(most)
        self.record += data
        return data

    def request(self) -> bytes:
        """One whole request: head, and a body of Content-Length. Raises `ConnectionError` when there is none."""
        data = self._ahead
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
        while len(body) < length:
            body += self._more()
        whole, self._ahead = head + b"\r\n\r\n" + body[:length], body[length:]
        self.wire.requests.append(whole)
        return whole

    def _more(self) -> bytes:
        data = self.read()
        if not data:
            raise ConnectionError
        return data

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Wire:
    """The server. Use it as a context manager.

    :param scenes: played in turn, over all connections.
    :param tls: the context of a server that speaks TLS.
    :param port: the port, any free one by default.
    """

    def __init__(self, *scenes: Scene, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._scenes = list(scenes) or [answers()]
        self._port = port
        self._tls = tls
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self.stopping = threading.Event()
        self.connections: list[bytearray] = []
        self.requests: list[bytes] = []
        self.accepted = 0

    def __enter__(self) -> Wire:
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for sock in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(5)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def received(self) -> bytes:
        """Every byte that came, over all connections."""
        return b"\n--\n".join(bytes(record) for record in self.connections)

    def _start(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._open.append(sock)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            sock.settimeout(20)
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._open.append(sock)
            line = Line(sock, self)
            while self._next_scene(line)(line):
                pass
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()

    def _next_scene(self, line: Line) -> Scene:
        """Wait for the next request's first byte, so that an idle connection takes no scene."""
        if line.record and not line._ahead:
            while not self.stopping.is_set() and not select.select([line.sock], [], [], 0.5)[0]:
                pass
            if not self._tls and not line.sock.recv(1, socket.MSG_PEEK):
                raise ConnectionError
        with self._lock:
            return self._scenes.pop(0) if len(self._scenes) > 1 else self._scenes[0]


def http(body: bytes = b"", *, status: str = "200 OK", kind: str = "application/json", **headers: str) -> bytes:
    """Make a whole answer, as bytes."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def token_answer(request: bytes) -> bytes | None:
    """Make what the token endpoint says; None for any other request."""
    if not request.startswith(b"POST /v2/auth/token "):
        return None
    return http(json.dumps({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 300}).encode())


def answers(data: bytes | None = None) -> Scene:
    """Read a request and answer it: a token where one is asked for, else `data`; keep the connection."""

    def scene(line: Line) -> bool:
        request = line.request()
        line.send(token_answer(request) or data or http(b'{"resourceType": "Patient", "id": "1"}'))
        return True

    return scene


def breaks_after(data: bytes = b"", *, reset: bool = False) -> Scene:
    """Read a request, send these bytes, and close."""

    def scene(line: Line) -> None:
        line.request()
        line.send(data)
        if reset:
            time.sleep(0.05)
            line.reset()

    return scene


def reads_then_resets(count: int) -> Scene:
    """Read so many bytes of the request, then RST; with 0, reset as soon as there is something to read."""

    def scene(line: Line) -> None:
        select.select([line.sock], [], [], 5)
        if count:
            line.read(count)
        line.reset()

    return scene


def drips(head: bytes, drop: bytes, *, every: float = 0.02, at_most: float = 8) -> Scene:
    """Read a request, send a head, then one drop after the other until the client leaves, or for so many seconds."""

    def scene(line: Line) -> None:
        line.request()
        line.send(head)
        end = time.monotonic() + at_most
        while time.monotonic() < end and not line.wire.stopping.wait(every):
            line.send(drop)

    return scene


def pours(head: bytes, chunk: bytes, times: int) -> Scene:
    """Read a request, send a head and then a chunk so many times."""

    def scene(line: Line) -> None:
        line.request()
        line.send(head)
        for _ in range(times):
            line.send(chunk)

    return scene


def proxies(*, refuses: bool = False, login: str | None = None) -> Scene:
    """Be a proxy: CONNECT for https, the absolute form for http. May refuse, or want a user name and password."""

    def scene(line: Line) -> bool:
        request = line.request()
        wanted = f"proxy-authorization: basic {base64.b64encode((login or '').encode()).decode()}".lower()
        if refuses or (login and wanted not in request.decode("latin-1").lower()):
            line.send(http(b"no", status="407 Proxy Authentication Required", kind="text/plain"))
            return False
        method, target, _ = request.split(b"\r\n")[0].decode().split(" ")
        parts = urlsplit(target if "://" in target else f"//{target}")
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as upstream:
            if method == "CONNECT":
                line.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                upstream.sendall(request.replace(target.encode(), path.encode(), 1))
            _pump(line, upstream)
        return False

    return scene


def _pump(line: Line, upstream: socket.socket) -> None:
    """Carry bytes both ways until one side has ended or the server stops. What passes through is not recorded."""
    other = {line.sock: upstream, upstream: line.sock}
    while not line.wire.stopping.is_set():
        for ready in select.select(list(other), [], [], 0.2)[0]:
            data = ready.recv(65536)
            if not data:
                return
            other[ready].sendall(data)
