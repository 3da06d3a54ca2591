"""Agreement with what was asked for, of a model that listens and of one that does not."""

from __future__ import annotations

import numpy as np
import pytest

from diffstudio.errors import BadRequest
from diffstudio.evaluation.agreement import agreement

RNG = np.random.default_rng(7)
CENTRES = np.eye(4) * 10
LABELS = ["a"] * 40 + ["b"] * 40 + ["c"] * 20
REAL = np.concatenate([CENTRES[i] + RNG.normal(size=(n, 4)) for i, n in ((0, 40), (1, 40), (2, 20))])


def drawn(labels: list[str]) -> np.ndarray:
    return np.array([CENTRES["abc".index(label)] + RNG.normal(size=4) for label in labels])


def test_a_model_that_listens_and_one_that_does_not() -> None:
    asked = [str(label) for label in RNG.permutation(LABELS)]
    found = agreement(drawn(asked), asked, REAL, LABELS)
    assert found.share.value == 1.0 and found.share.low > 0.95
    assert found.by_label == {"a": 1.0, "b": 1.0, "c": 1.0}
    deaf = agreement(drawn([str(label) for label in RNG.permutation(asked)]), asked, REAL, LABELS)
    assert deaf.chance == pytest.approx(0.4**2 + 0.4**2 + 0.2**2)
    assert deaf.share.low < deaf.chance < deaf.share.high


def test_a_label_for_each_image_is_needed() -> None:
    with pytest.raises(BadRequest, match="the number of labels differs from the number of images"):
        agreement(REAL, LABELS[:-1], REAL, LABELS)
