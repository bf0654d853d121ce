"""A response body, read within bounds: compressed or not, it never grows past the limit, in memory least of all."""

from __future__ import annotations

import zlib

LIMIT = 64 * 1024 * 1024
"""Bytes of one decoded body. Redox's own limit for a message is 40 MB."""

CHUNK = 256 * 1024
ACCEPTED = "gzip"
"""The content codings that we ask for and can undo."""


class Oversize(Exception):
    """The body is larger than the limit."""


class Undecodable(Exception):
    """The body's compression is unknown, damaged or ends early."""


class Body:
    """Collects the chunks of one body as they come off the wire, and undoes its content coding."""

    def __init__(self, content_encoding: str | None, *, limit: int = LIMIT) -> None:
        coding = (content_encoding or "identity").strip().lower()
        if coding not in ("identity", "", "gzip", "x-gzip"):
            raise Undecodable("it is compressed in a way that was not asked for")
        self._inflater = zlib.decompressobj(wbits=31) if "gzip" in coding else None
        self._chunks: list[bytes] = []
        self._room = limit

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes off the wire. Raises `Oversize` or `Undecodable`."""
        if self._inflater is None:
            self._keep(chunk)
            return
        try:
            while chunk:
                self._keep(self._inflater.decompress(chunk, CHUNK))
                chunk = self._inflater.unconsumed_tail
        except zlib.error:
            raise Undecodable("its compression is damaged") from None

    def whole(self) -> bytes:
        """Give the decoded body. Raises `Undecodable` when the compressed data ended early."""
        if self._inflater is not None:
            self._drain(self._inflater)
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    def _drain(self, inflater: zlib._Decompress) -> None:
        if self._chunks and not inflater.eof:
            raise Undecodable("its compressed data ends early")

    def _keep(self, decoded: bytes) -> None:
        self._room -= len(decoded)
        if self._room < 0:
            raise Oversize
        if decoded:
            self._chunks.append(decoded)
