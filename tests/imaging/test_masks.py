"""Masks: soft inside and hard outside, a region of the shape asked for, and colours from the surroundings."""

from __future__ import annotations

import numpy as np
import pytest

from diffstudio.imaging.masks import GREY, feather_mask, fill_from_surroundings, masked_region


def square(side: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros((side, side), dtype=np.uint8)
    mask[left:right, left:right] = 255
    return mask


def test_without_a_feather_the_mask_is_as_it_is() -> None:
    assert np.array_equal(feather_mask(square(32, 8, 24), 0), square(32, 8, 24) / np.float32(255))
    grey = np.array([[255, 128], [20, 0]], np.uint8)
    assert np.array_equal(feather_mask(grey, 0), grey / np.float32(255))


def test_a_feather_rises_inwards_and_never_leaves_the_mask() -> None:
    mask = square(64, 8, 56)
    soft = feather_mask(mask, 8)
    assert soft.dtype == np.float32 and (soft[mask == 0] == 0).all() and soft[32, 32] == 1
    edge = soft[32, 8:24]
    assert (np.diff(edge) >= 0).all() and edge[0] < 0.2 and edge[8] > 0.95


def test_a_mask_thinner_than_its_feather_stays_hard() -> None:
    mask = square(64, 31, 33)
    assert np.array_equal(feather_mask(mask, 32), mask / np.float32(255))


@pytest.mark.parametrize(
    ("padding", "aspect", "expected"),
    [
        (0, 1.0, (40, 40, 60, 60)),
        (10, 1.0, (30, 30, 70, 70)),
        (0, 2.0, (30, 40, 70, 60)),
        (0, 0.5, (40, 30, 60, 70)),
        (200, 1.0, (0, 0, 100, 100)),
    ],
)
def test_the_region_around_a_mask(padding: int, aspect: float, expected: tuple[int, int, int, int]) -> None:
    assert masked_region(square(100, 40, 60), padding, aspect) == expected


def test_a_region_at_the_edge_is_shifted_inside() -> None:
    mask = np.zeros((100, 100), dtype=np.uint8)
    mask[0:10, 95:100] = 255
    assert masked_region(mask, 0, 2.0) == (80, 0, 100, 10)


def test_colours_come_from_outside_the_mask() -> None:
    image = np.full((64, 64, 3), (200, 100, 50), dtype=np.uint8)
    mask = square(64, 16, 48)
    image[mask > 0] = (0, 255, 255)
    filled = fill_from_surroundings(image, mask)
    assert np.abs(filled.astype(int) - (200, 100, 50)).mean() < 4
    assert np.array_equal(filled[mask == 0], image[mask == 0])


def test_colours_are_those_of_the_nearest_surroundings() -> None:
    image = np.full((64, 64, 3), (200, 0, 0), dtype=np.uint8)
    image[:, 32:] = (0, 0, 200)
    mask = square(64, 16, 48)
    filled = fill_from_surroundings(image, mask).astype(int)
    for row in (18, 32, 45):
        assert (
            np.abs(filled[row, 16:20] - (200, 0, 0)).max() < 12 and np.abs(filled[row, 44:48] - (0, 0, 200)).max() < 12
        )


def test_where_everything_is_masked_there_is_grey_and_far_away_the_mean() -> None:
    image = np.full((64, 64, 3), 80, dtype=np.uint8)
    assert (fill_from_surroundings(image, square(64, 0, 64)) == GREY).all()
    mask = np.full((8, 600), 255, dtype=np.uint8)
    mask[0, 0] = 0  # one known pixel does not reach everywhere
    filled = fill_from_surroundings(np.full((8, 600, 3), 80, np.uint8), mask)
    assert abs(np.median(filled) - 80) <= 10 and (filled[0, 0] == 80).all()
