"""The members of a gzip file (RFC 1952 section 2.2), opened one after another in flat memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_BLOCK = 1024 * 1024


def members(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress a file of one or more members. Raises zlib.error when it is damaged, EOFError when it ends early."""
    member, block = zlib.decompressobj(wbits=31), next(blocks, b"")
    while block:
        yield member.decompress(block, _BLOCK)
        block = member.unconsumed_tail
        if member.eof:
            block = member.unused_data or next(blocks, b"")
            member = zlib.decompressobj(wbits=31) if block else member
        elif not block:
            block = next(blocks, b"")
    if not member.eof:
        raise EOFError


def packed(block: bytes) -> bytes:
    """Make one member; zlib writes no time and no name into it, so that the same block gives the same bytes."""
    return zlib.compress(block, 6, wbits=31)
