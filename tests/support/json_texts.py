"""JSON in any spelling: numbers, escapes, order and space as somebody could write them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

space = st.sampled_from(["", "", " ", "\t", "\r", "\n  "])
numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
characters = st.one_of(
    st.characters(codec="utf-8", exclude_characters='"\\', exclude_categories=("Cc",)),
    st.sampled_from(["\\n", "\\/", '\\"', "\\\\", "\\u00fc", "\\u00FC", "\\u0000", "\\ud83d\\ude00"]),
)
strings = st.lists(characters, max_size=6).map(lambda parts: f'"{"".join(parts)}"')
spaced = st.tuples(space, st.one_of(numbers, strings, st.sampled_from(["true", "false", "null"])), space).map("".join)


def joined(marks: str, parts: list[str]) -> str:
    return f"{marks[0]}{','.join(parts)}{marks[1]}"


def members(inner: Any) -> Any:
    """Objects whose names are all different, in any spelling."""
    names = st.lists(strings, max_size=4, unique_by=json.loads)
    return names.flatmap(
        lambda found: st.tuples(*(st.tuples(space, st.just(name), space, inner) for name in found)).map(
            lambda pairs: joined("{}", [f"{a}{name}{b}:{value}" for a, name, b, value in pairs])
        )
    )


values = st.recursive(
    spaced, lambda inner: st.lists(inner, max_size=4).map(lambda parts: joined("[]", parts)) | members(inner), max_leaves=12
)
objects = members(values)
