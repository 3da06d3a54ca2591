"""The Vendi score against its authors' program and against sets whose effective number is known."""

from __future__ import annotations

import numpy as np
import pytest
from vendi_score import vendi

from diffstudio.errors import BadRequest
from diffstudio.evaluation.vendi import vendi_score

RNG = np.random.default_rng(4)


@pytest.mark.parametrize("shape", [(50, 8), (8, 50)])
def test_the_value_of_its_authors(shape: tuple[int, int]) -> None:
    features = RNG.normal(size=shape) + 0.3
    assert vendi_score(features) == pytest.approx(vendi.score_dual(features, normalize=True), rel=1e-6)


def test_the_number_of_different_images() -> None:
    assert vendi_score(np.ones((9, 4))) == pytest.approx(1)
    assert vendi_score(np.eye(6)) == pytest.approx(6)
    assert vendi_score(np.repeat(np.eye(6), 10, axis=0)) == pytest.approx(6)


def test_an_image_without_a_direction_is_refused() -> None:
    with pytest.raises(BadRequest, match="those of an image are all zero"):
        vendi_score(np.array([[1.0, 0.0], [0.0, 0.0]]))
