"""Whose turn it is, whatever keys and places the items have."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_redox.operators.sends.turns import Turns

names = st.lists(st.sampled_from("abc"), max_size=2, unique=True).map(tuple)
items = st.lists(st.tuples(names, names), max_size=30)


@given(items=items, limits=st.dictionaries(st.sampled_from("abc"), st.integers(1, 3)), seed=st.integers(0, 9))
def test_all_go_in_the_order_of_their_keys_and_no_place_is_full(
    items: list[tuple[tuple[str, ...], tuple[str, ...]]], limits: dict[str, int], seed: int
) -> None:
    """Every item goes; two with a key in common never at once, and in their order; a place never has more than its limit."""
    turns: Turns[int] = Turns(limits)
    for number, (keys, places) in enumerate(items):
        turns.add(number, keys=keys, places=places)
    chance, going, gone = random.Random(seed), [], []
    while turns or going:
        while (item := turns.next()) is not None:
            going.append(item)
        busy = Counter(place for one in going for place in items[one][1])
        assert all(busy[place] <= most for place, most in limits.items())
        held = Counter(key for one in going for key in items[one][0])
        assert all(count == 1 for count in held.values())
        one = going.pop(chance.randrange(len(going)))
        turns.done(one)
        gone.append(one)
    assert sorted(gone) == list(range(len(items)))
    for key in "abc":
        of_the_key = [one for one in gone if key in items[one][0]]
        assert of_the_key == sorted(of_the_key)


def test_what_may_go_does_not_wait_for_what_may_not() -> None:
    """The first item that may go is given, in the order in which they were added."""
    turns: Turns[str] = Turns({"slow": 1})
    for name, keys, places in (("a", ("k",), ("slow",)), ("b", ("k",), ()), ("c", (), ("slow",)), ("d", (), ())):
        turns.add(name, keys=keys, places=places)
    assert [turns.next(), turns.next(), turns.next()] == ["a", "d", None]
    turns.done("a")
    assert [turns.next(), turns.next(), turns.next()] == ["b", "c", None]
