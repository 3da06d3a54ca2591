"""Connected groups against a search from each item."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from diffstudio.evaluation.connected_groups import first_of_groups, join

COUNT = 12
ITEMS = st.integers(0, COUNT - 1)


def searched(links: list[tuple[int, int]]) -> list[int]:
    """The lowest item that is reached from each."""
    found = []
    for item in range(COUNT):
        reached, rest = {item}, [item]
        while rest:
            here = rest.pop()
            near = {b if a == here else a for a, b in links if here in (a, b)} - reached
            reached |= near
            rest += near
        found.append(min(reached))
    return found


@given(st.lists(st.tuples(ITEMS, ITEMS), max_size=16), st.integers(0, 16))
def test_each_item_has_the_first_that_it_is_linked_to_directly_or_through_others(
    links: list[tuple[int, int]], cut: int
) -> None:
    one, other = np.array(links, np.intp).reshape(-1, 2).T
    assert first_of_groups(COUNT, one, other).tolist() == searched(links)
    groups = np.arange(COUNT)
    for part in (slice(cut), slice(cut, None)):  # one after the other
        join(groups, one[part], other[part])
    assert groups.tolist() == searched(links)


def test_without_items_or_links_nothing_is_joined() -> None:
    none = np.zeros(0, np.intp)
    assert first_of_groups(0, none, none).tolist() == [] and first_of_groups(3, none, none).tolist() == [0, 1, 2]


def test_a_chain_in_any_order_is_one_group() -> None:
    order = np.random.default_rng(0).permutation(1000)
    assert not first_of_groups(1000, order[:-1], order[1:]).any()
