"""Bodies. A response's is read within bounds: compressed or not, it never grows past the limit, in memory least of all."""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, BinaryIO

from airflow_provider_redox.protocol.effects import FileBody, Request
from airflow_provider_redox.protocol.media_types import is_json, media_type

LIMIT = 64 * 1024 * 1024
"""Bytes of one decoded body. Redox's own limit for a message is 40 MB."""

CHUNK = 256 * 1024
ACCEPTED = "gzip"
"""The content codings that we ask for and can undo."""

_OVERHEAD = 64 * 1024
"""Bytes by which compressed data may be larger than what it holds."""

_MEMBERS = 100
"""Members of one gzip stream (RFC 1952 section 2.2): most have one, none needs thousands of empty ones."""


def opened(request: Request) -> AbstractContextManager[bytes | BinaryIO | None]:
    """Give a request's body for one try; a file is opened at its start, and closed at the end of the block."""
    if request.file is None:
        return contextlib.nullcontext(request.body)
    return contextlib.closing(io.BufferedReader(_Framed(request.file, request.file.open()), CHUNK))


class FileChangedError(OSError):
    """A file has not the size any more that was announced. Raised while it is sent, so that it never looks whole."""


class _Framed(io.RawIOBase):
    """A file between its head and its tail, read once, from start to end."""

    def __init__(self, body: FileBody, file: BinaryIO) -> None:
        self._file = file
        self._chunks = _chunks(body, file)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(filter(None, self._chunks), b"")
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)

    def close(self) -> None:
        self._file.close()
        super().close()


def _chunks(body: FileBody, file: BinaryIO) -> Iterator[bytes]:
    yield body.head
    left = body.size
    while left:
        chunk = file.read(min(left, CHUNK))
        if not chunk:
            raise FileChangedError("the file is shorter than it was")
        left -= len(chunk)
        yield chunk
    if file.read(1):
        raise FileChangedError("the file is longer than it was")
    yield body.tail


class OversizeError(Exception):
    """The body is larger than the limit.

    :param limit: in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


class UndecodableError(Exception):
    """The body's compression is unknown, damaged or ends early."""


class NotTakenError(Exception):
    """Who takes the body in failed; the cause says how. It is no fault of the server's."""


def body_of(request: Request, status: int, headers: Mapping[str, str], limit: int) -> Body:
    """Make what takes in the body of an answer. Raises `OversizeError` for one that says so itself."""
    coding, into = headers.get("content-encoding"), request.into
    if headers.get("transfer-encoding", "chunked").strip().lower() not in ("chunked", "identity", ""):
        raise UndecodableError("it is transferred in a way that was not asked for")
    if into is None or status != 200 or is_json(media_type(headers.get("content-type"))):
        return Body(coding, limit=limit)
    length = headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length) > into.limit:
        raise OversizeError(into.limit)
    with _taking():
        into.begin(headers)
    return Body(coding, limit=into.limit, take=into.write)


_FRAMING = ("content-length", "content-encoding", "transfer-encoding", "content-range")


def headers_of(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers of an answer, names in lower case.

    Of a repeated header the last value counts. Repeated headers that frame or encode the body are joined (RFC 9110, 5.3).
    """
    headers: dict[str, str] = {}
    for name, value in items:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers and key in _FRAMING else value
    return headers


@contextlib.contextmanager
def _taking() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise NotTakenError from error


_SMALL = 4096
"""Bytes below which a piece of a body is put to the one before."""


class Body:
    """Collects the chunks of one body as they come off the wire, and undoes its content coding.

    :param take: is given the chunks, decoded, instead.
    """

    def __init__(
        self, content_encoding: str | None, *, limit: int = LIMIT, take: Callable[[bytes], None] | None = None
    ) -> None:
        codings = [one.strip() for one in (content_encoding or "").lower().split(",") if one.strip() not in ("identity", "")]
        if codings not in ([], ["gzip"], ["x-gzip"]):
            raise UndecodableError("it is compressed in a way that was not asked for")
        self._inflater = _new_inflater() if codings else None
        self._members = 1
        self._chunks: list[bytes | bytearray] = []
        self._take = take
        self._limit = self._room = limit
        self._intake = limit + _OVERHEAD
        self._fed = False

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes off the wire. Raises `OversizeError` or `UndecodableError`."""
        self._fed = self._fed or bool(chunk)
        self._intake -= len(chunk)
        if self._intake < 0:
            raise OversizeError(self._limit)
        if self._inflater is None:
            self._keep(chunk)
            return
        try:
            self._inflate(self._inflater, chunk)
        except zlib.error:
            raise UndecodableError("its compression is damaged") from None

    def whole(self) -> bytes:
        """Give the decoded body. Raises `UndecodableError` when the compressed data ended early."""
        if self._inflater is not None and self._fed and not self._inflater.eof:
            raise UndecodableError("its compressed data ends early")
        return bytes(self._chunks[0]) if len(self._chunks) == 1 else b"".join(self._chunks)

    def _inflate(self, inflater: zlib._Decompress, chunk: bytes) -> None:
        while chunk:
            if inflater.eof:
                self._members += 1
                self._inflater = inflater = _new_inflater()
            if self._members > _MEMBERS:
                raise UndecodableError("its compressed data comes in too many parts")
            self._keep(inflater.decompress(chunk, CHUNK))
            chunk = inflater.unconsumed_tail or inflater.unused_data

    def _keep(self, decoded: bytes) -> None:
        self._room -= len(decoded)
        if self._room < 0:
            raise OversizeError(self._limit)
        if decoded and self._take is not None:
            with _taking():
                self._take(decoded)
        elif decoded and len(decoded) >= _SMALL:
            self._chunks.append(decoded)
        elif decoded:
            self._gather(decoded)

    def _gather(self, decoded: bytes) -> None:
        """Put small pieces together: each by itself would take many times its bytes, and a server sends them as it likes."""
        last = self._chunks[-1] if self._chunks else None
        if not isinstance(last, bytearray) or len(last) > CHUNK:
            last = bytearray()
            self._chunks.append(last)
        last += decoded


def _new_inflater() -> zlib._Decompress:
    return zlib.decompressobj(wbits=31)
