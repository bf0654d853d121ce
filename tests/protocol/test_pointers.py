"""JSON Pointers: RFC 6901, and a value that can be a key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.exceptions import RedoxConfigError
from airflow_provider_redox.protocol.pointers import find

from .flows import said_by

DOCUMENT = {
    "foo": ["bar", "baz"],
    "": "empty",
    "a/b": 1,
    "c%d": 2,
    "e^f": 3,
    'k"l': 6,
    " ": 7,
    "m~n": 8,
    "~1": "tilde one",
    "07": "text index",
    "Results": [{"ID": "MRN-7731"}, {"ID": 0}],
}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/foo/0", "bar"),
        ("/", "empty"),
        ("/a~1b", "1"),
        ("/c%d", "2"),
        ("/e^f", "3"),
        ('/k"l', "6"),
        ("/ ", "7"),
        ("/m~0n", "8"),
        ("/~01", "tilde one"),
        ("/07", "text index"),
        ("/Results/0/ID", "MRN-7731"),
        ("/Results/1/ID", "0"),
    ],
)
def test_it_leads_where_the_rfc_says(pointer: str, value: str):
    """The examples of RFC 6901 section 5, as text."""
    assert find(DOCUMENT, pointer, where="idempotency_key") == value


@pytest.mark.parametrize("pointer", ["", "foo", "foo/0", "#/foo", None, 7, ["/foo"]])
def test_what_is_no_pointer_is_named(pointer: Any):
    """The whole document, a fragment and a bare name are no pointer to a value."""
    with pytest.raises(RedoxConfigError, match="idempotency_key: must be a JSON Pointer"):
        find(DOCUMENT, pointer, where="idempotency_key")


@pytest.mark.parametrize(
    "pointer",
    [
        "/foo",
        "/foo/2",
        "/foo/-",
        "/foo/-1",
        "/foo/00",
        "/foo/+1",
        "/foo/\u0661",
        "/foo/\u00b2",
        "/nothing",
        "/foo/0/1",
        "/a/b",
    ],
)
def test_what_leads_nowhere_is_named_with_its_pointer(pointer: str):
    """An index is plain digits without a leading zero; a list or an object is no key."""
    with pytest.raises(RedoxConfigError) as caught:
        find(DOCUMENT, pointer, where="idempotency_key")
    assert pointer in str(caught.value)


@pytest.mark.parametrize("value", [None, True, False, 1.5, "", "  ", [], {}])
def test_what_cannot_tell_messages_apart_is_no_key(value: Any):
    """Nothing, a truth value, a fraction or an empty text would be the same key for many messages."""
    with pytest.raises(RedoxConfigError):
        find({"ID": value}, "/ID", where="idempotency_key")


@given(
    st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner))
)
def test_every_leaf_can_be_found(document: Any):
    """Whatever its names hold, each text or number has a pointer that leads there."""
    for tokens, value in _leaves(document, ()):
        pointer = "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in tokens)
        if tokens and str(value).strip():
            assert find(document, pointer, where="x") == str(value)


def _leaves(value: Any, tokens: tuple[Any, ...]) -> Any:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if pairs is None:
        yield tokens, value
        return
    for name, inner in pairs:
        yield from _leaves(inner, (*tokens, name))


@given(st.text(), st.text())
def test_no_error_quotes_the_payload(pointer: str, value: str):
    """The pointer is the author's, the value is a patient's."""
    secret = f"Quillfeather{value}"
    with pytest.raises(RedoxConfigError) as caught:
        find({"Name": [secret]}, f"/{pointer}/0/x", where="idempotency_key")
    assert secret not in said_by(caught.value)
