"""A response body, read within bounds: compressed or not, it never grows past the limit, in memory least of all."""

from __future__ import annotations

import zlib

LIMIT = 64 * 1024 * 1024
"""Bytes of one decoded body. Redox's own limit for a message is 40 MB."""

CHUNK = 256 * 1024
ACCEPTED = "gzip"
"""The content codings that we ask for and can undo."""

_OVERHEAD = 64 * 1024
"""Bytes by which compressed data may be larger than what it holds."""

_MEMBERS = 100
"""Members of one gzip stream (RFC 1952 section 2.2): most have one, none needs thousands of empty ones."""


class OversizeError(Exception):
    """The body is larger than the limit."""


class UndecodableError(Exception):
    """The body's compression is unknown, damaged or ends early."""


class Body:
    """Collects the chunks of one body as they come off the wire, and undoes its content coding."""

    def __init__(self, content_encoding: str | None, *, limit: int = LIMIT) -> None:
        coding = (content_encoding or "identity").strip().lower()
        if coding not in ("identity", "", "gzip", "x-gzip"):
            raise UndecodableError("it is compressed in a way that was not asked for")
        self._inflater = _new_inflater() if "gzip" in coding else None
        self._members = 1
        self._chunks: list[bytes] = []
        self._room = limit
        self._intake = limit + _OVERHEAD
        self._fed = False

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes off the wire. Raises `OversizeError` or `UndecodableError`."""
        self._fed = self._fed or bool(chunk)
        self._intake -= len(chunk)
        if self._intake < 0:
            raise OversizeError
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
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

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
            raise OversizeError
        if decoded:
            self._chunks.append(decoded)


def _new_inflater() -> zlib._Decompress:
    return zlib.decompressobj(wbits=31)
