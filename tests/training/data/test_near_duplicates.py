"""Near-duplicates by perceptual hash: the same pairs as a comparison of all with all, in far less time."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from diffstudio.training.data import near_duplicates as module
from diffstudio.training.data.near_duplicates import (
    FINGERPRINT_BYTES,
    MAX_COLOUR_DISTANCE,
    MAX_HASH_DISTANCE,
    MAX_NEIGHBOURS,
    near_duplicates,
)


def prints(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, FINGERPRINT_BYTES), dtype=np.uint8)


def all_with_all(found: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """The definition: the first image with at most 3 bits and 4 grey levels of difference."""
    hashes = found[:, 16:24].copy().view(">u8")[:, 0]
    colours = found[:, 24:].astype(np.int16)
    pairs = []
    for later in range(len(found)):
        for first in range(later):
            few_bits = int(hashes[first] ^ hashes[later]).bit_count() <= MAX_HASH_DISTANCE
            if few_bits and np.abs(colours[first] - colours[later]).mean() <= MAX_COLOUR_DISTANCE:
                pairs.append((first, later))
                break
    return pairs


def test_it_finds_what_a_comparison_of_all_finds() -> None:
    found, chance = prints(60), np.random.default_rng(1)
    for index in range(20, 60):  # copies with up to four bits changed, in any quarter of the hash
        found[index, 16:] = found[index % 20, 16:]
        for bit in chance.choice(64, index % 5, replace=False):
            found[index, 16 + bit // 8] ^= 1 << bit % 8
    expected = all_with_all(found)
    assert len(expected) > 25
    assert near_duplicates(found)[:2] == ([], expected)


def test_images_that_are_alike_through_others_are_joined() -> None:
    """0 and 1 differ in six bits, and 2 lies between them; 3 continues the chain from 1; 4 is alone."""
    found = prints(5)
    found[1:4, 16:] = found[0, 16:]
    found[1, 16] ^= 0b111111
    found[2, 16] ^= 0b000111
    found[3, 16:18] ^= np.array([0b111111, 0b111], dtype=np.uint8)
    assert near_duplicates(found) == ([], [(0, 2), (1, 3)], [(0, 1)])


def test_single_linkage_joins_as_a_comparison_of_all_does() -> None:
    found, chance = prints(80), np.random.default_rng(2)
    for index in range(1, 80):  # each image is a changed copy of an earlier one, but for every tenth
        if index % 10:
            found[index, 16:] = found[index - 1 - int(chance.integers(index % 10)), 16:]
            for bit in chance.choice(64, 3, replace=False):
                found[index, 16 + bit // 8] ^= 1 << bit % 8
    order = chance.permutation(80)  # so that chains do not lie in order
    alike = near_duplicates(found[order])
    adjacent = [set(pair) for pair in (*alike.near, *alike.joined)]
    groups = [{index} for index in range(80)]
    for pair in adjacent:
        joined = set[int]().union(*(group for group in groups if group & pair))
        groups = [group for group in groups if not group & pair] + [joined]
    assert sorted(map(len, groups)) == [10] * 8
    assert all(len({int(order[index]) // 10 for index in group}) == 1 for group in groups)
    assert len({later for _, later in (*alike.near, *alike.joined)}) == len(adjacent) == 72


def test_equal_digests_are_duplicates_of_the_first() -> None:
    found = prints(6)
    found[[2, 5]] = found[0]
    found[4] = found[3]
    assert near_duplicates(found) == ([(0, 2), (3, 4), (0, 5)], [], [])


def test_none_and_one() -> None:
    assert near_duplicates(prints(0)) == near_duplicates(prints(1)) == ([], [], [])


def test_many_images_with_one_hash_do_not_take_quadratic_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 images alike in hash, such as emoji on white, are 12 million pairs."""
    compared = 0
    real = module._colours_agree

    def counting(colours: NDArray[np.uint8], one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
        nonlocal compared
        compared += len(one)
        return real(colours, one, other)

    monkeypatch.setattr(module, "_colours_agree", counting)
    found = prints(5_000)
    found[:, 16:24] = 0
    near_duplicates(found)
    assert 0 < compared <= MAX_NEIGHBOURS * 5_000
