"""Bodies as they come: whatever the pieces, memory is that of the bytes."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest

from airflow_provider_redox.client.bodies import CHUNK, Body


@pytest.mark.parametrize("size", [1, 100, 4095, 4096, CHUNK])
@pytest.mark.parametrize("coding", [None, "gzip"])
def test_a_body_is_whole_in_whatever_pieces(size: int, coding: str | None) -> None:
    """Small pieces and large ones, and both in turn, come out as they went in."""
    content = bytes(number % 251 for number in range(70_000))
    sent = gzip.compress(content) if coding else content
    body = Body(coding)
    for start in range(0, len(sent), size):
        body.feed(sent[start : start + size])
    assert body.whole() == content


def test_tiny_pieces_take_no_more_than_their_bytes() -> None:
    """A server may send a body in pieces of two bytes: held are its bytes, not an object for each."""
    body = Body(None)
    tracemalloc.start()
    try:
        for number in range(200_000):
            body.feed(number.to_bytes(2, "big", signed=False) if number < 65_536 else b"xy")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 3 * 400_000
    assert len(body.whole()) == 400_000
