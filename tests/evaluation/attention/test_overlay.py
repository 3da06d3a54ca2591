"""Maps over an image."""

from __future__ import annotations

import numpy as np

from diffstudio.evaluation.attention.overlay import enlarged, heat, over_image, shares_at


def test_heat_is_scaled_to_its_own_range() -> None:
    assert heat(np.array([[2.0, 4.0]])).tolist() == [[0.0, 1.0]]
    assert heat(np.full((2, 2), 3.0)).tolist() == [[0, 0], [0, 0]]
    assert heat(np.full((1, 2), np.nan)).tolist() == [[0, 0]]


def test_enlarging_is_bilinear_between_the_centres_of_cells() -> None:
    large = enlarged(np.array([[0.0, 1.0]]), 2, 4)
    np.testing.assert_allclose(large, [[0, 0.25, 0.75, 1]] * 2)
    np.testing.assert_allclose(enlarged(np.full((3, 5), 0.5), 7, 9), 0.5)
    values = np.random.default_rng(0).random((3, 4)).astype(np.float32)
    np.testing.assert_array_equal(enlarged(values, 3, 4), values)


def test_colours_lie_over_a_grey_image() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, :, 0] = 255
    shown = over_image(image, np.array([[0.0, 1.0]]))
    assert shown.shape == (2, 2, 3)
    assert (shown[:, 1].astype(int).sum(1) > shown[:, 0].astype(int).sum(1)).all()  # brighter where it is hot
    assert shown[0, 0].max() - shown[0, 0].min() < 10  # and grey where it is cold


def test_shares_of_words_at_a_place() -> None:
    heats = np.array([[[1.0, 0.0]], [[3.0, 0.0]]])
    assert shares_at(heats, 0, 0).tolist() == [0.25, 0.75]
    assert shares_at(heats, 0, 1).tolist() == [0.0, 0.0]
