"""The deletion test: changes in the word's region hold, changes elsewhere do not, and the baseline is exact."""

from __future__ import annotations

import numpy as np
import pytest

from diffstudio.evaluation.attention.deletion import deletion_test, on_grid, region


def square(top: int, left: int, side: int = 4, size: int = 16) -> np.ndarray:
    found = np.zeros((size, size))
    found[top : top + side, left : left + side] = 1.0
    return found


def test_a_change_where_the_word_acts_holds() -> None:
    word, other = square(2, 2, 8), square(8, 8, 8)
    change = np.kron(square(2, 2, 8), np.full((4, 4), 10.0)) + 1.0  # 64 px
    found = deletion_test(change, word, [other])
    assert found.holds and found.is_clear and found.beaten == 1.0
    assert (
        found.inside == pytest.approx(11.0) and found.outside == pytest.approx(1.0) and found.ratio == pytest.approx(11)
    )
    assert found.others is not None and found.others < found.ratio


def test_a_change_elsewhere_or_everywhere_does_not_hold() -> None:
    word = square(2, 2, 8)
    elsewhere = deletion_test(np.kron(square(8, 8, 8), np.ones((4, 4))), word)
    assert not elsewhere.holds and elsewhere.ratio < 1 and elsewhere.others is None
    everywhere = deletion_test(np.ones((64, 64)), word)
    assert everywhere.ratio == pytest.approx(1) and everywhere.random == pytest.approx(1) and not everywhere.holds
    nothing = deletion_test(np.zeros((64, 64)), word)
    assert nothing.ratio == 1.0 and nothing.random == 1.0 and nothing.beaten == 0.0 and not nothing.holds


def test_only_its_own_region_changes() -> None:
    found = deletion_test(np.kron(square(0, 0, 8), np.ones((2, 2))), square(0, 0, 8))
    assert found.ratio == np.inf and found.is_clear and np.isfinite(found.random)


def test_the_baseline_is_that_of_all_moved_regions() -> None:
    rng = np.random.default_rng(0)
    change, word = rng.random((12, 20)), rng.random((3, 5))
    found = deletion_test(change, word)
    cells, chosen = on_grid(change, (3, 5)), region(word)
    ratios = []
    for down in range(3):
        for right in range(5):
            if down or right:
                moved = np.roll(chosen, (down, right), (0, 1))
                ratios.append(cells[moved].mean() / cells[~moved].mean())
    assert found.holds == (found.ratio > max(1, found.random))
    assert found.random == pytest.approx(np.mean(ratios)) and found.beaten == np.mean(np.array(ratios) < found.ratio)
    assert found.ratio == pytest.approx(cells[chosen].mean() / cells[~chosen].mean())


def test_regions_and_grids() -> None:
    assert region(np.arange(16.0).reshape(4, 4)).sum() == 4 and region(np.arange(16.0).reshape(4, 4))[3].all()
    assert region(np.zeros((1, 1))).all()
    uneven = on_grid(np.arange(6.0).reshape(2, 3), (1, 2))  # columns 0 and 1, and column 2
    assert uneven.tolist() == [[2.0, 3.5]]
    alone = deletion_test(np.ones((2, 2)), np.ones((1, 1)))
    assert alone.ratio == 1 and alone.beaten == 0 and alone.random == 1
    with pytest.raises(ValueError, match="cells"):
        deletion_test(np.ones((2, 8)), np.ones((4, 4)))
